//! repmgrd and crond. Not being root, our own scheduler reads the same crontab instead of crond.

use super::machine::daemon_name;
use super::world::{Message, World};
use crate::fsm::{Daemon, Event, OpId};
use crate::sys::{Children, LogSource, Signal, Spec};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A daemon that runs.
#[derive(Debug)]
pub(super) enum Running {
    /// A process.
    Process(i32),
    /// A task of ours.
    Task(AbortHandle),
}

impl Running {
    pub(super) const fn pid(&self) -> Option<i32> {
        match self {
            Self::Process(pid) => Some(*pid),
            Self::Task(_) => None,
        }
    }

    pub(super) fn stop(&self, children: &Children, kill: bool) {
        match self {
            Self::Process(pid) => {
                let signal = if kill {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                };
                children.signal(*pid, signal);
            }
            Self::Task(task) => task.abort(),
        }
    }
}

/// Those that run now, by launch.
#[derive(Debug, Default)]
pub(super) struct Daemons {
    running: HashMap<OpId, Running>,
    started_once: HashSet<Daemon>,
    /// Told to stop (`true`: by KILL) before they had a pid.
    told: HashMap<OpId, bool>,
}

impl Daemons {
    pub(super) fn started(
        &mut self,
        launch: OpId,
        daemon: Daemon,
        running: Running,
        children: &Children,
    ) {
        self.started_once.insert(daemon);
        if let Some(kill) = self.told.remove(&launch) {
            running.stop(children, kill);
        }
        self.running.insert(launch, running);
    }

    pub(super) fn ended(&mut self, launch: OpId) {
        self.running.remove(&launch);
        self.told.remove(&launch);
    }

    /// Whether it was started before.
    pub(super) fn known(&self, daemon: Daemon) -> bool {
        self.started_once.contains(&daemon)
    }

    pub(super) fn stop(&mut self, launch: OpId, children: &Children, kill: bool) {
        match self.running.get(&launch) {
            Some(running) => running.stop(children, kill),
            None => {
                self.told.insert(launch, kill);
            }
        }
    }
}

/// Starts a daemon and reports its end.
pub(super) fn start(world: &Arc<World>, launch: OpId, daemon: Daemon) {
    let world = world.clone();
    tokio::spawn(async move {
        let how = match spec(&world, daemon) {
            Some(spec) => process(&world, launch, daemon, spec).await,
            None => scheduler(&world, launch, daemon).await,
        };
        world.tell(Message::Event(Event::DaemonExited {
            daemon,
            launch,
            how,
        }));
    });
}

fn spec(world: &World, daemon: Daemon) -> Option<Spec> {
    let config = world.config();
    match daemon {
        Daemon::Repmgrd => Some(crate::repmgr::repmgrd(&config, &world.accounts.postgres)),
        Daemon::Crond if world.accounts.root => {
            // -L 15: starts, ends, failures with their pid (cron(8)).
            Some(Spec::new("cron", ["-f", "-L", "15"]).env(config.environment.base.clone()))
        }
        Daemon::Crond => None,
    }
}

async fn process(world: &Arc<World>, launch: OpId, daemon: Daemon, spec: Spec) -> String {
    let mut child = match world.children.spawn(spec).await {
        Ok(child) => child,
        Err(error) => return crate::domain::Fault::chain(&error),
    };
    let running = Running::Process(child.pid());
    world.tell(Message::DaemonStarted {
        daemon,
        launch,
        running,
    });
    let source = match daemon {
        Daemon::Repmgrd => LogSource::Repmgrd,
        Daemon::Crond => LogSource::Crond,
    };
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        tokio::spawn(crate::sys::pump(pipe, source));
    }
    match child.wait().await {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    }
}

async fn scheduler(world: &Arc<World>, launch: OpId, daemon: Daemon) -> String {
    let path = world.config().paths.run_dir.join("crontab");
    let work = tokio::spawn(crate::sys::run_crontab(
        world.children.clone(),
        path,
        world.accounts.barman.home.clone(),
    ));
    let running = Running::Task(work.abort_handle());
    world.tell(Message::DaemonStarted {
        daemon,
        launch,
        running,
    });
    match work.await {
        Ok(Ok(())) => "its end".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_stopped) => format!("{} was stopped", daemon_name(daemon)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_before_the_start_is_not_lost() {
        let children = Children::new();
        let mut daemons = Daemons::default();
        let launch = OpId(1);
        let task = tokio::spawn(std::future::pending::<()>());
        daemons.stop(launch, &children, false);
        let running = Running::Task(task.abort_handle());
        daemons.started(launch, Daemon::Crond, running, &children);
        assert!(task.await.is_err_and(|e| e.is_cancelled()));
    }
}
