//! Letters: asking a voter, and answering as one.

use super::{Part, mailbox, now};
use crate::domain::{Fault, Lsn, PeerError, Timeline};
use crate::fsm::Event;
use crate::http::vote::Incoming;
use crate::pg::{self, Session};
use crate::plan::Member;
use crate::plan::vote::{
    Answer, Holds, Letter, Position, Question, Refusal, Reply, Standing, Term,
};
use crate::runtime::world::{Message, World};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Asks one voter.
pub(super) async fn ask(
    world: &World,
    voter: &Member,
    question: Question,
    patience: Duration,
) -> Result<Reply, PeerError> {
    let not = |why: String| PeerError::NotAPgnode { why };
    let Some(memory) = world.memory() else {
        return Err(not("this node belongs to no cluster yet".into()));
    };
    let letter = Letter {
        system_id: memory.system_id,
        from: world.config().identity.id,
        question,
    };
    let text = serde_json::to_vec(&letter).map_err(|e| not(e.to_string()))?;
    let address = mailbox(world, voter);
    let said =
        crate::http::vote::ask(world.dialer(), &address, world.peer_key(), text, patience).await?;
    let reply: Reply = serde_json::from_slice(&said).map_err(|e| not(e.to_string()))?;
    if reply.from != voter.node_id {
        // An address that belongs to another node now.
        return Err(not(format!(
            "node {} answered for {}",
            reply.from, voter.name
        )));
    }
    Ok(reply)
}

/// Answers letters as long as the process lives.
pub(in crate::runtime) async fn listen(world: Arc<World>, mut letters: mpsc::Receiver<Incoming>) {
    while let Some(Incoming { letter, answer }) = letters.recv().await {
        let world = world.clone();
        tokio::spawn(async move {
            let reply = match serde_json::from_slice::<Letter>(&letter) {
                Ok(letter) => reply(&world, &letter).await,
                Err(error) => {
                    tracing::warn!("a signed letter that cannot be read: {error}");
                    return;
                }
            };
            match reply.map(|r| serde_json::to_vec(&r)) {
                Ok(Ok(text)) => drop(answer.send(text)),
                Ok(Err(error)) => tracing::warn!("an answer cannot be written: {error}"),
                Err(fault) => tracing::debug!("takes no part in a vote: {fault}"),
            }
        });
    }
}

async fn reply(world: &Arc<World>, letter: &Letter) -> Result<Reply, Fault> {
    let elector = &world.elector;
    let Some(memory) = world.memory() else {
        return Err(Fault::Transient(
            "this node belongs to no cluster yet".into(),
        ));
    };
    let standing = |holds| Standing {
        system_id: memory.system_id,
        holds,
        primary: elector.is_primary(),
    };
    let vote = matches!(letter.question, Question::Poll(_) | Question::Grant(_));
    if vote && world.is_fenced() {
        return elector.with(world, |v| v.refuse(Refusal::Fenced)).await;
    }
    let holds = match &letter.question {
        Question::Beat { .. } | Question::Release { .. } => Holds::Unknown,
        Question::Poll(_) => holds(world, false).await,
        Question::Grant(case) => {
            // First without obligation: who would be refused must not stop our walreceiver.
            let poll = Letter {
                question: Question::Poll(*case),
                ..letter.clone()
            };
            let ours = standing(holds(world, false).await);
            let dry = elector
                .with(world, |v| v.clone().answer(now(), &poll, &ours))
                .await?;
            if dry.answer != Answer::Yes {
                return Ok(dry);
            }
            holds(world, true).await
        }
    };
    let ours = standing(holds);
    let (former, reply) = match elector
        .with(world, |v| {
            let former = v.heard();
            (former, v.answer(now(), letter, &ours))
        })
        .await
    {
        Ok(both) => both,
        Err(fault) => {
            tracing::warn!("cannot keep the ballot: {fault}");
            let refused = |v: &mut crate::plan::vote::Voter| v.refuse(Refusal::Disk);
            // Its text has changed in memory only; the next attempt writes it.
            return elector.with(world, refused).await;
        }
    };
    tell(world, letter, &reply, former).await;
    Ok(reply)
}

/// What follows from an answer that was given.
async fn tell(
    world: &Arc<World>,
    letter: &Letter,
    reply: &Reply,
    former: Option<crate::plan::vote::Heard>,
) {
    let elector = &world.elector;
    match (&letter.question, &reply.answer) {
        (Question::Beat { term, open, .. }, Answer::Yes) => {
            let known = former
                .is_some_and(|h| h.primary == letter.from && h.term == *term && h.open == *open);
            if !known {
                tracing::info!(
                    term = term.0,
                    "hears node {} as the primary{}",
                    letter.from,
                    if *open { "" } else { ", not open yet" }
                );
                // A standby follows it now rather than at its next look.
                world.tell(Message::Event(Event::Nudge));
            }
            elector.bump();
        }
        (Question::Grant(case), Answer::Yes) => {
            tracing::info!(term = case.term.0, "grants node {} the term", letter.from);
            elector.bump();
        }
        (Question::Grant(case), Answer::No(why)) => {
            tracing::info!(
                term = case.term.0,
                "refuses node {} the term: {why}",
                letter.from
            );
        }
        (Question::Release { .. }, Answer::Yes) => {
            tracing::info!("the primary, node {}, has closed in order", letter.from);
            elector.bump();
        }
        (Question::Beat { .. } | Question::Poll(_) | Question::Release { .. }, _) => {}
    }
}

/// An elected primary's timeline is its term ([`crate::runtime::promote`]), so the WAL itself says in
/// which term it was written.
fn position(timeline: Timeline, lsn: Lsn) -> Position {
    Position {
        term: Term(timeline.0.into()),
        timeline,
        lsn,
    }
}

/// What WAL this node holds. `for_good`: the walreceiver is stopped first, so that it does not grow.
pub(in crate::runtime) async fn holds(world: &World, for_good: bool) -> Holds {
    let config = world.config();
    if config.kind.is_witness() {
        return Holds::Nothing;
    }
    if world.elector.part() == Part::Standby {
        let asked = async {
            let session = Session::local(&config, config.postgres.port, "postgres").await?;
            if for_good {
                pg::deafen(&session).await?;
            }
            pg::position(&session).await
        };
        return match asked.await {
            Ok((timeline, lsn)) => {
                let timeline = world
                    .observed()
                    .timeline
                    .map_or(timeline, |t| t.max(timeline));
                Holds::Upto(position(timeline, lsn))
            }
            Err(error) => {
                tracing::warn!(
                    "does not know how far its WAL goes: {}",
                    Fault::chain(&error)
                );
                Holds::Unknown
            }
        };
    }
    match world.observed().claim {
        Some(claim) => Holds::Upto(position(claim.timeline, claim.lsn)),
        None => Holds::Nothing,
    }
}
