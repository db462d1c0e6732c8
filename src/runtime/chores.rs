//! What an open node does for itself: a look at its peers or its upstream, barman's first steps, the
//! last checkpoint.

use super::archive;
use super::archiver;
use super::rejoin;
use super::survey::{self, blocking};
use super::world::World;
use crate::barman::{Backup, BackupStatus, Client};
use crate::config::Address;
use crate::domain::{BackupView, DrillView, Fault, Role};
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

/// Why barman may not work here: its directory holds the archive of another cluster. barman itself
/// only says so in its check, and streams into it all the same.
pub(super) async fn foreign_archive(world: &World) -> Result<Option<String>, Fault> {
    if !world.backs_up() {
        return Ok(None);
    }
    let config = world.config();
    let dir = config
        .paths
        .barman_backup_dir
        .join(&config.barman.server_name);
    let server = crate::barman::Server::at(dir);
    let theirs = {
        let server = server.clone();
        blocking(move || Ok(server.identity())).await?
    };
    let Some(theirs) = theirs.map_err(|e| e.fault())? else {
        return Ok(None);
    };
    let memory = world.memory().map(|m| m.system_id);
    let ours = memory.or_else(|| world.observed().claim.map(|c| c.system_id));
    if ours == Some(theirs) {
        return Ok(None);
    }
    let ours = ours.map_or_else(|| "a new one".to_owned(), |id| id.to_string());
    Ok(Some(format!(
        "nothing is backed up: {} belongs to cluster {theirs}, this node's cluster is {ours}; expected an \
         empty archive: set BARMAN_SERVER_NAME to another name",
        server.dir.display()
    )))
}

/// How long receive-wal may take to attach to its slot.
const ATTACH: Duration = Duration::from_secs(30);

/// barman's first steps on a primary: slot and receive-wal, the first archived segment, the first
/// full backup. Ends at once where a complete backup exists and receive-wal is attached. Into a bucket: a backup where
/// one is owed.
pub(super) async fn warm(world: &World) -> Result<(), Fault> {
    let config = world.config();
    if archiver::archives(&config) {
        return archiver::first_backup(world).await;
    }
    let (client, began) = (client(world), Instant::now());
    if let Some(why) = foreign_archive(world).await? {
        let shown = why.clone();
        world.show(move |status| status.backup.note = Some(shown));
        return Err(Fault::NeedsPerson(why));
    }
    note(world, "starting receive-wal");
    client.cron().await.map_err(|e| e.fault())?;
    let session = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    attached(&session).await?;
    let known = backups(world).await?;
    if known.iter().any(Backup::is_done) {
        return Ok(());
    }
    note(world, "archiving the first WAL segment");
    archive::round_trip(&client, &session).await?;
    // A failed one does not count; any other is finished rather than repeated.
    if known.iter().all(|b| b.status == BackupStatus::Failed) {
        note(world, "making the first full backup");
        tracing::info!(source = "barman", "making the first full backup");
        client.backup(None).await.map_err(|e| e.fault())?;
    }
    let known = backups(world).await?;
    archive::finish_waiting(&client, &session, &known).await?;
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

/// barman of this node, for itself.
fn client(world: &World) -> Client {
    let config = world.config();
    Client {
        children: world.children.clone(),
        account: world.accounts.barman.clone(),
        server: config.barman.server_name.clone(),
        config,
    }
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

/// The catalogue, shown.
pub(super) async fn backups(world: &World) -> Result<Vec<Backup>, Fault> {
    let all = archive::catalogue(&client(world)).await?;
    let done: Vec<&Backup> = all.iter().filter(|b| b.is_done()).collect();
    let last = done.last();
    let view = BackupView {
        mode: world.config().barman.mode.to_string(),
        count: Some(done.len() as u64),
        last_id: last.map(|b| b.id.clone()),
        last_end_ms: last.and_then(|b| b.end_ms),
        last_size: last.and_then(|b| b.deduplicated_size.or(b.size)),
        note: None,
        drills: drills(world).await?,
    };
    world.show(move |status| status.backup = view);
    Ok(all)
}

/// The last drills, shown; one that failed is said once.
pub(super) async fn drills(world: &World) -> Result<Vec<DrillView>, Fault> {
    let dir = crate::doctor::drill::records(&world.config());
    let all = blocking(move || Ok(crate::doctor::drill::read_all(&dir))).await?;
    let newest = all.iter().map(|d| d.at_ms).max().unwrap_or_default();
    let said = world.observed().drills_said;
    for drill in all.iter().filter(|d| d.at_ms > said) {
        if let Some(error) = &drill.error {
            let id = drill.backup.as_deref().unwrap_or("no backup");
            tracing::warn!(
                source = "drill",
                server = drill.server,
                "the drill of {} failed with {id}: {error}; `pgnode doctor {}` says what mends it",
                drill.server,
                drill.server
            );
        }
    }
    world.observe(|o| o.drills_said = newest.max(said));
    Ok(all)
}

/// Every so often while a primary is open: the catalogue is shown, and a backup that cron made on an
/// idle server gets the WAL that it waits for.
pub(super) async fn tend_backups(world: &World, session: &Session) -> Result<(), Fault> {
    let all = backups(world).await?;
    if all.iter().any(archive::waits) {
        archive::finish_waiting(&client(world), session, &all).await?;
        backups(world).await?;
    }
    Ok(())
}
