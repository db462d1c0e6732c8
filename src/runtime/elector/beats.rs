//! The primary's side: beats to every voter, and the watch over the lease that they earn.

use super::letters::ask;
use super::{Part, now};
use crate::domain::{Fault, NodeId, millis};
use crate::fsm::Event;
use crate::plan::Member;
use crate::plan::authority::Reason;
use crate::plan::vote::{Answer, Question, Refusal};
use crate::runtime::world::{Message, World};
use crate::sys;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A round that is under way.
pub(in crate::runtime) struct Round(JoinSet<()>);

impl Round {
    /// Until every voter has answered or the deadline has passed.
    pub(super) async fn all(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Sends one round. `open`: the roster follows the registered nodes.
pub(super) async fn round(world: &Arc<World>, open: bool) -> Result<Round, Fault> {
    let elector = &world.elector;
    let registered = world.observed().members.filter(|_| open);
    let me = world.config().identity.id;
    let (voters, question, patience) = elector
        .with(world, |v| {
            if let Some(registered) = &registered {
                v.enrol(now(), registered);
            }
            // Those who are not voters yet as well: a new one is taken in once it answers.
            let mut all = v.ballot().roster.voters.clone();
            all.extend(v.ballot().former.iter().flat_map(|f| f.voters.clone()));
            all.extend(registered.iter().flatten().cloned());
            let mut voters: Vec<Member> = Vec::new();
            for member in all {
                let known = voters.iter().any(|m| m.node_id == member.node_id);
                if member.node_id != me && !known {
                    voters.push(member);
                }
            }
            // Deposed, its beats would only keep the others from whoever is to follow it.
            let leads = v.ballot().leads() && v.deposed().is_none();
            voters.retain(|m| leads && m.node_id != me);
            (voters, v.beat(now(), open), v.timing().patience)
        })
        .await?;
    let sent = now();
    let mut running = JoinSet::new();
    for voter in voters {
        let (world, question) = (world.clone(), question.clone());
        running.spawn(async move {
            match ask(&world, &voter, question, patience).await {
                Ok(reply) => {
                    let heard = world
                        .elector
                        .with(&world, |v| v.heard_back(sent, &reply))
                        .await;
                    if let Err(fault) = heard {
                        tracing::warn!("cannot keep the ballot: {fault}");
                    }
                }
                Err(error) => tracing::debug!(voter = %voter.name, "no answer to a beat: {error}"),
            }
        });
    }
    Ok(Round(running))
}

/// One round to its end, for a person who waits for what comes of it.
pub(in crate::runtime) async fn beat(world: &Arc<World>) -> Result<(), Fault> {
    let open = matches!(world.elector.part(), Part::Serving { open: true });
    round(world, open).await?.all().await;
    Ok(())
}

/// Beats while this node leads.
pub(in crate::runtime) async fn lead(world: Arc<World>) {
    let elector = &world.elector;
    let mut part = elector.part.subscribe();
    let mut news = elector.news.subscribe();
    let mut pace = tokio::time::interval(world.config().timing.beat);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        while !elector.leads() {
            tokio::select! {
                _ = part.changed() => {}
                _ = news.changed() => {}
            }
        }
        pace.tick().await;
        let open = matches!(elector.part(), Part::Serving { open: true });
        match round(&world, open).await {
            // It goes on beside the next one: a voter that does not answer must not slow the others.
            Ok(mut round) => round.0.detach_all(),
            Err(fault) => tracing::warn!("no beat: {fault}"),
        }
    }
}

/// Tells every voter that this primary is closed and complete.
pub(in crate::runtime) async fn release(
    world: &Arc<World>,
    successor: Option<NodeId>,
    patience: Duration,
) {
    let me = world.config().identity.id;
    let letters = world
        .elector
        .with(world, |v| {
            let voters = v.ballot().roster.voters.iter().filter(|m| m.node_id != me);
            let letters: Vec<_> = voters
                .map(|m| (m.clone(), v.release(m.node_id, successor)))
                .collect();
            v.closed(now());
            letters
        })
        .await;
    let Ok(letters) = letters else { return };
    let mut running = JoinSet::new();
    for (voter, question) in letters {
        let world = world.clone();
        running.spawn(async move {
            let mut question = question;
            for _ in 0..2 {
                let reply = match ask(&world, &voter, question.clone(), patience).await {
                    Ok(reply) => reply,
                    Err(error) => {
                        tracing::info!(voter = %voter.name, "does not release us: {error}");
                        return;
                    }
                };
                match (&reply.answer, &mut question) {
                    // A beat was still on its way; the answer says the newest.
                    (Answer::No(Refusal::WrongTicket), Question::Release { ticket, .. }) => {
                        *ticket = reply.ticket;
                    }
                    (Answer::No(why), _) => {
                        tracing::info!(voter = %voter.name, "does not release us: {why}");
                        return;
                    }
                    (Answer::Yes, _) => return,
                }
            }
        });
    }
    while running.join_next().await.is_some() {}
}

/// The longest nap of the watch: a suspended machine's timers sleep with it.
const NAP: Duration = Duration::from_millis(200);
/// A wall clock that jumps ahead of the other by more has been set, or the machine was away.
const JUMP: Duration = Duration::from_secs(1);

/// Watches the lease while this node serves, and tells the machine when it has run out. A container
/// that was frozen finds its timer overdue on waking.
pub(in crate::runtime) async fn guard(world: Arc<World>) {
    let elector = &world.elector;
    let mut part = elector.part.subscribe();
    let mut lease = elector.lease.subscribe();
    let mut news = elector.news.subscribe();
    let drift = || {
        sys::wall_time()
            .checked_sub(sys::boot_time())
            .unwrap_or_default()
    };
    loop {
        part.borrow_and_update();
        if !elector.is_exposed() {
            tokio::select! {
                _ = part.changed() => {}
                _ = news.changed() => {}
            }
            continue;
        }
        let (before, offset) = (now(), drift());
        let held = *lease.borrow_and_update();
        let nap = match held {
            crate::plan::vote::Lease::Until(end) => before.until(end).min(NAP),
            crate::plan::vote::Lease::Unlimited => NAP * 5,
            crate::plan::vote::Lease::None => Duration::ZERO,
        };
        tokio::select! {
            () = tokio::time::sleep(nap) => {}
            _ = lease.changed() => {}
            _ = part.changed() => {}
        }
        if !elector.is_exposed() {
            continue;
        }
        let away = before.until(now()).saturating_sub(nap);
        let jumped = drift().saturating_sub(offset);
        let limited = matches!(held, crate::plan::vote::Lease::Until(_));
        let reason = if limited && jumped > JUMP {
            Some(Reason::Frozen { ms: millis(jumped) })
        } else if elector.holds() {
            None
        } else if away > JUMP {
            Some(Reason::Frozen { ms: millis(away) })
        } else {
            Some(elector.too_few(&world).await)
        };
        if let Some(reason) = reason {
            world.tell(Message::Event(Event::LeaseLost(reason)));
            // Told once; the machine closes, and comes back with a lease.
            while elector.is_exposed() {
                tokio::select! {
                    _ = part.changed() => {}
                    _ = news.changed() => {}
                }
            }
        }
    }
}
