//! What an open node does for itself: a look at its peers or its upstream, barman's first steps, the
//! last checkpoint.

use super::rejoin;
use super::survey::{self, blocking};
use super::world::World;
use crate::barman;
use crate::config::Address;
use crate::domain::{BackupView, Fault, Role};
use crate::fsm::Finding;
use crate::pg::{self, Repair, Session};
use crate::plan::authority::Verdict;
use crate::plan::{BootPlan, Member};
use std::time::{Duration, Instant};

/// Looks in a row without streaming before anything is done about it: a restart of the primary
/// takes a few seconds.
const LOOKS_BEFORE_REPAIR: u32 = 5;

/// A look at the open node.
pub(super) async fn look(world: &World, plan: Option<BootPlan>) -> Result<Finding, Fault> {
    let seen = world.observed();
    // A standby's copy of the table lacks its own record for a moment: where this node was registered must not be
    // forgotten, or a changed port would not be told to repmgr.
    let me = world.config().identity.id;
    if let Some(members) = seen.members
        && members.iter().any(|m| m.node_id == me)
        && world.memory().is_some_and(|m| m.members != members)
        && let Some(mut memory) = world.memory()
    {
        memory.members = members;
        survey::write_memory(world, memory).await?;
    }
    match (plan.map(|p| p.role), seen.role) {
        // Promoted, and not by an election: a person's word counts as a new term.
        (Some(Role::Standby), Some(Role::Primary)) => {
            // An election's own promotion, seen before it has ended, is nobody's word.
            if world.elector.is_promoting() {
                return Ok(Finding::Fine);
            }
            world.elector.usurp(world).await?;
            remember(world, Role::Primary).await?;
            Ok(Finding::Promoted)
        }
        (Some(Role::Standby), _) => match super::promote::follow_leader(world).await? {
            Some(finding) => Ok(finding),
            None => look_at_upstream(world).await,
        },
        (Some(Role::Witness), _) => super::witness::look(world).await,
        (Some(Role::Primary), _) | (None, _) => Ok(match survey::verdict(world, plan).await {
            // Who is reached is the lease's business; only a conflict closes it here.
            Verdict::Closed(reason) if reason.is_conflict() => Finding::MustClose(reason),
            Verdict::Open | Verdict::Elected | Verdict::Closed(_) => Finding::Fine,
        }),
    }
}

async fn look_at_upstream(world: &World) -> Result<Finding, Fault> {
    let seen = world.observed();
    match seen.streaming {
        Some(true) => {
            world.observe(|o| o.not_streaming = 0);
            let stage = world.stage();
            if blocking(move || Ok(stage.discard_old()))
                .await?
                .map_err(|e| e.fault())?
            {
                tracing::info!("the new copy streams: the one that was set aside is removed");
            }
            return Ok(Finding::Fine);
        }
        Some(false) => world.observe(|o| o.not_streaming += 1),
        None => return Ok(Finding::Fine),
    }
    if seen.not_streaming < LOOKS_BEFORE_REPAIR {
        return Ok(Finding::Fine);
    }
    let config = world.config();
    let Some(upstream) = upstream(world).await else {
        return Ok(Finding::Fine);
    };
    let Some(position) = seen.position else {
        return Ok(Finding::Fine);
    };
    let primary =
        match Session::remote(&upstream, "repmgr", &config.repmgr.password, "repmgr").await {
            Ok(session) => session,
            // The primary is down: nothing to repair here.
            Err(error) => {
                tracing::debug!("{}", Fault::chain(&error));
                return Ok(Finding::Fine);
            }
        };
    let standby = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    let moved = pg::follow_port(&standby, &upstream.host, upstream.port)
        .await
        .map_err(|e| e.fault())?;
    if moved {
        tracing::warn!("the primary's port is another now: streaming from {upstream}");
        world.observe(|o| o.not_streaming = 0);
        return Ok(Finding::Fine);
    }
    let node = config.identity.id;
    // What was sampled is the timeline of the last restart point, which may be several promotions ago.
    let (timeline, _) = pg::position(&standby).await.map_err(|e| e.fault())?;
    let ours = pg::Standing {
        node,
        system_id: world.memory().map(|m| m.system_id),
        timeline,
        position,
    };
    let facts = pg::slot_facts(&primary, &ours)
        .await
        .map_err(|e| e.fault())?;
    if let Some(reason) = rejoin::diverged(world, &primary, &upstream, &facts, &ours).await? {
        return Ok(Finding::Diverged(reason));
    }
    match pg::repair(&ours, &facts) {
        Repair::Wait => Ok(Finding::Fine),
        Repair::Stuck(why) => {
            tracing::warn!("does not stream from {upstream}: {why}");
            Ok(Finding::Fine)
        }
        Repair::CloneAnew => Ok(Finding::CloneAnew(format!(
            "{upstream} no longer has the WAL that this standby needs next ({position} on timeline \
             {timeline})"
        ))),
        repair @ (Repair::CreateSlot | Repair::RecreateSlot) => {
            let lost = repair == Repair::RecreateSlot;
            pg::make_slot(&primary, node, lost)
                .await
                .map_err(|e| e.fault())?;
            tracing::warn!(
                "made the replication slot {} on {upstream} again: it was {}",
                pg::slot_name(node),
                if lost { "lost" } else { "missing" }
            );
            world.observe(|o| o.not_streaming = 0);
            Ok(Finding::Fine)
        }
    }
}

async fn upstream(world: &World) -> Option<Address> {
    let peers = survey::ask(world).await;
    let open = survey::open_primary(&peers).map(|(p, _)| p.address.clone());
    let known = survey::addresses(world);
    known
        .into_iter()
        .find(|a| Some(a.to_string()) == open)
        .or_else(|| world.config().peers.primary.clone())
}

/// Writes down the role and the settings that are in the database now.
pub(super) async fn remember(world: &World, role: Role) -> Result<(), Fault> {
    let Some(mut memory) = world.memory() else {
        return Ok(());
    };
    memory.role = role;
    memory.fingerprint = survey::fingerprint(world, &memory.salt);
    survey::write_memory(world, memory).await
}

/// A checkpoint before a stop, so that the shutdown's own is short.
pub(super) async fn checkpoint(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let session = match Session::local(&config, config.postgres.port, "postgres").await {
        Ok(session) => session,
        Err(_) => Session::local(&config, config.postgres.technical_port, "postgres")
            .await
            .map_err(|e| e.fault())?,
    };
    let session = session.patient(Duration::from_secs(3600));
    session
        .execute("the last checkpoint", "CHECKPOINT")
        .await
        .map_err(|e| e.fault())
}

/// The members as the database has them, for the memory.
pub(super) fn members(view: &pg::PgView) -> Vec<Member> {
    view.members
        .iter()
        .map(|m| Member {
            node_id: m.node_id,
            name: m.name.clone(),
            host: m.host.clone(),
            port: m.port,
        })
        .collect()
}

/// How long receive-wal may take to attach to its slot.
const ATTACH: Duration = Duration::from_secs(30);

/// barman's first steps on a primary: slot and receive-wal, the first archived segment, the first
/// full backup. Ends at once where a complete backup exists and receive-wal is attached.
pub(super) async fn warm(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let account = &world.accounts.barman;
    let (children, began) = (&world.children, Instant::now());
    note(world, "starting receive-wal");
    barman::cron(children, &config, account)
        .await
        .map_err(|e| e.fault())?;
    let session = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    attached(&session).await?;
    let known = backups(world).await?;
    if known.iter().any(barman::Backup::is_done) {
        return Ok(());
    }
    note(world, "archiving the first WAL segment");
    push_wal(&session).await?;
    barman::archive_wal(children, &config, account)
        .await
        .map_err(|e| e.fault())?;
    // A failed one does not count; any other is finished rather than repeated.
    if known.iter().all(|b| b.status == "FAILED") {
        note(world, "making the first full backup");
        tracing::info!(source = "barman", "making the first full backup");
        barman::backup(children, &config, account)
            .await
            .map_err(|e| e.fault())?;
    }
    finish_waiting(world, &session).await?;
    let known = backups(world).await?;
    let Some(done) = known.iter().rfind(|b| b.is_done()) else {
        return Err(Fault::Transient(
            "the first backup is not complete yet".into(),
        ));
    };
    tracing::info!(
        source = "barman",
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the first full backup {} is complete",
        done.id
    );
    Ok(())
}

fn note(world: &World, text: &'static str) {
    world.show(move |status| status.backup.note = Some(text.to_owned()));
}

/// There is no event for it: the server is asked until the slot is in use.
async fn attached(session: &Session) -> Result<(), Fault> {
    let ask =
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'barman' AND active)";
    let waiting = async {
        let mut pace = tokio::time::interval(Duration::from_millis(250));
        loop {
            pace.tick().await;
            let row = session.one("asking for barman's slot", ask, &[]).await?;
            if row.get(0) {
                return Ok::<(), pg::PgError>(());
            }
        }
    };
    match tokio::time::timeout(ATTACH, waiting).await {
        Ok(done) => done.map_err(|e| e.fault()),
        Err(_) => Err(Fault::Transient(
            "barman's receive-wal did not attach to its slot; see barman's own messages".into(),
        )),
    }
}

/// An idle server writes no WAL, and barman never takes the newest segment: a record, a switch, and
/// a record in the next one (`docs/facts-trixie.md` §5).
async fn push_wal(session: &Session) -> Result<(), Fault> {
    for sql in [
        "SELECT pg_create_restore_point('pgnode')::text",
        "SELECT pg_switch_wal()::text",
        "SELECT pg_create_restore_point('pgnode')::text",
    ] {
        session
            .one("switching to the next WAL segment", sql, &[])
            .await
            .map_err(|e| e.fault())?;
    }
    Ok(())
}

/// A backup on an idle server waits for WAL that nobody writes.
async fn finish_waiting(world: &World, session: &Session) -> Result<(), Fault> {
    let config = world.config();
    let (children, account) = (&world.children, &world.accounts.barman);
    for backup in backups(world)
        .await?
        .iter()
        .filter(|b| b.status == "WAITING_FOR_WALS")
    {
        push_wal(session).await?;
        barman::archive_wal(children, &config, account)
            .await
            .map_err(|e| e.fault())?;
        barman::check_backup(children, &config, account, &backup.id)
            .await
            .map_err(|e| e.fault())?;
    }
    Ok(())
}

/// The catalogue, shown.
pub(super) async fn backups(world: &World) -> Result<Vec<barman::Backup>, Fault> {
    let config = world.config();
    let all = blocking(move || Ok(barman::catalogue(&config)))
        .await?
        .map_err(|e| e.fault())?;
    let done: Vec<&barman::Backup> = all.iter().filter(|b| b.is_done()).collect();
    let last = done.last();
    let view = BackupView {
        mode: world.config().barman.mode.to_string(),
        count: Some(done.len() as u64),
        last_id: last.map(|b| b.id.clone()),
        last_end_ms: last.and_then(|b| b.end_ms),
        last_size: last.and_then(|b| b.size),
        note: None,
    };
    world.show(move |status| status.backup = view);
    Ok(all)
}

/// Every so often while a primary is open: the catalogue is shown, and a backup that cron made on an
/// idle server gets the WAL that it waits for.
pub(super) async fn tend_backups(world: &World, session: &Session) -> Result<(), Fault> {
    let all = backups(world).await?;
    if all.iter().any(|b| b.status == "WAITING_FOR_WALS") {
        finish_waiting(world, session).await?;
        backups(world).await?;
    }
    Ok(())
}
