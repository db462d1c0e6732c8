//! What the archive holds, as ranges: a million segments in a row are one. Listed directory by
//! directory (4 GiB of WAL each), so that memory grows with gaps and timelines, not with files.

use super::{BarmanError, Server, entries};
use crate::domain::{History, Timeline, WalName};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

/// Segments of one timeline without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// The first.
    pub first: WalName,
    /// The last, which may be the first.
    pub last: WalName,
}

impl WalRange {
    /// The timeline.
    #[must_use]
    pub const fn timeline(&self) -> Timeline {
        self.first.timeline
    }

    /// How many segments.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last.number - self.first.number + 1
    }

    /// Whether the segment is one of them.
    #[must_use]
    pub fn holds(&self, name: &WalName) -> bool {
        name.timeline == self.timeline()
            && (self.first.number..=self.last.number).contains(&name.number)
    }
}

/// The archive in `wals/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// What is there, by timeline and position.
    pub ranges: Vec<WalRange>,
    /// Timelines whose history file is there, in order.
    pub histories: Vec<Timeline>,
    /// Files that are neither segments of this size nor history, label or partial files.
    pub strange: u64,
}

impl Archive {
    /// What is missing between the ranges of each timeline. A timeline may begin in the middle of its
    /// first segment: what lies before the first range is not a gap.
    pub fn gaps(&self) -> impl Iterator<Item = WalRange> + '_ {
        let pairs = self.ranges.iter().zip(self.ranges.iter().skip(1));
        pairs
            .filter(|(a, b)| a.timeline() == b.timeline())
            .map(|(a, b)| WalRange {
                first: a.last.next(),
                last: WalName {
                    number: b.first.number - 1,
                    ..b.first
                },
            })
    }

    /// The newest segment of a timeline.
    #[must_use]
    pub fn newest(&self, timeline: Timeline) -> Option<WalName> {
        self.ranges
            .iter()
            .rfind(|r| r.timeline() == timeline)
            .map(|r| r.last)
    }

    /// The newest timeline that has a segment or a history file.
    #[must_use]
    pub fn newest_timeline(&self) -> Option<Timeline> {
        let segments = self.ranges.last().map(WalRange::timeline);
        segments.max(self.histories.last().copied())
    }

    /// Segments in the archive.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(WalRange::count).sum()
    }

    /// The last segment that replay reaches from `from` on towards the timeline of `history`, each
    /// segment on the timeline that replay reads it from; `None` when `from` itself is missing.
    #[must_use]
    pub fn reach(&self, from: WalName, history: &History) -> Option<WalName> {
        let mut reached = None;
        let mut wanted = history.segment(from);
        while let Some(range) = self.ranges.iter().find(|r| r.holds(&wanted)) {
            let last = match last_on(history, &wanted) {
                Some(last) if last < range.last.number => last,
                _ => range.last.number,
            };
            let last = WalName {
                number: last,
                ..wanted
            };
            reached = Some(last);
            wanted = history.segment(last.next());
        }
        reached
    }
}

/// The last segment that replay reads from this one's timeline; `None` on the present one.
fn last_on(history: &History, name: &WalName) -> Option<u64> {
    let end = history.end_of(name.timeline)?;
    (end.0 / name.segment_size).checked_sub(1)
}

impl Server {
    /// Lists `wals/`; empty when there is none.
    ///
    /// # Errors
    /// [`BarmanError::Catalogue`].
    pub fn archive(&self, segment_size: u64) -> Result<Archive, BarmanError> {
        let wals = self.dir.join("wals");
        let mut found = Archive::default();
        // Each stands for up to 4 GiB of WAL: their numbers fit in memory.
        let mut dirs: Vec<u64> = Vec::new();
        for entry in entries(&wals)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(timeline) = History::file_timeline(&name) {
                found.histories.push(timeline);
            } else if let Some(dir) = hash_dir(&name) {
                dirs.push(dir);
            }
        }
        found.histories.sort_unstable();
        dirs.sort_unstable();
        for dir in dirs {
            let name = format!("{dir:016X}");
            for segment in listed(&wals.join(&name), &name, segment_size, &mut found.strange)? {
                found.push(segment);
            }
        }
        Ok(found)
    }
}

/// Up to so many segments of a directory are looked for one by one.
const FEW: u64 = 64;

impl Server {
    /// How many of the segments from `first` to `last`, of one timeline, are archived.
    ///
    /// # Errors
    /// [`BarmanError::Catalogue`].
    pub fn archived_between(&self, first: WalName, last: WalName) -> Result<u64, BarmanError> {
        let per_log = WalName::per_log(first.segment_size);
        let (mut name, mut found) = (first, 0);
        while name.number <= last.number {
            let end = last.number.min((name.number / per_log + 1) * per_log - 1);
            let text = name.to_string();
            let prefix = &text[..16];
            let dir = self.dir.join("wals").join(prefix);
            let range = name.number..=end;
            found += if end - name.number < FEW {
                let numbers = range.map(|number| WalName { number, ..name });
                numbers
                    .filter(|n| dir.join(n.to_string()).is_file())
                    .count() as u64
            } else {
                let all = listed(&dir, prefix, name.segment_size, &mut 0)?;
                all.iter().filter(|s| range.contains(&s.number)).count() as u64
            };
            name.number = end + 1;
        }
        Ok(found)
    }
}

impl Archive {
    /// One more segment; in order, else [`Archive::settle`] has to follow.
    pub fn push(&mut self, segment: WalName) {
        match self.ranges.last_mut() {
            Some(range) if range.last.next() == segment => range.last = segment,
            _ => self.ranges.push(WalRange {
                first: segment,
                last: segment,
            }),
        }
    }

    /// Puts in order what was not pushed in order, and joins what belongs together.
    pub fn settle(&mut self) {
        self.histories.sort_unstable();
        let key = |r: &WalRange| (r.timeline(), r.first.number);
        if self.ranges.is_sorted_by_key(key) {
            return;
        }
        self.ranges.sort_unstable_by_key(key);
        let mut joined: Vec<WalRange> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last)
                    if last.timeline() == range.timeline()
                        && range.first.number <= last.last.number + 1 =>
                {
                    last.last.number = last.last.number.max(range.last.number);
                }
                _ => joined.push(range),
            }
        }
        self.ranges = joined;
    }
}

/// The segments in one directory, in order.
fn listed(
    dir: &Path,
    prefix: &str,
    segment_size: u64,
    strange: &mut u64,
) -> Result<Vec<WalName>, BarmanError> {
    let failed = |source| BarmanError::catalogue(dir, source);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        // Retention removes a directory with its last file.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        match WalName::parse(&name, segment_size) {
            Ok(segment) if name.starts_with(prefix) => segments.push(segment),
            // `.backup` and `.partial` belong here; `.tmp` is one that is being written.
            _ if name.get(24..25) == Some(".") => {}
            _ => *strange += 1,
        }
    }
    segments.sort_unstable_by_key(|s| s.number);
    Ok(segments)
}

/// Timeline and log in one number, which sorts as the names do.
fn hash_dir(name: &str) -> Option<u64> {
    let is_digit = |b: u8| b.is_ascii_digit() || matches!(b, b'A'..=b'F');
    (name.len() == 16 && name.bytes().all(is_digit))
        .then(|| u64::from_str_radix(name, 16).ok())
        .flatten()
}
