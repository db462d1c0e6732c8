//! The keeper of one cluster: looks, decides (`plan::keeper`), does one thing, and waits for an event or
//! a moment. Each is a task of its own: a cluster that does not answer holds up no other.

use super::look::{self, Answer, Link, NoLink, Replied};
use super::receiver::Running;
use super::{files, words};
use crate::barman::{Backup, Client};
use crate::config::{BarmanServer, Method};
use crate::domain::{CheckView, Fault, KeptView, human_bytes};
use crate::plan::keeper::{Backups, Cluster, Receiver, Seen, Slot, Step, backup_pause, next};
use crate::runtime::archive;
use crate::runtime::survey::blocking;
use crate::runtime::world::World;
use crate::sys::now_ms;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two looks while something is on its way.
const BUSY: Duration = Duration::from_secs(1);
/// And while all is well.
const RESTING: Duration = Duration::from_secs(5);
/// Between two `barman check` while all is well: each is a Python start.
const CHECK: Duration = Duration::from_secs(60);
/// And while it is not.
const RECHECK: Duration = Duration::from_secs(5);

/// What a keeper knows between two looks.
pub(super) struct Keeper {
    pub(super) world: Arc<World>,
    pub(super) server: BarmanServer,
    pub(super) receiver: Running,
    pub(super) link: Option<Link>,
    pub(super) backup: Option<Making>,
    /// Failed backups in a row, and when the last one was.
    pub(super) failed: (u32, Option<Instant>),
    pub(super) view: KeptView,
    /// What was said last, so that it is said once.
    said: String,
    checked: Option<Instant>,
    owner: Option<(u32, u32)>,
}

/// A backup that is being made.
#[derive(Debug)]
pub(super) struct Making {
    task: JoinHandle<Result<(), Fault>>,
    /// The debt that it pays.
    owed: Option<String>,
}

/// One look.
struct Look {
    seen: Seen,
    answer: Option<Answer>,
    catalogue: Vec<Backup>,
}

/// Keeps a cluster until it is told to stop.
pub(super) async fn keep(
    world: Arc<World>,
    server: BarmanServer,
    mut stop: watch::Receiver<bool>,
    mut refresh: watch::Receiver<u64>,
) {
    let owner = world.barman_owner();
    let view = KeptView {
        name: server.name.clone(),
        hosts: server.hosts.iter().map(ToString::to_string).collect(),
        note: "looking".to_owned(),
        note_since_ms: now_ms(),
        ..KeptView::default()
    };
    let mut keeper = Keeper {
        world,
        server,
        receiver: Running::default(),
        link: None,
        backup: None,
        failed: (0, None),
        view,
        said: String::new(),
        checked: None,
        owner,
    };
    while !*stop.borrow() {
        let pace = keeper.turn().await;
        let woken = tokio::select! {
            // Only ever an error: the services are gone.
            _ = stop.changed() => return,
            _ = refresh.changed() => {
                keeper.link = None;
                Woken::Time
            }
            how = keeper.receiver.ended() => Woken::Receiver(how),
            result = made(&mut keeper.backup) => Woken::Backup(result),
            () = tokio::time::sleep(pace) => Woken::Time,
        };
        if *stop.borrow() {
            return;
        }
        keeper.woken(woken).await;
    }
}

enum Woken {
    Time,
    Receiver(String),
    Backup(Result<(), Fault>),
}

/// Waits for ever where none is made.
async fn made(backup: &mut Option<Making>) -> Result<(), Fault> {
    match backup {
        Some(making) => match (&mut making.task).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Bug("the backup's task panicked".into())),
        },
        None => std::future::pending().await,
    }
}

impl Keeper {
    /// barman for this cluster, with the settings in force.
    pub(super) fn client(&self) -> Client {
        Client {
            children: self.world.children.clone(),
            config: self.world.config(),
            account: self.world.accounts.barman.clone(),
            server: self.server.name.clone(),
        }
    }

    /// Where barman has this cluster's files.
    pub(super) fn dir(&self) -> PathBuf {
        archive::server(&self.client()).dir
    }

    async fn turn(&mut self) -> Duration {
        let look = match self.look().await {
            Ok(look) => look,
            Err(fault) => {
                self.note(format!("cannot look: {}", fault.why()), true);
                self.publish();
                return BUSY;
            }
        };
        let step = next(&look.seen);
        self.shown(&look, &step);
        self.publish();
        match self.perform(step.clone()).await {
            Ok(()) => {}
            Err(fault) => {
                self.note(fault.why().to_owned(), true);
                self.publish();
                return RESTING;
            }
        }
        if matches!(step, Step::Rest | Step::Wait(_)) {
            self.check(&look).await;
            self.publish();
        }
        match step {
            Step::Rest => RESTING,
            Step::FirstWal | Step::Evict | Step::Wait(_) => BUSY,
            // What it has changed is looked at at once.
            Step::Receive
            | Step::Kick
            | Step::Realign(_)
            | Step::DropSlot
            | Step::Backup(_)
            | Step::Finish => BUSY / 4,
        }
    }

    async fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Time => {}
            Woken::Receiver(how) => {
                self.view.receiver_restarts += 1;
                tracing::warn!(
                    source = "barman",
                    server = self.server.name,
                    "receive-wal ended: {how}"
                );
            }
            Woken::Backup(Ok(())) => {
                let owed = self.backup.take().and_then(|m| m.owed);
                self.failed = (0, None);
                self.checked = None;
                let dir = self.dir();
                let paid = blocking(move || owed.map_or(Ok(()), |owed| files::paid(&dir, &owed)));
                if let Err(fault) = paid.await {
                    tracing::warn!(source = "barman", server = self.server.name, "{fault}");
                }
            }
            Woken::Backup(Err(fault)) => {
                self.backup = None;
                self.failed = (self.failed.0.saturating_add(1), Some(Instant::now()));
                tracing::warn!(
                    source = "barman",
                    server = self.server.name,
                    "the backup failed: {fault}"
                );
            }
        }
    }

    async fn look(&mut self) -> Result<Look, Fault> {
        let client = self.client();
        let (mut cluster, answer) = self.cluster(&client).await?;
        let segment_size = answer
            .as_ref()
            .map_or(crate::domain::WalName::DEFAULT_SEGMENT_SIZE, |a| {
                a.segment_size
            });
        let place = archive::server(&client);
        let home = client.config.paths.barman_backup_dir.clone();
        let files = blocking(move || {
            let dir = &place.dir;
            Ok((
                files::tail(dir, segment_size)?,
                files::archived(dir)?,
                files::owed(dir)?,
                crate::sys::fs_facts(&home).ok().map(|f| f.available),
                place.backups(),
            ))
        });
        let (tail, archived, owed, free, catalogue) = files.await?;
        let catalogue = catalogue.map_err(|e| e.fault())?;
        let drills = crate::runtime::chores::drills(&self.world).await?;
        self.world.show(move |status| status.backup.drills = drills);
        let receiver = match client.config.barman.method {
            Method::Streaming => self.receiver.seen(),
            Method::Rsync => Receiver::Shipped,
        };
        if let Cluster::Primary(primary) = &mut cluster
            && let (Receiver::Stopped { .. }, Some(tail), Some(link)) = (receiver, tail, &self.link)
        {
            primary.oldest = look::oldest(&link.session, segment_size).await;
            if tail.segment.timeline < primary.timeline {
                primary.history = look::history(&client, &link.address, primary.timeline).await;
            }
        }
        let habits = &client.config.barman.habits;
        let backups = self.backups(&catalogue, owed, habits.minimum_redundancy);
        let seen = Seen {
            cluster,
            receiver,
            tail,
            archived,
            backups,
            free,
        };
        Ok(Look {
            seen,
            answer,
            catalogue,
        })
    }

    /// The cluster, by the session that is there, or by a new one.
    async fn cluster(&mut self, client: &Client) -> Result<(Cluster, Option<Answer>), Fault> {
        let known = match &self.link {
            Some(link) => look::ask(&link.session).await.ok().flatten(),
            None => None,
        };
        let answer = match known {
            Some(answer) => answer,
            None => {
                self.link = None;
                match look::find(&client.config, &self.server).await {
                    Ok((link, answer)) => {
                        self.link = Some(link);
                        answer
                    }
                    Err(NoLink::Refused(what)) => return Ok((Cluster::Refused(what), None)),
                    Err(NoLink::Nobody(said)) => return Ok((Cluster::NoPrimary(said), None)),
                }
            }
        };
        let place = archive::server(client);
        let ours = blocking(move || Ok(place.identity())).await?;
        let ours = ours.map_err(|e| e.fault())?;
        if let Some(ours) = ours.filter(|ours| *ours != answer.system_id) {
            let theirs = answer.system_id;
            return Ok((Cluster::Stranger { ours, theirs }, None));
        }
        // A receiver that does not stay may have a login that does not work.
        if let (Receiver::Stopped { failures: 2.., .. }, Some(link)) =
            (self.receiver.seen(), &self.link)
            && let Replied::NoLogin(why) =
                look::replication(client, &link.address, "IDENTIFY_SYSTEM").await
        {
            let what = format!(
                "{} does not let barman_streaming in: is BARMAN_STREAMING_PASSWORD the one that the cluster \
                 has? It says: {why}",
                link.address
            );
            return Ok((Cluster::Refused(what), None));
        }
        Ok((Cluster::Primary(answer.primary()), Some(answer)))
    }

    fn backups(&self, all: &[Backup], owed: Option<String>, redundancy: u32) -> Backups {
        let copied = || all.iter().filter(|b| b.is_done() || archive::waits(b));
        let full = u32::try_from(copied().filter(|b| b.parent.is_none()).count());
        let pause = match self.failed {
            (failures, Some(at)) => backup_pause(failures).saturating_sub(at.elapsed()),
            (_, None) => Duration::ZERO,
        };
        Backups {
            running: self.backup.is_some(),
            waiting: all.iter().any(archive::waits),
            newest: copied().filter_map(|b| b.timeline).max(),
            missing: redundancy.saturating_sub(full.unwrap_or(u32::MAX)),
            owed,
            pause,
        }
    }

    /// Starts one beside everything else.
    pub(super) fn make_backup(&mut self, owed: Option<String>) {
        let client = self.client();
        let task =
            tokio::spawn(async move { client.backup(None).await.map_err(|error| error.fault()) });
        self.backup = Some(Making { task, owed });
    }

    pub(super) const fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// barman's own word, while WAL is received and nothing is on its way.
    async fn check(&mut self, look: &Look) {
        let attached = self.view.attached_since_ms.is_some();
        let idle = attached && !look.seen.backups.running;
        let green = self
            .view
            .check
            .as_ref()
            .is_some_and(|c| c.failed.is_empty());
        let pause = if green { CHECK } else { RECHECK };
        if !idle || self.checked.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.checked = Some(Instant::now());
        let failed = match self.client().check().await {
            Ok(lines) => lines
                .into_iter()
                .filter(|l| !l.ok)
                .map(|l| format!("{} ({})", l.name, l.hint))
                .collect(),
            Err(error) => vec![Fault::chain(&error)],
        };
        let at_ms = now_ms();
        if green && !Vec::is_empty(&failed) {
            tracing::warn!(
                source = "barman",
                server = self.server.name,
                "barman check: {}",
                failed.join("; ")
            );
        }
        if !green && failed.is_empty() {
            tracing::info!(
                source = "barman",
                server = self.server.name,
                "barman check: all is OK"
            );
        }
        self.view.check = Some(CheckView { at_ms, failed });
    }

    /// From what was seen and decided to what is shown.
    fn shown(&mut self, look: &Look, step: &Step) {
        let attached = match (look.seen.receiver, &look.answer) {
            (Receiver::Running(_), Some(answer)) => answer.slot == Slot::Taken,
            // It may well receive while nobody answers us: what was known stays.
            (Receiver::Running(_) | Receiver::Shipped, None) => {
                self.view.attached_since_ms.is_some()
            }
            (Receiver::Shipped, Some(_)) => look.seen.archived,
            (Receiver::Stopped { .. }, _) => false,
        };
        if attached && look.answer.is_some() {
            self.receiver.receives();
        }
        let view = &mut self.view;
        view.attached_since_ms = match (attached, view.attached_since_ms) {
            (true, Some(since)) => Some(since),
            (true, None) => Some(now_ms()),
            (false, _) => None,
        };
        view.primary = self.link.as_ref().map(|l| l.address.to_string());
        if let Some(answer) = &look.answer {
            view.timeline = Some(answer.timeline);
            view.slot.clone_from(&answer.wal_status);
            view.received = answer.received.or(view.received);
            view.lag_bytes = answer.lag;
        } else {
            view.lag_bytes = None;
        }
        view.free_bytes = look.seen.free;
        let done = || look.catalogue.iter().filter(|b| b.is_done());
        view.backups = done().count() as u64;
        let last = done().next_back();
        view.last_id = last.map(|b| b.id.clone());
        view.last_end_ms = last.and_then(|b| b.end_ms);
        view.last_size = last.and_then(|b| b.size);
        view.last_timeline = last.and_then(|b| b.timeline);
        let (text, problem) = words::said(step, look.seen.tail);
        self.note(text, problem);
        if self.view.slot.as_deref() == Some("unreserved") {
            let lag = self.view.lag_bytes.map(human_bytes).unwrap_or_default();
            self.view.problems.push(format!(
                "the primary is about to give up WAL that was not received ({lag} behind)"
            ));
        }
    }

    fn note(&mut self, text: String, problem: bool) {
        self.view.problems.clear();
        if problem {
            self.view.problems.push(text.clone());
        }
        // Numbers that only count down are no news.
        let key: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.said != key {
            self.view.note_since_ms = now_ms();
            let server = &self.server.name;
            if problem {
                tracing::warn!(source = "barman", server, "{text}");
            } else {
                tracing::info!(source = "barman", server, "{text}");
            }
            self.said = key;
        }
        self.view.note = text;
    }

    fn publish(&self) {
        let view = self.view.clone();
        self.world.show(move |status| {
            let host = status.host.get_or_insert_default();
            match host.servers.iter_mut().find(|s| s.name == view.name) {
                Some(known) => *known = view,
                None => host.servers.push(view),
            }
        });
    }
}
