//! Sessions from the test process straight to a container's address.

use super::Outcome;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Where a node listens.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) ip: String,
}

/// The timeline that a primary writes on, as a number.
pub(crate) const TIMELINE: &str =
    "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int";

/// A session; its driver ends with it. A connection that loses its packets ends within 5 s.
pub(crate) async fn connect(door: &Door, database: &str, patience: Duration) -> Option<Client> {
    let mut config = Config::new();
    config
        .host(&door.ip)
        .port(5432)
        .user("postgres")
        .password("chaos")
        .dbname(database)
        .application_name("chaos")
        .connect_timeout(patience)
        .tcp_user_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(2))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(3)
        // Refusals are what the probers are for; the nodes' logs are for others.
        .options("-c log_min_messages=panic -c log_min_error_statement=panic");
    let opening = tokio::time::timeout(patience, config.connect(NoTls));
    let (client, connection) = opening.await.ok()?.ok()?;
    tokio::spawn(async move { connection.await.ok() });
    Some(client)
}

/// The first column of all rows.
pub(crate) fn column(messages: Vec<SimpleQueryMessage>) -> Vec<String> {
    let value = |m| match m {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

/// A node that says no before it has done anything: a standby, or one that only reads.
pub(crate) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// A statement for whoever is not async: first column of all rows, within a few seconds.
pub(crate) fn ask(door: &Door, database: &str, sql: &str) -> Outcome<Vec<String>> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let asking = async {
        let client = connect(door, database, Duration::from_secs(3)).await;
        let client = client.ok_or_else(|| format!("{} does not answer", door.name))?;
        let answer = client.simple_query(sql).await;
        let answer = answer.map_err(|e| format!("{}: {sql}: {e:?}", door.name))?;
        Ok(column(answer))
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await });
    answer.unwrap_or_else(|_| Err(format!("{}: no answer to {sql}", door.name)))
}

/// One value.
pub(crate) fn value(door: &Door, database: &str, sql: &str) -> Outcome<String> {
    let mut rows = ask(door, database, sql)?;
    rows.pop()
        .ok_or_else(|| format!("{}: no row: {sql}", door.name))
}
