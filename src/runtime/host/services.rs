//! What a barman host runs: crond, and a keeper for each cluster. The same beside a witness.

use super::keeper;
use crate::domain::Fault;
use crate::fsm::Daemon;
use crate::render::RunFiles;
use crate::runtime::daemons;
use crate::runtime::world::World;
use crate::sys::{Children, Format, Signal, now_ms};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The switch of all of them.
#[derive(Debug)]
pub(in crate::runtime) struct Services {
    stop: watch::Sender<bool>,
    refresh: watch::Sender<u64>,
}

impl Services {
    /// Starts them.
    pub(in crate::runtime) fn start(world: &Arc<World>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (refresh, refreshed) = watch::channel(0);
        for server in &world.config().barman.servers {
            tokio::spawn(keeper::keep(
                world.clone(),
                server.clone(),
                stopped.clone(),
                refreshed.clone(),
            ));
        }
        let (show, shown) = watch::channel(None);
        tokio::spawn(super::bucket::look(
            world.clone(),
            show,
            stopped.clone(),
            refreshed,
        ));
        tokio::spawn(super::shipping::watch(
            world.clone(),
            shown,
            stopped.clone(),
        ));
        tokio::spawn(crond(world.clone(), stopped));
        Self { stop, refresh }
    }

    /// The settings are new.
    pub(in crate::runtime) fn refresh(&self) {
        self.refresh.send_modify(|n| *n += 1);
    }

    /// Nothing is started any more.
    pub(in crate::runtime) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// And barman's commands are interrupted: `pg_receivewal` ends in order, a backup is marked as
    /// interrupted. For a witness, whose own ladder ends the rest.
    pub(in crate::runtime) fn interrupt(&self, children: &Children) {
        self.stop();
        // A Python program has the name of its script.
        children.signal_groups(Signal::SIGINT, |p| {
            p.name == "barman" || p.name == "python3"
        });
    }
}

/// Runs of crond that last so long begin the pauses anew.
const STEADY: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(30);

/// crond, started again whenever it ends.
async fn crond(world: Arc<World>, mut stop: watch::Receiver<bool>) {
    let mut pause = Duration::from_millis(500);
    let mut again = false;
    while !*stop.borrow() {
        let began = Instant::now();
        let how = tokio::select! {
            how = run(&world, again) => how,
            // Our own scheduler ends with this; crond gets TERM when it is dropped.
            _ = stop.changed() => return,
        };
        world.show(|status| status.child("crond", None, false, now_ms()));
        if *stop.borrow() {
            return;
        }
        if began.elapsed() >= STEADY {
            pause = Duration::from_millis(500);
        }
        tracing::warn!("crond ended ({how}); it is started again");
        again = true;
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// One life of it; how it ended.
async fn run(world: &Arc<World>, again: bool) -> String {
    let shown = |pid: Option<i32>| {
        world.show(move |status| status.child("crond", pid, again, now_ms()));
    };
    let Some(spec) = daemons::spec(world, Daemon::Crond) else {
        shown(i32::try_from(std::process::id()).ok());
        let path = RunFiles::of(&world.config()).crontab;
        let around = daemons::surroundings(world);
        return match crate::sys::run_crontab(&path, around).await {
            Ok(()) => "its end".to_owned(),
            Err(error) => Fault::chain(&error),
        };
    };
    let mut child = match world.children.spawn(spec).await {
        Ok(child) => child,
        Err(error) => return Fault::chain(&error),
    };
    shown(Some(child.pid()));
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        tokio::spawn(crate::sys::pump(pipe, Format::plain("crond")));
    }
    match child.wait().await {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    }
}
