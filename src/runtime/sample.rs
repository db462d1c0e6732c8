//! The sampler: while the node is open, one session asks the server how it is.

use super::world::World;
use super::{chores, synchronous};
use crate::domain::Fault;
use crate::pg::{self, PgView, Session};
use std::sync::Arc;
use std::time::Duration;

/// Between two samples.
const PACE: Duration = Duration::from_secs(2);
/// Samples between two looks at the catalogue of backups.
const BACKUPS_EVERY: u32 = 15;

/// Starts it unless it runs.
pub(super) fn ensure(world: &Arc<World>) {
    let sampled = world.clone();
    world.sampler(|| tokio::spawn(run(sampled)));
}

/// Ends when the server cannot be asked any more; the next opening starts another.
async fn run(world: Arc<World>) {
    let config = world.config();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let session = loop {
        pace.tick().await;
        match Session::local(&config, config.postgres.port, "repmgr").await {
            Ok(session) => break session,
            Err(error) => tracing::debug!("cannot sample yet: {}", Fault::chain(&error)),
        }
        if !world.is_open() {
            return;
        }
    };
    let mut turn = 0;
    loop {
        let hurry = match pg::probe(&session).await {
            Ok(view) => {
                let tended = synchronous::tend(&world, &session, &view).await;
                publish(&world, view);
                tended.unwrap_or_else(|fault| {
                    tracing::warn!("cannot keep synchronous_standby_names right: {fault}");
                    false
                })
            }
            Err(error) => {
                tracing::debug!("the sampler ends: {}", Fault::chain(&error));
                world.show(|status| (status.streaming, status.synchronous) = (None, None));
                return;
            }
        };
        if world.backs_up()
            && world.is_primary()
            && turn % BACKUPS_EVERY == 0
            && let Err(fault) = chores::tend_backups(&world, &session).await
        {
            tracing::warn!(source = "barman", "{fault}");
        }
        turn = turn.wrapping_add(1);
        if hurry {
            // Commits wait for the next look.
            pace.reset_after(config.timing.beat);
        }
        pace.tick().await;
    }
}

fn publish(world: &World, view: PgView) {
    if world.is_witness() {
        return super::witness::publish(world, view);
    }
    let members = chores::members(&view);
    world.observe(|o| {
        o.role = Some(view.role);
        o.streaming = view.streaming;
        o.timeline = Some(view.timeline);
        o.position = view.received.or(Some(view.lsn)).max(Some(view.lsn));
        if let Some(claim) = &mut o.claim {
            claim.timeline = view.timeline;
            claim.lsn = view.lsn;
            claim.members = members.len().max(1);
        }
        o.members = Some(members);
    });
    world.show(move |status| {
        status.role = Some(view.role);
        status.system_id = Some(view.system_id);
        status.timeline = Some(view.timeline);
        status.lsn = Some(view.lsn);
        status.lag_bytes = view.lag_bytes;
        status.lag_ms = view.lag_ms;
        status.streaming = view.streaming;
        status.upstream = view.upstream;
        status.members = view.members;
    });
}
