//! What every operation needs to know: settings, accounts, where things are, and whom to tell.

use crate::config::{BarmanMode, Config};
use crate::domain::{Lsn, Role, Status, SystemId, Timeline};
use crate::fsm::{Daemon, Event, OpId};
use crate::http::{Dialer, PeerKey};
use crate::plan::{Member, Memory};
use crate::sys::{Account, Accounts, Children, Layout, Stage, VolumeLock};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;

use super::daemons::Running;
use super::host::Services;

/// What tasks tell the loop.
pub(super) enum Message {
    /// Something happened.
    Event(Event),
    /// A postmaster has a pid.
    PostmasterStarted { launch: OpId, pid: i32 },
    /// A daemon runs.
    DaemonStarted {
        daemon: Daemon,
        launch: OpId,
        running: Running,
    },
    /// How far the state's operation is, or what it waits for.
    Progress(String),
    /// Something to show.
    Status(Box<dyn FnOnce(&mut Status) + Send>),
}

/// Shared by the loop and its tasks. What changes is behind small locks that are never held across
/// an await.
pub(super) struct World {
    config: RwLock<Arc<Config>>,
    /// Derived once: it costs thousands of hash rounds, and a reload cannot change the password.
    key: PeerKey,
    dialer: Dialer,
    pub(super) elector: super::elector::Elector,
    pub(super) children: Children,
    pub(super) accounts: Accounts,
    pub(super) layout: Layout,
    major: AtomicU32,
    to_loop: mpsc::UnboundedSender<Message>,
    memory: Mutex<Option<Memory>>,
    restoring: Mutex<Option<Arc<super::restore::Restoring>>>,
    lock: Mutex<Option<VolumeLock>>,
    sampler: Mutex<Option<tokio::task::JoinHandle<()>>>,
    observed: Mutex<Observed>,
    open: std::sync::atomic::AtomicBool,
    repmgrd: std::sync::atomic::AtomicI32,
    fenced: std::sync::atomic::AtomicBool,
    keepers: Mutex<Option<Services>>,
}

/// What was last seen of the cluster, for decisions that need it later.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) claim: Option<crate::plan::authority::Claim>,
    /// The data on disk are those of a promotion that did not come to its end.
    pub(super) midway: bool,
    /// For how many looks in a row the standby did not stream.
    pub(super) not_streaming: u32,
    /// The primary that the clone is made from.
    pub(super) upstream: Option<crate::config::Address>,
    /// The primary that replaced us, as just answered: taken once, then asked for again.
    pub(super) source: Option<crate::config::Address>,
    /// And its cluster: what a witness goes by.
    pub(super) cluster: Option<SystemId>,
    /// What the server said that it is.
    pub(super) role: Option<Role>,
    /// Standby: whether it streams.
    pub(super) streaming: Option<bool>,
    /// Timeline of the last sample.
    pub(super) timeline: Option<Timeline>,
    /// How far the WAL went at the last sample.
    pub(super) position: Option<Lsn>,
    /// repmgr's nodes at the last sample.
    pub(super) members: Option<Vec<Member>>,
    /// Witness: what it goes by to stay registered.
    pub(super) kept: super::witness::Kept,
    /// Drills that ended until then have been spoken of, milliseconds since the epoch.
    pub(super) drills_said: u64,
    /// What commits wait for.
    pub(super) synchronous: super::synchronous::Kept,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(
        config: Config,
        key: PeerKey,
        children: Children,
        accounts: Accounts,
        layout: Layout,
        pg_major: u32,
        to_loop: mpsc::UnboundedSender<Message>,
    ) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            key,
            dialer: Dialer::default(),
            elector: super::elector::Elector::default(),
            children,
            accounts,
            layout,
            major: pg_major.into(),
            to_loop,
            memory: Mutex::default(),
            restoring: Mutex::default(),
            lock: Mutex::default(),
            sampler: Mutex::default(),
            observed: Mutex::default(),
            open: false.into(),
            repmgrd: 0.into(),
            fenced: false.into(),
            keepers: Mutex::default(),
        }
    }

    /// The settings in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Settings read again on HUP.
    pub(super) fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(super) fn tell(&self, message: Message) {
        // The loop is gone only when everything ends.
        drop(self.to_loop.send(message));
    }

    pub(super) fn progress(&self, text: impl Into<String>) {
        self.tell(Message::Progress(text.into()));
    }

    pub(super) fn show(&self, change: impl FnOnce(&mut Status) + Send + 'static) {
        self.tell(Message::Status(Box::new(change)));
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        locked(&self.memory).clone()
    }

    pub(super) fn remember(&self, memory: Option<Memory>) {
        *locked(&self.memory) = memory;
    }

    /// The restore that is under way.
    pub(super) fn restoring(&self) -> Option<Arc<super::restore::Restoring>> {
        locked(&self.restoring).clone()
    }

    pub(super) fn set_restoring(&self, restoring: Option<Arc<super::restore::Restoring>>) {
        *locked(&self.restoring) = restoring;
    }

    pub(super) fn hold_lock(&self, lock: VolumeLock) {
        *locked(&self.lock) = Some(lock);
    }

    pub(super) fn holds_lock(&self) -> bool {
        locked(&self.lock).is_some()
    }

    pub(super) fn observed(&self) -> Observed {
        locked(&self.observed).clone()
    }

    pub(super) fn observe(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut locked(&self.observed));
    }

    /// One sampler at a time.
    pub(super) fn sampler(&self, start: impl FnOnce() -> tokio::task::JoinHandle<()>) {
        let mut sampler = locked(&self.sampler);
        if sampler
            .as_ref()
            .is_none_or(tokio::task::JoinHandle::is_finished)
        {
            *sampler = Some(start());
        }
    }

    /// The server is about to be stopped: our own session must not be cut with an error in its log.
    pub(super) fn stop_sampler(&self) {
        if let Some(sampler) = locked(&self.sampler).take() {
            sampler.abort();
        }
    }

    pub(super) fn primary_wait(&self) -> Option<Duration> {
        Some(self.config().limits.primary_wait).filter(|d| *d < crate::config::FOR_EVER)
    }

    /// Whether this node is a vote without data.
    pub(super) fn is_witness(&self) -> bool {
        self.config().kind.is_witness()
    }

    pub(super) fn backs_up(&self) -> bool {
        self.config().barman.mode == BarmanMode::Local
    }

    /// Whether cron and a first backup are this node's matter: by its own barman, or into a bucket.
    pub(super) fn makes_backups(&self) -> bool {
        self.backs_up() || super::archiver::archives(&self.config())
    }

    /// Whether barman runs in this container, for whomever.
    pub(super) fn has_barman(&self) -> bool {
        self.backs_up() || self.config().kind.keeps_backups()
    }

    /// What a barman host runs; `None`: not started.
    pub(super) fn keepers<T>(&self, with: impl FnOnce(&mut Option<Services>) -> T) -> T {
        with(&mut locked(&self.keepers))
    }

    /// For the swap of data directories.
    pub(super) fn stage(&self) -> Stage {
        Stage::new(self.layout.clone())
    }

    /// Owner of what is postgres's; `None` where we cannot give files away.
    pub(super) fn file_owner(&self) -> Option<(u32, u32)> {
        self.owner(&self.accounts.postgres)
    }

    /// Owner of what is barman's.
    pub(super) fn barman_owner(&self) -> Option<(u32, u32)> {
        self.owner(&self.accounts.barman)
    }

    fn owner(&self, account: &Account) -> Option<(u32, u32)> {
        self.accounts.root.then_some((account.uid, account.gid))
    }

    /// The key that the cluster's nodes sign their answers with.
    pub(super) const fn peer_key(&self) -> &PeerKey {
        &self.key
    }

    /// How peers are connected to.
    pub(super) const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Major version of the binaries.
    pub(super) fn pg_major(&self) -> u32 {
        self.major.load(Ordering::Relaxed)
    }

    pub(super) fn set_major(&self, major: u32) {
        self.major.store(major, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// Whether a person keeps this node closed.
    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    pub(super) fn set_fenced(&self, fenced: bool) {
        self.fenced.store(fenced, Ordering::Relaxed);
    }

    pub(super) fn is_primary(&self) -> bool {
        self.observed().role == Some(Role::Primary)
    }

    pub(super) fn repmgrd_pid(&self) -> Option<i32> {
        Some(self.repmgrd.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(super) fn set_repmgrd_pid(&self, pid: Option<i32>) {
        self.repmgrd.store(pid.unwrap_or(0), Ordering::Relaxed);
    }
}
