//! The node: its state and what it waits for.

use super::event::{Action, Daemon, Door, Note, Op, OpId, Site, Timer};
use super::state::{Kind, State};
use crate::plan::BootPlan;
use std::time::Duration;

/// Numbers and switches that the machine goes by; computed once from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How long a first-time slave waits; `None` for ever.
    pub primary_wait: Option<Duration>,
    /// Deadlines of the ladder: daemons and checkpoint, fast, immediate, kill, reap.
    pub rungs: [Duration; 5],
    /// How long closing for a fence may take: half of it for QUIT, then KILL.
    pub close: Duration,
    /// Crashes of postgres that are mended in place within [`Policy::crash_window`].
    pub crash_limit: u8,
    /// See [`Policy::crash_limit`].
    pub crash_window: Duration,
    /// How often an operation that failed for a passing reason is tried again.
    pub retries: u8,
    /// Whether backups are made here: crond is started, and the first steps towards one on a primary.
    pub backups: bool,
    /// Between two questions to the peers while fenced, and two looks while open.
    pub ask_every: Duration,
}

impl Policy {
    /// The policy for a grace period and a wait.
    #[must_use]
    pub fn new(
        grace: Duration,
        close: Duration,
        primary_wait: Option<Duration>,
        backups: bool,
    ) -> Self {
        // In hundredths of the grace period; a tenth is left for the runtime and the engine.
        let part = |percent: u32| grace * percent / 100;
        Self {
            primary_wait,
            rungs: [part(15), part(50), part(10), part(5), part(10)],
            close,
            crash_limit: 5,
            crash_window: Duration::from_secs(300),
            retries: 5,
            backups,
            ask_every: Duration::from_secs(2),
        }
    }
}

/// The postmaster that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Postmaster {
    /// Its launch.
    pub launch: OpId,
    /// Where it listens.
    pub door: Door,
    /// What it serves.
    pub site: Site,
    /// Whether it accepts connections.
    pub ready: bool,
}

/// A daemon's launch while it runs, and its failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct DaemonSlot {
    pub(super) launch: Option<OpId>,
    pub(super) failures: u8,
}

/// Everything that the next step depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Where it is.
    pub state: State,
    /// What the boot will do, once that is decided.
    pub plan: Option<BootPlan>,
    /// The postmaster that runs; there is never a second.
    pub postmaster: Option<Postmaster>,
    /// The numbers it goes by.
    pub policy: Policy,
    pub(super) daemons: [DaemonSlot; 2],
    pub(super) ops: Vec<(OpId, Op)>,
    pub(super) next: u64,
    pub(super) crashes: u8,
    pub(super) attempts: u8,
    pub(super) unclean: bool,
    pub(super) stop_signals: u8,
    /// Elected while it was closed: promoted as soon as it is open.
    pub(super) elected: bool,
}

impl Node {
    /// A node at its beginning.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            state: State::Preflight,
            plan: None,
            postmaster: None,
            policy,
            daemons: [DaemonSlot {
                launch: None,
                failures: 0,
            }; 2],
            ops: Vec::new(),
            next: 1,
            crashes: 0,
            attempts: 0,
            unclean: false,
            stop_signals: 0,
            elected: false,
        }
    }

    /// Whether this operation is waited for.
    #[must_use]
    pub fn waits_for(&self, id: OpId) -> bool {
        self.ops.iter().any(|(known, _)| *known == id)
    }

    /// Elected, and on its way to be promoted.
    #[must_use]
    pub const fn is_elected(&self) -> bool {
        self.elected
    }

    /// Being promoted.
    #[must_use]
    pub fn is_promoting(&self) -> bool {
        self.ops.iter().any(|(_, op)| *op == Op::Promote)
    }

    /// The launch of a daemon that runs.
    #[must_use]
    pub const fn daemon(&self, daemon: Daemon) -> Option<OpId> {
        self.daemons[daemon as usize].launch
    }
}

/// A step in the making: the node and the actions so far.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) node: Node,
    pub(super) actions: Vec<Action>,
}

impl Turn {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn number(&mut self) -> OpId {
        let id = OpId(self.node.next);
        self.node.next += 1;
        id
    }

    pub(super) fn run(&mut self, op: Op) {
        let id = self.number();
        self.node.ops.push((id, op));
        self.act(Action::Run(id, op));
    }

    pub(super) fn is_running(&self, op: Op) -> bool {
        self.node.ops.iter().any(|(_, running)| *running == op)
    }

    pub(super) fn cancel_all(&mut self) {
        for (id, _) in std::mem::take(&mut self.node.ops) {
            self.act(Action::Cancel(id));
        }
    }

    pub(super) fn launch(&mut self, door: Door, site: Site) {
        let launch = self.number();
        self.node.postmaster = Some(Postmaster {
            launch,
            door,
            site,
            ready: false,
        });
        self.act(Action::Launch(launch, door, site));
    }

    /// Starts a daemon unless it runs: it survives a restart of its database.
    pub(super) fn start(&mut self, daemon: Daemon) {
        if self.node.daemon(daemon).is_some() {
            return;
        }
        let launch = self.number();
        self.node.daemons[daemon as usize].launch = Some(launch);
        self.act(Action::StartDaemon(launch, daemon));
        self.act(Action::Arm(Timer::Steady(daemon), STEADY));
    }

    /// Leaves the present state for another: its operations and alarms end with it.
    pub(super) fn go(&mut self, to: State, why: &'static str, detail: Option<String>) {
        let from = self.node.state.kind();
        self.cancel_all();
        for timer in STATE_TIMERS {
            self.act(Action::Disarm(timer));
        }
        self.node.attempts = 0;
        let to_kind = to.kind();
        self.node.state = to;
        if from != to_kind || from == Kind::Recover {
            self.act(Action::Say(Note::Entered {
                from,
                to: to_kind,
                why,
                detail,
            }));
        }
    }
}

/// Alarms that belong to a state and end with it.
const STATE_TIMERS: [Timer; 6] = [
    Timer::Retry,
    Timer::PrimaryWait,
    Timer::Ask,
    Timer::Look,
    Timer::Warm,
    Timer::Rung,
];

/// A daemon that has run this long has not failed in a row.
const STEADY: Duration = Duration::from_secs(60);
