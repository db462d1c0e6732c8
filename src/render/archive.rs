//! The file with the `archive_command`: of its own, because where WAL goes is known only once the barman host
//! has said it.

use super::quote::{self, Unwritable};
use std::path::Path;

/// Where WAL goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The barman host.
    pub host: &'a str,
    /// What it calls our cluster.
    pub cluster: &'a str,
    /// The directory that barman reports as `incoming_wals_directory`.
    pub into: &'a str,
}

/// The whole file. Without a destination nothing is archived, and the server keeps its WAL until there is
/// one (PostgreSQL manual, `archive_command`).
///
/// # Errors
/// A value has a NUL.
pub fn archive_conf(
    program: &Path,
    run_dir: &Path,
    to: Option<&Destination<'_>>,
) -> Result<String, Unwritable> {
    let (why, command) = match to {
        None => (
            "The barman host has not left its card in PGNODE_SSH_KEYS yet: WAL is kept meanwhile.",
            String::new(),
        ),
        Some(to) => {
            let (program, run_dir) = (program.to_string_lossy(), run_dir.to_string_lossy());
            let words = [
                &*program,
                "wal-ship",
                "--run-dir",
                &*run_dir,
                "--host",
                to.host,
                "--cluster",
                to.cluster,
                "--into",
                to.into,
            ];
            // %p is the server's: it must not be quoted away.
            let command = format!("{} %p", shell_words::join(words));
            (
                "The directory is the one that barman itself looks into.",
                command,
            )
        }
    };
    Ok(format!(
        "# Written by pgnode as the barman host comes and goes; changes are lost.\n# {why}\n\
         archive_command = {}\n",
        quote::conf(&command)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_goes_where_barman_looks_or_nowhere() {
        let to = Destination {
            host: "barman1",
            cluster: "main",
            into: "/home/barman/data/main/incoming",
        };
        let (program, run) = (Path::new("/usr/local/bin/pgnode"), Path::new("/run/pgnode"));
        let last = |to: Option<&Destination<'_>>| {
            let text = archive_conf(program, run, to).unwrap();
            text.lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(
            last(Some(&to)),
            "archive_command = '/usr/local/bin/pgnode wal-ship --run-dir /run/pgnode --host barman1 \
             --cluster main --into /home/barman/data/main/incoming %p'"
        );
        assert_eq!(last(None), "archive_command = ''");
    }
}
