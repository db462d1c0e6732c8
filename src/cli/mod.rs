//! The verbs. Each is thin: it loads the settings, asks or starts, prints, and says how it ended.

mod ask;
mod backup;
mod doctor;
mod progress;
mod restore;
mod s3;
mod ssh;
pub mod status;
mod table;
mod work;

use crate::config::{self, Config, Sources};
use crate::domain::{ExitCode, Fault};
use crate::{runtime, sys};
use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::time::Duration;

/// One node of a PostgreSQL cluster: PID 1 of its container.
#[derive(Debug, Parser)]
#[command(name = "pgnode", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  docker run -e POSTGRES_PASSWORD=… pgnode:local             a single primary, open on 5432
  docker run pgnode:local run -c work_mem=64MB               with settings for postgres
  docker exec pg1 pgnode status                              what it is, since when, who streams
  docker exec pg1 pgnode status --json | jq .lag_bytes       the same for machines
  docker exec pg1 pgnode doctor                              whether backups work, and what mends them
  docker exec pg1 pgnode config                              effective settings and their sources
  docker exec pg1 pgnode backup list                         the backups that can be restored

Exit codes: 0 asked to stop, 64 configuration, 70 bug, 75 gave up on something transient,
78 needs a person, 128+n ended by signal n.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the node (the image's ENTRYPOINT)
    #[command(
        alias = "postgres",
        after_help = "Settings for postgres: -c name=value, as often as needed.\n\nExample:\n  pgnode run -c shared_buffers=1GB -c log_min_duration_statement=500ms"
    )]
    Run {
        /// A setting for postgres, name=value
        #[arg(short = 'c', value_name = "NAME=VALUE")]
        settings: Vec<String>,
    },
    /// Show what the node is, does and waits for
    #[command(after_help = "Example:\n  docker exec pg1 pgnode status --json | jq -r .state")]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether the node is open (exit code 0 or 1): the image's HEALTHCHECK
    Health {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// What to ask: health, liveness, readiness, primary or replica
        #[arg(default_value = "health")]
        endpoint: String,
    },
    /// Print the effective settings and where each came from, secrets masked
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a backup; or list, show, verify, keep, delete
    Backup(backup::Words),
    /// Read the settings again, as HUP does
    Reload,
    /// Let an old primary become the new one's standby: now, instead of at the next look
    #[command(after_help = "Example:\n  docker exec pg1 pgnode rejoin --dry-run")]
    Rejoin {
        /// Change nothing, and say what would happen
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make another node the primary, without losing a row: this one closes, that one opens
    #[command(
        after_help = "Runs on the present primary. Every step is checked; when one fails this node is the primary again.\n\nExample:\n  docker exec pg1 pgnode switchover --to pg2"
    )]
    Switchover {
        /// The node that takes over; the standby that is furthest unless given
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Check everything that can be checked and change nothing
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin a maintenance, on the primary: nobody is elected until `pgnode resume`
    #[command(
        after_help = "The cluster's nodes can be stopped and started in any order; a primary that stops comes back as\nthe primary. It survives restarts. If the primary is lost for good meanwhile, `pgnode promote --force`\non a standby, then `pgnode resume` there.\n\nExample:\n  docker exec pg1 pgnode pause && docker restart pg1 && docker exec pg1 pgnode resume"
    )]
    Pause {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End a maintenance, on the primary: a failed primary is replaced again
    #[command(after_help = "Example:\n  docker exec pg1 pgnode resume")]
    Resume {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Close this node, and keep it closed over restarts, until `pgnode unfence`
    #[command(
        after_help = "The consumer port closes, clients are cut. The node still helps a living primary to keep its lease,\nand elects nobody. A primary is REPLACED: the other voters elect another when they are a majority\nwithout it. With two voters they are not; `pgnode pause` first to keep them from it.\n\nExample:\n  docker exec pg1 pgnode fence"
    )]
    Fence {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a fenced node open again: as at a start, as a standby when another is the primary now
    #[command(after_help = "Example:\n  docker exec pg1 pgnode unfence")]
    Unfence {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make this node the primary without an election: when the others are gone for good
    #[command(
        after_help = "On an open standby, or on a fenced primary that too few nodes reach. Without --force it says what is\nat risk and changes nothing. Never while another node serves as the primary. The lost nodes come\nback as standbys by themselves; until then this one counts without them.\n\nExample:\n  docker exec pg2 pgnode promote; docker exec pg2 pgnode promote --force"
    )]
    Promote {
        /// Yes, at the risk of two primaries and of lost writes
        #[arg(long)]
        force: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that backups work from end to end, and say what mends what does not
    #[command(after_help = doctor::EXAMPLES)]
    Doctor {
        /// barman's name of the cluster; all that this container keeps unless given
        server: Option<String>,
        /// Make a backup and restore it, too
        #[arg(long)]
        full: bool,
        /// This step of the protocol only, 1 to 9
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
        step: Option<u8>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore the newest backup into a scratch directory, compare it, and remove it
    Drill(doctor::DrillWords),
    /// What a drill's server calls as its restore_command
    #[command(hide = true)]
    DrillWal {
        /// barman's directory of the cluster
        dir: std::path::PathBuf,
        /// The file
        name: String,
        /// Where to
        target: std::path::PathBuf,
    },
    /// What a key that is trusted over ssh may do
    #[command(hide = true)]
    SshServe {
        #[command(subcommand)]
        side: Side,
    },
    /// ssh to whichever node is the primary of a cluster: barman's `ssh_command`
    #[command(hide = true)]
    Hop {
        /// Where the node's run-time files are
        #[arg(long)]
        run_dir: std::path::PathBuf,
        /// The cluster, as in BARMAN_SERVERS
        cluster: String,
        /// The rest of ssh's command line
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// One WAL file to the barman host: the `archive_command` with BARMAN_METHOD=rsync
    #[command(hide = true)]
    WalShip {
        /// Where the node's run-time files are
        #[arg(long)]
        run_dir: std::path::PathBuf,
        /// The barman host
        #[arg(long)]
        host: String,
        /// What it calls our cluster
        #[arg(long)]
        cluster: String,
        /// Its incoming_wals_directory
        #[arg(long)]
        into: String,
        /// The file: %p
        path: std::path::PathBuf,
    },
    /// Begin this node from a backup: on an empty disk, as the container's command
    #[command(
        after_help = "Each flag is the variable PGNODE_RESTORE…, and wins over it. The rest of the settings are those of\n`run`. 5432 opens when recovery has reached its target, was promoted, and the node is registered anew.\n\nExamples:\n  docker run -v new:/var/lib/postgresql -v backups:/srv:ro -e BARMAN_SERVER_NAME=pg1b pgnode:local \\\n    restore latest --from /srv/pg1 --target-time '2026-11-21 10:15:00+00'\n  docker run … pgnode:local restore latest --from /srv/pg1 --check\n  docker exec pg1b pgnode restore --resume"
    )]
    Restore(restore::Restore),
    /// Archive one WAL file in the bucket: the `archive_command` with BARMAN_MODE=cloud
    #[command(hide = true)]
    WalPush {
        /// Where the node's run-time files are
        #[arg(long, default_value = s3::RUN_DIR)]
        run_dir: std::path::PathBuf,
        /// The file: %p
        path: std::path::PathBuf,
    },
    /// What a server calls for each WAL file that it recovers: 0 it is there, 1 there is none
    #[command(hide = true)]
    WalFetch {
        /// Where the node that restores answers; without it the bucket is asked
        #[arg(long)]
        socket: Option<std::path::PathBuf>,
        /// Where the node's run-time files are
        #[arg(long, default_value = s3::RUN_DIR)]
        run_dir: std::path::PathBuf,
        /// For a standby: gives up after seconds, with 75 instead of 255, and hands out no history
        #[arg(long)]
        standby: bool,
        /// A segment or a history file
        name: String,
        /// Where it goes
        to: std::path::PathBuf,
    },
    /// What concerns the bucket of S3_BUCKET_URI
    S3 {
        #[command(subcommand)]
        verb: s3::S3Verb,
    },
    /// What repmgr calls instead of pg_ctl: only the node starts and stops postgres
    #[command(hide = true)]
    Hook {
        /// start, stop, restart, reload, validate, promote or follow
        action: String,
        /// Where the node answers; repmgr's children have neither its environment nor its rights
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8008")]
        http: std::net::SocketAddr,
        /// Whatever repmgr adds
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

/// Who answers an ssh request.
#[derive(Debug, Subcommand)]
enum Side {
    /// A data node
    Node {
        /// Where the node answers
        #[arg(long, value_name = "HOST:PORT")]
        http: std::net::SocketAddr,
    },
    /// A barman host
    Barman {
        /// barman's home
        #[arg(long)]
        home: std::path::PathBuf,
        /// The cluster whose WAL the key may bring
        #[arg(long)]
        cluster: String,
    },
}

/// Runs the verb that the command line names.
#[must_use]
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    match Cli::try_parse_from(normal(args)) {
        Ok(cli) => perform(cli.verb),
        Err(error) => {
            // Help and version are not faults.
            let code = if error.use_stderr() {
                ExitCode::CONFIG
            } else {
                ExitCode::STOPPED
            };
            drop(error.print());
            code
        }
    }
}

/// `docker run image -c x=y` and an empty command mean `run`, as with the official image.
fn normal(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut args: Vec<String> = args.into_iter().collect();
    match args.get(1).map(String::as_str) {
        None => args.push("run".into()),
        Some(first) if first.starts_with("-c") => args.insert(1, "run".into()),
        Some(_) => {}
    }
    args
}

fn perform(verb: Verb) -> ExitCode {
    match verb {
        Verb::Run { settings } => run(settings),
        Verb::Status { json } => with_config(|config, _| ask::status(config, json)),
        Verb::Health { json, endpoint } => {
            with_config(|config, _| ask::health(config, &endpoint, json))
        }
        Verb::Config { json } => with_config(|config, sources| {
            let text = if json {
                format!("{:#}\n", config::show::json(config, sources))
            } else {
                config::show::text(config, sources)
            };
            say(&text);
            ExitCode::STOPPED
        }),
        Verb::Backup(words) => match words.run_dir().cloned() {
            Some(run_dir) => backup::perform_in(&run_dir, words),
            None => with_config(|config, _| backup::perform(config, words)),
        },
        Verb::Reload => with_config(|config, _| ask::reload(config)),
        Verb::Rejoin { dry_run, json } => {
            with_config(|config, _| ask::rejoin(config, dry_run, json))
        }
        Verb::Switchover { to, dry_run, json } => {
            with_config(|config, _| ask::switchover(config, to.as_deref(), dry_run, json))
        }
        Verb::Pause { json } => with_config(|config, _| ask::order(config, "/pause", json)),
        Verb::Resume { json } => with_config(|config, _| ask::order(config, "/resume", json)),
        Verb::Fence { json } => with_config(|config, _| ask::order(config, "/fence", json)),
        Verb::Unfence { json } => with_config(|config, _| ask::order(config, "/unfence", json)),
        Verb::Promote { force, json } => {
            let path = if force { "/promote/force" } else { "/promote" };
            with_config(|config, _| ask::order(config, path, json))
        }
        Verb::Doctor {
            server,
            full,
            step,
            json,
        } => with_config(|config, _| {
            let order = crate::doctor::Order { server, full, step };
            doctor::doctor(config, &order, json)
        }),
        Verb::Drill(words) => with_config(|config, _| doctor::drill(config, &words)),
        Verb::DrillWal { dir, name, target } => doctor::drill_wal(dir, &name, &target),
        Verb::Restore(flags) => restore::restore(&flags),
        Verb::WalPush { run_dir, path } => s3::wal::push(&run_dir, &path),
        Verb::WalFetch {
            socket,
            run_dir,
            standby,
            name,
            to,
        } => match socket {
            Some(socket) => restore::wal_fetch(&socket, &name, &to),
            None => s3::wal::fetch(&run_dir, &name, &to, standby),
        },
        Verb::S3 { verb } => s3::perform(verb),
        Verb::Hook { action, http, .. } => ask::hook(&action, http),
        Verb::SshServe { side } => match side {
            Side::Node { http } => ssh::node(http),
            Side::Barman { home, cluster } => ssh::barman(&home, &cluster),
        },
        Verb::Hop {
            run_dir,
            cluster,
            args,
        } => ssh::hop(&run_dir, &cluster, &args),
        Verb::WalShip {
            run_dir,
            host,
            cluster,
            into,
            path,
        } => ssh::ship(&run_dir, &host, &cluster, &into, &path),
    }
}

fn run(settings: Vec<String>) -> ExitCode {
    let arguments = settings
        .into_iter()
        .flat_map(|s| ["-c".to_owned(), s])
        .collect();
    run_over(arguments, Vec::new())
}

/// With variables that win over the environment's.
fn run_over(arguments: Vec<String>, over: Vec<(String, Option<String>)>) -> ExitCode {
    let (config, sources) = match config::load_over(arguments, over) {
        Ok(loaded) => loaded,
        Err(faults) => return complain(&faults.to_string()),
    };
    if let Err(error) = sys::init_log(config.log_format, &config.log_filter) {
        return complain(&Fault::chain(&error));
    }
    for warning in sources.warnings(&config) {
        tracing::warn!("{warning}");
    }
    // Whatever panics, the exit code says that it was a bug; the kernel ends the children with us.
    let run = std::panic::AssertUnwindSafe(|| runtime::run(config));
    let code = match std::panic::catch_unwind(run) {
        Err(_panic) => {
            tracing::error!(
                exit = ExitCode::BUG.0,
                "a bug ended the loop; please report it"
            );
            ExitCode::BUG
        }
        Ok(ended) => ended.unwrap_or_else(|error| {
            tracing::error!(exit = error.exit_code().0, "{}", Fault::chain(&error));
            error.exit_code()
        }),
    };
    sys::flush_log(LAST_LINES);
    code
}

/// How long whoever reads our standard output may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

fn with_config(verb: impl FnOnce(&Config, &Sources) -> ExitCode) -> ExitCode {
    match config::load(Vec::new()) {
        Ok((config, sources)) => verb(&config, &sources),
        Err(faults) => complain(&faults.to_string()),
    }
}

/// Standard output; a reader that went away is no fault.
fn say(text: &str) {
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

/// Standard error, exit 64: nothing has been touched.
fn complain(text: &str) -> ExitCode {
    note(text);
    ExitCode::CONFIG
}

/// Standard error, and the exit code of the fault.
fn lament(fault: &Fault) -> ExitCode {
    note(fault.why());
    fault.exit_code()
}

/// A line on standard error.
fn note(text: &str) {
    drop(writeln!(
        std::io::stderr().lock(),
        "pgnode: {}",
        text.trim_end()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_official_habits_mean_run() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (given, want) in [
            ("pgnode", "pgnode run"),
            ("pgnode -c a=b", "pgnode run -c a=b"),
            ("pgnode -ca=b", "pgnode run -ca=b"),
            ("pgnode status", "pgnode status"),
        ] {
            assert_eq!(normal(words(given)), words(want));
        }
        let cli = Cli::try_parse_from(words("pgnode postgres -c a=b")).unwrap();
        assert!(matches!(cli.verb, Verb::Run { settings } if settings == ["a=b"]));
    }
}
