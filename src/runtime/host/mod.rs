//! The loop of a barman host: events into its machine (`fsm::host`), actions out. It owns the timers
//! and the board, as the node's loop does; keepers and crond are services beside it.

mod bucket;
mod files;
mod keeper;
mod look;
mod receiver;
mod services;
mod shipping;
mod steps;
mod words;

pub(super) use services::Services;
pub(super) use shipping::keep_settings;

use super::board::Board;
use super::machine::Started;
use super::world::{Message, World};
use super::{configure, preflight};
use crate::domain::{ExitCode, Health, Role};
use crate::fsm::OpId;
use crate::fsm::host::{Action, Event, Host, Kind, Op, Rung, step};
use crate::http::Clock as _;
use crate::http::control::Command;
use crate::sys::{Received, Signal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// Every state's name, for `/metrics`.
pub(super) const STATE_NAMES: [&str; Kind::ALL.len()] = {
    let mut names = [""; Kind::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Kind::ALL[i].name();
        i += 1;
    }
    names
};

/// How often the loop turns when nothing happens.
const TURN: Duration = Duration::from_secs(1);

struct Machine {
    host: Host,
    world: Arc<World>,
    board: Board,
    queue: VecDeque<Event>,
    tell: mpsc::UnboundedSender<Event>,
    task: Option<AbortHandle>,
    retry: Option<Instant>,
    rung: Option<Instant>,
    halted: Option<ExitCode>,
}

/// Runs until the machine halts.
pub(super) async fn run(started: Started) -> ExitCode {
    let Started {
        world,
        mut messages,
        mut commands,
        letters: _,
        mut signals,
        board,
        beat,
        clock,
    } = started;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut machine = Machine {
        host: Host::new(world.config().limits.stop_grace),
        world,
        board,
        queue: VecDeque::from([Event::Begin]),
        tell,
        task: None,
        retry: None,
        rung: None,
        halted: None,
    };
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
            return code;
        }
        tokio::select! {
            signal = signals.next() => machine.signal(signal),
            Some(event) = told.recv() => machine.queue.push_back(event),
            Some(message) = messages.recv() => machine.message(message),
            Some(command) = commands.recv() => machine.obey(command),
            () = alarm(machine.retry) => {
                machine.retry = None;
                machine.queue.push_back(Event::Retry);
            }
            () = alarm(machine.rung) => {
                machine.rung = None;
                machine.queue.push_back(Event::RungOver);
            }
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
    fn sweep(&self) {
        let children = self.world.children.clone();
        tokio::task::spawn_blocking(move || children.sweep());
    }

    fn signal(&mut self, signal: Received) {
        match signal {
            Received::Child => self.sweep(),
            Received::Stop(number) => {
                tracing::info!(signal = number, "asked to stop");
                self.queue.push_back(Event::StopSignal(number));
            }
            Received::Reload => self.queue.push_back(Event::ReloadSignal),
        }
    }

    /// Tasks that are shared with a node's loop tell it what they show; the rest is of a postmaster.
    fn message(&mut self, message: Message) {
        match message {
            Message::Status(change) => self.board.update(change),
            Message::Event(_)
            | Message::PostmasterStarted { .. }
            | Message::DaemonStarted { .. }
            | Message::Progress(_) => {}
        }
    }

    fn turn(&mut self) {
        let orphans = self.world.children.orphans_reaped();
        if self.board.status().orphans_reaped != orphans {
            self.board.update(|status| status.orphans_reaped = orphans);
        }
    }

    fn obey(&mut self, command: Command) {
        let (reply, ok) = match command {
            Command::Reload { reply } => {
                self.queue.push_back(Event::ReloadSignal);
                (reply, true)
            }
            Command::Switchover { reply, .. }
            | Command::Rejoin { reply, .. }
            | Command::Pause { reply, .. }
            | Command::ResumeRestore { reply }
            | Command::Fence { reply, .. }
            | Command::Promote { reply, .. } => (reply, false),
        };
        let why = if ok {
            "the settings are being read again; the log says what came of it"
        } else {
            "this is a barman host: it has no postgres. Ask a data node"
        };
        let why = why.to_owned();
        drop(reply.send(Health { ok, why }));
    }

    fn take(&mut self, event: Event) {
        let (host, actions) = step(self.host.clone(), event);
        self.host = host;
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Run(id, op) => self.run(id, op),
            Action::Cancel => {
                if let Some(task) = self.task.take() {
                    task.abort();
                }
            }
            Action::Start => {
                let services = Services::start(&self.world);
                self.world.keepers(|slot| *slot = Some(services));
            }
            Action::Refresh => {
                tracing::info!("the settings were read again");
                self.world.keepers(|s| s.as_ref().map(Services::refresh));
            }
            Action::Stop(rung) => self.stop(rung),
            Action::ArmRetry(after) => self.retry = Some(Instant::now() + after),
            Action::ArmRung(after) => self.rung = Some(Instant::now() + after),
            Action::Enter(from, to, why) => self.board.entered(to, from, why),
            Action::Failed(fault, next) => self.board.troubled(&fault, next),
            Action::Halt(code) => self.halted = Some(code),
        }
    }

    fn run(&mut self, id: OpId, op: Op) {
        let (world, tell) = (self.world.clone(), self.tell.clone());
        let task = tokio::spawn(async move {
            let result = match op {
                Op::Preflight => preflight::host(&world).await,
                Op::Configure => configure::write(&world, Role::Witness).await,
                Op::Reload => configure::reload_host(&world).await,
            };
            // The loop is gone only when everything ends.
            drop(tell.send(Event::Done(id, result)));
        });
        self.task = Some(task.abort_handle());
    }

    /// As PID 1 the whole namespace is told, else our own children.
    fn stop(&mut self, rung: Rung) {
        self.world.keepers(|s| s.as_ref().map(Services::stop));
        let signal = match rung {
            Rung::Interrupt => Signal::SIGINT,
            Rung::Terminate => Signal::SIGTERM,
            Rung::Kill => Signal::SIGKILL,
        };
        let (children, tell) = (self.world.children.clone(), self.tell.clone());
        tokio::spawn(async move {
            let mut reaped = children.reaped();
            children.signal_all(signal);
            while children.left() > 0 {
                if reaped.changed().await.is_err() {
                    return;
                }
            }
            drop(tell.send(Event::Gone));
        });
    }
}

/// Beside a witness: after its own configuration was written.
pub(super) fn accompany(world: &Arc<World>) {
    if !world.config().kind.keeps_backups() {
        return;
    }
    world.keepers(|slot| {
        if slot.is_none() {
            *slot = Some(Services::start(world));
        }
    });
}
