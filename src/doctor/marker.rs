//! Marker rows, and WAL pushed on: what a round trip and a drill are measured by.

use super::facts::Marker;
use crate::domain::Lsn;
use crate::pg::{PgError, Session};

/// Older markers are removed before a new one is written.
const KEPT_DAYS: i32 = 7;
/// So many are compared in a drill: younger than those that another doctor may remove meanwhile.
const COMPARED: &str = "
SELECT token FROM pgnode.marker WHERE at > now() - interval '6 days' ORDER BY at DESC LIMIT 500";

/// Writes a marker and says which WAL holds it.
pub(super) async fn write(session: &Session) -> Result<Marker, PgError> {
    let mut random = [0_u8; 16];
    // Without randomness the time does: two doctors within a microsecond are two tokens apart.
    if getrandom::fill(&mut random).is_err() {
        random = crate::sys::wall_time().as_nanos().to_be_bytes();
    }
    let token: String = crate::domain::hex(&random);
    let prune = "DELETE FROM pgnode.marker WHERE at < now() - make_interval(days => $1)";
    session
        .rows("removing old markers", prune, &[&KEPT_DAYS])
        .await?;
    let insert = "INSERT INTO pgnode.marker (token) VALUES ($1) RETURNING token";
    session.one("writing a marker", insert, &[&token]).await?;
    let place = "SELECT lsn::text, pg_walfile_name(lsn) \
                 FROM (SELECT pg_current_wal_insert_lsn() AS lsn) AS here";
    let row = session.one("asking where it is", place, &[]).await?;
    let lsn: String = row.get(0);
    let rows = session.rows("reading the markers", COMPARED, &[]).await?;
    Ok(Marker {
        token,
        lsn: lsn.parse::<Lsn>().map_err(|e| PgError::Garbled {
            what: "a WAL position".into(),
            detail: e.to_string(),
        })?,
        segment: row.get(1),
        all: rows.iter().map(|row| row.get(0)).collect(),
    })
}

/// The segment that is being written.
pub(super) async fn segment(session: &Session) -> Result<String, PgError> {
    let sql = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())";
    let row = session.one("asking for the WAL segment", sql, &[]).await?;
    Ok(row.get(0))
}

/// How many of these rows a restored server has.
pub(super) async fn count(session: &Session, tokens: &[String]) -> Result<u64, PgError> {
    let sql = "SELECT count(*) FROM pgnode.marker WHERE token = ANY ($1)";
    let row = session
        .one("comparing the markers", sql, &[&tokens])
        .await?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
