//! The witness: registered at the primary when it is made, and kept registered at whichever node is the
//! primary while it is open.

use super::survey::{self, blocking};
use super::world::World;
use crate::config::Address;
use crate::domain::{Fault, MemberView, NodeId, Role, SystemId};
use crate::fsm::Finding;
use crate::pg::{self, PgView, Session};
use crate::plan::witness::{Registration, clash, present_primary, same_members};
use crate::plan::{BootPlan, Member, Memory, Provision};
use crate::repmgr::{self, Door};
use crate::sys::Signal;

/// Looks between two readings of the primary's own table.
const READ_EVERY: u32 = 8;
/// Readings in a row that may differ: repmgrd copies the table every 15 s.
const STALE_MAY_LAST: u32 = 3;
/// Looks that are left out after a failure.
const AFTER_A_FAILURE: u32 = 2;

/// What is remembered between two looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Its copy of repmgr's table at the last sample.
    copy: Option<Vec<MemberView>>,
    /// Looks since the primary's own table was last read.
    looks: u32,
    /// For how many readings in a row the copy has differed from it.
    stale: u32,
    /// Looks to leave out.
    pause: u32,
    /// Why it is not registered, as it was last said.
    trouble: Option<String>,
}

/// Registers the staged witness, which listens on the technical port.
pub(super) async fn register_staged(world: &World) -> Result<(), Fault> {
    let Some(primary) = world.observed().upstream else {
        return Err(Fault::Transient(
            "no primary is known to register at".into(),
        ));
    };
    let table = table_of(world, &primary).await?;
    register(world, &primary, &table, Door::Technical).await
}

async fn register(
    world: &World,
    primary: &Address,
    table: &[MemberView],
    door: Door,
) -> Result<(), Fault> {
    let config = world.config();
    // `-F` must not be let loose on the record of another node.
    if let Some(why) = clash(table, config.identity.id, &config.identity.name) {
        return Err(Fault::NeedsPerson(why));
    }
    let account = &world.accounts.postgres;
    repmgr::register_witness(&world.children, account, &config, primary, door)
        .await
        .map_err(|e| e.fault())
}

/// repmgr's table on the primary.
async fn table_of(world: &World, primary: &Address) -> Result<Vec<MemberView>, Fault> {
    let config = world.config();
    let session = Session::remote(primary, "repmgr", &config.repmgr.password, "repmgr")
        .await
        .map_err(|e| e.fault())?;
    pg::members(&session, false).await.map_err(|e| e.fault())
}

/// Writes down whose vote this is and puts the database in its place. In this order: the next start
/// takes only a database for a witness's that the record says so of, and makes it anew where there is
/// none.
pub(super) async fn commit(world: &World, plan: BootPlan) -> Result<(), Fault> {
    let config = world.config();
    let former = world.memory();
    let cluster = match (&former, world.observed().cluster) {
        (Some(memory), _) => memory.system_id,
        (None, Some(cluster)) => cluster,
        (None, None) => return Err(Fault::Bug("a witness of an unknown cluster".into())),
    };
    let salt = match &former {
        Some(memory) => memory.salt.clone(),
        None => survey::salt()?,
    };
    let ourselves = Member {
        node_id: config.identity.id,
        name: config.identity.name.clone(),
        host: config.identity.network_name.clone(),
        port: config.postgres.port,
    };
    let memory = Memory {
        node_id: config.identity.id,
        node_name: config.identity.name.clone(),
        system_id: cluster,
        role: Role::Witness,
        fingerprint: survey::fingerprint(world, &salt),
        salt,
        registered: true,
        members: former.map_or_else(|| vec![ourselves], |m| m.members),
    };
    survey::write_memory(world, memory).await?;
    if plan.provision != Provision::Adopt {
        let stage = world.stage();
        blocking(move || Ok(stage.commit()))
            .await?
            .map_err(|e| e.fault())?;
    }
    world.show(move |status| status.system_id = Some(cluster));
    Ok(())
}

/// Shows a sample of the witness's own database: only its copy of repmgr's table says anything of the
/// cluster.
pub(super) fn publish(world: &World, view: PgView) {
    let mut members = view.members;
    for member in &mut members {
        // Nobody streams from a witness.
        (member.streaming, member.lag_bytes) = (None, None);
    }
    let known = members.iter().map(|m| Member {
        node_id: m.node_id,
        name: m.name.clone(),
        host: m.host.clone(),
        port: m.port,
    });
    let (known, copy) = (known.collect(), members.clone());
    let cluster = world.memory().map(|m| m.system_id);
    world.observe(|o| {
        o.role = Some(Role::Witness);
        o.members = Some(known);
        o.kept.copy = Some(copy);
    });
    world.show(move |status| {
        status.role = Some(Role::Witness);
        status.system_id = cluster;
        status.members = members;
    });
}

/// Where the witness is registered must be where the primary is, and its copy of repmgr's table must
/// be kept: repmgrd reads both there. Its vote needs neither, so a failure is said once and tried
/// again.
pub(super) async fn look(world: &World) -> Result<Finding, Fault> {
    let pause = world.observed().kept.pause;
    if pause > 0 {
        world.observe(|o| o.kept.pause -= 1);
        return Ok(Finding::Fine);
    }
    match keep_registered(world).await {
        Ok(()) => world.observe(|o| o.kept.trouble = None),
        Err(fault) => {
            let why = fault.to_string();
            if world.observed().kept.trouble.as_ref() != Some(&why) {
                tracing::warn!("not registered at the primary: {why}; tried again until it is");
            }
            world.observe(|o| (o.kept.trouble, o.kept.pause) = (Some(why), AFTER_A_FAILURE));
        }
    }
    Ok(Finding::Fine)
}

async fn keep_registered(world: &World) -> Result<(), Fault> {
    let (Some(cluster), Some(copy)) = (
        world.memory().map(|m| m.system_id),
        world.observed().kept.copy,
    ) else {
        return Ok(());
    };
    // Without a primary there is nobody to register at.
    let Some((primary, id)) = primary(world, cluster).await? else {
        return Ok(());
    };
    let config = world.config();
    let wanted = Registration {
        node: config.identity.id,
        primary: id,
        host: &config.identity.network_name,
        port: config.postgres.port,
    };
    let mut wrong = wanted
        .missing_from(&copy)
        .map(|why| format!("our copy: {why}"));
    let looks = world.observed().kept.looks;
    world.observe(|o| o.kept.looks = (looks + 1) % READ_EVERY);
    if wrong.is_none() && looks != 0 {
        return Ok(());
    }
    let table = table_of(world, &primary).await?;
    if wrong.is_none() {
        wrong = wanted
            .missing_from(&table)
            .map(|why| format!("its table: {why}"));
    }
    if wrong.is_none() {
        let stale = if same_members(&copy, &table) {
            0
        } else {
            world.observed().kept.stale + 1
        };
        world.observe(|o| o.kept.stale = stale);
        if stale > STALE_MAY_LAST {
            wrong = Some("our copy of its table is out of date".into());
        }
    }
    let Some(why) = wrong else {
        return Ok(());
    };
    register(world, &primary, &table, Door::Consumer).await?;
    tracing::warn!("registered at {primary} again ({why})");
    world.observe(|o| (o.kept.stale, o.kept.copy) = (0, None));
    // It reads whom it watches when it starts; the machine starts it again.
    if let Some(pid) = world.repmgrd_pid() {
        world.children.signal(pid, Signal::SIGTERM);
    }
    Ok(())
}

/// The address and the id of the primary that is open.
async fn primary(world: &World, cluster: SystemId) -> Result<Option<(Address, NodeId)>, Fault> {
    let peers = survey::ask(world).await;
    let Some((peer, report)) = present_primary(&peers, cluster) else {
        return match survey::open_primary(&peers) {
            Some((peer, _)) => Err(Fault::NeedsPerson(format!(
                "{} is the primary of another cluster, this witness votes in {cluster}: correct its \
                 peers, or empty its volume to have it vote there",
                peer.address
            ))),
            None => Ok(None),
        };
    };
    let known = survey::addresses(world);
    let address = known.into_iter().find(|a| a.to_string() == peer.address);
    Ok(address.map(|a| (a, report.node_id)))
}
