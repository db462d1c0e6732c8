//! Children that must not outlive a drill, also when the drill is killed: each runs under a shell that reads
//! from a pipe which only the drill holds open. When it closes the child is told to end.

use crate::doctor::Doctor;
use crate::sys::{self, Spec};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// `sh -c GUARD pgnode-drill <pipe> <signal> command…`
const GUARD: &str = r#"pipe=$1 signal=$2; shift 2
"$@" & child=$!
( read -r _ <"$pipe"; kill -s "$signal" "$child" ) 2>/dev/null & guard=$!
wait "$child"; code=$?
kill "$guard" 2>/dev/null
exit "$code""#;

/// Held for as long as the drill lives, or until a child is to end.
#[derive(Debug)]
pub(super) struct Life {
    pipe: PathBuf,
    _held: tokio::net::unix::pipe::Receiver,
}

impl Life {
    /// A new pipe in the scratch directory.
    pub(super) fn begin(dir: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let pipe = dir.join("life");
        sys::fifo(&pipe, 0o600, owner)?;
        // Open for writing as well: its readers wait for as long as we are here.
        let held = sys::open_fifo(&pipe)?;
        Ok(Self { pipe, _held: held })
    }

    /// A command as barman, at the lowest priority, that gets `signal` when this life ends.
    pub(super) fn command<A: Into<OsString>>(
        &self,
        doctor: &Doctor,
        signal: &str,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Spec {
        let low = [
            "-n",
            "19",
            "ionice",
            "-t",
            "-c",
            "3",
            "sh",
            "-c",
            GUARD,
            "pgnode-drill",
        ];
        let mut words: Vec<OsString> = low.map(OsString::from).into();
        words.push(self.pipe.clone().into());
        words.extend([signal.into(), program.into()]);
        words.extend(args.into_iter().map(Into::into));
        Spec::new("nice", words)
            .env(doctor.config.environment.base.clone())
            .env([("HOME", doctor.account.home.as_os_str())])
            .env([("LC_ALL", "C")])
            .account(Some(doctor.account.clone()))
    }
}
