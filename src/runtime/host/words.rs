//! A keeper's steps for the operator.

use crate::plan::keeper::{Step, Tail};

/// A step in words, and whether a person should know.
pub(super) fn said(step: &Step, tail: Option<Tail>) -> (String, bool) {
    let plain = |text: &str| (text.to_owned(), false);
    match step {
        Step::Wait(why) => (why.sentence(), why.is_problem()),
        Step::Receive => match tail {
            Some(tail) => (format!("starting receive-wal at {}", tail.start()), false),
            None => plain("starting receive-wal"),
        },
        Step::Kick => ("receive-wal receives from nobody: starting it again".into(), true),
        Step::Realign(realign) => (realign.gap.sentence(), true),
        Step::DropSlot => (
            "the primary gave up the slot barman: it held back more WAL than max_slot_wal_keep_size".into(),
            true,
        ),
        Step::Evict => (
            "the slot barman is used by another receiver: one of barman's cron is ended, another host's is not"
                .into(),
            true,
        ),
        Step::FirstWal => plain("archiving the first WAL segment"),
        Step::Backup(cause) => (format!("making a full backup: {}", cause.sentence()), false),
        Step::Finish => plain("archiving the WAL of the end of a backup"),
        Step::Rest => plain("all is well"),
    }
}
