//! The operations: each is one async function that ends in an [`Outcome`]. They take no decision
//! that the machine could take.

use super::survey::{self, blocking};
use super::world::World;
use super::{chores, configure, operator, promote, provision, rejoin, restore, switchover};
use crate::domain::Fault;
use crate::fsm::{Op, Outcome};
use crate::plan::BootPlan;
use crate::plan::authority::Verdict;
use crate::sys::Signal;
use std::sync::Arc;
use std::time::Duration;

/// Performs one.
pub(super) async fn perform(world: Arc<World>, op: Op, plan: Option<BootPlan>) -> Outcome {
    let result = match op {
        Op::Preflight => super::preflight::preflight(&world).await,
        Op::Survey => match survey::survey(&world).await {
            Ok(plan) => match operator::closed(&world, plan).await {
                Ok(None) => return Outcome::Planned(plan),
                Ok(Some(reason)) => return Outcome::Verdict(Verdict::Closed(reason)),
                Err(fault) => Err(fault),
            },
            Err(fault) => Err(fault),
        },
        Op::Configure => {
            let written = configure::configure(&world, plan).await;
            if written.is_ok() {
                super::host::accompany(&world);
            }
            written
        }
        Op::Ask => return Outcome::Verdict(promote::may_open(&world, plan).await),
        Op::AwaitPrimary => provision::await_primary(&world).await,
        Op::Rejoin => match rejoin::rejoin(&world).await {
            Ok(how) => return Outcome::Rejoined(how),
            Err(fault) => Err(fault),
        },
        Op::Init => provision::init(&world).await,
        Op::Clone => provision::clone(&world).await,
        Op::Restore => restore::restore(&world).await,
        Op::Replay => match restore::replay(&world).await {
            Ok(restore::Reached::Promoted) => Ok(()),
            Ok(restore::Reached::Shutdown) => return Outcome::Shutdown,
            Err(fault) => Err(fault),
        },
        Op::Explain => restore::explain(&world).await,
        Op::Bootstrap => provision::bootstrap(&world, plan).await,
        Op::Scripts => provision::scripts(&world).await,
        Op::Register => provision::register(&world, plan).await,
        Op::Commit => provision::commit(&world, plan).await,
        Op::Clear => clear(&world).await,
        Op::Look => {
            // A sampler whose session was cut ends; what a look rests on must not stay as it was.
            super::sample::ensure(&world);
            match chores::look(&world, plan).await {
                Ok(finding) => return Outcome::Saw(finding),
                Err(fault) => Err(fault),
            }
        }
        Op::Handover(to) => switchover::hand_over(&world, to).await,
        Op::Demote => promote::demote(&world).await,
        Op::Promote => promote::promote(&world).await,
        Op::Warm => chores::warm(&world).await,
        Op::Reload => configure::reload(&world, plan).await,
        Op::Checkpoint => chores::checkpoint(&world).await,
        Op::EndAll => {
            switchover::farewell(&world).await;
            end_all(&world).await;
            Ok(())
        }
    };
    match result {
        Ok(()) => Outcome::Ok,
        Err(fault) => Outcome::Failed(fault),
    }
}

/// How long the backends of a dead postmaster may take to notice; then they are killed.
/// Busy ones go on until they next wait for something, and clients wait for the restart meanwhile.
const ORPHANS_MAY_TAKE: Duration = Duration::from_millis(200);

/// Backends of a dead postmaster become our children, hold its shared memory and would make the
/// next start fail with "pre-existing shared memory block": awaited, then killed.
async fn clear(world: &World) -> Result<(), Fault> {
    let is_backend = |p: &crate::sys::Process| p.name == "postgres";
    let mut reaped = world.children.reaped();
    let patience = tokio::time::sleep(ORPHANS_MAY_TAKE);
    let mut patience = std::pin::pin!(patience);
    let mut killed = false;
    loop {
        let left = world.children.orphans(is_backend).len();
        if left == 0 {
            return Ok(());
        }
        world.progress(format!(
            "{left} processes of the dead postmaster are still there"
        ));
        tokio::select! {
            _ = reaped.changed() => {}
            () = &mut patience, if !killed => {
                let count = world.children.signal_orphans(Signal::SIGKILL, is_backend);
                tracing::warn!(count, "orphaned backends did not end by themselves and were killed");
                killed = true;
            }
        }
    }
}

/// TERM for whatever is left, KILL after a moment. As PID 1 that is the whole namespace; as a
/// subreaper our children, and what they leave as it becomes ours.
async fn end_all(world: &World) {
    let mut reaped = world.children.reaped();
    // The rung has a tenth of the grace period; half of it is for KILL.
    let polite = (world.config().limits.stop_grace / 20).min(Duration::from_millis(400));
    for (signal, patience) in [
        (Signal::SIGTERM, polite),
        (Signal::SIGKILL, Duration::from_secs(5)),
    ] {
        let gone = async {
            while world.children.left() > 0 {
                world.children.signal_all(signal);
                if reaped.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, gone).await.is_ok() {
            return;
        }
    }
    drop(blocking(|| Ok(())).await);
}
