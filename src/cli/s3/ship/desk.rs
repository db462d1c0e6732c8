//! A run of `wal-sync`, `base-sync` or `full-sync`: its locks, the queue, what it says at the end.

use super::Flags;
use super::report::{self, Report};
use crate::cli::{lament, note, progress::Progress, say};
use crate::config::KeptHost;
use crate::domain::{ExitCode, Fault};
use crate::s3::ship::{Act, Ear, Kind, Order, Queue, Ship, State, Swept, Task};
use crate::s3::{S3Error, Store};
use crate::sys::now_ms;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What a run works with.
pub(super) struct Desk<'a> {
    pub(super) host: &'a KeptHost,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) flags: &'a Flags,
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
    pub(super) async fn alone(&self, server: &str, kind: Kind) -> ExitCode {
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
    pub(super) async fn tasks(&self, server: Option<&str>, retry: bool) -> Result<ExitCode, Fault> {
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
                note(&Fault::chain(&error));
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
