//! The loop: an event comes in, the machine says what to do, it is done. Nothing here blocks: work
//! runs in tasks that report back by message.

use super::board::Board;
use super::daemons::Daemons;
use super::elector::{self, Part};
use super::postmaster;
use super::world::{Message, World};
use super::{control, ops, sample};
use crate::config::TestHold;
use crate::domain::{ExitCode, Exposure, Role};
use crate::fsm::{
    Action, Daemon, Door, Event, Kind, Node, Op, OpId, Outcome, Policy, Stop, Timer, step,
};
use crate::http::control::Command;
use crate::http::vote::Incoming;
use crate::http::{Beat, Clock as _, SystemClock};
use crate::plan::Provision;
use crate::sys::{Received, Signals};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// Everything that `pgnode run` prepared before the loop.
#[derive(Debug)]
pub(super) struct Started {
    /// Shared by all operations.
    pub(super) world: Arc<World>,
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) letters: mpsc::Receiver<Incoming>,
    pub(super) signals: Signals,
    pub(super) board: Board,
    pub(super) beat: Beat,
    pub(super) clock: SystemClock,
}

struct Machine {
    node: Node,
    world: Arc<World>,
    board: Board,
    timers: BTreeMap<Timer, Instant>,
    tasks: HashMap<OpId, AbortHandle>,
    daemons: Daemons,
    postmaster_pid: Option<(OpId, i32)>,
    /// A postmaster that was told to stop before it had a pid.
    early_stop: Option<(OpId, Stop)>,
    queue: VecDeque<Event>,
    hold: Hold,
    halted: Option<ExitCode>,
}

/// Where a fault test holds the machine, so that the container can be killed in a known state.
enum Hold {
    Off,
    At(TestHold),
    /// Nothing more is done; what is done already goes on.
    Held,
}

/// How often the loop turns when nothing happens: the pace of its sign of life and of reminders.
const TURN: Duration = Duration::from_secs(1);

/// Runs until the machine halts.
pub(super) async fn run(started: Started) -> ExitCode {
    let Started {
        world,
        mut messages,
        mut commands,
        letters,
        mut signals,
        board,
        beat,
        clock,
    } = started;
    let policy = Policy::new(
        world.config().limits.stop_grace,
        world.config().timing.close,
        world.primary_wait(),
        world.makes_backups(),
    );
    let hold = world.config().test_hold.clone().map_or(Hold::Off, Hold::At);
    let mut machine = Machine {
        node: Node::new(policy),
        daemons: Daemons::default(),
        board,
        timers: BTreeMap::new(),
        tasks: HashMap::new(),
        postmaster_pid: None,
        early_stop: None,
        queue: VecDeque::from([Event::Begin]),
        hold,
        halted: None,
        world,
    };
    for task in [
        tokio::spawn(elector::lead(machine.world.clone())),
        tokio::spawn(elector::guard(machine.world.clone())),
        tokio::spawn(elector::stand(machine.world.clone())),
        tokio::spawn(elector::listen(machine.world.clone(), letters)),
    ] {
        // They live as long as the process.
        drop(task);
    }
    // Children may have ended before the handler was there.
    machine.sweep();
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.turn(clock.monotonic_ms());
        while let Some(event) = machine.queue.pop_front() {
            machine.take(event);
        }
        if let Some(code) = machine.halted {
            machine.board.ended(code);
            // Whoever outlived the ladder's last rung: where we are no PID 1, nobody takes them along.
            machine.world.children.signal_all(Signal::SIGKILL);
            return code;
        }
        let next = machine.timers.values().min().copied();
        tokio::select! {
            signal = signals.next() => machine.signal(signal),
            Some(message) = messages.recv() => machine.message(message),
            Some(command) = commands.recv() => control::obey(&machine.world, &machine.node.state, command),
            () = alarm(next) => machine.ring(),
            _ = turn.tick() => machine.turn(),
        }
    }
}

async fn alarm(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Machine {
    fn signal(&mut self, signal: Received) {
        match signal {
            Received::Child => self.sweep(),
            Received::Stop(number) => {
                // A held machine only exists in fault tests; a stop ends the hold.
                self.hold = Hold::Off;
                tracing::info!(signal = number, "asked to stop");
                let children = &self.world.children;
                self.world
                    .keepers(|s| s.as_ref().map(|s| s.interrupt(children)));
                self.queue.push_back(Event::StopSignal(number));
            }
            Received::Reload => self.queue.push_back(Event::ReloadSignal),
        }
    }

    /// Reaps on the blocking pool: a spawn may hold the lock for a moment.
    fn sweep(&self) {
        let children = self.world.children.clone();
        tokio::task::spawn_blocking(move || children.sweep());
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                if let Event::Ready(launch) = &event
                    && self.node.postmaster.is_some_and(|p| p.launch == *launch)
                {
                    self.opened();
                }
                match &event {
                    Event::PostmasterExited { launch, .. } => self.postmaster_ended(*launch),
                    Event::DaemonExited { daemon, launch, .. } => {
                        self.daemons.ended(*launch);
                        if *daemon == Daemon::Repmgrd {
                            self.world.set_repmgrd_pid(None);
                        }
                        self.board.child(daemon.name(), None, false);
                    }
                    Event::Begin
                    | Event::Done(..)
                    | Event::Ready(_)
                    | Event::Timer(_)
                    | Event::StopSignal(_)
                    | Event::ReloadSignal
                    | Event::LeaseLost(_)
                    | Event::Elected
                    | Event::Handover(_)
                    | Event::Nudge
                    | Event::Fence
                    | Event::Unfence => {}
                }
                self.queue.push_back(event);
            }
            Message::PostmasterStarted { launch, pid } => {
                self.postmaster_pid = Some((launch, pid));
                let again = self
                    .board
                    .status()
                    .children
                    .iter()
                    .any(|c| c.name == "postgres");
                let crashed = again && self.board.status().boot_total_ms.is_some();
                self.board.child("postgres", Some(pid), crashed);
                let early = self.early_stop.take().filter(|(told, _)| *told == launch);
                if self.node.postmaster.is_none_or(|p| p.launch != launch) {
                    postmaster::stop(&self.world.children, pid, Stop::Kill);
                } else if let Some((_, how)) = early {
                    postmaster::stop(&self.world.children, pid, how);
                }
            }
            Message::DaemonStarted {
                daemon,
                launch,
                running,
            } => {
                self.board
                    .child(daemon.name(), running.pid(), self.daemons.known(daemon));
                if daemon == Daemon::Repmgrd {
                    self.world.set_repmgrd_pid(running.pid());
                }
                if self.node.daemon(daemon) == Some(launch) {
                    self.daemons
                        .started(launch, daemon, running, &self.world.children);
                } else {
                    running.stop(&self.world.children, true);
                }
            }
            Message::Progress(text) => self.board.progress(text),
            Message::Status(change) => {
                let orphans = self.world.children.orphans_reaped();
                self.board.update(|status| {
                    status.orphans_reaped = orphans;
                    change(status);
                });
            }
        }
    }

    fn turn(&mut self) {
        let orphans = self.world.children.orphans_reaped();
        if self.board.status().orphans_reaped != orphans {
            self.board.update(|status| status.orphans_reaped = orphans);
        }
        self.board.remind();
    }

    fn opened(&mut self) {
        let exposure = match self.node.postmaster.map(|p| p.door) {
            Some(Door::Consumer) => Exposure::Consumer,
            Some(Door::Technical) => Exposure::Technical,
            None => Exposure::Closed,
        };
        self.board.exposure(exposure);
        self.world.set_open(exposure == Exposure::Consumer);
    }

    fn postmaster_ended(&mut self, launch: OpId) {
        if self
            .postmaster_pid
            .is_some_and(|(known, _)| known == launch)
        {
            self.postmaster_pid = None;
        }
        if self.node.postmaster.is_some_and(|p| p.launch == launch) {
            self.board.exposure(Exposure::Closed);
            self.world.set_open(false);
            self.board.child("postgres", None, false);
        }
    }

    fn ring(&mut self) {
        let now = Instant::now();
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            self.queue.push_back(Event::Timer(timer));
        }
    }

    fn take(&mut self, event: Event) {
        if self.holds_back(&event) {
            return;
        }
        let elected = matches!(event, Event::Elected);
        let before = self.node.state.kind();
        let node = std::mem::replace(
            &mut self.node,
            Node::new(Policy::new(Duration::ZERO, Duration::ZERO, None, false)),
        );
        let (node, actions) = step(node, event);
        self.node = node;
        let after = self.node.state.kind();
        if before == Kind::Open && after == Kind::Recover {
            self.board.update(|status| status.restarts += 1);
        }
        if let Some(plan) = self.node.plan {
            self.board_role(plan);
        }
        let promotes = self.node.is_promoting();
        self.world.elector.set_part(part(&self.node), promotes);
        if elected && !promotes {
            // It closed while it was elected.
            self.world.elector.set_promoting(false);
        }
        if before == Kind::Open && after != Kind::Open {
            self.world.stop_sampler();
        }
        let held = self.hold_before(before, after);
        for action in actions {
            // What was said is true even when a test keeps us from acting on it.
            if !held || matches!(action, Action::Say(_)) {
                self.perform(action);
            }
        }
        if held {
            self.held("before its work");
        }
    }

    fn board_role(&mut self, plan: crate::plan::BootPlan) {
        if self.board.status().role != Some(plan.role) {
            self.board.update(|status| status.role = Some(plan.role));
        }
    }

    /// `PGNODE_TEST_HOLD=<state>:after`: the state's work is done, its result is not heard.
    fn holds_back(&mut self, event: &Event) -> bool {
        if matches!(event, Event::StopSignal(_)) {
            return false;
        }
        match &self.hold {
            Hold::Off => false,
            Hold::Held => true,
            Hold::At(hold) => {
                let here = hold.after && hold.state == self.node.state.kind().name();
                let done = matches!(
                    event,
                    Event::Done(..) | Event::Ready(_) | Event::PostmasterExited { .. }
                );
                if here && done {
                    self.held("after its work");
                }
                here && done
            }
        }
    }

    /// `PGNODE_TEST_HOLD=<state>:before`: the state is entered, its work is not begun.
    fn hold_before(&self, before: Kind, after: Kind) -> bool {
        let Hold::At(hold) = &self.hold else {
            return false;
        };
        let entered = before != after || after == Kind::Preflight;
        if hold.after || hold.state != after.name() || !entered {
            return false;
        }
        true
    }

    /// Said once the actions of the step are through, so that what was entered is told first.
    fn held(&mut self, when: &str) {
        self.hold = Hold::Held;
        self.board
            .progress(format!("held by PGNODE_TEST_HOLD {when}"));
        tracing::warn!(
            state = self.node.state.kind().name(),
            "held by PGNODE_TEST_HOLD {when}"
        );
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Run(id, op) => self.run(id, op),
            Action::Cancel(id) => {
                if let Some(task) = self.tasks.remove(&id) {
                    task.abort();
                }
            }
            Action::Launch(launch, door, site) => {
                let role = self.node.plan.map(|plan| plan.role);
                postmaster::launch(&self.world, launch, (door, site), role);
            }
            Action::StopPostmaster(launch, how) => {
                if let Some((known, pid)) = self.postmaster_pid
                    && known == launch
                {
                    self.board.exposure(Exposure::Closed);
                    postmaster::stop(&self.world.children, pid, how);
                } else {
                    self.early_stop = Some((launch, how));
                }
            }
            Action::StartDaemon(launch, daemon) => {
                super::daemons::start(&self.world, launch, daemon);
            }
            Action::StopDaemon {
                launch,
                daemon: _,
                kill,
            } => {
                self.daemons.stop(launch, &self.world.children, kill);
            }
            Action::Arm(timer, after) => {
                self.timers.insert(timer, Instant::now() + after);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::Say(note) => {
                self.board.say(&note);
                if self.node.state.kind() == Kind::Open {
                    sample::ensure(&self.world);
                }
            }
            Action::Halt(code) => self.halted = Some(code),
        }
    }

    fn run(&mut self, id: OpId, op: Op) {
        self.tasks.retain(|_, task| !task.is_finished());
        let world = self.world.clone();
        let plan = self.node.plan;
        let task = tokio::spawn(async move {
            // A panic in an operation is a bug of ours, not the death of PID 1.
            let work = tokio::spawn(ops::perform(world.clone(), op, plan));
            let _end_with_us = AbortOnDrop(work.abort_handle());
            let outcome = match work.await {
                Ok(outcome) => outcome,
                Err(failed) if failed.is_panic() => Outcome::Failed(crate::domain::Fault::Bug(
                    format!("{op:?} panicked; please report it with the log above"),
                )),
                Err(_cancelled) => return,
            };
            world.tell(Message::Event(Event::Done(id, outcome)));
        });
        self.tasks.insert(id, task.abort_handle());
    }
}

/// What the node is for the elections.
fn part(node: &Node) -> Part {
    let Some(plan) = node.plan else {
        return Part::Idle;
    };
    let consumer = node.postmaster.is_some_and(|p| p.door == Door::Consumer);
    let open = node.state.kind() == Kind::Open;
    match (plan.role, plan.provision) {
        (Role::Standby, _) if open => Part::Standby,
        (Role::Standby, _) if node.is_elected() => Part::Preparing,
        (Role::Primary, Provision::Adopt) if consumer => Part::Serving { open },
        (Role::Primary, Provision::Adopt) => match node.state.kind() {
            Kind::Launch
            | Kind::Bootstrap
            | Kind::Register
            | Kind::Settle
            | Kind::Commit
            | Kind::Opening
            | Kind::Demote
            | Kind::Recover => Part::Preparing,
            Kind::Preflight
            | Kind::Survey
            | Kind::Configure
            | Kind::Decide
            | Kind::Fenced
            | Kind::Rejoin
            | Kind::Handover
            | Kind::AwaitPrimary
            | Kind::Init
            | Kind::Clone
            | Kind::Restore
            | Kind::Replay
            | Kind::Scripts
            | Kind::Open
            | Kind::Closing
            | Kind::Stopping
            | Kind::Halted => Part::Idle,
        },
        (Role::Standby | Role::Primary | Role::Witness, _) => Part::Idle,
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
