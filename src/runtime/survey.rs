//! Looking at the disk and asking the peers: facts for the plan and for the authority.

use super::conversion;
use super::world::World;
use crate::config::Address;
use crate::domain::{Fault, PeerReport, hex};
use crate::plan::authority::{
    Claim, Reason, Verdict, may_create, may_open, may_rejoin, may_restore,
};
use crate::plan::{self, Answer, BootPlan, Disk, Facts, Memory, Peer, Provision};
use crate::sys::Pgdata;
use crate::{http, pg, sys};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Each peer's own deadline; they are asked at once, so this is also the whole question's.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Gathers the facts and plans the boot.
pub(super) async fn survey(world: &World) -> Result<BootPlan, Fault> {
    let config = world.config();
    let stage = world.stage();
    // A swap that was interrupted is finished before anybody looks at the result.
    let resumed = blocking(move || Ok(stage.resume()))
        .await?
        .map_err(|e| e.fault())?;
    if resumed.finished {
        tracing::info!("finished a swap of the data directory that was interrupted");
    }
    if resumed.removed_staging {
        tracing::info!("removed what an interrupted start had left in the staging directory");
    }
    let memory = read_memory(world).await?;
    world.remember(memory.clone());
    world.elector.begin(world).await?;
    let disk = disk(world, resumed.pgdata).await?;
    let unfinished = super::rejoin::unfinished(world).await?;
    let peers = ask(world).await;
    for peer in &peers {
        match &peer.answer {
            Answer::Report(r) => tracing::info!(
                peer = %peer.address,
                "{} answers: {}, {}, timeline {}",
                r.node,
                r.state,
                r.role.map_or_else(|| "no role yet".to_owned(), |r| r.to_string()),
                r.timeline.map_or_else(|| "unknown".to_owned(), |t| t.to_string()),
            ),
            Answer::Silent(why) => tracing::info!(peer = %peer.address, "no answer: {why}"),
        }
    }
    let fingerprint = memory.as_ref().map(|m| fingerprint(world, &m.salt));
    let facts = Facts {
        disk,
        memory,
        peers,
        pg_major: world.pg_major(),
        unfinished: unfinished.is_some(),
        fingerprint,
    };
    let plan = plan::plan(&config, &facts)?;
    if config.restore.is_some() && plan.provision != Provision::Restore {
        tracing::info!("PGNODE_RESTORE does nothing here: it is for an empty disk of a master");
    }
    let members = facts
        .memory
        .as_ref()
        .map_or(1 + facts.peers.len(), |m| m.members.len().max(1));
    if world.is_witness() {
        // It shows the cluster that it votes in, not its own little database.
        let id = facts.memory.map(|m| m.system_id);
        world.show(move |status| status.system_id = id);
    } else if let Some(rewind) = unfinished {
        let claim = Claim {
            system_id: rewind.system_id,
            timeline: rewind.timeline,
            lsn: rewind.fork.lsn,
            members,
        };
        world.observe(|o| o.claim = Some(claim));
    } else if let Disk::Cluster(cluster) = &facts.disk {
        let claim = Claim {
            system_id: cluster.system_id,
            timeline: cluster.timeline,
            lsn: cluster.lsn,
            members,
        };
        // Data that somebody brought in have no election behind them.
        let midway = cluster.midway && facts.memory.is_some();
        world.observe(|o| (o.claim, o.midway) = (Some(claim), midway));
        let (id, timeline, lsn) = (cluster.system_id, cluster.timeline, cluster.lsn);
        world.show(move |status| {
            status.system_id = Some(id);
            status.timeline = Some(timeline);
            status.lsn = Some(lsn);
        });
    }
    Ok(plan)
}

/// The authority's word for this boot or for the open node.
pub(super) async fn verdict(world: &World, plan: Option<BootPlan>) -> Verdict {
    let peers = ask(world).await;
    let verdict = match (plan, world.observed().claim) {
        (
            Some(BootPlan {
                provision: Provision::Rejoin,
                ..
            }),
            Some(claim),
        ) => may_rejoin(&claim, &peers),
        (
            Some(BootPlan {
                provision: Provision::Restore,
                ..
            }),
            _,
        ) => may_restore(&peers),
        (
            Some(BootPlan {
                provision: Provision::Init,
                ..
            }),
            _,
        )
        | (_, None) => may_create(&peers),
        (_, Some(claim)) => may_open(&claim, &peers),
    };
    if let Verdict::Closed(Reason::Superseded { peer, .. }) = &verdict {
        let source = addresses(world)
            .into_iter()
            .find(|a| a.to_string() == *peer);
        world.observe(|o| o.source = source);
    }
    verdict
}

/// Everyone that settings or memory name, ourselves left out, at once.
pub(super) async fn ask(world: &World) -> Vec<Peer> {
    let config = world.config();
    let addresses = addresses(world);
    http::peers::ask(
        world.dialer(),
        &addresses,
        config.http.port(),
        world.peer_key(),
        || http::Nonce::random().ok(),
        PATIENCE,
    )
    .await
    .into_iter()
    .map(conversion::peer)
    .collect()
}

/// Whom to ask.
pub(super) fn addresses(world: &World) -> Vec<Address> {
    let config = world.config();
    let mut addresses: BTreeSet<Address> = config.peers.partners.iter().cloned().collect();
    if let Some(memory) = world.memory() {
        let others = memory
            .members
            .iter()
            // Settings know better where a host is; counted twice it would pass for two members.
            .filter(|m| config.peers.partners.iter().all(|p| p.host != m.host))
            .filter(|m| m.node_id != config.identity.id);
        addresses.extend(others.map(|m| Address {
            host: m.host.clone(),
            port: m.port,
        }));
    }
    addresses.into_iter().collect()
}

/// The first peer that serves clients as the primary.
pub(super) fn open_primary(peers: &[Peer]) -> Option<(&Peer, &PeerReport)> {
    peers
        .iter()
        .filter_map(|p| Some((p, p.report()?)))
        .find(|(_, r)| r.is_open_primary())
}

async fn disk(world: &World, found: Pgdata) -> Result<Disk, Fault> {
    let pgdata = world.config().paths.pgdata.clone();
    let dir = pgdata.clone();
    let facts = blocking(move || pg::look(&dir)).await?;
    if facts.empty {
        return Ok(if found == Pgdata::OnlyOld {
            Disk::OldOnly
        } else {
            Disk::Empty
        });
    }
    let Some(major) = facts.major else {
        let why = format!(
            "it has no PG_VERSION; the first entry is `{}`",
            facts.first_entry
        );
        return Ok(Disk::Foreign { why });
    };
    if major != world.pg_major() {
        // pg_controldata of another major cannot be trusted with the rest.
        return Ok(Disk::Cluster(conversion::other_major(major)));
    }
    match pg::control_data(
        &world.children,
        &world.config(),
        &world.accounts.postgres,
        &pgdata,
    )
    .await
    {
        Ok(control) => Ok(Disk::Cluster(conversion::cluster(&facts, &control, major))),
        Err(error) => Ok(Disk::Foreign {
            why: Fault::chain(&error),
        }),
    }
}

/// A fingerprint of all that bootstrap brings into the database, so that an unchanged second start
/// need not visit it. Keyed with a random salt: the file that keeps it gives no password away to
/// somebody who has a list of likely ones and not the salt.
pub(super) fn fingerprint(world: &World, salt: &str) -> String {
    let config = world.config();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else {
        return String::new();
    };
    for part in [
        env!("CARGO_PKG_VERSION"),
        crate::pg::PROVISION,
        &config.postgres.superuser,
        &config.postgres.database,
        config.postgres.password.reveal(),
        config.repmgr.password.reveal(),
        config.repmgr.streaming_password.reveal(),
        config.barman.password.reveal(),
        config.barman.streaming_password.reveal(),
        &config.identity.name.0,
        &config.identity.network_name,
        &config.postgres.port.to_string(),
        &world.pg_major().to_string(),
    ] {
        // With the length, so that no two lists of parts read the same.
        mac.update(&part.len().to_le_bytes());
        mac.update(part.as_bytes());
    }
    hex(&mac.finalize().into_bytes())
}

/// A new random salt.
pub(super) fn salt() -> Result<String, Fault> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Fault::Transient(format!("no random numbers from the system: {e}")))?;
    Ok(hex(&bytes))
}

async fn read_memory(world: &World) -> Result<Option<Memory>, Fault> {
    let path = world.layout.state_json.clone();
    let read = path.clone();
    let text = blocking(move || match std::fs::read_to_string(read) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    })
    .await?;
    let Some(text) = text else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(memory) => Ok(Some(memory)),
        Err(error) => Err(Fault::NeedsPerson(format!(
            "{} is not readable ({error}): it is written atomically, so somebody else changed it; \
             remove it and the node finds out again",
            path.display()
        ))),
    }
}

/// Writes down what is true now, synced.
pub(super) async fn write_memory(world: &World, memory: Memory) -> Result<(), Fault> {
    let path = world.layout.state_json.clone();
    let owner = world.file_owner();
    let text = serde_json::to_vec_pretty(&memory)
        .map_err(|e| Fault::Bug(format!("the memory cannot be written down: {e}")))?;
    world.remember(Some(memory));
    blocking(move || {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        sys::write_atomic(&path, &text, 0o600, owner)
    })
    .await
    .map(|_changed| ())
}

/// File work on the blocking pool; an I/O error names a person's business (a full or broken disk, a
/// missing right), except where space may come back.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(sys::io_fault("work on", Path::new("the volume"), &error)),
        Err(_) => Err(Fault::Bug("file work panicked".into())),
    }
}
