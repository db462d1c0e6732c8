//! The scratch server: a socket in its own directory and no TCP, small, with none of the live cluster's
//! settings.

use super::Flaw;
use super::base::run as base_run;
use super::guard::Life;
use super::scratch::Scratch;
use crate::config::BarmanMode;
use crate::doctor::facts::Marker;
use crate::doctor::{Doctor, ailments, gather, marker};
use crate::domain::{Fault, Lsn};
use crate::pg::{PidFile, ServerStatus, Session, pid_file};
use crate::sys;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Of the socket's name only.
const PORT: u16 = 5432;
/// Recovery takes what it takes.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two looks at its state.
const PACE: Duration = Duration::from_millis(50);

/// What of `pg_controldata` a start needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// Replay needs room for as many.
    prepared: u32,
    /// Whether pages have checksums.
    pub(super) checksums: bool,
}

impl Control {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().parse::<u32>().ok()
        };
        Some(Self {
            prepared: field("max_prepared_xacts setting:")?,
            checksums: field("Data page checksum version:")? != 0,
        })
    }

    pub(super) async fn read(
        doctor: &Doctor,
        life: &Life,
        scratch: &Scratch,
    ) -> Result<Self, Flaw> {
        let words = ["-D".into(), scratch.data().into()];
        let end = base_run(doctor, life, "pg_controldata", words).await?;
        Self::parse(&end.stdout).ok_or_else(|| {
            let why = format!("pg_controldata: {}", end.last_words());
            Flaw::new(&ailments::DRILL_START, why)
        })
    }
}

/// A value in postgresql.conf.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The settings. Without hot standby replay needs none of the primary's limits but that of prepared transactions.
fn settings(scratch: &Path, restore: &str, control: Control, target: Option<Lsn>) -> String {
    let path = |name: &str| quoted(&scratch.join(name).display().to_string());
    let target = target.map_or_else(String::new, |lsn| {
        format!("recovery_target_lsn = '{lsn}'\nrecovery_target_action = promote\n")
    });
    format!(
        "listen_addresses = ''\nport = {PORT}\nunix_socket_directories = {}\nunix_socket_permissions = 0700\n\
         hba_file = {}\nident_file = {}\nshared_buffers = 16MB\nwork_mem = 1MB\nmaintenance_work_mem = 16MB\n\
         max_connections = 10\nmax_wal_senders = 0\nmax_worker_processes = 2\nmax_parallel_workers = 0\n\
         max_prepared_transactions = {}\nhot_standby = off\nautovacuum = off\njit = off\nhuge_pages = off\n\
         fsync = off\nfull_page_writes = off\nmax_wal_size = 128MB\nmin_wal_size = 32MB\n\
         archive_mode = off\nlogging_collector = off\nlog_min_messages = warning\nlc_messages = 'C'\n\
         restore_command = {}\nrecovery_target_timeline = latest\n{target}",
        path("s"),
        path("hba.conf"),
        path("ident.conf"),
        control.prepared,
        quoted(restore),
    )
}

/// `pgnode drill-wal …`; `%` of a path is doubled.
pub(super) fn restore_command(from: &Path) -> io::Result<String> {
    let program = std::env::current_exe()?;
    let word = |path: &Path| {
        let text = path.display().to_string();
        shell_words::quote(&text).replace('%', "%%")
    };
    Ok(format!("{} drill-wal {} %f %p", word(&program), word(from)))
}

/// Makes the copy a server that recovers by itself and knows nothing of its former life.
pub(super) fn prepare(
    doctor: &Doctor,
    restore: &str,
    scratch: &Scratch,
    control: Control,
    target: Option<Lsn>,
) -> io::Result<()> {
    let (data, owner) = (scratch.data(), doctor.owner());
    for old in ["standby.signal", "postmaster.pid", "tablespace_map"] {
        sys::remove(&data.join(old))?;
    }
    let text = settings(&scratch.dir, restore, control, target);
    let hba = "local all all trust\n";
    for (path, text) in [
        (data.join("postgresql.auto.conf"), ""),
        (data.join("recovery.signal"), ""),
        (scratch.dir.join("drill.conf"), text.as_str()),
        (scratch.dir.join("hba.conf"), hba),
        (scratch.dir.join("ident.conf"), ""),
    ] {
        sys::write_volatile(&path, text.as_bytes(), 0o600, owner)?;
    }
    Ok(())
}

/// What the restored server said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) lsn: Option<Lsn>,
    pub(super) last_ms: Option<u64>,
    pub(super) rows: Option<u64>,
    pub(super) up_after: Duration,
}

/// Starts the server, waits for the end of its recovery, asks, and stops it.
pub(super) async fn replay(
    doctor: &Doctor,
    scratch: &Scratch,
    life: Life,
    wanted: Option<&Marker>,
) -> Result<Reached, Flaw> {
    let mut conf = std::ffi::OsString::from("config_file=");
    conf.push(scratch.dir.join("drill.conf"));
    let words = [
        "-D".into(),
        scratch.data().into_os_string(),
        "-c".into(),
        conf,
    ];
    let spec = life
        .command(doctor, "INT", "postgres", words)
        .cwd(scratch.data());
    let began = std::time::Instant::now();
    let mut server = std::pin::pin!(doctor.children.run(spec, LONG));
    let asked = async {
        ready(&scratch.data()).await?;
        let up_after = began.elapsed();
        let user = match doctor.config.barman.mode {
            // Nobody logs in as barman there.
            BarmanMode::Cloud => doctor.config.postgres.superuser.as_str(),
            _ => "barman",
        };
        let reached = ask(scratch, user, wanted).await?;
        Ok::<_, Flaw>(Reached {
            up_after,
            ..reached
        })
    };
    let broken = |e: &dyn std::fmt::Display| Flaw::new(&ailments::DRILL_BROKEN, e.to_string());
    let said = tokio::select! {
        said = asked => said,
        ended = &mut server => {
            let end = ended.map_err(|e| broken(&e))?;
            let why = format!("{}: {}", end.exit, end.last_words());
            return Err(Flaw::new(&ailments::DRILL_START, why));
        }
    };
    // The pipe closes: the server is told to stop.
    drop(life);
    let end = server.await.map_err(|e| broken(&e))?;
    let reached = said?;
    if !end.exit.is_success() {
        let why = format!("its stop: {}: {}", end.exit, end.last_words());
        return Err(Flaw::new(&ailments::DRILL_START, why));
    }
    Ok(reached)
}

/// Without hot standby a server is ready when its recovery has ended.
async fn ready(data: &Path) -> Result<(), Flaw> {
    let path = pid_file(data);
    loop {
        let file = PidFile::read(&path);
        let file = file.map_err(|e| Flaw::new(&ailments::DRILL_BROKEN, e.to_string()))?;
        if let PidFile::Server { status, .. } = file
            && status == ServerStatus::Ready
        {
            return Ok(());
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn ask(scratch: &Scratch, user: &str, wanted: Option<&Marker>) -> Result<Reached, Flaw> {
    let failed = |ailment, e: crate::pg::PgError| Flaw::new(ailment, Fault::chain(&e));
    let dir = scratch.sockets();
    let session = Session::socket(&dir, PORT, user, gather::DATABASE)
        .await
        .map_err(|e| failed(&ailments::DRILL_START, e))?;
    let sql = "SELECT pg_last_wal_replay_lsn()::text, \
               (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint";
    let row = session
        .one("asking how far it was recovered", sql, &[])
        .await
        .map_err(|e| failed(&ailments::DRILL_START, e))?;
    let lsn: Option<String> = row.get(0);
    let last: Option<i64> = row.get(1);
    let mut reached = Reached {
        lsn: lsn.and_then(|lsn| lsn.parse().ok()),
        last_ms: last.and_then(|ms| u64::try_from(ms).ok()),
        ..Reached::default()
    };
    let Some(wanted) = wanted else {
        return Ok(reached);
    };
    let rows = marker::count(&session, &wanted.all)
        .await
        .map_err(|e| failed(&ailments::DRILL_ROWS, e))?;
    let all = u64::try_from(wanted.all.len()).unwrap_or(u64::MAX);
    if rows != all {
        let why = format!("{rows} of {all} marker rows are there");
        return Err(Flaw::new(&ailments::DRILL_ROWS, why));
    }
    reached.rows = Some(rows);
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_data_are_read() {
        let text =
            "max_prepared_xacts setting:           3\nData page checksum version:           1\n";
        let control = Control {
            prepared: 3,
            checksums: true,
        };
        assert_eq!(Control::parse(text), Some(control));
        assert_eq!(Control::parse(""), None);
    }

    #[test]
    fn the_scratch_server_listens_nowhere_and_archives_nothing() {
        let control = Control {
            prepared: 3,
            checksums: true,
        };
        let restore = "pgnode drill-wal '/a b' %f %p";
        let text = settings(
            Path::new("/x/it's"),
            restore,
            control,
            Some(Lsn(0x0300_0028)),
        );
        for line in [
            "listen_addresses = ''",
            "archive_mode = off",
            "unix_socket_directories = '/x/it''s/s'",
            "max_prepared_transactions = 3",
            "recovery_target_lsn = '0/3000028'",
            "restore_command = 'pgnode drill-wal ''/a b'' %f %p'",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!settings(Path::new("/x"), restore, control, None).contains("target_lsn"));
    }
}
