//! Keeps `synchronous_standby_names` right: decided by [`crate::plan::synchronous`], written into a file of
//! its own in the run directory, read again by the server.
//!
//! A standby has the full requirement in force all the time, where it does nothing: so a promotion,
//! whoever makes it, begins with it. Written just before, the checkpointer might still be busy with
//! something else when the first commit asks it.

use super::elector::now;
use super::survey::blocking;
use super::world::World;
use crate::config::Quorum;
use crate::domain::{Fault, Moment, NodeId, Role, SynchronousView, human_duration};
use crate::pg::{PgView, Session};
use crate::plan::synchronous::{self as plan, Force, Other, Standing};
use crate::render::{RunFiles, synchronous_conf};
use crate::sys::{self, Changed, now_ms};
use std::time::Duration;

/// Between two reminders that too few standbys stream.
const REMIND: Duration = Duration::from_secs(60);
/// A standby that lost its primary tries again every second (`wal_retrieve_retry_interval`): after a
/// restart in place or a change of the primary nobody streams for a moment, and nothing is given up for that.
const RETURN: Duration = Duration::from_secs(3);
/// A server reads its files again within milliseconds.
const APPLIED: Duration = Duration::from_secs(5);

/// What it remembers from one look to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// For how many standbys a commit waits at the moment.
    present: Option<usize>,
    /// Since when fewer stream than that.
    lost: Option<Moment>,
    /// Since when fewer stream than are required, in milliseconds since the epoch.
    short_since_ms: Option<u64>,
    /// When that was last said.
    said: Option<(Standing, usize, Moment)>,
    /// Warnings that were said.
    warned: Option<String>,
    /// What somebody else has set over ours.
    overruled: Option<String>,
}

/// Before the server starts: the full requirement by the members that are remembered. A witness among
/// them never streams; its name does no harm.
pub(super) async fn prepare(world: &World) -> Result<(), Fault> {
    let config = world.config();
    world.observe(|o| o.synchronous = Kept::default());
    if config.synchronous.quorum == Quorum::Off {
        let path = RunFiles::of(&config).synchronous_conf;
        return blocking(move || sys::remove(&path)).await.map(|_| ());
    }
    let me = config.identity.id;
    let members = world.memory().map(|m| m.members).unwrap_or_default();
    let others: Vec<Other> = members
        .iter()
        .filter(|m| m.node_id != me)
        .map(|m| Other {
            name: m.name.clone(),
            streams: false,
        })
        .collect();
    let voters = voters(world, members.len()).await;
    let required = plan::requirement(config.synchronous.quorum, others.len(), voters).count;
    write(world, &plan::names(required, &others)).await?;
    world.observe(|o| o.synchronous.present = Some(required));
    Ok(())
}

/// The full requirement, in force before anything is promoted.
pub(super) async fn require(world: &World, session: &Session) -> Result<(), Fault> {
    let config = world.config();
    if config.synchronous.quorum == Quorum::Off {
        return Ok(());
    }
    let members = crate::pg::members(session, true)
        .await
        .map_err(|e| e.fault())?;
    let others = others(&members, config.identity.id);
    let voters = voters(world, members.len()).await;
    let required = plan::requirement(config.synchronous.quorum, others.len(), voters).count;
    apply(world, session, &plan::names(required, &others)).await?;
    world.observe(|o| {
        o.synchronous = Kept {
            present: Some(required),
            ..Kept::default()
        };
    });
    Ok(())
}

/// A look at the running server. Whether commits wait for the next one.
pub(super) async fn tend(world: &World, session: &Session, view: &PgView) -> Result<bool, Fault> {
    let config = world.config();
    let settings = config.synchronous;
    if settings.quorum == Quorum::Off {
        return Ok(false);
    }
    let others = others(&view.members, config.identity.id);
    let voters = voters(world, view.members.len()).await;
    let requirement = plan::requirement(settings.quorum, others.len(), voters);
    let required = requirement.count;
    if view.role != Role::Primary {
        apply(world, session, &plan::names(required, &others)).await?;
        world.observe(|o| {
            o.synchronous = Kept {
                present: Some(required),
                ..Kept::default()
            };
        });
        world.show(|status| status.synchronous = None);
        return Ok(false);
    }
    let mut kept = world.observed().synchronous;
    let present = kept.present.unwrap_or(required);
    let streaming = others.iter().filter(|o| o.streams).count();
    kept.lost = match kept.lost {
        _ if streaming >= present => None,
        Some(since) => Some(since),
        None => Some(now()),
    };
    let confirmed = match kept.lost {
        Some(since) if now() < since.after(RETURN) => false,
        Some(since) => world.elector.confirmed_since(world, since).await,
        None => true,
    };
    let force = plan::force(settings, required, &others, present, confirmed);
    apply(world, session, &plan::names(force.count, &others)).await?;
    if force.count < present {
        // The next loss is another one.
        kept.lost = None;
    }
    kept.present = Some(force.count);
    let sentence = plan::sentence(required, &force, &others);
    tell(&mut kept, &force, &sentence);
    if requirement.warning != kept.warned {
        if let Some(warning) = &requirement.warning {
            tracing::warn!("PGNODE_SYNCHRONOUS: {warning}");
        }
        kept.warned = requirement.warning;
    }
    let names = |streams: bool| {
        let some = others.iter().filter(|o| o.streams == streams);
        some.map(|o| o.name.clone()).collect()
    };
    let shown = SynchronousView {
        quorum: settings.quorum.to_string(),
        strict: settings.strict,
        required,
        in_force: force.count,
        streaming: names(true),
        missing: names(false),
        short_since_ms: kept.short_since_ms,
        sentence,
    };
    world.show(move |status| status.synchronous = Some(shown));
    // The sampler is the only one that works on it while the node is open and is not being promoted.
    let overruled = world.observed().synchronous.overruled;
    kept.overruled = overruled;
    world.observe(|o| o.synchronous = kept);
    Ok(force.unconfirmed)
}

/// Says what changed, and every minute that it goes on.
fn tell(kept: &mut Kept, force: &Force, sentence: &str) {
    let short = matches!(force.standing, Standing::Waits | Standing::Degraded);
    let at = now();
    let changed = kept
        .said
        .is_none_or(|(standing, count, _)| (standing, count) != (force.standing, force.count));
    let due = kept
        .said
        .is_none_or(|(_, _, said)| said.after(REMIND) <= at);
    if short {
        let since = *kept.short_since_ms.get_or_insert_with(now_ms);
        if changed || due {
            let lasted = Duration::from_millis(now_ms().saturating_sub(since));
            tracing::warn!(short_s = lasted.as_secs(), "{sentence}");
            kept.said = Some((force.standing, force.count, at));
        }
        return;
    }
    let lasted = kept.short_since_ms.take();
    if changed {
        let again = lasted.map_or_else(String::new, |since| {
            let lasted = Duration::from_millis(now_ms().saturating_sub(since));
            format!(" again, after {}", human_duration(lasted))
        });
        tracing::info!("{sentence}{again}");
        kept.said = Some((force.standing, force.count, at));
    }
}

/// The other data nodes: a witness holds no data.
fn others(members: &[crate::domain::MemberView], me: NodeId) -> Vec<Other> {
    members
        .iter()
        .filter(|m| m.node_id != me && m.kind != "witness")
        .map(|m| Other {
            name: m.name.clone(),
            streams: m.streaming == Some(true),
        })
        .collect()
}

/// How many vote: the roster follows the registered nodes one by one, so the larger number counts.
async fn voters(world: &World, registered: usize) -> usize {
    let by_roster = |v: &mut crate::plan::vote::Voter| {
        let ballot = v.ballot();
        let former = ballot.former.as_ref().map_or(0, |r| r.voters.len());
        ballot.roster.voters.len().max(former)
    };
    let roster = world.elector.with(world, by_roster).await.unwrap_or(0);
    roster.max(registered)
}

async fn write(world: &World, names: &str) -> Result<Changed, Fault> {
    let path = RunFiles::of(&world.config()).synchronous_conf;
    let text = synchronous_conf(names)
        .map_err(|e| Fault::Bug(format!("synchronous_standby_names cannot be written: {e}")))?;
    let owner = world.accounts.root.then_some((0, 0));
    // Rendered again at every boot: nothing is synced.
    blocking(move || sys::write_volatile(&path, text.as_bytes(), 0o644, owner)).await
}

/// Writes the file and has the server read it, where that changes anything; waits until it did.
async fn apply(world: &World, session: &Session, names: &str) -> Result<(), Fault> {
    let wrote = write(world, names).await? != Changed::No;
    let before = current(session).await?;
    if !wrote && before == names {
        return Ok(());
    }
    // Somebody's ALTER SYSTEM stands above ours: said once, not fought with every two seconds.
    if !wrote && world.observed().synchronous.overruled.as_ref() == Some(&before) {
        return Ok(());
    }
    session
        .rows("reloading postgres", "SELECT pg_reload_conf()", &[])
        .await
        .map_err(|e| e.fault())?;
    let applied = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            if current(session).await? == names {
                return Ok::<(), Fault>(());
            }
        }
    };
    if let Ok(done) = tokio::time::timeout(APPLIED, applied).await {
        tracing::debug!("synchronous_standby_names is {names:?}");
        world.observe(|o| o.synchronous.overruled = None);
        return done;
    }
    let now = current(session).await?;
    tracing::warn!(
        "synchronous_standby_names is {now:?} and not {names:?}: something stands above \
         PGNODE_SYNCHRONOUS, an ALTER SYSTEM perhaps (ALTER SYSTEM RESET synchronous_standby_names)"
    );
    world.observe(|o| o.synchronous.overruled = Some(now));
    Ok(())
}

async fn current(session: &Session) -> Result<String, Fault> {
    let ask = "SELECT current_setting('synchronous_standby_names')";
    let row = session
        .one("asking what a commit waits for", ask, &[])
        .await
        .map_err(|e| e.fault())?;
    Ok(row.get(0))
}
