//! repmgrd and crond. Not being root, our own scheduler reads the same crontab instead of crond.

use super::world::{Message, World};
use crate::fsm::{Daemon, Event, OpId};
use crate::pg::Session;
use crate::render::RunFiles;
use crate::sys::{Children, Format, Signal, Spec, Surroundings};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
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
    /// A task runs in our own process: it is up, and this is where.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Process(pid) => Some(*pid),
            Self::Task(_) => i32::try_from(std::process::id()).ok(),
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

pub(super) fn spec(world: &World, daemon: Daemon) -> Option<Spec> {
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
    if daemon == Daemon::Repmgrd {
        record_is_here(world).await;
    }
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
    let format = match daemon {
        Daemon::Repmgrd => Format::repmgrd(),
        Daemon::Crond => Format::plain("crond"),
    };
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        tokio::spawn(crate::sys::pump(pipe, format.clone()));
    }
    match child.wait().await {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    }
}

/// How long a standby's own record may take to arrive by replication.
const RECORD: Duration = Duration::from_secs(20);

/// repmgrd ends at once where `repmgr.nodes` does not have its node. A fresh standby's record was
/// made on the primary a moment ago and comes by replication; there is no event for that.
async fn record_is_here(world: &World) {
    let config = world.config();
    let ask = async {
        let session = Session::local(&config, config.postgres.port, "repmgr").await?;
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            let sql = "SELECT EXISTS (SELECT FROM repmgr.nodes WHERE node_id = $1)";
            let row = session
                .one("asking for our record", sql, &[&config.identity.id.0])
                .await?;
            if row.get(0) {
                return Ok::<(), crate::pg::PgError>(());
            }
        }
    };
    match tokio::time::timeout(RECORD, ask).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("{}", crate::domain::Fault::chain(&error)),
        Err(_) => tracing::warn!("repmgr.nodes does not have this node; repmgrd will say the same"),
    }
}

/// Where and with what our own scheduler runs its jobs.
pub(super) fn surroundings(world: &World) -> Surroundings {
    let home = world.accounts.barman.home.clone();
    let mut env = world.config().environment.base.clone();
    env.push(("HOME".to_owned(), home.display().to_string()));
    Surroundings {
        children: world.children.clone(),
        env,
        home,
    }
}

async fn scheduler(world: &Arc<World>, launch: OpId, daemon: Daemon) -> String {
    let path = RunFiles::of(&world.config()).crontab;
    let around = surroundings(world);
    let work = tokio::spawn(async move { crate::sys::run_crontab(&path, around).await });
    let running = Running::Task(work.abort_handle());
    world.tell(Message::DaemonStarted {
        daemon,
        launch,
        running,
    });
    match work.await {
        Ok(Ok(())) => "its end".to_owned(),
        Ok(Err(error)) => crate::domain::Fault::chain(&error),
        Err(_stopped) => format!("{} was stopped", daemon.name()),
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
