//! The verbs. Each is thin: it loads the settings, asks or starts, prints, and says how it ended.

mod ask;
pub mod status;

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
  docker exec pg1 pgnode config                              effective settings and their sources

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
        Verb::Hook { action, http, .. } => ask::hook(&action, http),
    }
}

fn run(settings: Vec<String>) -> ExitCode {
    let arguments = settings
        .into_iter()
        .flat_map(|s| ["-c".to_owned(), s])
        .collect();
    let (config, sources) = match config::load(arguments) {
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
    drop(writeln!(
        std::io::stderr().lock(),
        "pgnode: {}",
        text.trim_end()
    ));
    ExitCode::CONFIG
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
