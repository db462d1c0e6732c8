//! The states, each with the sentence that an operator reads while the node is in it.

use crate::domain::{ExitCode, Exposure, NodeId};
use crate::plan::authority::Reason;

/// Where the node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Looks at itself: binaries, directories, ownership, the lock on the volume.
    Preflight,
    /// Looks at the disk and asks the peers; ends in a plan.
    Survey,
    /// Writes the managed configuration.
    Configure,
    /// Asks whether a primary may open here.
    Decide,
    /// Must not open; keeps asking, unless a person has closed it. No postmaster runs.
    Fenced(Reason),
    /// Another node was promoted: the data here become its standby. No postmaster runs.
    Rejoin(Reason),
    /// A planned change of the primary: closed in order, the successor is elected.
    Handover(NodeId),
    /// Elected anew: the old primary's data become a standby's, to be promoted.
    Demote,
    /// A first-time slave waits for its master's consumer port.
    AwaitPrimary,
    /// initdb, in the staging directory.
    Init,
    /// `repmgr standby clone`, into the staging directory.
    Clone,
    /// A backup is chosen, checked and copied into the staging directory.
    Restore,
    /// A postmaster recovers it on the technical port, as far as was asked for, and is promoted.
    Replay,
    /// A postmaster starts on the technical port.
    Launch,
    /// Users, databases, extension.
    Bootstrap,
    /// `/docker-entrypoint-initdb.d`.
    Scripts,
    /// repmgr is told about us.
    Register,
    /// The postmaster on the technical port stops.
    Settle,
    /// The staged directory is synced and takes its place; what is true now is written down.
    Commit,
    /// A postmaster starts on the consumer port.
    Opening,
    /// Clients are served.
    Open,
    /// The postmaster died; what is left of it is cleared away.
    Recover(Resume),
    /// Everything is brought down, in order.
    Stopping(Rung, End),
    /// The end.
    Halted(ExitCode),
}

/// What follows once the remains of a dead postmaster are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resume {
    /// The staged cluster is thrown away and made again.
    Init,
    /// The staged backup is thrown away and copied again.
    Restore,
    /// Recovery goes on in the staging directory.
    Replay,
    /// The technical port again.
    Launch,
    /// The consumer port again.
    Opening,
}

/// A rung of the stop ladder; each has a deadline, and they add up to less than the grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// repmgrd and crond get TERM; meanwhile a checkpoint shortens the shutdown's own.
    Daemons,
    /// postgres gets INT: a fast shutdown, clients are cut, everything is written.
    Fast,
    /// postgres gets QUIT: recovery at the next start.
    Immediate,
    /// postgres gets KILL.
    Kill,
    /// Whatever process is left gets TERM, then KILL.
    Reap,
}

/// What the ladder leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The container ends.
    Exit(ExitCode),
    /// The node is fenced.
    Fence(Reason),
    /// The standby is cloned anew; its old copy stays until the new one streams.
    Reclone,
    /// A planned change of the primary.
    Handover(NodeId),
    /// The node rejoins: a standby that holds WAL which the new primary never had.
    Rejoin(Reason),
}

/// A state without its particulars: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// See [`State::Preflight`].
    Preflight,
    /// See [`State::Survey`].
    Survey,
    /// See [`State::Configure`].
    Configure,
    /// See [`State::Decide`].
    Decide,
    /// See [`State::Fenced`].
    Fenced,
    /// See [`State::Rejoin`].
    Rejoin,
    /// See [`State::Handover`].
    Handover,
    /// See [`State::Demote`].
    Demote,
    /// See [`State::AwaitPrimary`].
    AwaitPrimary,
    /// See [`State::Init`].
    Init,
    /// See [`State::Clone`].
    Clone,
    /// See [`State::Restore`].
    Restore,
    /// See [`State::Replay`].
    Replay,
    /// See [`State::Launch`].
    Launch,
    /// See [`State::Bootstrap`].
    Bootstrap,
    /// See [`State::Scripts`].
    Scripts,
    /// See [`State::Register`].
    Register,
    /// See [`State::Settle`].
    Settle,
    /// See [`State::Commit`].
    Commit,
    /// See [`State::Opening`].
    Opening,
    /// See [`State::Open`].
    Open,
    /// See [`State::Recover`].
    Recover,
    /// [`State::Stopping`] on the way to something other than the end.
    Closing,
    /// See [`State::Stopping`].
    Stopping,
    /// See [`State::Halted`].
    Halted,
}

impl Kind {
    /// Every row, in the order of a boot.
    pub const ALL: [Self; 25] = [
        Self::Preflight,
        Self::Survey,
        Self::Configure,
        Self::Decide,
        Self::Fenced,
        Self::Rejoin,
        Self::Handover,
        Self::Demote,
        Self::AwaitPrimary,
        Self::Init,
        Self::Clone,
        Self::Restore,
        Self::Replay,
        Self::Launch,
        Self::Bootstrap,
        Self::Scripts,
        Self::Register,
        Self::Settle,
        Self::Commit,
        Self::Opening,
        Self::Open,
        Self::Recover,
        Self::Closing,
        Self::Stopping,
        Self::Halted,
    ];

    /// The name in logs, `/status`, metrics and the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What the node does in this state, for the operator.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.row().1
    }

    /// The most that clients can reach in this state.
    #[must_use]
    pub const fn exposure(self) -> Exposure {
        self.row().2
    }

    /// Whether the node is still on its way to its first opening.
    #[must_use]
    pub const fn is_boot(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::Closing | Self::Stopping | Self::Halted
        )
    }

    const fn row(self) -> (&'static str, &'static str, Exposure) {
        use Exposure::{Closed, Consumer, Technical};
        match self {
            Self::Preflight => (
                "preflight",
                "checking binaries, directories and the lock on the volume",
                Closed,
            ),
            Self::Survey => (
                "survey",
                "looking what is on the disk and who answers",
                Closed,
            ),
            Self::Configure => ("configure", "writing the managed configuration", Closed),
            Self::Decide => (
                "decide",
                "asking the peers whether this node may open",
                Closed,
            ),
            Self::Fenced => ("fenced", "closed until it is safe to open", Closed),
            Self::Rejoin => (
                "rejoin",
                "becoming a standby of the node that was promoted",
                Closed,
            ),
            Self::Handover => (
                "handover",
                "closed in order; the successor takes over",
                Closed,
            ),
            Self::Demote => (
                "demote",
                "making the old primary's data a standby's, to be promoted to a new timeline",
                Closed,
            ),
            Self::AwaitPrimary => (
                "await-primary",
                "waiting until the master's consumer port is open",
                Closed,
            ),
            Self::Init => (
                "init",
                "creating the cluster in the staging directory",
                Closed,
            ),
            Self::Clone => (
                "clone",
                "cloning the primary into the staging directory",
                Closed,
            ),
            Self::Restore => (
                "restore",
                "copying the backup into the staging directory",
                Closed,
            ),
            Self::Replay => (
                "replay",
                "recovering the backup on the technical port",
                Technical,
            ),
            Self::Launch => (
                "launch",
                "starting postgres on the technical port",
                Technical,
            ),
            Self::Bootstrap => (
                "bootstrap",
                "bringing users, databases and the extension up to date",
                Technical,
            ),
            Self::Scripts => ("scripts", "running /docker-entrypoint-initdb.d", Technical),
            Self::Register => ("register", "registering the node with repmgr", Technical),
            Self::Settle => (
                "settle",
                "stopping postgres on the technical port",
                Technical,
            ),
            Self::Commit => (
                "commit",
                "syncing the data and putting it in its place",
                Closed,
            ),
            Self::Opening => (
                "opening",
                "starting postgres on the consumer port",
                Consumer,
            ),
            Self::Open => ("open", "serving clients", Consumer),
            Self::Recover => (
                "recover",
                "clearing away what a dead postmaster left",
                Closed,
            ),
            Self::Closing => ("closing", "closing the consumer port", Consumer),
            Self::Stopping => ("stopping", "stopping in order", Consumer),
            Self::Halted => ("halted", "ended", Closed),
        }
    }
}

impl State {
    /// Fenced, and asking again.
    #[must_use]
    pub const fn asks(&self) -> bool {
        matches!(self, Self::Fenced(reason) if reason.is_asked_again())
    }

    /// The row of this state.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Preflight => Kind::Preflight,
            Self::Survey => Kind::Survey,
            Self::Configure => Kind::Configure,
            Self::Decide => Kind::Decide,
            Self::Fenced(_) => Kind::Fenced,
            Self::Rejoin(_) => Kind::Rejoin,
            Self::Handover(_) => Kind::Handover,
            Self::Demote => Kind::Demote,
            Self::AwaitPrimary => Kind::AwaitPrimary,
            Self::Init => Kind::Init,
            Self::Clone => Kind::Clone,
            Self::Restore => Kind::Restore,
            Self::Replay => Kind::Replay,
            Self::Launch => Kind::Launch,
            Self::Bootstrap => Kind::Bootstrap,
            Self::Scripts => Kind::Scripts,
            Self::Register => Kind::Register,
            Self::Settle => Kind::Settle,
            Self::Commit => Kind::Commit,
            Self::Opening => Kind::Opening,
            Self::Open => Kind::Open,
            Self::Recover(_) => Kind::Recover,
            Self::Stopping(_, End::Exit(_)) => Kind::Stopping,
            Self::Stopping(_, End::Fence(_) | End::Reclone | End::Rejoin(_) | End::Handover(_)) => {
                Kind::Closing
            }
            Self::Halted(_) => Kind::Halted,
        }
    }
}
