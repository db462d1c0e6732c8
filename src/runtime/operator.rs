//! What only a person decides: maintenance, a closed node, a primary without an election.

use super::elector::{self, Part};
use super::survey::{self, blocking};
use super::world::{Message, World};
use crate::domain::{Fault, Health, Role, human_duration};
use crate::fsm::{End, Event, Kind, State};
use crate::plan::BootPlan;
use crate::plan::authority::Reason;
use crate::plan::vote::Holds;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// `.pgnode/fenced.json`: as long as it is there the node stays closed.
#[derive(Debug, Serialize, Deserialize)]
struct Fenced {
    /// Milliseconds since the epoch.
    since_ms: u64,
}

const fn yes(why: String) -> Health {
    Health { ok: true, why }
}

const fn no(why: String) -> Health {
    Health { ok: false, why }
}

fn answer(result: Result<Health, Fault>) -> Health {
    result.unwrap_or_else(|fault| no(fault.why().to_owned()))
}

/// Whether a person keeps this node closed, at the end of a survey.
pub(super) async fn closed(world: &World, plan: BootPlan) -> Result<Option<Reason>, Fault> {
    let path = world.layout.fenced_json.clone();
    let fenced = blocking(move || path.try_exists()).await?;
    world.set_fenced(fenced);
    if fenced {
        world.show(move |status| status.role = Some(plan.role));
    }
    Ok(fenced.then_some(Reason::Operator))
}

/// `pgnode pause` and `pgnode resume`.
pub(super) async fn pause(world: &Arc<World>, paused: bool) -> Health {
    answer(try_pause(world, paused).await)
}

async fn try_pause(world: &Arc<World>, paused: bool) -> Result<Health, Fault> {
    if !matches!(world.elector.part(), Part::Serving { open: true }) {
        return Ok(no(format!(
            "this node is not the open primary, and only that one begins and ends a maintenance: {}",
            whereabouts(world).await
        )));
    }
    world.elector.with(world, |v| v.pause(paused)).await?;
    // The voters know it by the next beat; this one says how many.
    elector::beat(world).await?;
    let (reached, voters) = world
        .elector
        .with(world, |v| {
            let voters = v.ballot().roster.voters.len();
            (v.reached(elector::now()), voters)
        })
        .await?;
    tracing::warn!(
        paused,
        "a person has {} elections",
        if paused { "PAUSED" } else { "resumed" }
    );
    let known = format!("{reached} of {voters} voters answer");
    Ok(yes(if paused {
        format!(
            "PAUSED: nobody is elected until `pgnode resume`, also when this node stops; {known}"
        )
    } else {
        format!("resumed: a failed primary is replaced again; {known}")
    }))
}

/// Where the primary is, for a refusal.
async fn whereabouts(world: &World) -> String {
    let heard = world
        .elector
        .with(world, |v| {
            let heard = v.heard()?;
            let age = heard.at.until(elector::now());
            let name = v.ballot().roster.voter(heard.primary)?.name.clone();
            Some((name, age))
        })
        .await;
    match heard {
        Ok(Some((name, age))) => {
            format!(
                "{name} was heard as the primary {} ago",
                human_duration(age)
            )
        }
        Ok(None) | Err(_) => "no primary has been heard since this node started".into(),
    }
}

/// `pgnode restore --resume`.
pub(super) fn resume_restore(world: &World) -> Health {
    let Some(restoring) = world.restoring() else {
        return no("no restore is under way here".to_owned());
    };
    match restoring.resume() {
        Ok(why) => yes(why),
        Err(why) => no(why),
    }
}

/// `pgnode fence`: written down first, then closed.
pub(super) async fn fence(world: &World, state: &State) -> Health {
    match state {
        State::Preflight | State::Stopping(_, End::Exit(_)) | State::Halted(_) => {
            return no(not_now(state.kind()));
        }
        _ => {}
    }
    let written = write(world).await;
    if let Err(fault) = written {
        return no(format!("nothing was changed: {}", fault.why()));
    }
    world.set_fenced(true);
    tracing::warn!("a person fences this node");
    world.tell(Message::Event(Event::Fence));
    yes(
        "fenced: the consumer port closes now and stays closed, also over restarts, until \
         `pgnode unfence`. If this was the primary, the other voters elect another one when they \
         are a majority without it"
            .into(),
    )
}

fn not_now(state: Kind) -> String {
    format!(
        "the node is in state {} ({})",
        state.name(),
        state.sentence()
    )
}

async fn write(world: &World) -> Result<(), Fault> {
    let (path, anchor) = (
        world.layout.fenced_json.clone(),
        world.layout.anchor.clone(),
    );
    let owner = world.file_owner();
    let fenced = Fenced {
        since_ms: crate::sys::now_ms(),
    };
    let text = serde_json::to_vec_pretty(&fenced)
        .map_err(|e| Fault::Bug(format!("the fence cannot be written down: {e}")))?;
    blocking(move || {
        sys::ensure_dir(&anchor, 0o700, owner)?;
        sys::write_atomic(&path, &text, 0o600, owner).map(|_| ())
    })
    .await
}

/// `pgnode unfence`: then it goes on as at a boot.
pub(super) async fn unfence(world: &World, state: &State) -> Health {
    match state {
        State::Fenced(Reason::Operator) => {}
        State::Fenced(reason) => {
            return no(format!(
                "it is not a person who keeps this node closed: {reason}"
            ));
        }
        State::Stopping(_, End::Fence(Reason::Operator)) => {
            return no("the node is still closing: ask again in a moment".into());
        }
        other => {
            return no(format!(
                "nobody has fenced this node; {}",
                not_now(other.kind())
            ));
        }
    }
    let (path, anchor) = (
        world.layout.fenced_json.clone(),
        world.layout.anchor.clone(),
    );
    let removed = blocking(move || {
        sys::remove(&path)?;
        sys::sync_dir(&anchor)
    })
    .await;
    if let Err(fault) = removed {
        return no(format!("the node stays fenced: {}", fault.why()));
    }
    world.set_fenced(false);
    tracing::warn!("a person ends the fence");
    world.tell(Message::Event(Event::Unfence));
    yes(
        "the fence is lifted: the node goes on as at a start, and `pgnode status` says as what"
            .into(),
    )
}

/// `pgnode promote`.
pub(super) async fn promote(world: &World, state: &State, force: bool) -> Health {
    answer(try_promote(world, state, force).await)
}

async fn try_promote(world: &World, state: &State, force: bool) -> Result<Health, Fault> {
    if let Some(why) = cannot(world, state).await? {
        return Ok(no(format!("refused, with or without --force: {why}")));
    }
    let risk = risk(world).await?;
    if !force {
        return Ok(no(format!(
            "not without --force: elections make a primary by themselves as soon as a majority of \
             the voters agrees, and they do not at the moment. {risk}"
        )));
    }
    tracing::warn!("a person makes this node the primary without an election. {risk}");
    let term = world.elector.seize(world).await?;
    world.tell(Message::Event(Event::Elected));
    Ok(yes(format!(
        "this node becomes the primary in term {term}, without an election. {risk}"
    )))
}

/// What no person may overrule.
async fn cannot(world: &World, state: &State) -> Result<Option<String>, Fault> {
    if world.is_witness() {
        return Ok(Some("a witness has no data".into()));
    }
    if world.is_fenced() {
        return Ok(Some(Reason::Operator.to_string()));
    }
    match (state, world.elector.part()) {
        (State::Open, Part::Serving { .. }) => {
            return Ok(Some("this node is the primary already".into()));
        }
        (State::Open, Part::Standby) => {}
        (State::Fenced(reason), _) if reason.may_be_overruled() => {}
        (State::Fenced(reason), _) => {
            return Ok(Some(format!("this is not about too few votes: {reason}")));
        }
        (other, _) => {
            return Ok(Some(format!(
                "only an open standby, or a fenced primary that too few nodes reach; {}",
                not_now(other.kind())
            )));
        }
    }
    let peers = survey::ask(world).await;
    if let Some((peer, report)) = survey::open_primary(&peers) {
        let (node, address) = (&report.node, &peer.address);
        return Ok(Some(format!(
            "{node} ({address}) serves clients as the primary; stop it or fence it first"
        )));
    }
    let me = world.config().identity.id;
    let beating = world
        .elector
        .with(world, |v| {
            let heard = v.heard().filter(|h| h.primary != me)?;
            (heard.at.after(v.timing().promise) > elector::now()).then_some(())
        })
        .await?;
    if beating.is_some() {
        return Ok(Some(whereabouts(world).await));
    }
    Ok(None)
}

/// What a person takes upon himself.
async fn risk(world: &World) -> Result<String, Fault> {
    let (voters, majority) = world
        .elector
        .with(world, |v| {
            let roster = &v.ballot().roster;
            (roster.voters.len(), roster.majority())
        })
        .await?;
    let upto = match elector::holds(world, false).await {
        Holds::Upto(position) => position.to_string(),
        Holds::Nothing | Holds::Unknown => "a point that is not known".into(),
    };
    let role = world.memory().map_or(Role::Standby, |m| m.role);
    Ok(format!(
        "AT RISK: {voters} voters are known and {majority} of them elect; if those that cannot be \
         seen from here have a primary or elect one, there are two, and the writes of one are lost. \
         This {role} holds WAL up to {upto}: what only the others hold is given up. Make sure that \
         they are stopped or fenced"
    ))
}

/// Said once, at the start: what can be expected of a failover.
pub(super) fn foretell(world: &World) {
    let timing = world.config().timing;
    let shown = |d: Duration| human_duration(d);
    tracing::info!(
        "elections: a primary that loses the others is closed within {} (lease {} and closing {}); \
         another is elected {} after the last beat at the earliest",
        shown(timing.fences_within()),
        shown(timing.lease),
        shown(timing.close),
        shown(timing.promise),
    );
}
