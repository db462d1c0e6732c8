//! Arguments that are passed on: `initdb`'s, and `-c name=value` for postgres.

use super::fault::{Faults, Problem, Wrong};

/// Options of initdb that are pgnode's own business, and why.
const OURS: [(&[&str], &str); 8] = [
    (&["-D", "--pgdata"], "the directory is PGDATA"),
    (&["-U", "--username"], "the superuser is POSTGRES_USER"),
    (
        &["-W", "--pwprompt", "--pwfile"],
        "the password is POSTGRES_PASSWORD",
    ),
    (
        &["-A", "--auth", "--auth-host", "--auth-local"],
        "pg_hba.conf is written by pgnode, with scram-sha-256; add rules in PGNODE_CONFIG_DIR/pg_hba.d",
    ),
    (
        &["-X", "--waldir"],
        "WAL stays inside PGDATA, so that a new copy can be renamed into place",
    ),
    (
        &["-N", "--no-sync"],
        "a cluster that is not on the disk is not complete",
    ),
    (&["-S", "--sync-only"], "it makes no cluster"),
    (
        &["-s", "--show", "-V", "--version", "-?", "--help"],
        "it makes no cluster",
    ),
];

/// Options that take a value.
const VALUED: [&str; 18] = [
    "-E",
    "--encoding",
    "--locale",
    "--lc-collate",
    "--lc-ctype",
    "--lc-messages",
    "--lc-monetary",
    "--lc-numeric",
    "--lc-time",
    "--locale-provider",
    "--icu-locale",
    "--icu-rules",
    "--builtin-locale",
    "-T",
    "--text-search-config",
    "--wal-segsize",
    "--sync-method",
    "-L",
];

/// Options that take none. `--no-data-checksums` is for PostgreSQL 18, where they are the default.
const FLAGS: [&str; 11] = [
    "--no-locale",
    "-k",
    "--data-checksums",
    "--no-data-checksums",
    "-g",
    "--allow-group-access",
    "--no-instructions",
    "-d",
    "--debug",
    "-n",
    "--no-clean",
];

/// Settings that are pgnode's own business, and why. `Some` values are the only ones allowed.
const OWNED: [(&str, &str); 17] = [
    ("port", "the port is PGPORT"),
    (
        "listen_addresses",
        "the node opens to the network only when it is sure of its role",
    ),
    (
        "hba_file",
        "pg_hba.conf is written by pgnode; add rules in PGNODE_CONFIG_DIR/pg_hba.d",
    ),
    ("ident_file", "pg_ident.conf is written by pgnode"),
    (
        "config_file",
        "postgresql.conf stays in PGDATA; add files in PGNODE_CONFIG_DIR/conf.d",
    ),
    ("data_directory", "the directory is PGDATA"),
    ("external_pid_file", "pgnode reads PostgreSQL's own"),
    (
        "unix_socket_directories",
        "the directory is PGNODE_SOCKET_DIR",
    ),
    (
        "logging_collector",
        "pgnode reads the log and writes it to stdout",
    ),
    (
        "log_destination",
        "pgnode reads the log and writes it to stdout",
    ),
    (
        "log_directory",
        "pgnode reads the log and writes it to stdout",
    ),
    (
        "log_filename",
        "pgnode reads the log and writes it to stdout",
    ),
    ("primary_conninfo", "repmgr decides which node to follow"),
    ("primary_slot_name", "repmgr decides which slot to use"),
    ("hot_standby", "a standby is asked how far it is"),
    ("wal_log_hints", "an old primary comes back by pg_rewind"),
    (
        "archive_cleanup_command",
        "a standby must not clean the archive of others",
    ),
];

/// The options of initdb, split as a shell splits words.
///
/// Only whole names are taken: initdb itself would also understand `--pwf`, and then a list of
/// what is refused would have holes.
pub(super) fn initdb(text: &str) -> Result<Vec<String>, Vec<String>> {
    let Ok(words) = shell_words::split(text) else {
        return Err(vec!["ends inside a quoted word".to_owned()]);
    };
    let mut bad = Vec::new();
    let mut out = Vec::new();
    let mut left = words.into_iter();
    while let Some(word) = left.next() {
        if word.contains(char::is_control) {
            bad.push("holds a control character".to_owned());
            continue;
        }
        let (name, attached) = split_option(&word);
        if let Some((_, why)) = OURS.iter().find(|(names, _)| names.contains(&name)) {
            bad.push(format!("holds {name}: {why}"));
            // Its value is not an option of its own.
            if attached.is_none()
                && matches!(
                    name,
                    "-D" | "-U" | "-A" | "-X" | "--pgdata" | "--username" | "--auth"
                )
                && left
                    .as_slice()
                    .first()
                    .is_some_and(|next| !next.starts_with('-'))
            {
                left.next();
            }
            continue;
        }
        if FLAGS.contains(&name) && attached.is_none() {
            out.push(word);
            continue;
        }
        let is_setting = matches!(name, "-c" | "--set");
        if !is_setting && !VALUED.contains(&name) {
            bad.push(if word.starts_with('-') {
                let name = super::fault::printable(name);
                format!(
                    "holds {name}, which is not an option of initdb (written in full, one by one)"
                )
            } else {
                "holds a word that is no option".to_owned()
            });
            continue;
        }
        let attached = attached.map(str::to_owned);
        let name = name.to_owned();
        let (Some(value), separate) = (match attached {
            Some(value) => (Some(value), false),
            None => (left.next(), true),
        }) else {
            bad.push(format!("ends before the value of {name}"));
            continue;
        };
        if let Some(why) = value_fault(&name, &value, is_setting) {
            bad.push(why);
            continue;
        }
        out.push(word);
        if separate {
            out.push(value);
        }
    }
    if bad.is_empty() { Ok(out) } else { Err(bad) }
}

/// Takes `--name=value`, `-Xvalue` or a bare name apart.
fn split_option(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word
            .split_once('=')
            .map_or((word, None), |(name, value)| (name, Some(value)));
    }
    let Some(end) = word.char_indices().nth(2).map(|(at, _)| at) else {
        return (word, None);
    };
    if word.starts_with('-') {
        (&word[..end], Some(&word[end..]))
    } else {
        (word, None)
    }
}

/// What is wrong with the value of an option that is ours to pass on.
fn value_fault(option: &str, value: &str, is_setting: bool) -> Option<String> {
    if is_setting {
        return match setting(value) {
            Ok(_) => None,
            Err((Some(name), why)) => Some(format!("sets {name}: {why}")),
            Err((None, why)) => Some(format!("holds {option} that {why}")),
        };
    }
    if option == "--wal-segsize" {
        let fine = value
            .parse::<u32>()
            .is_ok_and(|mb| mb.is_power_of_two() && mb <= 1024);
        return (!fine)
            .then(|| "holds a --wal-segsize that is not a power of 2 from 1 to 1024".to_owned());
    }
    (value.is_empty() || value.contains(char::is_control))
        .then(|| format!("holds an unusable value for {option}"))
}

/// `name=value`, the name as PostgreSQL writes it; or the offending name and what is wrong.
fn setting(text: &str) -> Result<(String, String), (Option<String>, String)> {
    let Some((name, value)) = text.split_once('=') else {
        return Err((None, "is not name=value".to_owned()));
    };
    // PostgreSQL folds case, and takes - for _ on the command line.
    let name = name.trim().to_ascii_lowercase().replace('-', "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(plain)
    {
        return Err((None, "has no parameter name before the =".to_owned()));
    }
    if value.contains(char::is_control) {
        return Err((Some(name), "its value holds a control character".to_owned()));
    }
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err((Some(name), (*why).to_owned()));
    }
    if name.starts_with("log_rotation_") || name == "log_truncate_on_rotation" {
        return Err((
            Some(name),
            "pgnode reads the log and writes it to stdout".to_owned(),
        ));
    }
    if name == "wal_level" && !matches!(value.trim(), "replica" | "logical") {
        return Err((
            Some(name),
            "standbys and barman need replica or logical".to_owned(),
        ));
    }
    Ok((name, value.to_owned()))
}

/// The container's command: `-c name=value` or `--name=value`, as many as wanted, after an optional
/// `postgres` (the official image's habit).
pub(super) fn settings(args: &[String], faults: &mut Faults) -> Vec<(String, String)> {
    const REMEDY: &str =
        "pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d";
    let wrong = |name: &str, rule: &str| {
        Wrong::outside(
            name,
            Problem::Value {
                rule: rule.to_owned(),
            },
            REMEDY,
        )
    };
    let mut out = Vec::new();
    let mut left = args.iter().map(String::as_str);
    let mut first = true;
    while let Some(arg) = left.next() {
        if std::mem::take(&mut first) && arg == "postgres" {
            continue;
        }
        let pair = if arg == "-c" {
            let Some(pair) = left.next() else {
                faults.push(wrong("argument -c", "has no name=value after it"));
                break;
            };
            pair
        } else if let Some(pair) = arg.strip_prefix("-c") {
            pair
        } else if let Some(pair) = arg.strip_prefix("--").filter(|pair| pair.contains('=')) {
            pair
        } else {
            // Only an option's name is repeated: a value may be a secret.
            let name = arg.split('=').next().unwrap_or_default();
            faults.push(if name.starts_with('-') {
                wrong(&format!("argument {name}"), "is not a setting")
            } else {
                wrong("argument", "is neither an option nor a setting")
            });
            continue;
        };
        match setting(pair) {
            Ok(setting) => out.push(setting),
            Err((Some(name), why)) => faults.push(
                wrong(
                    &format!("argument -c {name}"),
                    &format!("cannot be set here: {why}"),
                )
                .with_remedy("remove it"),
            ),
            Err((None, why)) => faults.push(wrong("argument -c", &why)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn initdb_takes_what_is_the_users() {
        for (text, want) in [
            ("", &[][..]),
            ("--locale=C.UTF-8 -k", &["--locale=C.UTF-8", "-k"]),
            ("--locale 'de DE'", &["--locale", "de DE"]),
            ("-E UTF8 -EUTF8", &["-E", "UTF8", "-EUTF8"]),
            (
                "--data-checksums\n  --wal-segsize=64",
                &["--data-checksums", "--wal-segsize=64"],
            ),
            ("--no-data-checksums", &["--no-data-checksums"]),
            (
                "-c shared_buffers=1GB --set=work_mem=8MB",
                &["-c", "shared_buffers=1GB", "--set=work_mem=8MB"],
            ),
            ("--icu-rules '-x'", &["--icu-rules", "-x"]),
        ] {
            assert_eq!(initdb(text), Ok(words(want)), "{text}");
        }
    }

    #[test]
    fn initdb_is_refused_what_is_ours() {
        for (text, want) in [
            ("-D /x", "holds -D: the directory is PGDATA"),
            ("--pgdata=/x", "holds --pgdata: the directory is PGDATA"),
            ("-D/x", "holds -D: the directory is PGDATA"),
            (
                "--pwfile=/x",
                "holds --pwfile: the password is POSTGRES_PASSWORD",
            ),
            ("-W", "holds -W: the password is POSTGRES_PASSWORD"),
            ("-U me", "holds -U: the superuser is POSTGRES_USER"),
            (
                "--waldir=/wal",
                "holds --waldir: WAL stays inside PGDATA, so that a new copy can be renamed into place",
            ),
            (
                "-N",
                "holds -N: a cluster that is not on the disk is not complete",
            ),
            (
                "--pwf=/x",
                "holds --pwf, which is not an option of initdb (written in full, one by one)",
            ),
            (
                "-kg",
                "holds -k, which is not an option of initdb (written in full, one by one)",
            ),
            ("/var/lib/x", "holds a word that is no option"),
            ("--encoding", "ends before the value of --encoding"),
            ("--encoding=", "holds an unusable value for --encoding"),
            (
                "--wal-segsize=3",
                "holds a --wal-segsize that is not a power of 2 from 1 to 1024",
            ),
            (
                "--wal-segsize=0",
                "holds a --wal-segsize that is not a power of 2 from 1 to 1024",
            ),
            ("-c port=1", "sets port: the port is PGPORT"),
            ("-c x", "holds -c that is not name=value"),
            ("--locale 'C", "ends inside a quoted word"),
        ] {
            assert_eq!(initdb(text), Err(vec![want.to_owned()]), "{text}");
        }
        let auth = initdb("--auth=trust -A md5 --auth-host scram-sha-256").unwrap_err();
        assert_eq!(auth.len(), 4, "{auth:?}");
    }

    fn given(args: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut faults = Faults::default();
        let out = settings(&words(args), &mut faults);
        if faults.is_empty() {
            Ok(out)
        } else {
            Err(faults.to_string())
        }
    }

    #[test]
    fn settings_are_taken_as_postgres_takes_them() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            given(&[
                "postgres",
                "-c",
                "shared_buffers=1GB",
                "-cwork_mem=8MB",
                "--max-connections=50",
                "-c",
                "My.Var="
            ]),
            Ok(vec![
                pair("shared_buffers", "1GB"),
                pair("work_mem", "8MB"),
                pair("max_connections", "50"),
                pair("my.var", ""),
            ])
        );
        assert_eq!(given(&[]), Ok(vec![]));
        assert_eq!(
            given(&["-c", "wal_level=logical"]),
            Ok(vec![pair("wal_level", "logical")])
        );
    }

    #[test]
    fn settings_that_are_ours_are_refused() {
        for (owned, _) in OWNED {
            let text =
                given(&["-c", &format!("{}=hunter2", owned.to_ascii_uppercase())]).unwrap_err();
            assert!(text.contains(owned) && !text.contains("hunter2"), "{text}");
        }
        insta::assert_snapshot!(
            given(&["bash", "-p", "5433", "-c", "wal-level=minimal", "--Listen-Addresses=*", "-c", "x", "-c"]).unwrap_err(),
            @r"
    7 settings are wrong:
      argument: is neither an option nor a setting; pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d
      argument -p: is not a setting; pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d
      argument: is neither an option nor a setting; pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d
      argument -c wal_level: cannot be set here: standbys and barman need replica or logical; remove it
      argument -c listen_addresses: cannot be set here: the node opens to the network only when it is sure of its role; remove it
      argument -c: is not name=value; pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d
      argument -c: has no name=value after it; pass settings as `-c name=value`, or put them into PGNODE_CONFIG_DIR/conf.d
    "
        );
    }
}
