//! The machine of a barman host: it has no postmaster, so it has a small machine of its own. The
//! same rules: total and pure, time is data, one sentence a transition, a stale result is ignored.

use super::OpId;
use crate::domain::{ExitCode, Fault};
use std::time::Duration;

/// Where the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Looking at programs, directories and the lock.
    Preflight,
    /// Writing barman's configuration.
    Configure,
    /// Keeping the clusters.
    Running,
    /// On the way down.
    Stopping(Rung, ExitCode),
    /// Ended.
    Halted(ExitCode),
}

/// How hard the processes are told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// INT: `pg_receivewal` ends its segment in order, barman notes that a backup was interrupted.
    Interrupt,
    /// TERM.
    Terminate,
    /// KILL.
    Kill,
}

/// A state's name without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// See [`State::Preflight`].
    Preflight,
    /// See [`State::Configure`].
    Configure,
    /// See [`State::Running`].
    Running,
    /// See [`State::Stopping`].
    Stopping,
    /// See [`State::Halted`].
    Halted,
}

impl Kind {
    /// All, in the order of a life.
    pub const ALL: [Self; 5] = [
        Self::Preflight,
        Self::Configure,
        Self::Running,
        Self::Stopping,
        Self::Halted,
    ];

    /// As in the status and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Configure => "configure",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Halted => "halted",
        }
    }

    /// What the host does in it.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Preflight => "checking binaries, directories and the lock on the volume",
            Self::Configure => "writing barman's configuration",
            Self::Running => "keeping the backups of its clusters",
            Self::Stopping => "stopping in order",
            Self::Halted => "ended",
        }
    }
}

impl State {
    /// Without what it holds.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Preflight => Kind::Preflight,
            Self::Configure => Kind::Configure,
            Self::Running => Kind::Running,
            Self::Stopping(..) => Kind::Stopping,
            Self::Halted(_) => Kind::Halted,
        }
    }
}

/// Work that the runtime does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Programs, directories, lock, pipes.
    Preflight,
    /// The managed files.
    Configure,
    /// The settings again, then the managed files.
    Reload,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first one.
    Begin,
    /// An operation ended.
    Done(OpId, Result<(), Fault>),
    /// The pause before another attempt is over.
    Retry,
    /// The time of a rung is over.
    RungOver,
    /// No child is left.
    Gone,
    /// TERM, INT or QUIT, by number.
    StopSignal(u8),
    /// HUP, or a person's wish.
    ReloadSignal,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin an operation.
    Run(OpId, Op),
    /// Forget the operation that runs.
    Cancel,
    /// Start crond and the keepers; they start their children themselves, and again when they end.
    Start,
    /// The keepers read the settings again.
    Refresh,
    /// Keepers and crond start nothing any more, and every child is told to end.
    Stop(Rung),
    /// [`Event::Retry`] after that.
    ArmRetry(Duration),
    /// [`Event::RungOver`] after that; another such alarm is forgotten.
    ArmRung(Duration),
    /// A transition: from, to, why.
    Enter(Kind, Kind, &'static str),
    /// Something failed; what comes next.
    Failed(Fault, &'static str),
    /// The end.
    Halt(ExitCode),
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where it is.
    pub state: State,
    /// The operation that runs.
    pub running: Option<(OpId, Op)>,
    /// Number of the next one.
    next: u64,
    /// A reload was asked for while another ran.
    again: bool,
    /// The grace period of a stop.
    grace: Duration,
    /// A stop signal came before.
    told: bool,
}

/// Between two attempts of what may go away by itself.
const RETRY: Duration = Duration::from_secs(5);

impl Host {
    /// Before the first event. `grace`: what a stop may take (`PGNODE_STOP_TIMEOUT`).
    #[must_use]
    pub const fn new(grace: Duration) -> Self {
        Self {
            state: State::Preflight,
            running: None,
            next: 1,
            again: false,
            grace,
            told: false,
        }
    }

    /// How long a rung may take. They add up to nine tenths of the grace period.
    #[must_use]
    pub fn patience(&self, rung: Rung) -> Duration {
        match rung {
            Rung::Interrupt => self.grace * 6 / 10,
            Rung::Terminate => self.grace * 2 / 10,
            Rung::Kill => self.grace / 10,
        }
    }

    fn run(&mut self, op: Op, out: &mut Vec<Action>) {
        let id = OpId(self.next);
        self.next += 1;
        self.running = Some((id, op));
        out.push(Action::Run(id, op));
    }

    fn go(&mut self, state: State, why: &'static str, out: &mut Vec<Action>) {
        let (from, to) = (self.state.kind(), state.kind());
        self.state = state;
        if from != to {
            out.push(Action::Enter(from, to, why));
        }
    }

    fn rung(&mut self, rung: Rung, code: ExitCode, why: &'static str, out: &mut Vec<Action>) {
        self.go(State::Stopping(rung, code), why, out);
        out.push(Action::Stop(rung));
        out.push(Action::ArmRung(self.patience(rung)));
    }

    fn end(&mut self, code: ExitCode, why: &'static str, out: &mut Vec<Action>) {
        if self.running.take().is_some() {
            out.push(Action::Cancel);
        }
        self.rung(Rung::Interrupt, code, why, out);
    }
}

/// The step: what happened, and what to do about it.
#[must_use]
pub fn step(mut host: Host, event: Event) -> (Host, Vec<Action>) {
    let mut out = Vec::new();
    match event {
        Event::Begin => match host.state {
            State::Preflight if host.running.is_none() => host.run(Op::Preflight, &mut out),
            State::Preflight
            | State::Configure
            | State::Running
            | State::Stopping(..)
            | State::Halted(_) => {}
        },
        Event::Done(id, result) => done(&mut host, id, result, &mut out),
        Event::Retry => retry(&mut host, &mut out),
        Event::RungOver => rung_over(&mut host, &mut out),
        Event::Gone => match host.state {
            State::Stopping(_, code) => halt(&mut host, code, &mut out),
            State::Preflight | State::Configure | State::Running | State::Halted(_) => {}
        },
        Event::StopSignal(number) => stop(&mut host, number, &mut out),
        Event::ReloadSignal => match host.state {
            State::Running if host.running.is_none() => host.run(Op::Reload, &mut out),
            State::Running => host.again = true,
            // Everything is read when it is needed.
            State::Preflight | State::Configure | State::Stopping(..) | State::Halted(_) => {}
        },
    }
    (host, out)
}

fn done(host: &mut Host, id: OpId, result: Result<(), Fault>, out: &mut Vec<Action>) {
    let Some((running, op)) = host.running else {
        return;
    };
    if running != id {
        return;
    }
    host.running = None;
    match (host.state, op, result) {
        (State::Preflight, Op::Preflight, Ok(())) => {
            let why = "binaries, directories and the lock are sound";
            host.go(State::Configure, why, out);
            host.run(Op::Configure, out);
        }
        (State::Configure, Op::Configure, Ok(())) => {
            host.go(State::Running, "the configuration is written", out);
            out.push(Action::Start);
        }
        (State::Running, Op::Reload, Ok(())) => out.push(Action::Refresh),
        (State::Running, Op::Reload, Err(fault)) => {
            out.push(Action::Failed(fault, "the former settings stay in force"));
        }
        (State::Preflight | State::Configure, _, Err(fault)) if fault.is_transient() => {
            out.push(Action::Failed(fault, "tried again"));
            out.push(Action::ArmRetry(RETRY));
        }
        (State::Preflight | State::Configure, _, Err(fault)) => {
            let code = fault.exit_code();
            out.push(Action::Failed(fault, "the host stops"));
            host.end(code, "cannot go on", out);
        }
        // What was asked for in another state is nobody's business any more.
        (
            State::Preflight
            | State::Configure
            | State::Running
            | State::Stopping(..)
            | State::Halted(_),
            Op::Preflight | Op::Configure | Op::Reload,
            Ok(()) | Err(_),
        ) => {}
    }
    if std::mem::take(&mut host.again) && host.state == State::Running {
        host.run(Op::Reload, out);
    }
}

fn retry(host: &mut Host, out: &mut Vec<Action>) {
    if host.running.is_some() {
        return;
    }
    match host.state {
        State::Preflight => host.run(Op::Preflight, out),
        State::Configure => host.run(Op::Configure, out),
        State::Running | State::Stopping(..) | State::Halted(_) => {}
    }
}

fn rung_over(host: &mut Host, out: &mut Vec<Action>) {
    let why = "they did not end in time";
    match host.state {
        State::Stopping(Rung::Interrupt, code) => host.rung(Rung::Terminate, code, why, out),
        State::Stopping(Rung::Terminate, code) => {
            // Nothing is lost by it, but it was not in order.
            let code = if code == ExitCode::STOPPED {
                ExitCode::TRANSIENT
            } else {
                code
            };
            host.rung(Rung::Kill, code, why, out);
        }
        State::Stopping(Rung::Kill, code) => halt(host, code, out),
        State::Preflight | State::Configure | State::Running | State::Halted(_) => {}
    }
}

fn stop(host: &mut Host, number: u8, out: &mut Vec<Action>) {
    if matches!(host.state, State::Halted(_)) {
        return;
    }
    let before = std::mem::replace(&mut host.told, true);
    match host.state {
        State::Preflight | State::Configure | State::Running => {
            host.end(ExitCode::STOPPED, "asked to stop", out);
        }
        State::Stopping(..) if before => {
            host.rung(
                Rung::Kill,
                ExitCode::signal(number),
                "asked to stop again",
                out,
            );
        }
        State::Stopping(..) | State::Halted(_) => {}
    }
}

fn halt(host: &mut Host, code: ExitCode, out: &mut Vec<Action>) {
    host.go(State::Halted(code), "everything has ended", out);
    out.push(Action::Halt(code));
}

#[cfg(test)]
#[path = "host_tests.rs"]
pub(in crate::fsm) mod tests;
