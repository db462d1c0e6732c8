//! From standby to primary, and from one primary to the next.

use super::chores;
use super::elector::Earned;
use super::survey::{self, blocking};
use super::world::World;
use crate::config::Address;
use crate::domain::{Fault, Role};
use crate::fsm::Finding;
use crate::pg::{self, Session};
use crate::plan::authority::Verdict;
use crate::plan::{BootPlan, Provision};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether this boot may open, or create: what the peers say, and a lease.
pub(super) async fn may_open(world: &Arc<World>, plan: Option<BootPlan>) -> Verdict {
    match plan {
        Some(BootPlan {
            provision: Provision::Adopt,
            role: Role::Primary,
            ..
        }) => {
            let (said, earned) = if world.elector.is_blank(world).await {
                // The first primary of a cluster founds its first term: only where there is none.
                match survey::verdict(world, plan).await {
                    Verdict::Open => (Verdict::Open, world.elector.acquire(world).await),
                    closed => return closed,
                }
            } else {
                tokio::join!(survey::verdict(world, plan), world.elector.acquire(world))
            };
            match (said, earned) {
                (Verdict::Closed(reason), _) | (_, Err(reason)) => Verdict::Closed(reason),
                (_, Ok(Earned::Lease)) => Verdict::Open,
                (_, Ok(Earned::Election)) => Verdict::Elected,
            }
        }
        Some(_) | None => survey::verdict(world, plan).await,
    }
}

/// The longest that ending recovery may take: what was received has to be replayed first.
const PROMOTION: Duration = Duration::from_secs(300);

/// Makes an elected standby the primary. Its new timeline gets the number of its term: two nodes that
/// were elected without having seen each other never write the same one, and the WAL says by itself in
/// which term it was written.
pub(super) async fn promote(world: &Arc<World>) -> Result<(), Fault> {
    let began = Instant::now();
    let config = world.config();
    world.elector.set_promoting(true);
    let term = world.elector.with(world, |v| v.ballot().won).await?;
    if !world.elector.holds() {
        return Err(Fault::Transient(
            "elected, and no longer sure of it before the promotion".into(),
        ));
    }
    let (wal, owner) = (config.paths.pgdata.join("pg_wal"), world.file_owner());
    blocking(move || pg::reserve_timelines(&wal, term.0, owner)).await?;
    let session = Session::local(&config, config.postgres.port, "repmgr")
        .await
        .map_err(|e| e.fault())?
        .patient(PROMOTION);
    let aside = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    super::synchronous::require(world, &session).await?;
    pg::promote(&session, &aside, config.identity.id, PROMOTION)
        .await
        .map_err(|e| e.fault())?;
    let (timeline, lsn) = pg::write_position(&session).await.map_err(|e| e.fault())?;
    if u64::from(timeline.0) != term.0 {
        // Right all the same as long as every vote sees it; a sign of a promotion by hand.
        tracing::warn!("the new timeline is {timeline}, the term {term}");
    }
    world.observe(|o| {
        o.role = Some(Role::Primary);
        o.timeline = Some(timeline);
        if let Some(claim) = &mut o.claim {
            (claim.timeline, claim.lsn) = (timeline, lsn);
        }
    });
    // At once and together: a peer that sees a primary on the old timeline takes it for a rival.
    world.show(move |status| {
        status.role = Some(Role::Primary);
        status.timeline = Some(timeline);
        status.lsn = Some(lsn);
        status.streaming = None;
        status.upstream = None;
    });
    tracing::info!(
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "promoted"
    );
    // The one that PostgreSQL makes after a promotion is spread over minutes, in which pg_control names
    // the old timeline (`PerformRecoveryXLogAction` in `xlog.c`).
    let soon = world.clone();
    tokio::spawn(async move {
        if let Err(fault) = chores::checkpoint(&soon).await {
            tracing::debug!("the checkpoint after the promotion: {fault}");
        }
    });
    chores::remember(world, Role::Primary).await
}

/// Makes an elected node's old primary data those of a standby without a primary: it is promoted once
/// it is open.
pub(super) async fn demote(world: &World) -> Result<(), Fault> {
    // First, or a boot after a kill takes the data for those of a primary that has just rejoined, and
    // waits for another primary to register it.
    if let Some(mut memory) = world.memory() {
        memory.role = Role::Standby;
        super::survey::write_memory(world, memory).await?;
    }
    let (config, owner) = (world.config(), world.file_owner());
    blocking(move || pg::become_candidate(&config, owner)).await?;
    world.observe(|o| o.midway = false);
    Ok(())
}

/// Follows the primary that is heard, if our walreceiver is pointed at another one or at none.
pub(super) async fn follow_leader(world: &World) -> Result<Option<Finding>, Fault> {
    let Some((heard, member)) = world.elector.leader(world).await else {
        return Ok(None);
    };
    let config = world.config();
    let standby = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    let leader = Address {
        host: member.host.clone(),
        port: member.port,
    };
    let followed = pg::followed(&standby).await.map_err(|e| e.fault())?;
    if followed.as_ref() == Some(&leader) {
        return Ok(None);
    }
    let password = &config.repmgr.password;
    let primary = Session::remote(&leader, "repmgr", password, "repmgr")
        .await
        .map_err(|e| e.fault())?;
    pg::receive_follower(&primary, heard.primary, config.identity.id)
        .await
        .map_err(|e| e.fault())?;
    pg::follow(&standby, &config, &leader)
        .await
        .map_err(|e| e.fault())?;
    world.observe(|o| o.not_streaming = 0);
    Ok(Some(Finding::Follows(format!(
        "{} ({leader})",
        member.name
    ))))
}
