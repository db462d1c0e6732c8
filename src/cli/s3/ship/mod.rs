//! A barman host's catalogue into the bucket: `wal-sync`, `base-sync`, `full-sync`, `base-ls`, `queue-add`. cron, barman
//! and persons start them; whoever does, they work as barman.

mod desk;
mod list;
mod report;

use super::RUN_DIR;
use crate::cli::{lament, say};
use crate::config::{Kept, KeptHost};
use crate::domain::{ExitCode, Fault};
use crate::s3::Store;
use crate::s3::ship::{Kind, NoTask, Queue, Task};
use crate::sys::{Accounts, now_ms};
use clap::{Args, Subcommand};
use desk::Desk;
use std::path::{Path, PathBuf};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Verb {
    /// Ship archived WAL of a cluster that this barman host keeps
    #[command(after_help = "Example:\n  docker exec barman1 pgnode s3 wal-sync main")]
    WalSync {
        /// barman's name of the cluster
        server: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Ship the backups that wait in the queue
    #[command(
        after_help = "A task that failed stays in the queue as <id>.error, until it is asked for again.\n\nExample:\n  docker exec barman1 pgnode s3 base-sync --retry-errors"
    )]
    BaseSync {
        /// barman's name of the cluster; all unless given
        server: Option<String>,
        /// Those that failed, too
        #[arg(long)]
        retry_errors: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Ship all backups and all WAL, and delete in the bucket what barman has deleted
    #[command(
        after_help = "Nothing is deleted that a backup here or there needs, and nothing at all while the catalogue is\nempty or not understood.\n\nExample:\n  docker exec barman1 pgnode s3 full-sync main --dry-run"
    )]
    FullSync {
        /// barman's name of the cluster
        server: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// The backups that the bucket has
    #[command(after_help = "Example:\n  docker exec barman1 pgnode s3 base-ls main")]
    BaseLs {
        /// barman's name of the cluster
        server: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Put a backup into the queue: barman's post_backup_script
    #[command(
        after_help = "It reads BARMAN_SERVER, BARMAN_BACKUP_ID, BARMAN_BACKUP_DIR, BARMAN_STATUS, BARMAN_PHASE and\nBARMAN_ERROR, which barman sets for its hook scripts."
    )]
    QueueAdd {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the settings are.
#[derive(Debug, Args)]
pub(in crate::cli) struct Place {
    /// Where the node's run-time files are
    #[arg(long, hide = true, default_value = RUN_DIR)]
    run_dir: PathBuf,
}

/// How to work.
#[derive(Debug, Args)]
pub(in crate::cli) struct Flags {
    /// Change nothing, and say what would be sent and deleted
    #[arg(long)]
    dry_run: bool,
    /// Compare contents (MD5) where the sizes are the same, instead of times
    #[arg(long)]
    checksum: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Performs one.
pub(super) fn perform(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::WalSync { server, flags } => with(&flags, Some(&server), async |desk| {
            Ok(desk.alone(&server, Kind::Wal).await)
        }),
        Verb::BaseSync {
            server,
            retry_errors,
            flags,
        } => with(&flags, server.as_deref(), async |desk| {
            desk.tasks(server.as_deref(), retry_errors).await
        }),
        Verb::FullSync { server, flags } => with(&flags, Some(&server), async |desk| {
            Ok(desk.alone(&server, Kind::Full).await)
        }),
        Verb::BaseLs {
            server,
            json,
            place,
        } => {
            let flags = Flags {
                dry_run: true,
                checksum: false,
                json,
                place,
            };
            with(&flags, Some(&server), async |desk| {
                list::list(desk, &server, json).await
            })
        }
        Verb::QueueAdd { place } => queue_add(&place.run_dir),
    };
    done.unwrap_or_else(|fault| lament(&fault))
}

fn with(
    flags: &Flags,
    server: Option<&str>,
    work: impl AsyncFnOnce(&Desk<'_>) -> Result<ExitCode, Fault>,
) -> Result<ExitCode, Fault> {
    let kept = settings(&flags.place.run_dir)?;
    let host = host(&kept)?;
    if let Some(server) = server.filter(|s| !host.servers.iter().any(|known| known == s)) {
        return Err(Fault::Config(format!(
            "no cluster `{server}` is kept here, only {}",
            host.servers.join(", ")
        )));
    }
    let desk = Desk {
        host,
        store: Store::open(&kept.s3).map_err(|e| e.fault())?,
        queue: Queue::at(host.queue.clone()),
        flags,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|e| Fault::Transient(format!("no async runtime: {e}")))?;
    let done = runtime.block_on(work(&desk));
    runtime.shutdown_background();
    done
}

/// As barman: what root writes here, barman could not change.
fn settings(run_dir: &Path) -> Result<Kept, Fault> {
    let barman = Accounts::find()?.barman;
    if barman.must_switch() {
        let failed =
            |e: nix::Error| Fault::NeedsPerson(format!("cannot become {}: {e}", barman.name));
        let (uid, gid) = (barman.uid.into(), barman.gid.into());
        let name = std::ffi::CString::new(barman.name.clone())
            .map_err(|e| Fault::Bug(format!("{}: {e}", barman.name)))?;
        nix::unistd::initgroups(&name, gid).map_err(failed)?;
        nix::unistd::setgid(gid).map_err(failed)?;
        nix::unistd::setuid(uid).map_err(failed)?;
    }
    super::kept(run_dir)
}

fn host(kept: &Kept) -> Result<&KeptHost, Fault> {
    kept.host.as_ref().ok_or_else(|| {
        Fault::Config(
            "this is no barman host: only one (PGNODE_ROLE=barman) ships a catalogue; a node with \
             BARMAN_MODE=cloud archives into the bucket by itself"
                .into(),
        )
    })
}

fn queue_add(run_dir: &Path) -> Result<ExitCode, Fault> {
    let kept = settings(run_dir)?;
    let host = host(&kept)?;
    let around = crate::config::inherited();
    let get = |name: &str| {
        let found = around.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    };
    let task = Task::from_hook(get, now_ms()).map_err(|e: NoTask| Fault::Config(e.to_string()))?;
    let entry = Queue::at(host.queue.clone())
        .add(&task)
        .map_err(|e| e.fault())?;
    let file = format!("{}{}", entry.stem, entry.state.ending());
    say(&format!(
        "{}: backup {} is queued as {}\n",
        task.server,
        task.id,
        host.queue.join(file).display()
    ));
    Ok(ExitCode::STOPPED)
}
