//! The postmaster as our own child: started, watched until it is ready, its end reported. No pg_ctl:
//! it would hide the exit status and leave the server without a parent.

use super::world::{Message, World};
use crate::domain::{Fault, Role};
use crate::fsm::{Door, Event, OpId, Site, Stop};
use crate::pg;
use crate::sys::{Child, Children, Format, Signal};
use std::path::PathBuf;
use std::sync::Arc;

/// The data directory of a site.
pub(super) fn data_dir(world: &World, site: Site) -> PathBuf {
    match site {
        Site::Staging => world.layout.staging.clone(),
        Site::Live => world.config().paths.pgdata.clone(),
    }
}

/// The port of a door.
pub(super) fn port(world: &World, door: Door) -> u16 {
    let config = world.config();
    match door {
        Door::Technical => config.postgres.technical_port,
        Door::Consumer => config.postgres.port,
    }
}

/// Starts a postmaster and reports its readiness and its end.
pub(super) fn launch(
    world: &Arc<World>,
    launch: OpId,
    (door, site): (Door, Site),
    role: Option<Role>,
) {
    let world = world.clone();
    tokio::spawn(async move {
        let how = match start(&world, door, site, role).await {
            Ok(child) => attend(&world, launch, child, site).await,
            Err(fault) => (false, fault.to_string()),
        };
        let (clean, how) = how;
        world.tell(Message::Event(Event::PostmasterExited {
            launch,
            clean,
            how,
        }));
    });
}

/// Whether clients would reach a primary where a standby is to open: a standby needs no election.
fn contradicts(door: Door, site: Site, role: Option<Role>, is_standby: bool) -> bool {
    (door, site, role) == (Door::Consumer, Site::Live, Some(Role::Standby)) && !is_standby
}

async fn start(world: &World, door: Door, site: Site, role: Option<Role>) -> Result<Child, Fault> {
    let config = world.config();
    let dir = data_dir(world, site);
    if contradicts(door, site, role, pg::is_standby(&dir)) {
        return Err(Fault::Transient(
            "this node is to open as a standby, and its data are a primary's: a promotion had begun, and standby.signal is \
             gone; it opens only after a boot that finds it so, and an election"
                .into(),
        ));
    }
    pg::clear_stale_locks(&dir, &config.paths.socket_dir, port(world, door))
        .map_err(|e| e.fault())?;
    let wal = dir.join("pg_wal");
    pg::release_timelines(&wal)
        .map_err(|source| pg::PgError::File { path: wal, source }.fault())?;
    let mut spec = pg::postgres(
        &config,
        &world.accounts.postgres,
        &dir,
        pg::Listen {
            port: port(world, door),
            addresses: match door {
                Door::Technical => "127.0.0.1",
                Door::Consumer => "*",
            },
            // Nothing in the staging directory is trusted before it has been synced as a whole.
            sync: site == Site::Live,
        },
    );
    if site == Site::Staging
        && let Some(restoring) = world.restoring()
    {
        for (name, value) in restoring.settings(world).await? {
            spec.args.push("-c".into());
            spec.args.push(format!("{name}={value}").into());
        }
    }
    world
        .children
        .spawn(spec)
        .await
        .map_err(|e| Fault::Transient(Fault::chain(&e)))
}

async fn attend(world: &Arc<World>, launch: OpId, mut child: Child, site: Site) -> (bool, String) {
    let pid = child.pid();
    world.tell(Message::PostmasterStarted { launch, pid });
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        tokio::spawn(crate::sys::pump(pipe, Format::PostgresText));
    }
    let dir = data_dir(world, site);
    let exit = {
        let mut ready = std::pin::pin!(pg::wait_ready(&dir, pid));
        tokio::select! {
            biased;
            exit = child.wait() => Some(exit),
            outcome = &mut ready => {
                match outcome {
                    Ok(()) => world.tell(Message::Event(Event::Ready(launch))),
                    Err(error) => tracing::error!("cannot watch {}: {error}", dir.display()),
                }
                None
            }
        }
    };
    let exit = match exit {
        Some(exit) => exit,
        None => child.wait().await,
    };
    match exit {
        Ok(exit) => (exit.is_success(), exit.to_string()),
        Err(error) => (false, error.to_string()),
    }
}

/// Signals it.
pub(super) fn stop(children: &Children, pid: i32, how: Stop) {
    let signal = match how {
        Stop::Fast => Signal::SIGINT,
        Stop::Immediate => Signal::SIGQUIT,
        Stop::Kill => Signal::SIGKILL,
    };
    children.signal(pid, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standby_that_is_none_is_refused() {
        let roles = [
            None,
            Some(Role::Primary),
            Some(Role::Standby),
            Some(Role::Witness),
        ];
        let mut refused = Vec::new();
        for role in roles {
            for door in [Door::Technical, Door::Consumer] {
                for site in [Site::Staging, Site::Live] {
                    for is_standby in [false, true] {
                        if contradicts(door, site, role, is_standby) {
                            refused.push((door, site, role, is_standby));
                        }
                    }
                }
            }
        }
        let only = (Door::Consumer, Site::Live, Some(Role::Standby), false);
        assert_eq!(refused, [only]);
    }
}
