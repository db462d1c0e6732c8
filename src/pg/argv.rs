//! The command lines of PostgreSQL's programs. None holds a secret: `/proc/*/cmdline` is readable.

use crate::config::Config;
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
    }
    environment(config, account, Spec::new("postgres", args)).cwd(dir)
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
    args.extend(config.postgres.initdb_args.iter().map(OsString::from));
    environment(config, account, Spec::new("initdb", args))
}
