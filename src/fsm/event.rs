//! What the machine hears and what it asks for.

use super::state::{Kind, Rung};
use crate::domain::{ExitCode, Fault, NodeId};
use crate::plan::BootPlan;
use crate::plan::authority::{Reason, Verdict};
use std::time::Duration;

/// Number of an operation or of a process launch; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// A piece of work that the runtime performs and whose result comes back as [`Event::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Binaries, directories, ownership, lock.
    Preflight,
    /// Disk and peers, then the plan.
    Survey,
    /// Managed files.
    Configure,
    /// The authority's question.
    Ask,
    /// Until a primary accepts clients and our password.
    AwaitPrimary,
    /// initdb.
    Init,
    /// The clone.
    Clone,
    /// The backup is chosen, checked and copied.
    Restore,
    /// Watches recovery until it has reached its target, then promotes.
    Replay,
    /// Why recovery ended before that.
    Explain,
    /// The old primary's data become the new primary's standby.
    Rejoin,
    /// SQL on the technical port.
    Bootstrap,
    /// The user's scripts.
    Scripts,
    /// repmgr.
    Register,
    /// Sync, swap, write down.
    Commit,
    /// Orphan backends, stale lock files.
    Clear,
    /// A look at the open node: streaming, slot, peers.
    Look,
    /// barman's first steps on a primary, until its check is green and a backup exists.
    Warm,
    /// A closed primary hands over to this node.
    Handover(NodeId),
    /// An elected node's old primary data become a standby's.
    Demote,
    /// An elected standby becomes the primary.
    Promote,
    /// Settings read again, files rendered, postgres and repmgrd told.
    Reload,
    /// A checkpoint before a stop.
    Checkpoint,
    /// TERM, then KILL, for every process that is left.
    EndAll,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// [`Op::Survey`]: the plan.
    Planned(BootPlan),
    /// [`Op::Ask`]: the answer.
    Verdict(Verdict),
    /// [`Op::Rejoin`]: what came of it.
    Rejoined(Rejoined),
    /// [`Op::Replay`]: recovery is where it was asked to go, and asked to end there.
    Shutdown,
    /// [`Op::Look`]: what was seen.
    Saw(Finding),
    /// It failed.
    Failed(Fault),
}

/// What came of an attempt to rejoin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// The disk holds a standby of the new primary.
    Standby,
    /// Only a new copy helps; why.
    CloneAnew(String),
    /// The new primary cannot be used at the moment; why.
    NoSource(String),
}

/// What a look at the open node can find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All is as it should be, or was mended on the spot.
    Fine,
    /// A standby whose WAL is gone from the primary: only a new clone helps.
    CloneAnew(String),
    /// A primary that must not be open.
    MustClose(Reason),
    /// A standby that holds WAL which the new primary never had.
    Diverged(Reason),
    /// The standby has been promoted.
    Promoted,
    /// The standby follows another primary now; which.
    Follows(String),
}

/// A process that restarts by itself beside postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Daemon {
    /// repmgr's daemon.
    Repmgrd,
    /// Debian's cron, or our own scheduler when we are not root.
    Crond,
}

impl Daemon {
    /// The process's name, in logs, the status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repmgrd => "repmgrd",
            Self::Crond => "crond",
        }
    }
}

/// A port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Loopback and socket only.
    Technical,
    /// Clients.
    Consumer,
}

/// Which directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// The one that is being built.
    Staging,
    /// PGDATA.
    Live,
}

/// The signals by which a postmaster is stopped (PostgreSQL manual, "Shutting Down the Server").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// INT.
    Fast,
    /// QUIT.
    Immediate,
    /// KILL.
    Kill,
}

/// Alarms. Arming one that runs replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The failed operation of the present state is tried again.
    Retry,
    /// A first-time slave gives up waiting.
    PrimaryWait,
    /// The authority is asked again.
    Ask,
    /// The open node is looked at.
    Look,
    /// barman's first steps are tried again.
    Warm,
    /// The rung's deadline.
    Rung,
    /// One crash is old enough to be forgotten; the launch keeps several apart.
    Forget(OpId),
    /// A daemon is started again.
    Backoff(Daemon),
    /// A daemon has run long enough for its failures to be forgotten.
    Steady(Daemon),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The beginning.
    Begin,
    /// An operation ended.
    Done(OpId, Outcome),
    /// The postmaster of this launch accepts connections.
    Ready(OpId),
    /// The postmaster of this launch ended; `how` for the operator, `clean` when it exited 0.
    PostmasterExited {
        /// Its launch.
        launch: OpId,
        /// Whether it exited with code 0.
        clean: bool,
        /// How it ended.
        how: String,
    },
    /// A daemon ended.
    DaemonExited {
        /// Which.
        daemon: Daemon,
        /// Its launch.
        launch: OpId,
        /// How it ended.
        how: String,
    },
    /// An alarm.
    Timer(Timer),
    /// TERM, INT or QUIT, by number.
    StopSignal(u8),
    /// HUP.
    ReloadSignal,
    /// The lease of a primary has run out, or a later term is known.
    LeaseLost(Reason),
    /// A majority has granted this standby a term, or a person has taken one for this node.
    Elected,
    /// A person hands the cluster over to this node.
    Handover(NodeId),
    /// The open node should be looked at now; a fenced one asks at once.
    Nudge,
    /// A person closes this node; that is written down.
    Fence,
    /// A person lets it open again; that is written down.
    Unfence,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin an operation.
    Run(OpId, Op),
    /// Abandon it; its processes end with it.
    Cancel(OpId),
    /// Start a postmaster.
    Launch(OpId, Door, Site),
    /// Signal the postmaster.
    StopPostmaster(OpId, Stop),
    /// Start a daemon.
    StartDaemon(OpId, Daemon),
    /// TERM for a daemon, or KILL.
    StopDaemon {
        /// Its launch.
        launch: OpId,
        /// Which.
        daemon: Daemon,
        /// KILL instead of TERM.
        kill: bool,
    },
    /// Set an alarm.
    Arm(Timer, Duration),
    /// Take it back.
    Disarm(Timer),
    /// Tell the operator.
    Say(Note),
    /// End the process.
    Halt(ExitCode),
}

/// A sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A transition, with its reason.
    Entered {
        /// From.
        from: Kind,
        /// To.
        to: Kind,
        /// Why, in words that stay the same: the diagram's label.
        why: &'static str,
        /// Particulars of this time.
        detail: Option<String>,
    },
    /// The next rung of the ladder.
    Rung(Rung),
    /// Something failed; what follows.
    Failed {
        /// What.
        fault: Fault,
        /// What follows.
        next: &'static str,
        /// After this long.
        after: Option<Duration>,
    },
    /// Worth knowing.
    Remark(String),
}
