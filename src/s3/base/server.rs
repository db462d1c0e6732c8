//! The server that is backed up: one session from before the begin to after the end. It holds a lock in the database,
//! so that of one cluster only one backup is made at a time, and it ends with us, and the backup with it.

use super::info::{Info, Mark};
use crate::barman::Tablespace;
use crate::domain::{Lsn, Timeline};
use crate::pg::{PgError, Session};
use crate::s3::S3Error;
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to get to our own server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Where {
    /// `PGNODE_SOCKET_DIR`.
    pub socket_dir: PathBuf,
    /// `PGPORT`.
    pub port: u16,
    /// Its superuser.
    pub user: String,
}

/// Our own server, which is the primary.
#[derive(Debug)]
pub struct Primary {
    session: Session,
    version: u32,
    segment_size: u64,
    system_id: String,
    timeline: Timeline,
}

/// The database of the lock: locks of one database are not seen in another.
const DATABASE: &str = "postgres";
/// A number that nobody else has in mind: `pgnode` in ASCII, and `b`.
const LOCK: i64 = 0x70_67_6e_6f_64_65_62;
/// A spread checkpoint may take its time.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

impl Primary {
    /// Connects; `None` when our server is a standby.
    ///
    /// # Errors
    /// [`S3Error::Pg`].
    pub async fn find(place: &Where) -> Result<Option<Self>, S3Error> {
        let session = Session::socket(&place.socket_dir, place.port, &place.user, DATABASE).await?;
        let sql = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int4, \
                   (SELECT setting::int8 * CASE unit WHEN '8kB' THEN 8192 ELSE 1 END \
                    FROM pg_settings WHERE name = 'wal_segment_size'), \
                   (SELECT system_identifier FROM pg_control_system()), \
                   (SELECT timeline_id FROM pg_control_checkpoint())";
        let row = session.one("asking what the server is", sql, &[]).await?;
        let (standby, version, size): (bool, i32, i64) = (row.get(0), row.get(1), row.get(2));
        let (system_id, timeline): (i64, i32) = (row.get(3), row.get(4));
        if standby {
            return Ok(None);
        }
        Ok(Some(Self {
            session: session.patient(PATIENCE),
            version: u32::try_from(version).unwrap_or(0),
            segment_size: u64::try_from(size).unwrap_or(0),
            system_id: system_id.cast_unsigned().to_string(),
            timeline: Timeline(u32::try_from(timeline).unwrap_or(0)),
        }))
    }

    /// The cluster's identifier.
    #[must_use]
    pub fn system_id(&self) -> &str {
        &self.system_id
    }

    /// The timeline of the last checkpoint.
    #[must_use]
    pub const fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// PostgreSQL's major version.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Takes the lock that a backup, and whatever deletes in the bucket, holds; `None`: it is taken, and otherwise who
    /// holds it.
    ///
    /// # Errors
    /// [`S3Error::Pg`].
    pub async fn lock(&self) -> Result<Option<String>, S3Error> {
        let sql = "SELECT pg_try_advisory_lock($1)";
        let row = self.session.one("taking the backup lock", sql, &[&LOCK]);
        if row.await?.get(0) {
            return Ok(None);
        }
        let sql = "SELECT a.pid, to_char(now() - a.backend_start, 'FMHH24:MI:SS') FROM pg_locks l \
                   JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted \
                   AND (l.classid::int8 << 32 | l.objid::int8) = $1 AND l.database = \
                   (SELECT oid FROM pg_database WHERE datname = current_database())";
        let rows = self.session.rows("asking who holds it", sql, &[&LOCK]);
        let holder = rows.await?.first().map(|row| {
            let (pid, since): (i32, String) = (row.get(0), row.get(1));
            format!("the session with pid {pid}, for {since}")
        });
        Ok(Some(
            holder.unwrap_or_else(|| "it has ended just now".into()),
        ))
    }

    /// Whether the session still is.
    pub(super) async fn alive(&self) -> Result<(), S3Error> {
        let sql = "SELECT 1";
        self.session
            .one("looking after the server", sql, &[])
            .await?;
        Ok(())
    }

    /// What `backup.info` says of the server.
    pub(super) async fn describe(&self, pgdata: &Path) -> Result<Info, S3Error> {
        let sql = "SELECT current_setting('config_file'), current_setting('hba_file'), \
                   current_setting('ident_file'), ARRAY(SELECT DISTINCT sourcefile FROM pg_settings \
                   WHERE sourcefile IS NOT NULL AND sourcefile <> current_setting('config_file') \
                   ORDER BY 1)";
        let row = self.session.one("asking for its files", sql, &[]).await?;
        Ok(Info {
            pgdata: pgdata.to_owned(),
            config_file: Some(row.get(0)),
            hba_file: Some(row.get(1)),
            ident_file: Some(row.get(2)),
            included_files: row.get(3),
            version: self.version,
            system_id: self.system_id.clone(),
            segment_size: self.segment_size,
            ..Info::default()
        })
    }

    /// The tablespaces that lie elsewhere. To be asked when the backup has begun: one that was made before and is not listed
    /// would be neither in the copy nor in its WAL.
    pub(super) async fn tablespaces(&self) -> Result<Vec<Tablespace>, S3Error> {
        let sql = "SELECT spcname::text, oid, pg_tablespace_location(oid) FROM pg_tablespace ORDER BY oid";
        let rows = self.session.rows("asking for tablespaces", sql, &[]);
        let spaces = rows.await?;
        let spaces = spaces.iter().map(|row| {
            let location: String = row.get(2);
            Tablespace {
                name: row.get(0),
                oid: row.get(1),
                location: location.into(),
            }
        });
        // Those of the data directory have none; those in place lie in it (`allow_in_place_tablespaces`).
        Ok(spaces.filter(|t| t.location.is_absolute()).collect())
    }

    /// Begins a backup: a checkpoint, now or spread.
    pub(super) async fn start(&self, id: &str, fast: bool) -> Result<Mark, S3Error> {
        let begin = match self.version {
            150_000.. => "pg_backup_start($1, $2)",
            _ => "pg_start_backup($1, $2, false)",
        };
        let sql = format!(
            "SELECT lsn::text, pg_walfile_name(lsn), (extract(epoch FROM clock_timestamp()) * 1000000)::int8 \
             FROM {begin} AS lsn"
        );
        let label = format!("Barman backup cloud {id}");
        let row = self
            .session
            .one("pg_backup_start", &sql, &[&label, &fast])
            .await?;
        let file: String = row.get(1);
        let timeline = file.get(..8).and_then(|t| u32::from_str_radix(t, 16).ok());
        mark(row.get(0), timeline, row.get(2))
    }

    /// Ends it, and gives the label that a restored copy needs.
    pub(super) async fn stop(&self, timeline: Timeline) -> Result<(Mark, String), S3Error> {
        let end = match self.version {
            150_000.. => "pg_backup_stop(false)",
            _ => "pg_stop_backup(false, false)",
        };
        let sql = format!(
            "SELECT lsn::text, labelfile, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 FROM {end}"
        );
        let row = self.session.one("pg_backup_stop", &sql, &[]).await?;
        let mark = mark(row.get(0), Some(timeline.0), row.get(2))?;
        Ok((mark, row.get(1)))
    }

    /// A server that nobody writes to never ends a segment: a record, a switch, and a record in the next one.
    pub(super) async fn push_wal(&self, id: &str) -> Result<(), S3Error> {
        let point = "SELECT pg_create_restore_point($1)::text";
        let name = format!("barman_{id}");
        let doing = "switching to the next WAL segment";
        self.session.one(doing, point, &[&name]).await?;
        let switch = "SELECT pg_switch_wal()::text";
        self.session.one(doing, switch, &[]).await?;
        self.session.one(doing, point, &[&"pgnode"]).await?;
        Ok(())
    }

    /// Why WAL is not archived, in the server's words, where it has any.
    pub(super) async fn archiver_says(&self) -> Option<String> {
        let sql = "SELECT current_setting('archive_mode'), failed_count, coalesce(last_failed_wal, ''), \
                   coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) \
                   FROM pg_stat_archiver";
        let row = self
            .session
            .one("asking the archiver", sql, &[])
            .await
            .ok()?;
        let (mode, count, wal, failing): (String, i64, String, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        match (mode.as_str(), failing) {
            ("off", _) => Some("archive_mode is off".to_owned()),
            (_, true) => Some(format!(
                "archive_command fails for {wal} ({count} times by now): see the server's log"
            )),
            (_, false) => None,
        }
    }
}

fn mark(lsn: &str, timeline: Option<u32>, micros: i64) -> Result<Mark, S3Error> {
    let garbled = || PgError::Garbled {
        what: "the server's answer about the backup".to_owned(),
        detail: lsn.to_owned(),
    };
    Ok(Mark {
        timeline: Timeline(timeline.ok_or_else(garbled)?),
        lsn: lsn.parse::<Lsn>().map_err(|_| garbled())?,
        time: DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(garbled)?,
    })
}
