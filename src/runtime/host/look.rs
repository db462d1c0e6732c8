//! What a keeper sees of its cluster: asked over SQL as barman's own user, so that it needs no more
//! rights than barman has.

use crate::barman::Client;
use crate::config::{Address, BarmanServer, Config};
use crate::domain::{Fault, History, Lsn, SystemId, Timeline, WalName};
use crate::pg::{PgError, Session};
use crate::plan::keeper::{Primary, Slot};
use crate::render::{RunFiles, conninfo};
use crate::sys::{Exit, Spec};
use std::time::Duration;
use tokio::task::JoinSet;

/// A statement that takes longer is as good as no answer.
const STATEMENT: Duration = Duration::from_secs(5);
/// How long the others may take once one primary is known: an old one may be open as well.
const OTHERS: Duration = Duration::from_millis(300);
/// How long psql may take for one answer of the replication protocol.
const REPLICATION: Duration = Duration::from_secs(10);
/// psql could not connect.
const NO_CONNECTION: Exit = Exit::Code(2);

/// barman's user, its grants are in this database.
const DATABASE: &str = "postgres";

/// One row: all that is needed at every look.
const LOOK: &str = "\
SELECT c.recovering, (SELECT system_identifier::text FROM pg_control_system()), \
  (CASE WHEN NOT c.recovering THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END), \
  (CASE WHEN NOT c.recovering THEN pg_current_wal_lsn()::text END), \
  s.slot_name IS NOT NULL, coalesce(s.active, false), s.wal_status, r.flush_lsn::text, \
  (CASE WHEN NOT c.recovering THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.flush_lsn)::int8 END), \
  (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size') \
FROM (SELECT pg_is_in_recovery() AS recovering) c \
LEFT JOIN pg_replication_slots s ON s.slot_name = 'barman' \
LEFT JOIN LATERAL (SELECT flush_lsn FROM pg_stat_replication WHERE pid = s.active_pid) r ON true";

/// What a primary said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) system_id: SystemId,
    pub(super) timeline: Timeline,
    pub(super) position: Lsn,
    pub(super) slot: Slot,
    pub(super) wal_status: Option<String>,
    pub(super) received: Option<Lsn>,
    pub(super) lag: Option<u64>,
    pub(super) segment_size: u64,
}

impl Answer {
    pub(super) const fn primary(&self) -> Primary {
        Primary {
            timeline: self.timeline,
            position: self.position,
            slot: self.slot,
            history: None,
            oldest: None,
        }
    }
}

/// A session with a primary.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: Address,
    pub(super) session: Session,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoLink {
    /// Nobody is the primary; what each said.
    Nobody(String),
    /// The password is wrong.
    Refused(String),
}

/// Asks a server that may have become a standby meanwhile: `None`.
pub(super) async fn ask(session: &Session) -> Result<Option<Answer>, PgError> {
    let row = session.one("looking at the cluster", LOOK, &[]).await?;
    if row.get::<_, bool>(0) {
        return Ok(None);
    }
    let lsn = |text: Option<&str>| text.and_then(|t| t.parse::<Lsn>().ok());
    let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    let wal_status: Option<String> = row.get(6);
    let (exists, active): (bool, bool) = (row.get(4), row.get(5));
    let slot = match (exists, active, wal_status.as_deref()) {
        (false, ..) => Slot::Missing,
        (true, _, Some("lost")) => Slot::Lost,
        (true, true, _) => Slot::Taken,
        (true, false, _) => Slot::Idle,
    };
    let timeline = number(row.get(2)).and_then(|n| u32::try_from(n).ok());
    Ok(Some(Answer {
        system_id: SystemId(row.get::<_, &str>(1).parse().unwrap_or(0)),
        timeline: Timeline(timeline.unwrap_or(0)),
        position: lsn(row.get(3)).unwrap_or_default(),
        slot,
        wal_status,
        received: lsn(row.get(7)),
        lag: row
            .get::<_, Option<i64>>(8)
            .map(|n| u64::try_from(n).unwrap_or(0)),
        segment_size: number(row.get(9)).unwrap_or(WalName::DEFAULT_SEGMENT_SIZE),
    }))
}

enum Said {
    Primary(Box<Link>, Box<Answer>),
    Standby(Address),
    Refused(Address),
    Nothing(Address, String),
}

/// Asks all nodes at a time. Of two that say that they are the primary it is the one on the newer
/// timeline.
pub(super) async fn find(config: &Config, server: &BarmanServer) -> Result<(Link, Answer), NoLink> {
    let mut asked = JoinSet::new();
    for address in server.hosts.clone() {
        let password = config.barman.password.clone();
        asked.spawn(async move {
            let session = match Session::remote(&address, "barman", &password, DATABASE).await {
                Ok(session) => session.patient(STATEMENT),
                Err(error) => return refusal(address, &error),
            };
            match ask(&session).await {
                Ok(Some(answer)) => {
                    Said::Primary(Box::new(Link { address, session }), Box::new(answer))
                }
                Ok(None) => Said::Standby(address),
                Err(error) => refusal(address, &error),
            }
        });
    }
    let mut best: Option<(Link, Answer)> = None;
    let (mut refused, mut said) = (Vec::new(), Vec::new());
    loop {
        let next = if best.is_some() {
            match tokio::time::timeout(OTHERS, asked.join_next()).await {
                Ok(next) => next,
                Err(_) => break,
            }
        } else {
            asked.join_next().await
        };
        match next {
            None => break,
            Some(Err(_)) => {}
            Some(Ok(Said::Standby(address))) => said.push(format!("{address} is a standby")),
            Some(Ok(Said::Nothing(address, why))) => said.push(format!("{address}: {why}")),
            Some(Ok(Said::Refused(address))) => refused.push(address.to_string()),
            Some(Ok(Said::Primary(link, answer))) => {
                let newer = |(_, known): &(Link, Answer)| answer.timeline > known.timeline;
                if best.as_ref().is_none_or(newer) {
                    best = Some((*link, *answer));
                }
            }
        }
    }
    if let Some(found) = best {
        return Ok(found);
    }
    if !refused.is_empty() {
        return Err(NoLink::Refused(format!(
            "{} refuses the user barman: BARMAN_PASSWORD is not the one that the cluster has, or its nodes \
             do not run with BARMAN_MODE=remote",
            refused.join(" and ")
        )));
    }
    // They answer in any order, and what was said is shown when it changes.
    said.sort();
    Err(NoLink::Nobody(said.join("; ")))
}

fn refusal(address: Address, error: &PgError) -> Said {
    match error.fault() {
        Fault::NeedsPerson(_) | Fault::Config(_) => Said::Refused(address),
        Fault::Transient(why) | Fault::Bug(why) => Said::Nothing(address, why),
    }
}

/// Number of the oldest segment that the primary still has; `None` where barman may not know.
pub(super) async fn oldest(session: &Session, segment_size: u64) -> Option<u64> {
    // Without the timeline, as one of timeline 1.
    let sql = "SELECT '00000001' || min(substr(name, 9)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    let row = match session.one("asking for the oldest WAL", sql, &[]).await {
        Ok(row) => row,
        Err(error) => {
            tracing::debug!("{}", Fault::chain(&error));
            return None;
        }
    };
    let name: Option<String> = row.get(0);
    WalName::parse(&name?, segment_size).ok().map(|w| w.number)
}

/// What the replication protocol said.
#[derive(Debug)]
pub(super) enum Replied {
    /// This.
    Text(String),
    /// The login does not work; why, in the server's words.
    NoLogin(String),
    /// Something else failed.
    Failed(String),
}

/// A command of the replication protocol, by psql as barman's account: the login that receive-wal has.
pub(super) async fn replication(client: &Client, address: &Address, command: &str) -> Replied {
    let pass = RunFiles::of(&client.config).barman_pgpass;
    let (port, pass) = (
        address.port.to_string(),
        pass.to_string_lossy().into_owned(),
    );
    let dsn = conninfo(&[
        ("host", address.host.as_str()),
        ("port", &port),
        ("user", "barman_streaming"),
        ("dbname", DATABASE),
        ("passfile", &pass),
        ("replication", "true"),
        ("connect_timeout", "3"),
    ]);
    let spec = Spec::new("psql", ["-XAtqw", "-d", &dsn, "-c", command])
        .env(client.config.environment.base.clone())
        .env([("HOME", client.account.home.as_os_str())])
        .account(Some(client.account.clone()));
    match client.children.run(spec, REPLICATION).await {
        Ok(end) if end.exit.is_success() => Replied::Text(end.stdout),
        Ok(end) if end.exit == NO_CONNECTION => Replied::NoLogin(end.last_words()),
        Ok(end) => Replied::Failed(end.last_words()),
        Err(error) => Replied::Failed(Fault::chain(&error)),
    }
}

/// What a timeline descends from; `None`: it cannot be had at the moment.
pub(super) async fn history(
    client: &Client,
    address: &Address,
    timeline: Timeline,
) -> Option<History> {
    if timeline == Timeline(1) {
        return Some(History::without_past(timeline));
    }
    let command = format!("TIMELINE_HISTORY {}", timeline.0);
    match replication(client, address, &command).await {
        // `00000002.history|` and the text.
        Replied::Text(text) => {
            let (_, body) = text.split_once('|')?;
            History::parse(timeline, body).ok()
        }
        Replied::NoLogin(why) | Replied::Failed(why) => {
            tracing::debug!("{address} does not give its history: {why}");
            None
        }
    }
}
