//! `pgnode backup`: makes, lists, shows, verifies, keeps and deletes backups. The catalogue is read from
//! its files; what changes something is barman's own command, run as barman.

mod change;
mod cloud;
mod list;
mod primary;
mod show;
mod take;
mod verify;
mod view;

use super::{lament, say};
use crate::barman::{self, BarmanError, Client, Keep, Server};
use crate::config::{BarmanMode, Config, Kept};
use crate::doctor::drill;
use crate::domain::{ExitCode, Fault};
use crate::sys::{Accounts, our_name};
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  docker exec pg1 pgnode backup --wait                 a full backup, until it can be restored
  docker exec pg1 pgnode backup --incremental          what changed since the newest full one
  docker exec pg1 pgnode backup list
  docker exec pg1 pgnode backup verify --all --json | jq '.[] | select(.ok | not)'
  docker exec pg1 pgnode backup keep latest-full       retention passes it over
  docker exec pg1 pgnode backup delete --dry-run 20261121T031500

A backup is named by its id, its name, or latest, oldest, latest-full, last-failed.";

/// The words of the verb.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Words {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// barman's name of the cluster; not needed where there is only one
    server: Option<String>,
    /// Only what changed since the newest full backup (PostgreSQL 17 or later)
    #[arg(long)]
    incremental: bool,
    /// Until it can be restored: the WAL of its end is switched and archived
    #[arg(long)]
    wait: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// For cron, to a bucket: only where it is this node's to do
    #[arg(long, hide = true, value_enum)]
    occasion: Option<Occasion>,
    /// To a bucket: compressed bytes after which an archive goes on in a next part, as barman-cloud-backup has it
    #[arg(long, hide = true, value_name = "BYTES", default_value_t = crate::s3::base::Order::LONGEST)]
    max_archive_size: u64,
    /// Where the node's run-time files are: its settings for the bucket, instead of the environment's
    #[arg(long, hide = true, global = true)]
    run_dir: Option<PathBuf>,
}

/// What cron makes a backup to a bucket for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Occasion {
    /// It is time (`BARMAN_BACKUP_SCHEDULE`).
    Due,
    /// There is none, or the last one failed.
    Owed,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All backups, the newest first
    List {
        /// barman's name of the cluster; not needed where there is only one
        server: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// All that is known of one backup
    Show {
        #[command(flatten)]
        which: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check files, WAL and the way to the end of the archive; exit code 1 when something is wrong
    Verify {
        /// The backup
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Every complete backup
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// barman's name of the cluster; not needed where there is only one
        #[arg(long)]
        server: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let retention pass a full backup over, or take that back
    Keep {
        #[command(flatten)]
        which: Which,
        /// What is kept with it
        #[arg(long, value_enum, default_value_t = Target::Full)]
        target: Target,
        /// Retention may delete it again
        #[arg(long, conflicts_with = "target")]
        release: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a backup, the incremental ones that rest on it, and WAL that no other needs
    Delete {
        #[command(flatten)]
        which: Which,
        /// Change nothing, and say what would go
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A backup, and of which cluster.
#[derive(Debug, Args)]
struct Which {
    /// The backup: its id, its name, or latest, oldest, latest-full, last-failed
    id: String,
    /// barman's name of the cluster; not needed where there is only one
    #[arg(long)]
    server: Option<String>,
}

/// What is kept with a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The WAL that makes it consistent: it restores to its own end
    Standalone,
    /// All WAL from it on: it restores to any later time
    Full,
}

impl From<Target> for Keep {
    fn from(target: Target) -> Self {
        match target {
            Target::Standalone => Self::Standalone,
            Target::Full => Self::Full,
        }
    }
}

impl Words {
    /// Whether the node's environment is not to be asked.
    pub(super) const fn run_dir(&self) -> Option<&PathBuf> {
        self.run_dir.as_ref()
    }
}

/// Does what the words say in a bucket, with the settings that the node left in its run directory.
pub(super) fn perform_in(run_dir: &Path, words: Words) -> ExitCode {
    match super::s3::kept(run_dir) {
        Ok(kept) => cloud::perform(kept, words),
        Err(fault) => lament(&fault),
    }
}

/// Does what the words say.
pub(super) fn perform(config: &Config, words: Words) -> ExitCode {
    if config.barman.mode == BarmanMode::Cloud
        && let Some(kept) = Kept::of(config)
    {
        return cloud::perform(kept, words);
    }
    let Some(verb) = words.verb else {
        let order = take::Order {
            incremental: words.incremental,
            wait: words.wait,
            json: words.json,
        };
        return working(config, words.server.as_deref(), async |desk| {
            take::take(desk, order).await
        });
    };
    match verb {
        Verb::List { server, json } => reading(config, server.as_deref(), |s| {
            list::list(s, &drill::records(config), json)
        }),
        Verb::Show { which, json } => reading(config, which.server.as_deref(), |s| {
            show::show(s, &drill::records(config), &which.id, json)
        }),
        Verb::Verify {
            id, server, json, ..
        } => working(config, server.as_deref(), async |desk| {
            verify::verify(desk, id.as_deref(), json).await
        }),
        Verb::Keep {
            which,
            target,
            release,
            json,
        } => working(config, which.server.as_deref(), async |desk| {
            let keep = (!release).then(|| target.into());
            change::keep(desk, &which.id, keep, json).await
        }),
        Verb::Delete {
            which,
            dry_run,
            json,
        } => working(config, which.server.as_deref(), async |desk| {
            change::delete(desk, &which.id, dry_run, json).await
        }),
    }
}

/// What a verb that runs barman works with.
struct Desk<'a> {
    config: &'a Config,
    server: &'a Server,
    name: &'a str,
    client: &'a Client,
}

fn reading(
    config: &Config,
    server: Option<&str>,
    verb: impl FnOnce(&Server) -> Result<String, Fault>,
) -> ExitCode {
    match pick(config, server).and_then(|server| verb(&server)) {
        Ok(text) => {
            say(&text);
            ExitCode::STOPPED
        }
        Err(fault) => lament(&fault),
    }
}

fn working(
    config: &Config,
    server: Option<&str>,
    verb: impl AsyncFnOnce(&Desk<'_>) -> Result<ExitCode, Fault>,
) -> ExitCode {
    super::work::perform(async |children| {
        let server = pick(config, server)?;
        let mut config = config.clone();
        let name = our_name(&config.paths.run_dir);
        config.environment.base.extend(name);
        let client = Client {
            children,
            config: Arc::new(config),
            account: Accounts::find()?.barman,
            server: server.name(),
        };
        let desk = Desk {
            config: &client.config,
            server: &server,
            name: &client.server,
            client: &client,
        };
        verb(&desk).await
    })
}

/// The cluster that is meant.
fn pick(config: &Config, wanted: Option<&str>) -> Result<Server, Fault> {
    let all = barman::servers(config);
    let names = || {
        let names: Vec<String> = all.iter().map(Server::name).collect();
        names.join(", ")
    };
    if all.is_empty() {
        return Err(Fault::Config(elsewhere(config)));
    }
    match (wanted, all.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Fault::Config(format!(
            "this host keeps several clusters: say which of {}",
            names()
        ))),
        (Some(name), _) => match all.iter().find(|s| s.name() == name) {
            Some(server) => Ok(server.clone()),
            None => Err(Fault::Config(format!(
                "no cluster `{name}` is kept here, only {}",
                names()
            ))),
        },
    }
}

/// With the remedy where it is a matter of the account.
#[expect(clippy::needless_pass_by_value, reason = "it ends here")]
fn fault(error: BarmanError) -> Fault {
    let denied = |e: &std::io::Error| e.kind() == std::io::ErrorKind::PermissionDenied;
    match (&error, error.fault()) {
        (BarmanError::Catalogue { source, .. }, Fault::Transient(why)) if denied(source) => {
            Fault::NeedsPerson(format!("{why}; run it as root or as barman"))
        }
        (_, fault) => fault,
    }
}

/// Why there is none here, and where to ask.
fn elsewhere(config: &Config) -> String {
    match config.barman.mode {
        BarmanMode::Remote => {
            let host = config.barman.host.as_deref();
            let host = host.map_or_else(|| "the barman host".to_owned(), |h| format!("`{h}`"));
            format!(
                "BARMAN_MODE is remote: this cluster's backups are on {host}; run `pgnode backup` there"
            )
        }
        BarmanMode::Cloud => "BARMAN_MODE is cloud: barman keeps nothing here".to_owned(),
        BarmanMode::Off => {
            "BARMAN_MODE is off: this node keeps no backups. Set BARMAN_MODE=local and \
             start it again, or let a barman host pull them (PGNODE_ROLE=barman)"
                .to_owned()
        }
        BarmanMode::Local => "BARMAN_SERVERS names no cluster".to_owned(),
    }
}

#[cfg(test)]
mod tests;
