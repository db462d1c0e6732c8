//! What may go into the archive: pure.

use super::look::{history, is_reserved};
use crate::domain::{History, Lsn, Timeline, WalName};

/// Why a timeline's WAL does not belong into the archive any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superseded {
    /// The timeline that took over.
    pub(super) by: Timeline,
    /// Where it began.
    pub(super) at: Lsn,
}

/// Whether WAL of `own` up to `end` was replaced: a later timeline in the archive left `own`, or a timeline that `own` comes
/// from, before that. After a failover this keeps the old primary out, and lets the new one in, whose history is the
/// later one. `known` are the histories that this node has itself: one who knows the later timeline is on it, and brings what
/// is left of its past.
pub(super) fn superseded(
    own: &History,
    end: Lsn,
    archived: &[History],
    known: &[Timeline],
) -> Option<Superseded> {
    archived
        .iter()
        .filter(|other| other.timeline > own.timeline && !known.contains(&other.timeline))
        .find_map(|other| {
            let at = match other.end_of(own.timeline) {
                Some(at) => at,
                None => own.fork(other)?.lsn,
            };
            (end > at).then_some(Superseded {
                by: other.timeline,
                at,
            })
        })
}

/// What to do with a history file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing: it is there, or what is there says more.
    There,
    /// It goes in, also over what is there.
    Store,
    /// Two timelines of one number.
    Differs,
}

/// Compares it with what is stored under its name. A number that is only reserved gives way to a timeline that has it.
pub(super) fn past(ours: &[u8], stored: Option<&[u8]>) -> Past {
    match stored {
        None => Past::Store,
        Some(stored) if stored == ours => Past::There,
        Some(_) if is_reserved(ours) => Past::There,
        Some(stored) if is_reserved(stored) => Past::Store,
        Some(_) => Past::Differs,
    }
}

/// Whether the text is what PostgreSQL writes into a history file of that timeline, or a reservation.
pub(super) fn sound_history(timeline: Timeline, text: &[u8]) -> Result<(), String> {
    if is_reserved(text) {
        return Ok(());
    }
    history(timeline, text).map(|_| ())
}

/// The segment that a label or partial belongs to; a segment is its own.
pub(super) fn segment_of(name: &str, segment_size: u64) -> Option<WalName> {
    WalName::parse(name.get(..24)?, segment_size).ok()
}
