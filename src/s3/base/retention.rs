//! Which backups the retention gives up, and which WAL nobody needs then. Pure.

use crate::barman::{Backup, BackupStatus, Keep};
use crate::domain::{Timeline, WalName};
use std::collections::BTreeSet;

/// `BARMAN_RETENTION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// So many complete backups.
    Redundancy(u32),
    /// What is needed to recover to any time of so many days.
    Window {
        /// Days.
        days: u32,
    },
}

impl Policy {
    /// Reads barman's words: `REDUNDANCY 2`, `RECOVERY WINDOW OF 4 WEEKS`. A month has 31 days, as in barman.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["REDUNDANCY", n] => n.parse().ok().map(Self::Redundancy),
            ["RECOVERY", "WINDOW", "OF", n, unit] => {
                let each = match *unit {
                    "DAY" | "DAYS" => 1,
                    "WEEK" | "WEEKS" => 7,
                    "MONTH" | "MONTHS" => 31,
                    _ => return None,
                };
                let n: u32 = n.parse().ok()?;
                n.checked_mul(each).map(|days| Self::Window { days })
            }
            _ => None,
        }
    }
}

/// What the retention says of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody said that it is kept.
    Kept(Keep),
    /// One of the newest that the redundancy asks for.
    Redundancy,
    /// It ended within the window.
    Window,
    /// The newest that ended before the window: recovery to the window's begin starts from it.
    Opens,
    /// What it needs is not understood, or it is no archive: a person decides.
    Unclear,
    /// It cannot be restored, and stands for none that can: a person decides.
    Broken,
    /// Nobody needs it any longer.
    Obsolete,
    /// It failed, and there is a newer one that did not.
    Failed,
    /// It is not complete, and the newest.
    Newest,
}

impl Verdict {
    /// Whether it goes.
    #[must_use]
    pub const fn goes(self) -> bool {
        matches!(self, Self::Obsolete | Self::Failed)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kept(Keep::Full) => "it is kept, with all WAL from it on",
            Self::Kept(Keep::Standalone) => "it is kept, with its own WAL",
            Self::Redundancy => "it is one of the newest, as many as must be there",
            Self::Window => "it ended within the recovery window",
            Self::Opens => "recovery to the begin of the window starts from it",
            Self::Unclear => "what it needs is not understood",
            Self::Broken => "it cannot be restored and does not count: `pgnode s3 verify` says why",
            Self::Obsolete => "the retention does not need it",
            Self::Failed => "it failed, and a newer one is complete",
            Self::Newest => "it failed, and nothing newer is complete",
        })
    }
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The verdict on each backup, in their order (oldest first). Kept ones do not count towards the redundancy: a
/// standalone one has no WAL after it. `broken` are the ids of those that cannot be restored.
#[must_use]
pub fn judge(
    all: &[Backup],
    broken: &BTreeSet<String>,
    policy: Policy,
    redundancy: u32,
    now_ms: u64,
) -> Vec<Verdict> {
    let (wanted, since) = match policy {
        Policy::Redundancy(n) => (n.max(redundancy), None),
        Policy::Window { days } => {
            let window = u64::from(days).saturating_mul(DAY_MS);
            (redundancy, Some(now_ms.saturating_sub(window)))
        }
    };
    let mut verdicts = Vec::with_capacity(all.len());
    let (mut counted, mut opened, mut complete) = (0, false, false);
    for backup in all.iter().rev() {
        verdicts.push(if !is_understood(backup) {
            Verdict::Unclear
        } else if backup.status == BackupStatus::Failed {
            match complete {
                true => Verdict::Failed,
                false => Verdict::Newest,
            }
        } else if let Some(keep) = backup.keep {
            complete |= !broken.contains(&backup.id);
            Verdict::Kept(keep)
        } else if broken.contains(&backup.id) {
            Verdict::Broken
        } else {
            complete = true;
            counted += 1;
            let within = since.map(|since| backup.end_ms.is_none_or(|end| end >= since));
            match within {
                Some(true) => Verdict::Window,
                Some(false) if !opened => {
                    opened = true;
                    Verdict::Opens
                }
                Some(false) | None if counted <= wanted => Verdict::Redundancy,
                Some(false) | None => Verdict::Obsolete,
            }
        });
    }
    verdicts.reverse();
    verdicts
}

/// Whether it is known what it needs: all of what barman-cloud calls DONE and FAILED.
fn is_understood(backup: &Backup) -> bool {
    let known = match backup.status {
        BackupStatus::Failed => true,
        BackupStatus::Done => backup.begin_wal.is_some() && backup.end_wal.is_some(),
        _ => false,
    };
    known && backup.garbled.is_empty() && !backup.snapshot
}

/// Which WAL must stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// From this number on, on whatever timeline: positions only rise along a history.
    pub from: u64,
    /// The oldest backup that needs it.
    pub by: String,
    /// Later timelines stay whole: a restored cluster may have begun before.
    pub timeline: Timeline,
    /// What standalone backups need besides: first and last number.
    pub spans: Vec<(u64, u64)>,
    /// Bytes of a segment.
    pub segment_size: u64,
}

impl Needed {
    /// What the backups that stay need. `None`: nothing can be told, so all stays; also when no backup stays.
    #[must_use]
    pub fn by(staying: &[&Backup]) -> Option<Self> {
        let done: Vec<&&Backup> = staying
            .iter()
            .filter(|b| b.status != BackupStatus::Failed)
            .collect();
        // One that nobody understands may need anything.
        if !done.iter().all(|b| is_understood(b)) {
            return None;
        }
        let begin = |b: &Backup| b.begin_wal.map(|w| w.number);
        let lasting = done.iter().filter(|b| b.keep != Some(Keep::Standalone));
        let oldest = lasting.min_by_key(|b| begin(b))?;
        let newest = done
            .iter()
            .filter_map(|b| b.end_wal)
            .map(|w| w.timeline)
            .max()?;
        let size = oldest.segment_size;
        if done.iter().any(|b| b.segment_size != size) {
            return None;
        }
        let standalone = done.iter().filter(|b| b.keep == Some(Keep::Standalone));
        Some(Self {
            from: begin(oldest)?,
            by: oldest.id.clone(),
            timeline: newest,
            spans: standalone
                .filter_map(|b| Some((begin(b)?, b.end_wal?.number)))
                .collect(),
            segment_size: size,
        })
    }

    /// Whether a segment, or a label or partial file of one, may go.
    #[must_use]
    pub fn spares(&self, wal: &WalName) -> bool {
        wal.number < self.from
            && wal.timeline <= self.timeline
            && !self
                .spans
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&wal.number))
    }

    /// Whether a directory may hold some, by its first segment.
    #[must_use]
    pub fn spares_some(&self, first: &WalName) -> bool {
        first.number < self.from && first.timeline <= self.timeline
    }

    /// The first segment that stays, on its backup's timeline or any.
    #[must_use]
    pub const fn first(&self) -> WalName {
        WalName {
            timeline: self.timeline,
            number: self.from,
            segment_size: self.segment_size,
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
