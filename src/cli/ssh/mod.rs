//! What runs on behalf of ssh. None of it reads the node's settings: sshd, barman and the archiver give their
//! children an environment of their own.

mod serve;
mod ship;

pub(super) use serve::{barman, node};
pub(super) use ship::{hop, ship};

use crate::domain::ExitCode;
use std::io::Write as _;

/// What the archiver and rsync take for "not now": any code but 0 and those of signals.
const FAILED: ExitCode = ExitCode(1);

/// Standard error goes to whoever asked.
fn failed(why: &str) -> ExitCode {
    drop(writeln!(std::io::stderr().lock(), "pgnode: {why}"));
    FAILED
}
