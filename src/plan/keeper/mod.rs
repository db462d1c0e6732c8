//! A barman host's keeper of one cluster: from what was seen to the one next step.
//!
//! The order is that of need: WAL first, because what is not received may be gone tomorrow; then the
//! archive's first segment, without which barman makes no backup; then backups.

mod step;

use crate::domain::{History, Lsn, SystemId, Timeline, WalName};
use std::time::Duration;
pub use step::{Cause, Gap, Realign, Step, Why};

/// Everything that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The cluster, as its nodes answered.
    pub cluster: Cluster,
    /// `pg_receivewal`.
    pub receiver: Receiver,
    /// The newest file in `streaming/`: where `pg_receivewal` goes on from.
    pub tail: Option<Tail>,
    /// Whether the archive has a segment.
    pub archived: bool,
    /// The catalogue.
    pub backups: Backups,
    /// Bytes that barman can still write.
    pub free: Option<u64>,
}

/// The cluster, as its nodes answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// No node lets us in as the primary; what each said.
    NoPrimary(String),
    /// A node answers and refuses barman's password; what to do about it.
    Refused(String),
    /// A primary, of a cluster that these backups are not of.
    Stranger {
        /// Whose backups these are.
        ours: SystemId,
        /// Who answers.
        theirs: SystemId,
    },
    /// The primary.
    Primary(Primary),
}

/// A primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its timeline.
    pub timeline: Timeline,
    /// How far it has written.
    pub position: Lsn,
    /// barman's slot there.
    pub slot: Slot,
    /// What its timeline descends from; `None`: not asked for, or it could not be had.
    pub history: Option<History>,
    /// Number of the oldest segment that it still has; `None`: not asked for, or not allowed to know.
    pub oldest: Option<u64>,
}

/// barman's replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Not there: receive-wal makes it.
    Missing,
    /// Nobody uses it.
    Idle,
    /// Somebody receives.
    Taken,
    /// The server gave it up: it held back more WAL than `max_slot_wal_keep_size`.
    Lost,
}

/// `pg_receivewal`, as our child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// There is none: the cluster ships its WAL by itself (`BARMAN_METHOD=rsync`).
    Shipped,
    /// It runs, for so long.
    Running(Duration),
    /// It does not.
    Stopped {
        /// Ends in a row without having received anything.
        failures: u32,
        /// Since its last end; `None`: never started.
        ago: Option<Duration>,
    },
}

/// A file in `streaming/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its segment.
    pub segment: WalName,
    /// Not complete: `pg_receivewal` asks for it from its beginning.
    pub partial: bool,
}

impl Tail {
    /// Where `pg_receivewal` asks to begin (`FindStreamingStart` in `pg_receivewal.c`).
    #[must_use]
    pub const fn start(&self) -> Lsn {
        if self.partial {
            self.segment.begin()
        } else {
            self.segment.end()
        }
    }
}

/// What the catalogue says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backups {
    /// One is being made by us.
    pub running: bool,
    /// Some wait for the WAL of their end.
    pub waiting: bool,
    /// The timeline of the newest that is copied; `None`: there is none.
    pub newest: Option<Timeline>,
    /// So many more must be complete (`BARMAN_MINIMUM_REDUNDANCY`).
    pub missing: u32,
    /// Why a new one is owed, whatever there is: written down when WAL was lost for the archive.
    pub owed: Option<String>,
    /// The last attempt failed: how long to leave it alone.
    pub pause: Duration,
}

/// How long receive-wal may take to attach; then it is ended and started again. It is a Python program
/// that asks the server a lot first: 22 s were seen on an overloaded machine.
const ATTACH: Duration = Duration::from_secs(90);
/// How long the server may need to notice that a receiver is gone.
const LINGERS: Duration = Duration::from_secs(3);
/// Segments that must fit before receive-wal is started: one to receive, one to archive, one for
/// barman's own files.
const ROOM: u64 = 3;
/// Pauses between attempts to receive: none after the first end, then from half a second on, doubled.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How long to leave receive-wal alone after so many ends in a row without having received anything.
#[must_use]
pub fn receiver_pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => FIRST_PAUSE
            .saturating_mul(1 << (n - 2).min(10))
            .min(LONGEST_PAUSE),
    }
}

/// How long to leave backups alone after so many failures in a row.
#[must_use]
pub fn backup_pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_secs(10 << (n - 1).min(5)).min(Duration::from_secs(300)),
    }
}

/// The next step.
#[must_use]
pub fn next(seen: &Seen) -> Step {
    let primary = match &seen.cluster {
        Cluster::NoPrimary(said) => return Step::Wait(Why::Primary(said.clone())),
        Cluster::Refused(what) => return Step::Wait(Why::Password(what.clone())),
        Cluster::Stranger { ours, theirs } => {
            let (ours, theirs) = (*ours, *theirs);
            return Step::Wait(Why::Stranger { ours, theirs });
        }
        Cluster::Primary(primary) => primary,
    };
    match (seen.receiver, primary.slot) {
        (Receiver::Shipped, _) | (Receiver::Running(_), Slot::Taken) => backups(seen, primary),
        (Receiver::Running(age), Slot::Missing | Slot::Idle | Slot::Lost) if age >= ATTACH => {
            Step::Kick
        }
        (Receiver::Running(_), Slot::Missing | Slot::Idle | Slot::Lost) => Step::Wait(Why::Attach),
        (Receiver::Stopped { failures, ago }, slot) => receive(seen, primary, slot, failures, ago),
    }
}

/// Nothing is received.
fn receive(
    seen: &Seen,
    primary: &Primary,
    slot: Slot,
    failures: u32,
    ago: Option<Duration>,
) -> Step {
    let segment = seen
        .tail
        .map_or(WalName::DEFAULT_SEGMENT_SIZE, |t| t.segment.segment_size);
    if let Some(free) = seen.free.filter(|free| *free < segment * ROOM) {
        return Step::Wait(Why::Space(free));
    }
    match slot {
        Slot::Lost => return Step::DropSlot,
        Slot::Taken => return evict(ago),
        Slot::Missing | Slot::Idle => {}
    }
    if let Some(step) = seen.tail.and_then(|tail| misaligned(primary, tail)) {
        return step;
    }
    let pause = receiver_pause(failures);
    match ago.and_then(|ago| pause.checked_sub(ago)) {
        Some(left) if !left.is_zero() => Step::Wait(Why::Pause { failures, left }),
        Some(_) | None => Step::Receive,
    }
}

/// Our own receiver's connection may still be known to the server for a moment.
fn evict(ago: Option<Duration>) -> Step {
    match ago {
        Some(ago) if ago < LINGERS => Step::Wait(Why::SlotTaken),
        Some(_) | None => Step::Evict,
    }
}

/// Whether the server would refuse to go on from the tail, and where it would not.
fn misaligned(primary: &Primary, tail: Tail) -> Option<Step> {
    let (had, theirs, ours) = (tail.start(), primary.timeline, tail.segment.timeline);
    let behind = Step::Wait(Why::Behind {
        timeline: theirs,
        position: primary.position,
        tail,
    });
    if theirs < ours {
        return Some(behind);
    }
    if theirs == ours && had > tail_limit(primary, tail) {
        return Some(behind);
    }
    if theirs > ours
        && let Some(history) = &primary.history
        && let Some((fork, next)) = left(history, ours)
    {
        let stranger = !history.descends_from(ours);
        if stranger || had > fork {
            let to = WalName::holding(next, fork, tail.segment.segment_size);
            let gap = Gap::Diverged {
                timeline: ours,
                fork,
                had,
            };
            return Some(Step::Realign(Realign {
                to: at_least(to, primary),
                gap,
            }));
        }
    }
    let gone = primary
        .oldest
        .filter(|oldest| had.0 / tail.segment.segment_size < *oldest);
    gone.map(|number| {
        let begin = Lsn(number.saturating_mul(tail.segment.segment_size));
        let timeline = primary
            .history
            .as_ref()
            .map_or(theirs, |h| h.timeline_at(begin));
        let to = WalName {
            timeline,
            number,
            segment_size: tail.segment.segment_size,
        };
        let gap = Gap::Removed { had };
        Step::Realign(Realign { to, gap })
    })
}

/// How far a receiver of the same timeline can be: a complete segment may have just ended.
const fn tail_limit(primary: &Primary, tail: Tail) -> Lsn {
    Lsn(primary.position.0.saturating_add(tail.segment.segment_size))
}

/// Where the primary's history left `timeline`, or the last one before it that both have been on, and
/// which timeline came next.
fn left(history: &History, timeline: Timeline) -> Option<(Lsn, Timeline)> {
    let at = history.past.iter().rposition(|s| s.timeline <= timeline)?;
    let next = history
        .past
        .get(at + 1)
        .map_or(history.timeline, |s| s.timeline);
    Some((history.past.get(at)?.end, next))
}

/// The same segment, or the oldest that the primary still has.
fn at_least(to: WalName, primary: &Primary) -> WalName {
    match primary.oldest {
        Some(oldest) if oldest > to.number => WalName {
            number: oldest,
            timeline: primary.timeline,
            ..to
        },
        Some(_) | None => to,
    }
}

/// WAL is received.
fn backups(seen: &Seen, primary: &Primary) -> Step {
    let known = &seen.backups;
    if known.running {
        return Step::Wait(Why::Backup);
    }
    if !seen.archived {
        return Step::FirstWal;
    }
    if known.waiting {
        return Step::Finish;
    }
    let cause = match (known.newest, &known.owed) {
        (None, _) => Cause::First,
        (Some(newest), _) if newest < primary.timeline => Cause::NewTimeline,
        (Some(_), Some(why)) => Cause::Owed(why.clone()),
        (Some(_), None) if known.missing > 0 => Cause::TooFew,
        (Some(_), None) => return Step::Rest,
    };
    if known.pause.is_zero() {
        Step::Backup(cause)
    } else {
        Step::Wait(Why::BackupPause(known.pause))
    }
}

#[cfg(test)]
mod tests;
