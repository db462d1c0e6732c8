//! Recovery, watched. The server waits at its target and at the end of the WAL alike, so that whether
//! it is where it was asked to go is decided here, by what it says and by what it was given, before it
//! is promoted.

use super::{Restoring, limits};
use crate::config::{Target, TargetAction};
use crate::domain::{Fault, Lsn, WalName, human_duration};
use crate::pg::Session;
use crate::runtime::world::World;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How recovery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Reached {
    /// The server is a primary now.
    Promoted,
    /// It waits at its target, and was asked to end there.
    Shutdown,
}

const PACE: Duration = Duration::from_millis(200);
/// Questions for what comes after all there is, while replay stands still: PostgreSQL asks anew every
/// 200 ms (`wal_retrieve_retry_interval`).
const CERTAIN: u32 = 3;
/// Without a connection: the server is not consistent, and nothing more comes.
const HOPELESS: u32 = 50;
/// The same whole segment again and again: it cannot read on in it.
const STUCK: u32 = 8;
/// The longest that a promotion may take.
const PROMOTION: Duration = Duration::from_secs(600);

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stand {
    recovering: bool,
    replayed: Option<Lsn>,
    last_commit: Option<DateTime<Utc>>,
    paused: bool,
}

async fn stand(session: &Session) -> Result<Stand, crate::pg::PgError> {
    let row = session
        .one(
            "asking how far recovery is",
            "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, \
             (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint, \
             CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END",
            &[],
        )
        .await?;
    let replayed: Option<&str> = row.get(1);
    let micros: Option<i64> = row.get(2);
    Ok(Stand {
        recovering: row.get(0),
        replayed: replayed.and_then(|t| t.parse().ok()),
        last_commit: micros.and_then(DateTime::from_timestamp_micros),
        paused: row.get(3),
    })
}

/// Until it is promoted, or asked to end.
pub(in crate::runtime) async fn replay(world: &Arc<World>) -> Result<Reached, Fault> {
    let Some(restoring) = world.restoring() else {
        return Err(Fault::Bug("recovery without a restore".into()));
    };
    let port = world.config().postgres.technical_port;
    let began = Instant::now();
    let launched = limits(world).await?;
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut session: Option<Session> = None;
    let mut last: Option<Stand> = None;
    let (mut still, mut since) = (0, 0);
    loop {
        pace.tick().await;
        hopeless(&restoring, session.is_some(), last.as_ref())?;
        if session.is_none() {
            // Not consistent yet: it takes nobody in.
            session = Session::local(&world.config(), port, "postgres").await.ok();
        }
        let Some(open) = &session else {
            world.progress(progress(&restoring, None));
            continue;
        };
        let Ok(now) = stand(open).await else {
            session = None;
            continue;
        };
        world.progress(progress(&restoring, Some(&now)));
        let ended = restoring.feed.seen().ended;
        if last.as_ref() != Some(&now) || ended < since {
            (still, since) = (0, ended);
        } else {
            still += 1;
        }
        last = Some(now.clone());
        if !now.recovering {
            return promoted(began, &now);
        }
        // One record may take its time, and meanwhile nothing is asked for.
        let at_end = ended >= since + CERTAIN && still >= CERTAIN;
        if now.paused && limits(world).await? != launched {
            // It waits for larger limits: it ends when it is told to go on, and is started with them.
            tracing::info!("recovery needs larger limits from here on: postgres is started again");
            resume(open).await?;
            session = None;
        } else if now.paused {
            if arrived(world, &restoring, &now).await == TargetAction::Shutdown {
                return Ok(Reached::Shutdown);
            }
            // At its target it ends recovery; paused for another reason it goes on towards it.
            resume(open).await?;
            last = None;
        } else if at_end {
            if restoring.wanted.target != Target::End {
                return Err(missed(&restoring, &now));
            }
            if arrived(world, &restoring, &now).await == TargetAction::Shutdown {
                return Ok(Reached::Shutdown);
            }
            promote(world).await?;
            last = None;
        }
    }
}

async fn resume(session: &Session) -> Result<(), Fault> {
    let sql = "SELECT pg_wal_replay_resume()";
    let resumed = session.rows("resuming recovery", sql, &[]).await;
    resumed.map(drop).map_err(|e| e.fault())
}

/// It is where it was asked to go; with `pause` a person lets it go on.
async fn arrived(world: &Arc<World>, restoring: &Restoring, now: &Stand) -> TargetAction {
    let wanted = &restoring.wanted;
    tracing::info!("recovery has reached {}: {}", wanted.target, words(now));
    if wanted.action == TargetAction::Pause {
        let port = world.config().postgres.technical_port;
        tracing::warn!(
            "paused at {}: look at the data on port {port}, then `pgnode restore --resume`",
            wanted.target
        );
        world.progress(format!(
            "paused at {} ({}); waits for `pgnode restore --resume`",
            wanted.target,
            words(now)
        ));
        restoring.waiting.store(true, Ordering::Relaxed);
        restoring.resume.notified().await;
        restoring.waiting.store(false, Ordering::Relaxed);
    }
    world.progress("promoting");
    wanted.action
}

/// At the end of the WAL it waits for more until it is told that there is none.
async fn promote(world: &Arc<World>) -> Result<(), Fault> {
    let config = world.config();
    let session = Session::local(&config, config.postgres.technical_port, "postgres").await;
    let session = session.map_err(|e| e.fault())?.patient(PROMOTION);
    let seconds = i32::try_from(PROMOTION.as_secs()).unwrap_or(i32::MAX);
    let sql = "SELECT pg_promote(true, $1)";
    let promoted = session.one("promoting", sql, &[&seconds]).await;
    promoted.map(drop).map_err(|e| e.fault())
}

fn promoted(began: Instant, now: &Stand) -> Result<Reached, Fault> {
    tracing::info!(
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "recovery is over and the server is promoted: {}",
        words(now)
    );
    Ok(Reached::Promoted)
}

fn words(now: &Stand) -> String {
    let commit = now.last_commit.map_or_else(
        || "no transaction replayed".to_owned(),
        |t| t.format("last transaction at %F %T%.6f+00").to_string(),
    );
    match now.replayed {
        Some(lsn) => format!("{lsn}, {commit}"),
        None => commit,
    }
}

/// All WAL is replayed and the target was not in it.
fn missed(restoring: &Restoring, now: &Stand) -> Fault {
    Fault::NeedsPerson(format!(
        "recovery ended at {}, before the target, {}; the archive holds WAL {}. It may lie before the \
         backup: try an older one; nothing was opened",
        words(now),
        restoring.wanted.target,
        restoring.recipe.range(&restoring.end)
    ))
}

/// Nothing that comes can help.
fn hopeless(restoring: &Restoring, consistent: bool, last: Option<&Stand>) -> Result<(), Fault> {
    let seen = restoring.feed.seen();
    let asked = seen.asked.clone().unwrap_or_default();
    let at = last.map_or_else(
        || "before it was consistent".to_owned(),
        |s| format!("at {}", words(s)),
    );
    if seen.again >= STUCK {
        return Err(Fault::NeedsPerson(format!(
            "WAL segment {asked} is damaged: recovery cannot read on in it, {at}; restore to a target \
             before that, or from another archive; nothing was opened"
        )));
    }
    if seen.ended >= HOPELESS && !consistent {
        return Err(Fault::NeedsPerson(format!(
            "the WAL ended at {asked} before the backup was consistent at {}; nothing was opened",
            restoring.recipe.consistent
        )));
    }
    Ok(())
}

fn progress(restoring: &Restoring, now: Option<&Stand>) -> String {
    let seen = restoring.feed.seen();
    if let Some((since, why)) = &seen.lost {
        let asked = seen.asked.as_deref().unwrap_or("the first WAL");
        let waited = human_duration(since.elapsed());
        return format!("waiting for {asked} for {waited}, the source is lost: {why}");
    }
    let recipe = &restoring.recipe;
    let of = asked_for(seen.asked.as_deref(), &recipe.first, recipe.last.number);
    match now {
        Some(now) => format!(
            "{of}, {}, on the way to {}",
            words(now),
            restoring.wanted.target
        ),
        None => format!(
            "{of}, not consistent yet, on the way to {}",
            restoring.wanted.target
        ),
    }
}

/// How far the WAL is asked for. At the end of it one more is, to find out that it is the end.
fn asked_for(asked: Option<&str>, first: &WalName, last: u64) -> String {
    let count = (last + 1).saturating_sub(first.number).max(1);
    let Some(asked) = asked else {
        return format!("no segment of {count} read yet");
    };
    let number = WalName::parse(asked, first.segment_size).map_or(first.number, |n| n.number);
    let nth = number.saturating_sub(first.number) + 1;
    match nth <= count {
        true => format!("segment {asked} ({nth} of {count})"),
        false => format!("all {count} segments read, {asked} asked for"),
    }
}

/// Why the server ended before it was promoted. `Ok` when recovery can go on where it was.
pub(in crate::runtime) async fn explain(world: &Arc<World>) -> Result<(), Fault> {
    let Some(restoring) = world.restoring() else {
        return Err(Fault::Bug("recovery without a restore".into()));
    };
    match restoring.feed.seen().failure {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::asked_for;
    use crate::domain::WalName;

    #[test]
    fn progress_never_counts_past_the_last_segment() {
        let name = |n: u32| format!("00000001000000000000000{n}");
        let first = WalName::parse(&name(6), 16 << 20).unwrap();
        for (asked, want) in [
            (None, "no segment of 2 read yet".to_owned()),
            (Some(6), format!("segment {} (1 of 2)", name(6))),
            (Some(7), format!("segment {} (2 of 2)", name(7))),
            (
                Some(8),
                format!("all 2 segments read, {} asked for", name(8)),
            ),
        ] {
            let asked = asked.map(name);
            assert_eq!(asked_for(asked.as_deref(), &first, 7), want);
        }
    }
}
