//! The candidate's side: when nobody is heard any more.

use super::letters::{ask, holds};
use super::{Part, jitter, name_of, now};
use crate::domain::{Fault, Moment, NodeId, human_duration};
use crate::fsm::Event;
use crate::plan::Member;
use crate::plan::vote::{Answer, Count, Holds, Question, Reply, Term, Voter, Wait};
use crate::runtime::world::{Message, World};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What came of standing for election.
pub(super) enum Outcome {
    /// Elected; the ballot is on the disk, and the grants are the first beats.
    Won,
    /// Not now.
    Lost {
        /// For a person.
        why: String,
        /// When a refusal may be another, if a voter said so.
        again: Option<Duration>,
    },
}

/// So long the rest may still answer once a majority has said yes.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// Between two attempts, and up to twice that.
const PAUSE: Duration = Duration::from_millis(200);

/// Stands for election whenever this node is an open standby that should.
pub(in crate::runtime) async fn stand(world: Arc<World>) {
    let elector = &world.elector;
    let mut part = elector.part.subscribe();
    let mut news = elector.news.subscribe();
    let mut attempt = 0;
    loop {
        let candidate = elector.part() == Part::Standby && !elector.is_promoting();
        let wait = if candidate && world.config().kind == crate::config::NodeKind::Postgres {
            elector.with(&world, |v| v.should_stand(now())).await
        } else {
            Ok(Err(Wait::ForNews("this node is no candidate")))
        };
        let until = match wait {
            Ok(Ok(())) => {
                attempt += 1;
                tracing::info!(
                    attempt,
                    "no primary is heard: asking who would elect this node"
                );
                match campaign(&world, attempt).await {
                    Ok(Outcome::Won) => {
                        attempt = 0;
                        elector.set_promoting(true);
                        world.tell(Message::Event(Event::Elected));
                        continue;
                    }
                    Ok(Outcome::Lost { why, again }) => {
                        tracing::info!(attempt, "not elected: {why}");
                        let pause = jitter(PAUSE * attempt.clamp(1, 10));
                        now().after(again.map_or(pause, |a| a.max(Duration::from_millis(20))))
                    }
                    Err(fault) => {
                        tracing::warn!("cannot stand for election: {fault}");
                        now().after(jitter(Duration::from_secs(1)))
                    }
                }
            }
            Ok(Err(Wait::Until(until, why))) => {
                attempt = 0;
                tracing::trace!("no candidate: {why}");
                until
            }
            Ok(Err(Wait::ForNews(_))) | Err(_) => {
                attempt = 0;
                Moment(u64::MAX)
            }
        };
        tokio::select! {
            () = rest(until) => {}
            _ = part.changed() => {}
            _ = news.changed() => {}
        }
    }
}

async fn rest(until: Moment) {
    if until == Moment(u64::MAX) {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(now().until(until)).await;
}

/// One election: a poll, and when that promises success the grants.
pub(super) async fn campaign(world: &Arc<World>, attempt: u32) -> Result<Outcome, Fault> {
    let elector = &world.elector;
    let won = elector.with(world, |v| v.ballot().won).await?;
    let Holds::Upto(position) = holds(world, false).await else {
        return Ok(lost("it is not known how far this node's WAL goes"));
    };
    let began = now();
    // A term later than every timeline, so that it can be the new timeline's number.
    let written = position.term;
    let poll = |seen: Term| elector.with(world, move |v| v.poll(position, seen, attempt));
    let mut replies = gather(world, poll(written).await?).await?;
    let seen = latest(&replies);
    let ours = elector.with(world, |v| v.ballot().term).await?;
    if seen > ours {
        // We have slept through elections: asked again for a term that is later than theirs.
        replies = gather(world, poll(seen).await?).await?;
    }
    let seen = latest(&replies).max(seen).max(written);
    if let Some(lost) = elector.with(world, |v| verdict(v, &replies)).await? {
        return Ok(lost);
    }
    // Rule 3: what we claim to hold we no longer acknowledge more of to anybody.
    let Holds::Upto(position) = holds(world, true).await else {
        return Ok(lost("it is not known how far this node's WAL goes"));
    };
    let standing = elector
        .with(world, |v| {
            // A person may have taken a term for this node while the others were asked.
            let same = v.ballot().won == won;
            same.then(|| v.stand(now(), position, seen, attempt))
                .flatten()
        })
        .await?;
    let Some(question) = standing else {
        return Ok(lost("there is a primary meanwhile"));
    };
    let sent = now();
    let replies = gather(world, question).await?;
    let (count, term, names) = elector
        .with(world, |v| {
            let count = v.elected(sent, &replies);
            (count, v.ballot().term, refusals(v, &replies))
        })
        .await?;
    match count {
        Count::Won => {
            tracing::info!(
                term = term.0,
                "elected with WAL up to {position}, within {}",
                human_duration(began.until(now()))
            );
            Ok(Outcome::Won)
        }
        Count::Lost {
            granted,
            needed,
            again_ms,
        } => Ok(Outcome::Lost {
            why: format!("{granted} of {needed} grants{names}"),
            again: again_ms.map(Duration::from_millis),
        }),
    }
}

fn lost(why: &str) -> Outcome {
    Outcome::Lost {
        why: why.to_owned(),
        again: None,
    }
}

fn latest(replies: &[Reply]) -> Term {
    replies.iter().map(|r| r.term).max().unwrap_or_default()
}

fn verdict(voter: &mut Voter, replies: &[Reply]) -> Option<Outcome> {
    match voter.count(replies) {
        Count::Won => None,
        Count::Lost {
            granted,
            needed,
            again_ms,
        } => Some(Outcome::Lost {
            why: format!(
                "{granted} of the {needed} that it takes would{}",
                refusals(voter, replies)
            ),
            again: again_ms.map(Duration::from_millis),
        }),
    }
}

fn refusals(voter: &Voter, replies: &[Reply]) -> String {
    replies
        .iter()
        .filter_map(|r| match &r.answer {
            Answer::Yes => None,
            Answer::No(why) => Some(format!("; {}: {why}", name_of(voter, r.from))),
        })
        .collect()
}

/// Asks all other voters at once. Ends when all have answered but the primary of before, which is
/// most likely the one that is gone; or a moment after a majority said yes; or at the deadline.
async fn gather(world: &Arc<World>, question: Question) -> Result<Vec<Reply>, Fault> {
    let me = world.config().identity.id;
    let (voters, gone, patience) = world
        .elector
        .with(world, |v| {
            let mut voters: Vec<Member> = v.ballot().roster.voters.clone();
            if let Some(former) = &v.ballot().former {
                let known: Vec<NodeId> = voters.iter().map(|m| m.node_id).collect();
                let more = former.voters.iter().filter(|m| !known.contains(&m.node_id));
                voters.extend(more.cloned());
            }
            voters.retain(|m| m.node_id != me);
            let gone = v.heard().map(|h| h.primary).or(v.ballot().granted);
            (voters, gone, v.timing().patience)
        })
        .await?;
    let mut asked = JoinSet::new();
    let mut missing: Vec<NodeId> = voters.iter().map(|m| m.node_id).collect();
    let mut without = missing.clone();
    without.retain(|id| Some(*id) != gone);
    // Without it there may be no majority: of two, the one that closed in order elects its successor.
    if without.len() + 1 > missing.len().div_ceil(2) {
        missing = without;
    }
    for voter in voters {
        let (world, question) = (world.clone(), question.clone());
        asked.spawn(async move {
            let reply = ask(&world, &voter, question, patience).await;
            (voter.node_id, reply)
        });
    }
    let mut replies = Vec::new();
    let mut enough = None;
    while !missing.is_empty() {
        let late = async {
            match enough {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = asked.join_next() => match next {
                Some(Ok((id, reply))) => {
                    missing.retain(|m| *m != id);
                    replies.extend(reply.ok());
                }
                Some(Err(_cancelled)) => {}
                None => break,
            },
            () = late => break,
        }
        let won = |v: &mut Voter| v.count(&replies) == Count::Won;
        if enough.is_none() && world.elector.with(world, won).await? {
            enough = Some(tokio::time::Instant::now() + STRAGGLERS);
        }
    }
    Ok(replies)
}
