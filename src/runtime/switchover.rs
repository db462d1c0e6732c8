//! A planned change of the primary, and the farewell of one that stops.
//!
//! No ssh and no step that cannot be taken back until the successor is elected: the old primary closes
//! in order, sees that the successor holds everything, and releases its voters; if nobody has been
//! elected then, its own term is still the latest and it opens again.

use super::elector::{Part, now};
use super::survey::blocking;
use super::world::{Message, World};
use crate::config::Address;
use crate::domain::{Fault, Health, Lsn, NodeId, human_bytes};
use crate::fsm::Event;
use crate::pg::{self, ClusterState, ControlData, Session};
use crate::plan::Member;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More than that would be replayed and sent while nobody can write.
const MOST_LAG: u64 = 64 << 20;
/// How long the successor may take for the last bytes.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How long it may take to be elected and promoted.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// How long the whole may take, the old primary a standby again.
const ALL: Duration = Duration::from_secs(180);
/// How long voters may take to hear a farewell: within the last rung of the ladder.
const FAREWELL: Duration = Duration::from_millis(400);

/// `pgnode switchover`.
pub(super) async fn by_hand(world: &Arc<World>, to: Option<String>, dry_run: bool) -> Health {
    let said = |ok, why: String| Health { ok, why };
    let began = Instant::now();
    let successor = match check(world, to.as_deref()).await {
        Ok(successor) => successor,
        Err(why) => return said(false, format!("nothing was changed: {why}")),
    };
    let name = successor.name.clone();
    if dry_run {
        let why = format!("would hand over to {name}: it streams and is as far as this node");
        return said(true, why);
    }
    tracing::info!("asked to hand over to {name}");
    world.tell(Message::Event(Event::Handover(successor.node_id)));
    let mut left = false;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    while began.elapsed() < ALL {
        pace.tick().await;
        let part = world.elector.part();
        left |= !matches!(part, Part::Serving { open: true });
        let heard = world.elector.leader(world).await;
        let follows = heard.is_some_and(|(h, _)| h.primary == successor.node_id);
        if left && part == Part::Standby && follows {
            let took = crate::domain::human_duration(began.elapsed());
            return said(
                true,
                format!("{name} is the primary, and this node its standby, after {took}"),
            );
        }
        if left && part == (Part::Serving { open: true }) {
            let why =
                "the handover failed and this node is the primary again; its log says which step";
            return said(false, why.to_owned());
        }
    }
    let why = format!(
        "not finished within {}: see `pgnode status` here and on {name}",
        crate::domain::human_duration(ALL)
    );
    said(false, why)
}

/// Everything that can be known before anything is done.
async fn check(world: &World, to: Option<&str>) -> Result<Member, String> {
    if world.elector.part() != (Part::Serving { open: true }) {
        return Err(match world.elector.leader(world).await {
            Some((_, member)) => format!("the primary is {}: run it there", member.name),
            None => "this node is not the open primary".to_owned(),
        });
    }
    let config = world.config();
    let chain = |e: pg::PgError| Fault::chain(&e);
    let session = Session::local(&config, config.postgres.port, "repmgr")
        .await
        .map_err(chain)?;
    let rows = session
        .rows(
            "asking who streams",
            "SELECT n.node_id, n.node_name, r.state, \
               pg_wal_lsn_diff(pg_current_wal_lsn(), r.flush_lsn)::int8 \
             FROM repmgr.nodes n LEFT JOIN pg_stat_replication r ON r.application_name = n.node_name \
             WHERE n.type = 'standby' AND n.node_id <> $1 ORDER BY 4 NULLS LAST, 1",
            &[&config.identity.id.0],
        )
        .await
        .map_err(chain)?;
    let best = rows
        .iter()
        .find(|row| to.is_none_or(|to| row.get::<_, &str>(1) == to));
    let Some(row) = best else {
        return Err(match to {
            Some(to) => format!("{to} is not a standby of this node"),
            None => "there is no standby to hand over to".to_owned(),
        });
    };
    let (id, name): (i32, &str) = (row.get(0), row.get(1));
    let (state, lag): (Option<&str>, Option<i64>) = (row.get(2), row.get(3));
    if state != Some("streaming") {
        return Err(format!(
            "{name} does not stream from this node (it is {})",
            state.unwrap_or("not connected")
        ));
    }
    let lag = u64::try_from(lag.unwrap_or(0)).unwrap_or(0);
    if lag > MOST_LAG {
        return Err(format!(
            "{name} is {} behind; at most {} is bridged in a moment",
            human_bytes(lag),
            human_bytes(MOST_LAG)
        ));
    }
    let id = NodeId(id);
    let voter = world
        .elector
        .with(world, |v| {
            let voter = v.ballot().roster.voter(id).cloned();
            voter.filter(|_| v.hears(id, now()))
        })
        .await
        .map_err(|fault| fault.to_string())?;
    voter.ok_or_else(|| format!("{name} does not answer as a voter; does its HTTP port?"))
}

/// The primary has stopped: the successor takes over.
pub(super) async fn hand_over(world: &Arc<World>, to: NodeId) -> Result<(), Fault> {
    let stopped = stopped(world).await?;
    if stopped.state != ClusterState::ShutDown {
        return Err(Fault::Transient(
            "postgres did not stop in order: there may be WAL that the successor lacks".into(),
        ));
    }
    let successor = world
        .elector
        .with(world, |v| v.ballot().roster.voter(to).cloned())
        .await?
        .ok_or_else(|| Fault::Transient(format!("node {to} is no voter any more")))?;
    holds_everything(world, &successor, stopped.checkpoint).await?;
    world.observe(|o| {
        if let Some(claim) = &mut o.claim {
            (claim.timeline, claim.lsn) = (stopped.timeline, stopped.checkpoint);
        }
    });
    tracing::info!(
        "{} holds everything up to {}",
        successor.name,
        stopped.checkpoint
    );
    let began = Instant::now();
    super::elector::release(world, Some(to), FAREWELL).await;
    let taken = async {
        let mut news = world.elector.news();
        loop {
            let heard = world.elector.leader(world).await;
            if heard.is_some_and(|(h, _)| h.primary == to) {
                return;
            }
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    match tokio::time::timeout(TAKE_OVER, taken).await {
        Ok(()) => {
            tracing::info!(
                took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                "{} has taken over",
                successor.name
            );
            Ok(())
        }
        Err(_) => Err(Fault::Transient(format!(
            "{} was not the open primary within {TAKE_OVER:?}",
            successor.name
        ))),
    }
}

/// Its own word, not its exit code: the last checkpoint is the last record.
async fn stopped(world: &World) -> Result<ControlData, Fault> {
    let config = world.config();
    pg::control_data(
        &world.children,
        &config,
        &world.accounts.postgres,
        &config.paths.pgdata,
    )
    .await
    .map_err(|e| e.fault())
}

/// Asked until the successor has received the shutdown checkpoint: the walsenders have sent it before
/// they ended.
async fn holds_everything(world: &World, successor: &Member, last: Lsn) -> Result<(), Fault> {
    let config = world.config();
    let address = Address {
        host: successor.host.clone(),
        port: successor.port,
    };
    let asking = async {
        let password = &config.repmgr.password;
        let session = Session::remote(&address, "repmgr", password, "repmgr").await?;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        loop {
            pace.tick().await;
            let received: bool = session
                .one(
                    "asking what the successor has received",
                    "SELECT coalesce(pg_last_wal_receive_lsn() > $1::text::pg_lsn, false)",
                    &[&last.to_string()],
                )
                .await?
                .get(0);
            if received {
                return Ok::<(), pg::PgError>(());
            }
        }
    };
    match tokio::time::timeout(LAST_BYTES, asking).await {
        Ok(done) => done.map_err(|e| e.fault()),
        Err(_) => Err(Fault::Transient(format!(
            "{} did not receive the last bytes before {last} within {LAST_BYTES:?}",
            successor.name
        ))),
    }
}

/// A primary that stops in order tells its voters, so that they need not wait for its promise to end.
pub(super) async fn farewell(world: &Arc<World>) {
    let leads = world
        .elector
        .with(world, |v| v.ballot().leads() && !v.ballot().paused)
        .await;
    if leads != Ok(true) || !world.is_primary() {
        return;
    }
    match stopped(world).await {
        Ok(control) if control.state == ClusterState::ShutDown => {
            super::elector::release(world, None, FAREWELL).await;
        }
        Ok(_) => {}
        Err(fault) => tracing::debug!("no farewell: {fault}"),
    }
    drop(blocking(|| Ok(())).await);
}
