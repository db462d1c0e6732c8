//! `pgnode restore` and `pgnode wal-fetch`.

use super::{ask, complain, say};
use crate::config;
use crate::domain::{ExitCode, Fault};
use crate::runtime;
use clap::Args;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Each flag is a variable of the environment, and wins over it.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// `latest`, or the id of a backup
    backup: Option<String>,
    /// `local`, barman's directory of the cluster, or `ssh://host[:port]/cluster`
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Put this tablespace there, instead of where it was; once for each
    #[arg(long = "tablespace", value_name = "NAME=DIR")]
    tablespaces: Vec<String>,
    /// Recover up to this time, UTC unless it says otherwise
    #[arg(long, value_name = "TIME", group = "target")]
    target_time: Option<String>,
    /// Recover up to this WAL position
    #[arg(long, value_name = "LSN", group = "target")]
    target_lsn: Option<String>,
    /// Recover up to this transaction
    #[arg(long, value_name = "XID", group = "target")]
    target_xid: Option<String>,
    /// Recover up to this restore point
    #[arg(long, value_name = "NAME", group = "target")]
    target_name: Option<String>,
    /// Recover no further than the backup needs
    #[arg(long, group = "target")]
    target_immediate: bool,
    /// Stop just before the target
    #[arg(long)]
    exclusive: bool,
    /// latest, current, or a number
    #[arg(long, value_name = "TIMELINE")]
    timeline: Option<String>,
    /// promote, pause or shutdown
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Say what would be restored, and touch nothing
    #[arg(long)]
    check: bool,
    /// Let a restore that is paused at its target go on: the node is promoted and opens
    #[arg(long, conflicts_with_all = ["backup", "check"])]
    resume: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Those that exclude each other.
const TARGETS: [&str; 5] = [
    "PGNODE_RESTORE_TARGET_TIME",
    "PGNODE_RESTORE_TARGET_LSN",
    "PGNODE_RESTORE_TARGET_XID",
    "PGNODE_RESTORE_TARGET_NAME",
    "PGNODE_RESTORE_TARGET_IMMEDIATE",
];

impl Restore {
    /// The variables that the flags mean; `None` unsets one.
    fn variables(&self) -> Vec<(String, Option<String>)> {
        let targets = [
            self.target_time.clone(),
            self.target_lsn.clone(),
            self.target_xid.clone(),
            self.target_name.clone(),
            self.target_immediate.then(|| "true".to_owned()),
        ];
        let mut all: Vec<(&str, Option<String>)> = Vec::new();
        if targets.iter().any(Option::is_some) {
            all.extend(TARGETS.into_iter().zip(targets));
        }
        for (name, value) in [
            ("PGNODE_RESTORE", self.backup.clone()),
            ("PGNODE_RESTORE_FROM", self.from.clone()),
            (
                "PGNODE_RESTORE_TABLESPACES",
                (!self.tablespaces.is_empty()).then(|| self.tablespaces.join(",")),
            ),
            (
                "PGNODE_RESTORE_TARGET_INCLUSIVE",
                self.exclusive.then(|| "false".to_owned()),
            ),
            ("PGNODE_RESTORE_TARGET_TIMELINE", self.timeline.clone()),
            ("PGNODE_RESTORE_TARGET_ACTION", self.action.clone()),
        ] {
            if value.is_some() {
                all.push((name, value));
            }
        }
        all.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
    }
}

pub(super) fn restore(flags: &Restore) -> ExitCode {
    let variables = flags.variables();
    if flags.resume {
        return super::with_config(|config, _| ask::order(config, "/restore/resume", flags.json));
    }
    if !flags.check {
        return super::run_over(Vec::new(), variables);
    }
    let config = match config::load_over(Vec::new(), variables) {
        Ok((config, _)) => config,
        Err(faults) => return complain(&faults.to_string()),
    };
    let json = flags.json;
    super::work::perform(|children| async move {
        Ok(
            match runtime::check_restore(&config, &children, json).await {
                Ok(text) => {
                    say(&text);
                    ExitCode::STOPPED
                }
                Err(fault) => refuse(&fault, json),
            },
        )
    })
}

fn refuse(fault: &Fault, json: bool) -> ExitCode {
    if !json {
        return super::lament(fault);
    }
    let refusal = serde_json::json!({ "fault": fault, "exit": fault.exit_code().0 });
    say(&format!("{refusal:#}\n"));
    fault.exit_code()
}

/// PostgreSQL reads 1 to 125 as *there is no such file*, and ends the server for anything above
/// (`RestoreArchivedFile` in `xlogarchive.c`).
const ABSENT: ExitCode = ExitCode(1);
const LOST: ExitCode = ExitCode(254);

/// The `restore_command` of a server that recovers: asks the node, which has the rights and the keys.
pub(super) fn wal_fetch(socket: &Path, name: &str, to: &Path) -> ExitCode {
    match fetch(socket, name, to) {
        Ok(true) => ExitCode::STOPPED,
        Ok(false) => ABSENT,
        Err(error) => {
            let text = format!("pgnode: {name}: {error}");
            drop(writeln!(std::io::stderr().lock(), "{text}"));
            LOST
        }
    }
}

/// Whether there is such a file, and then it is whole at `to`. It is not synced: the directory that it
/// goes to is synced as a whole before anybody relies on it.
fn fetch(socket: &Path, name: &str, to: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut answer = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let line = line.trim_end();
    if line == "absent" {
        return Ok(false);
    }
    let bad = |why: &str| std::io::Error::other(why.to_owned());
    let Some(size) = line.strip_prefix("got ").and_then(|n| n.parse().ok()) else {
        return Err(bad(line.strip_prefix("failed ").unwrap_or("no answer")));
    };
    let mut new = to.as_os_str().to_owned();
    new.push(".pgnode-new");
    let new = PathBuf::from(new);
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let copied = std::io::copy(&mut answer.take(size), &mut file)?;
    if copied != size {
        std::fs::remove_file(&new)?;
        return Err(bad("the answer was cut off"));
    }
    std::fs::rename(&new, to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        restore: Restore,
    }

    fn variables(line: &str) -> Vec<String> {
        let words = std::iter::once("restore").chain(line.split_whitespace());
        let flags = Alone::try_parse_from(words).unwrap().restore;
        let shown = |(name, value): (String, Option<String>)| {
            let name = name.trim_start_matches("PGNODE_RESTORE").to_owned();
            format!("{name}={}", value.unwrap_or_else(|| "-".to_owned()))
        };
        flags.variables().into_iter().map(shown).collect()
    }

    #[test]
    fn a_flag_is_a_variable_and_a_target_replaces_another() {
        assert_eq!(variables("latest"), ["=latest"]);
        assert!(variables("").is_empty());
        assert_eq!(
            variables("20261121T030000 --target-lsn 0/5 --exclusive --action pause"),
            [
                "_TARGET_TIME=-",
                "_TARGET_LSN=0/5",
                "_TARGET_XID=-",
                "_TARGET_NAME=-",
                "_TARGET_IMMEDIATE=-",
                "=20261121T030000",
                "_TARGET_INCLUSIVE=false",
                "_TARGET_ACTION=pause"
            ]
        );
        assert_eq!(
            variables("latest --tablespace fast=/a --tablespace slow=/b"),
            ["=latest", "_TABLESPACES=fast=/a,slow=/b"]
        );
        let two = ["restore", "--target-lsn", "0/5", "--target-xid", "7"];
        assert!(Alone::try_parse_from(two).is_err());
    }

    #[test]
    fn what_postgres_is_told_of_a_file() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, to) = (tmp.path().join("s"), tmp.path().join("RECOVERYXLOG"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers: [(&[u8], ExitCode); 5] = [
            (b"got 3\nabc", ExitCode::STOPPED),
            (b"absent\n", ABSENT),
            (b"failed it is lost\n", LOST),
            (b"got 9\nabc", LOST),
            (b"", LOST),
        ];
        let server = std::thread::spawn(move || {
            for (answer, _) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut name = [0; 25];
                stream.read_exact(&mut name).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        let name = "000000010000000000000001";
        for (answer, code) in answers {
            drop(std::fs::remove_file(&to));
            assert_eq!(wal_fetch(&path, name, &to), code, "{answer:?}");
            assert_eq!(to.exists(), code == ExitCode::STOPPED);
        }
        server.join().unwrap();
        assert_eq!(wal_fetch(&tmp.path().join("none"), name, &to), LOST);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1);
    }
}
