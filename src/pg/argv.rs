//! The command lines of PostgreSQL's programs. None holds a secret: `/proc/*/cmdline` is readable.

use crate::config::{Address, Config};
use crate::domain::{Lsn, Timeline};
use crate::sys::{Account, Spec};
use std::ffi::OsString;
use std::path::Path;

/// Where a server listens and how careful it is.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Port, of the socket as well.
    pub port: u16,
    /// `listen_addresses`.
    pub addresses: &'static str,
    /// Whether it syncs; only a staged cluster, synced as a whole afterwards, need not.
    pub sync: bool,
}

fn environment(config: &Config, account: &Account, spec: Spec) -> Spec {
    spec.env(config.environment.base.clone())
        .env([("HOME", account.home.as_os_str())])
        .account(Some(account.clone()))
}

/// The server. Ports are arguments, so that the same files serve both doors and no file of the
/// user's can move one.
#[must_use]
pub fn postgres(config: &Config, account: &Account, dir: &Path, listen: Listen) -> Spec {
    let mut args: Vec<OsString> = vec!["-D".into(), dir.into()];
    let mut set = |name: &str, value: &str| {
        args.push("-c".into());
        args.push(format!("{name}={value}").into());
    };
    set("port", &listen.port.to_string());
    set("listen_addresses", listen.addresses);
    if !listen.sync {
        set("fsync", "off");
        set("full_page_writes", "off");
        // It may still be thrown away, and made again as another cluster.
        set("archive_mode", "off");
    }
    environment(config, account, Spec::new("postgres", args)).cwd(dir)
}

/// pg_rewind of a directory from a running primary, which it reads as user `repmgr`. It recovers a
/// crashed cluster by itself. The caller syncs: one syncfs is far cheaper than an fsync of each file.
#[must_use]
pub fn pg_rewind(config: &Config, account: &Account, source: &Address, dry_run: bool) -> Spec {
    let dir = &config.paths.pgdata;
    let conninfo = crate::domain::registered_conninfo(&source.host, source.port);
    let mut args: Vec<OsString> = ["--progress", "--no-sync", "--source-server"]
        .map(OsString::from)
        .into();
    args.extend([conninfo.into(), "--target-pgdata".into(), dir.into()]);
    if dry_run {
        args.push("--dry-run".into());
    }
    let passwords = config.paths.run_dir.join("pgpass");
    environment(config, account, Spec::new("pg_rewind", args))
        .env([("PGPASSFILE", passwords.as_os_str())])
        // Its query for the list of files is estimated so high that the server compiles it first:
        // 3.4 s instead of 0.1 s (seen with 17.12).
        .env([("PGOPTIONS", "-c jit=off")])
        // Its progress is parsed.
        .env([("LC_ALL", "C")])
        .cwd(dir)
}

/// pg_waldump of the valid records from a position on; it ends where they end.
#[must_use]
pub fn pg_waldump(
    config: &Config,
    account: &Account,
    timeline: Timeline,
    from: Lsn,
    limit: Option<u32>,
) -> Spec {
    let mut args: Vec<OsString> = vec![
        "--path".into(),
        config.paths.pgdata.join("pg_wal").into(),
        "--timeline".into(),
        timeline.to_string().into(),
        "--start".into(),
        from.to_string().into(),
    ];
    if let Some(limit) = limit {
        args.extend(["--limit".into(), limit.to_string().into()]);
    }
    environment(config, account, Spec::new("pg_waldump", args)).env([("LC_ALL", "C")])
}

/// initdb into a directory. The password is in a file that only the account can read: a pipe would
/// belong to us, and initdb opens it by name.
#[must_use]
pub fn initdb(config: &Config, account: &Account, dir: &Path, pwfile: &Path) -> Spec {
    let mut args: Vec<OsString> = vec!["-D".into(), dir.into()];
    args.extend(
        [
            "-k",
            "-E",
            "UTF8",
            "-A",
            "scram-sha-256",
            "--no-sync",
            "--no-instructions",
        ]
        .map(OsString::from),
    );
    args.extend(["--pwfile".into(), pwfile.into()]);
    args.push("-U".into());
    args.push(config.postgres.superuser.clone().into());
    if config.kind.is_witness() {
        // It holds a few rows: the user's wishes for data are not meant for it.
        args.push("--wal-segsize=1".into());
    } else {
        args.extend(config.postgres.initdb_args.iter().map(OsString::from));
    }
    environment(config, account, Spec::new("initdb", args))
}
