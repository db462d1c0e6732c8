//! A barman host's catalogue into the bucket: `wal-sync`, `base-sync`, `full-sync`, `base-ls`, `queue-add`. cron, barman
//! and persons start them; whoever does, they work as barman.

mod list;
mod report;

use super::RUN_DIR;
use crate::cli::{lament, progress::Progress, say};
use crate::config::{Kept, KeptHost};
use crate::domain::{ExitCode, Fault};
use crate::s3::ship::{Act, Ear, Kind, NoTask, Order, Queue, Ship, State, Swept, Task};
use crate::s3::{S3Error, Store};
use crate::sys::Accounts;
use clap::{Args, Subcommand};
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// What a run works with.
pub(super) struct Desk<'a> {
    host: &'a KeptHost,
    store: Store,
    queue: Queue,
    flags: &'a Flags,
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

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

impl Desk<'_> {
    pub(super) fn ship(&self, server: &str, ear: Ear) -> Ship {
        let order = Order {
            dry_run: self.flags.dry_run,
            checksum: self.flags.checksum,
        };
        Ship::of(&self.store, self.host.home.join(server), order, ear)
    }

    /// One run of `wal-sync` or `full-sync`.
    async fn alone(&self, server: &str, kind: Kind) -> ExitCode {
        let kinds: &[Kind] = match kind {
            // It touches what the two others do.
            Kind::Full => &[Kind::Full, Kind::Wal, Kind::Base],
            Kind::Wal | Kind::Base => &[kind],
        };
        let mut locks = Vec::new();
        for kind in kinds {
            match self.queue.lock(server, *kind) {
                Ok(Some(lock)) => locks.push(lock),
                Ok(None) => return self.busy(server, *kind),
                Err(error) => return lament(&error.fault()),
            }
        }
        let report = self
            .work(server, kind, None, async |ship: &Ship| match kind {
                Kind::Full => ship.full().await,
                Kind::Wal | Kind::Base => {
                    ship.claim().await?;
                    ship.ship_wals(drop).await?;
                    Ok(Swept::default())
                }
            })
            .await;
        self.finish(&[report])
    }

    fn busy(&self, server: &str, kind: Kind) -> ExitCode {
        let why = format!("{}-sync of {server} is under way already", kind.word());
        if self.flags.json {
            say(&format!("{:#}\n", serde_json::json!({ "busy": why })));
        } else {
            say(&format!("{why}: this one ends\n"));
        }
        ExitCode::STOPPED
    }

    /// The queue.
    async fn tasks(&self, server: Option<&str>, retry: bool) -> Result<ExitCode, Fault> {
        let failed = |e: S3Error| e.fault();
        if !self.flags.dry_run {
            self.queue
                .tidy(self.host.keep, SystemTime::now())
                .map_err(failed)?;
            if retry {
                self.queue.retry(server).map_err(failed)?;
            }
        }
        let mut reports = Vec::new();
        for entry in self.queue.list().map_err(failed)? {
            let waits = matches!(entry.state, State::Run | State::Running)
                || (retry && self.flags.dry_run && entry.state == State::Error);
            let of = entry.task.as_ref().map(|t| t.server.as_str());
            if waits && (server.is_none() || of.is_none() || of == server) {
                reports.extend(self.task(&entry.stem, entry.task).await?);
            }
        }
        Ok(self.finish(&reports))
    }

    /// One task; `None`: another process has it, or it is not its time yet.
    async fn task(&self, stem: &str, task: Option<Task>) -> Result<Option<Report>, Fault> {
        let failed = |e: S3Error| e.fault();
        let unfit = match &task {
            None => Some("it is not what queue-add writes".to_owned()),
            Some(task) => task.unfit().or_else(|| self.foreign(task)),
        };
        if self.flags.dry_run {
            return Ok(Some(match (unfit, &task) {
                (None, Some(task)) => self.backup(task).await,
                (why, _) => Report::failed(stem, Kind::Base, why.unwrap_or_default()),
            }));
        }
        let mut lock = None;
        if let (None, Some(task)) = (&unfit, &task) {
            lock = self.queue.lock(&task.server, Kind::Base).map_err(failed)?;
            if lock.is_none() {
                self.busy(&task.server, Kind::Base);
                return Ok(None);
            }
            if self.waits(task).await {
                return Ok(None);
            }
        }
        let Some(held) = self.queue.take(stem).map_err(failed)? else {
            return Ok(None);
        };
        let report = match (unfit, &task) {
            (None, Some(task)) => self.backup(task).await,
            (why, _) => Report::failed(stem, Kind::Base, why.unwrap_or_default()),
        };
        held.end(report.error.clone(), now_ms()).map_err(failed)?;
        drop(lock);
        Ok(Some(report))
    }

    /// Why this host cannot ship it.
    fn foreign(&self, task: &Task) -> Option<String> {
        if !self.host.servers.contains(&task.server) {
            return Some(format!(
                "no cluster `{}` is kept here, only {}",
                task.server,
                self.host.servers.join(", ")
            ));
        }
        let dir = self
            .host
            .home
            .join(&task.server)
            .join("base")
            .join(&task.id);
        (task.dir != dir).then(|| {
            format!(
                "BARMAN_BACKUP_DIR is {}, and backups of `{}` are in {}",
                task.dir.display(),
                task.server,
                dir.display()
            )
        })
    }

    /// Whether its last WAL has not arrived: it stays where it is.
    async fn waits(&self, task: &Task) -> bool {
        let ship = self.ship(&task.server, Arc::new(drop));
        let backup = ship.backup(&task.id).await;
        let waits = backup.is_ok_and(|b| b.is_copied() && !b.is_done());
        if waits {
            say(&format!(
                "{}: backup {} waits for its last WAL, and in the queue until then\n",
                task.server, task.id
            ));
        }
        waits
    }

    async fn backup(&self, task: &Task) -> Report {
        let id = task.id.clone();
        self.work(
            &task.server,
            Kind::Base,
            Some(&task.id),
            async |ship: &Ship| {
                ship.claim().await?;
                ship.ship(&id, drop).await?;
                ship.refresh_notes().await?;
                Ok(Swept::default())
            },
        )
        .await
    }

    /// Does it, shows how far it is, and writes down what it came to.
    async fn work(
        &self,
        server: &str,
        kind: Kind,
        id: Option<&str>,
        work: impl AsyncFnOnce(&Ship) -> Result<Swept, S3Error>,
    ) -> Report {
        let acts: Arc<Mutex<Vec<Act>>> = Arc::default();
        let (heard, dry, json) = (acts.clone(), self.flags.dry_run, self.flags.json);
        let ear = move |act: Act| {
            let matters = dry || matches!(act, Act::Keep { .. } | Act::Failed { .. });
            if matters && json {
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(act);
            } else if matters {
                say(&report::line(&act, dry));
            }
        };
        let ship = self.ship(server, Arc::new(ear));
        let what = match id {
            Some(id) => format!("{server}: backup {id}"),
            None => format!("{}-sync {server}", kind.word()),
        };
        let mut progress = Progress::begin(what, None, json || dry);
        let began = Instant::now();
        let tally = ship.tally().clone();
        let ended = {
            let mut work = std::pin::pin!(work(&ship));
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    ended = &mut work => break ended,
                    _ = look.tick() => progress.at(tally.bytes.load(Ordering::Relaxed)),
                }
            }
        };
        progress.end();
        let mut report = Report::of(server, kind, &tally, began.elapsed(), ended);
        report.backup = id.map(str::to_owned);
        report.dry_run = dry;
        let mut acts = acts.lock().unwrap_or_else(PoisonError::into_inner);
        report.acts = std::mem::take(&mut *acts);
        if !dry {
            let written = self
                .queue
                .write_record(server, kind, report.record(now_ms()));
            if let Err(error) = written {
                super::super::note(&Fault::chain(&error));
            }
        }
        report
    }

    /// Says what came of it; the first failure's code.
    fn finish(&self, reports: &[Report]) -> ExitCode {
        if self.flags.json {
            say(&report::json(reports));
        } else {
            for report in reports {
                say(&report.text());
            }
        }
        let fault = reports.iter().find_map(|r| r.fault.as_ref());
        fault.map_or(ExitCode::STOPPED, Fault::exit_code)
    }
}
