//! How the node comes to its data: initdb or a clone in the staging directory, the visit on the
//! technical port, the swap into place.

use super::survey::{self, blocking};
use super::world::World;
use super::{conversion, postmaster};
use crate::config::Address;
use crate::domain::{Fault, Role, SystemId, human_duration};
use crate::fsm::Site;
use crate::plan::{BootPlan, Member, Memory, Provision};
use crate::{pg, repmgr, sys};
use std::time::{Duration, Instant};

/// initdb's own limit: it only fails to end on a broken disk.
const INITDB_LIMIT: Duration = Duration::from_secs(600);

/// Waits until a primary serves clients and accepts our password, and remembers which.
pub(super) async fn await_primary(world: &World) -> Result<(), Fault> {
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        pace.tick().await;
        let waiting = match candidate(world).await {
            Ok(address) => {
                let cluster = world.memory().map(|m| m.system_id);
                match repmgr::preflight(&world.config(), &address, world.pg_major(), cluster).await
                {
                    Ok(facts) => {
                        same_cluster(world, &address, facts.system_id)?;
                        let size = crate::domain::human_bytes(facts.bytes);
                        let cluster = facts.system_id;
                        tracing::info!("{address} is the primary of cluster {cluster}, of {size}");
                        world.observe(|o| {
                            o.upstream = Some(address);
                            o.cluster = Some(cluster);
                        });
                        return Ok(());
                    }
                    Err(error) => {
                        let fault = error.fault();
                        if !fault.is_transient() {
                            return Err(fault);
                        }
                        Fault::chain(&error)
                    }
                }
            }
            Err(why) => why,
        };
        let text = format!("{waiting}; waited {}", human_duration(began.elapsed()));
        world.progress(text);
        if waiting != last {
            tracing::info!(elapsed_s = began.elapsed().as_secs(), "waiting: {waiting}");
            last = waiting;
        }
    }
}

/// A standby that is cloned anew stays in its cluster.
fn same_cluster(world: &World, address: &Address, theirs: SystemId) -> Result<(), Fault> {
    match world.memory() {
        Some(memory) if memory.system_id != theirs => {
            let (address, ours) = (address.clone(), memory.system_id);
            Err(repmgr::RepmgrError::OtherCluster {
                address,
                theirs,
                ours,
            }
            .fault())
        }
        Some(_) | None => Ok(()),
    }
}

/// The primary as the peers report it, else the one that the settings name: it need not run pgnode.
async fn candidate(world: &World) -> Result<Address, String> {
    let config = world.config();
    let peers = survey::ask(world).await;
    if let Some((peer, _)) = survey::open_primary(&peers) {
        let known = config
            .peers
            .partners
            .iter()
            .find(|a| a.to_string() == peer.address)
            .cloned();
        if let Some(address) = known {
            return Ok(address);
        }
    }
    match &config.peers.primary {
        Some(address) => Ok(address.clone()),
        None => Err("no partner says that it is the primary".into()),
    }
}

/// An empty staging directory.
pub(super) async fn prepare(world: &World) -> Result<(), Fault> {
    let (stage, owner) = (world.stage(), world.file_owner());
    blocking(move || Ok(stage.prepare(owner)))
        .await?
        .map_err(|e| e.fault())
}

/// Creates the cluster in the staging directory.
pub(super) async fn init(world: &World) -> Result<(), Fault> {
    let config = world.config();
    if !world.is_witness() {
        pg::scripts_readable(&world.children, &config, &world.accounts.postgres)
            .await
            .map_err(|e| e.fault())?;
    }
    prepare(world).await?;
    let pwfile = config.paths.run_dir.join("initdb.password");
    let (path, owner) = (pwfile.clone(), world.file_owner());
    let password = format!("{}\n", config.postgres.password.reveal());
    blocking(move || sys::write_volatile(&path, password.as_bytes(), 0o600, owner)).await?;
    let spec = pg::initdb(
        &config,
        &world.accounts.postgres,
        &world.layout.staging,
        &pwfile,
    );
    let end = world
        .children
        .run_with_lines(spec, INITDB_LIMIT, |line| {
            tracing::debug!(source = "initdb", "{line}")
        })
        .await;
    blocking(move || sys::remove(&pwfile)).await?;
    let end = end.map_err(|e| Fault::Transient(Fault::chain(&e)))?;
    if !end.exit.is_success() {
        return Err(conversion::initdb_fault(&end));
    }
    include_line(world, Site::Staging).await?;
    write_ahead(world);
    Ok(())
}

/// The disk begins to write the new copy while the boot goes on, so that the commit's sync finds
/// little left. No promise rests on it: [`commit`] syncs whatever came of this.
pub(super) fn write_ahead(world: &World) {
    let staging = world.layout.staging.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = sys::sync_tree(&staging) {
            tracing::debug!("the early sync of {}: {error}", staging.display());
        }
    });
}

/// The one line of ours in `postgresql.conf`.
pub(super) async fn include_line(world: &World, site: Site) -> Result<(), Fault> {
    let line = crate::render::managed_include_line(&world.config())
        .map_err(|e| Fault::Config(Fault::chain(&e)))?;
    let path = postmaster::data_dir(world, site).join("postgresql.conf");
    let owner = world.file_owner();
    blocking(move || {
        // A volume from an image that keeps its configuration elsewhere has none.
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        match crate::render::with_include(&text, &line) {
            Some(new) => sys::write_atomic(&path, new.as_bytes(), 0o600, owner).map(|_| ()),
            None => Ok(()),
        }
    })
    .await
}

/// Clones the primary into the staging directory.
pub(super) async fn clone(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let Some(upstream) = world.observed().upstream else {
        return Err(Fault::Transient("no primary is known to clone from".into()));
    };
    let cluster = world.memory().map(|m| m.system_id);
    let facts = repmgr::preflight(&config, &upstream, world.pg_major(), cluster)
        .await
        .map_err(|e| e.fault())?;
    let need = facts.bytes;
    prepare(world).await?;
    let anchor = world.layout.anchor.clone();
    let space = blocking(move || sys::fs_facts(&anchor)).await?;
    // A tenth for what the primary writes while it is copied.
    if space.available < need + need / 10 {
        return Err(Fault::NeedsPerson(format!(
            "the clone needs about {} and {} has {} free: make room, or use a larger volume",
            crate::domain::human_bytes(need + need / 10),
            world.layout.anchor.display(),
            crate::domain::human_bytes(space.available)
        )));
    }
    let password = &config.repmgr.password;
    let primary = pg::Session::remote(&upstream, "repmgr", password, "repmgr")
        .await
        .map_err(|e| e.fault())?;
    pg::forget_slot(&primary, config.identity.id)
        .await
        .map_err(|e| e.fault())?;
    // The clone takes its primary_conninfo from repmgr's record of the primary.
    repmgr::record_primary(&primary, &upstream, config.identity.id)
        .await
        .map_err(|e| e.fault())?;
    drop(primary);
    let progress = |text: String| world.progress(text);
    repmgr::clone(
        &world.children,
        &world.accounts.postgres,
        &config,
        &world.layout.staging,
        &upstream,
        progress,
    )
    .await
    .map_err(|e| e.fault())?;
    include_line(world, Site::Staging).await?;
    write_ahead(world);
    Ok(())
}

/// Users, databases, extension, grants: idempotent SQL on the technical port.
pub(super) async fn bootstrap(world: &World, plan: Option<BootPlan>) -> Result<(), Fault> {
    let config = world.config();
    let visit = match plan.map(|p| p.provision) {
        // A witness has no database of the user's.
        Some(Provision::Init) if !world.is_witness() => pg::Visit::First,
        Some(
            Provision::Init
            | Provision::Clone
            | Provision::Restore
            | Provision::Adopt
            | Provision::Rejoin,
        )
        | None => pg::Visit::Later,
    };
    pg::bootstrap(&config, config.postgres.technical_port, visit)
        .await
        .map_err(|e| e.fault())?;
    if plan.is_some_and(|p| p.provision == Provision::Restore) {
        repmgr::forget_cluster(&config)
            .await
            .map_err(|e| e.fault())?;
    }
    Ok(())
}

/// The user's init scripts.
pub(super) async fn scripts(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let (account, staging) = (&world.accounts.postgres, &world.layout.staging);
    pg::run_scripts(&world.children, &config, account, staging, |name| {
        world.progress(format!("running {name}"));
    })
    .await
    .map_err(|e| e.fault())
}

/// Tells repmgr: the primary on the technical port, a standby at its primary, while it is down.
pub(super) async fn register(world: &World, plan: Option<BootPlan>) -> Result<(), Fault> {
    let config = world.config();
    let account = &world.accounts.postgres;
    match plan.map(|p| p.role) {
        Some(Role::Primary) => {
            let peers = survey::ask(world).await;
            // `primary register -F` succeeds whatever the truth is (facts 1.3).
            if let Some((peer, _)) = survey::open_primary(&peers) {
                return Err(Fault::Transient(format!(
                    "not registered as the primary: {} serves clients as the primary",
                    peer.address
                )));
            }
            repmgr::register_primary(&world.children, account, &config).await
        }
        Some(Role::Standby) => {
            let upstream = match world.observed().upstream {
                Some(address) => address,
                None => candidate(world).await.map_err(Fault::Transient)?,
            };
            repmgr::register_standby(&world.children, account, &config, &upstream).await
        }
        Some(Role::Witness) => return super::witness::register_staged(world).await,
        None => return Err(Fault::Bug("registered without a plan".into())),
    }
    .map_err(|e| e.fault())
}

/// Syncs what was built, puts it in its place and writes down what is true now.
pub(super) async fn commit(world: &World, plan: Option<BootPlan>) -> Result<(), Fault> {
    let config = world.config();
    let Some(plan) = plan else {
        return Err(Fault::Bug("commit without a plan".into()));
    };
    if plan.role == Role::Witness {
        return super::witness::commit(world, plan).await;
    }
    if plan.provision != Provision::Adopt {
        let stage = world.stage();
        blocking(move || Ok(stage.commit()))
            .await?
            .map_err(|e| e.fault())?;
        world.set_restoring(None);
        // What a rewind left half done is in the copy that was set aside.
        super::rejoin::unfinished(world).await?;
    }
    let control = pg::control_data(
        &world.children,
        &config,
        &world.accounts.postgres,
        &config.paths.pgdata,
    )
    .await
    .map_err(|e| e.fault())?;
    let former = world.memory();
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
    let members = match former {
        Some(memory) if plan.provision == Provision::Adopt => {
            let mut members = memory.members;
            members.retain(|m| m.node_id != ourselves.node_id);
            members.push(ourselves);
            members.sort_by_key(|m| m.node_id);
            members
        }
        Some(_) | None => vec![ourselves],
    };
    let memory = Memory {
        node_id: config.identity.id,
        node_name: config.identity.name.clone(),
        system_id: control.system_id,
        role: plan.role,
        fingerprint: survey::fingerprint(world, &salt),
        salt,
        registered: true,
        members,
    };
    survey::write_memory(world, memory.clone()).await?;
    world.observe(|o| {
        o.claim = Some(conversion::claim(&control, memory.members.len()));
        o.not_streaming = 0;
    });
    if matches!(plan.provision, Provision::Init | Provision::Restore) {
        world
            .elector
            .with(world, |v| v.found(&memory.members))
            .await?;
    }
    let (id, timeline) = (control.system_id, control.timeline);
    world.show(move |status| {
        status.system_id = Some(id);
        status.timeline = Some(timeline);
    });
    Ok(())
}
