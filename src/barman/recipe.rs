//! What a restore is made of: the backup, the timelines that recovery follows and how far the archive
//! leads. Pure decisions over what a source holds, so that everything that can be refused is refused
//! before anything is touched, with what there is instead.

use super::{Archive, Backup, Kind};
use crate::config::{Choice, Restore, Target, TargetTimeline};
use crate::domain::{Fault, History, Lsn, SystemId, Timeline, WalName};
use chrono::{DateTime, Utc};

/// What a source holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// The source, for a person.
    pub source: String,
    /// The program that can restore from it what is not restored here.
    pub tool: &'static str,
    /// All its backups, oldest first.
    pub backups: Vec<Backup>,
    /// Its WAL.
    pub archive: Archive,
    /// The history of every timeline in the archive, timeline 1 included, in order.
    pub histories: Vec<History>,
}

/// What will be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The full backup, then the incremental ones that rest on it; the last one was chosen.
    pub chain: Vec<Backup>,
    /// The timeline that recovery follows, with its ancestors.
    pub history: History,
    /// The first segment that recovery reads.
    pub first: WalName,
    /// The last archived one that it can reach.
    pub last: WalName,
    /// Where the backup is consistent: no target lies before it.
    pub consistent: Lsn,
    /// The cluster, when barman knows it.
    pub system_id: Option<SystemId>,
}

/// How the archive ends, read from its last segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveEnd {
    /// Where the last record begins.
    pub record: Option<Lsn>,
    /// When the last transaction committed.
    pub commit: Option<DateTime<Utc>>,
}

impl Recipe {
    /// The chosen backup.
    #[must_use]
    pub fn backup(&self) -> Option<&Backup> {
        self.chain.last()
    }

    /// Archived WAL that recovery may have to read, bytes.
    #[must_use]
    pub const fn wal_bytes(&self) -> u64 {
        let segments = (self.last.number + 1).saturating_sub(self.first.number);
        segments.saturating_mul(self.first.segment_size)
    }

    /// Whether the target lies within the archive.
    ///
    /// # Errors
    /// [`Fault::Config`] with the valid range.
    pub fn covers(&self, wanted: &Restore, end: &ArchiveEnd) -> Result<(), Fault> {
        let beyond = match (&wanted.target, end) {
            (
                Target::Lsn(lsn),
                ArchiveEnd {
                    record: Some(last), ..
                },
            ) => lsn > last,
            // Recovery ends at the first commit after the time: there has to be one.
            (
                Target::Time(time),
                ArchiveEnd {
                    commit: Some(last), ..
                },
            ) if wanted.inclusive => time >= last,
            (
                Target::Time(time),
                ArchiveEnd {
                    commit: Some(last), ..
                },
            ) => time > last,
            _ => false,
        };
        if !beyond {
            return Ok(());
        }
        Err(Fault::Config(format!(
            "the target, {}, lies beyond the last WAL: the valid range is {}; to recover all there \
             is, set no target",
            wanted.target,
            self.range(end)
        )))
    }

    /// The valid range of targets, in words.
    #[must_use]
    pub fn range(&self, end: &ArchiveEnd) -> String {
        let begin = self.backup().and_then(|b| b.end_ms).map(time);
        let begin = begin.unwrap_or_else(|| "an unknown time".to_owned());
        let last = end.record.unwrap_or_else(|| self.last.end());
        let commit = end.commit.map_or_else(
            || "no commit".to_owned(),
            |t| t.format("the last commit at %F %T%.6f+00").to_string(),
        );
        format!(
            "from {} ({begin}) to {last} ({commit}) on timeline {}",
            self.consistent, self.history.timeline
        )
    }
}

/// Chooses.
///
/// # Errors
/// A [`Fault`] that says what there is instead.
pub fn choose(wanted: &Restore, found: &Found, major: u32) -> Result<Recipe, Fault> {
    let backup = match &wanted.backup {
        Choice::Id(id) => by_id(id, found)?,
        Choice::Latest => latest(wanted, found)?,
    };
    usable(backup, found, major)?;
    let history = follow(wanted, found, backup).map_err(Fault::Config)?;
    let (Some(begin), Some(end_lsn), Some(end_wal)) =
        (backup.begin_wal, backup.end_lsn, backup.end_wal)
    else {
        return Err(Fault::NeedsPerson(format!(
            "backup {} does not say which WAL it needs: it cannot be restored",
            backup.id
        )));
    };
    if !ends_before(backup, &wanted.target) {
        return Err(too_early(wanted, backup));
    }
    let missing = |name: WalName| {
        Fault::NeedsPerson(format!(
            "WAL segment {name}, which backup {} needs, is not in the archive of {}: choose another \
             backup ({})",
            backup.id,
            found.source,
            known(found)
        ))
    };
    let last = found
        .archive
        .reach(begin, &history)
        .ok_or_else(|| missing(begin))?;
    if last.number < end_wal.number {
        return Err(missing(last.next()));
    }
    unbroken(wanted, found, &history, last)?;
    Ok(Recipe {
        chain: chain(backup, found, major)?,
        first: begin,
        last,
        consistent: end_lsn,
        system_id: backup.system_id,
        history,
    })
}

fn by_id<'a>(id: &str, found: &'a Found) -> Result<&'a Backup, Fault> {
    found.backups.iter().find(|b| b.id == id).ok_or_else(|| {
        Fault::Config(format!(
            "there is no backup {id} in {}; {}",
            found.source,
            known(found)
        ))
    })
}

/// The newest complete one that ends before the target, on the way to the target's timeline.
fn latest<'a>(wanted: &Restore, found: &'a Found) -> Result<&'a Backup, Fault> {
    let done = || found.backups.iter().filter(|b| b.is_done());
    let Some(first) = done().next() else {
        return Err(Fault::NeedsPerson(format!(
            "{} holds no complete backup; {}",
            found.source,
            known(found)
        )));
    };
    let fits = |b: &&Backup| ends_before(b, &wanted.target) && follow(wanted, found, b).is_ok();
    if let Some(backup) = done().rfind(fits) {
        return Ok(backup);
    }
    match done().rfind(|b| ends_before(b, &wanted.target)) {
        Some(backup) => Err(Fault::Config(
            follow(wanted, found, backup).err().unwrap_or_default(),
        )),
        None => Err(too_early(wanted, first)),
    }
}

fn too_early(wanted: &Restore, first: &Backup) -> Fault {
    Fault::Config(format!(
        "the target, {}, lies before the end of backup {}, which is at {} ({}): recovery cannot \
         stop earlier; choose an older backup, or a later target",
        wanted.target,
        first.id,
        first
            .end_lsn
            .map_or_else(|| "?".to_owned(), |l| l.to_string()),
        first.end_ms.map_or_else(|| "?".to_owned(), time),
    ))
}

fn ends_before(backup: &Backup, target: &Target) -> bool {
    match target {
        Target::Lsn(lsn) => backup.end_lsn.is_some_and(|end| end <= *lsn),
        Target::Time(time) => {
            let at = u64::try_from(time.timestamp_millis()).unwrap_or(0);
            backup.end_ms.is_some_and(|end| end <= at)
        }
        // Where these lie is only known once they are found.
        Target::End | Target::Immediate | Target::Xid(_) | Target::Name(_) => true,
    }
}

/// The history that recovery of this backup follows, or why there is none.
fn follow(wanted: &Restore, found: &Found, backup: &Backup) -> Result<History, String> {
    let Some(own) = backup.timeline else {
        return Err(format!("backup {} does not say its timeline", backup.id));
    };
    let known = |t: Timeline| found.histories.iter().find(|h| h.timeline == t);
    // It has to have been left after the backup was complete.
    let leads = |h: &History| {
        h.timeline == own
            || h.end_of(own)
                .zip(backup.end_lsn)
                .is_some_and(|(at, end)| end <= at)
    };
    match wanted.timeline {
        TargetTimeline::Current => {}
        TargetTimeline::Latest => {
            if let Some(history) = found.histories.iter().rfind(|h| leads(h)) {
                return Ok(history.clone());
            }
        }
        TargetTimeline::Number(number) if number == own => {}
        TargetTimeline::Number(number) => {
            return known(number).filter(|h| leads(h)).cloned().ok_or_else(|| {
                let there: Vec<String> = found
                    .histories
                    .iter()
                    .filter(|h| leads(h))
                    .map(|h| h.timeline.to_string())
                    .collect();
                format!(
                    "timeline {number} cannot be reached from backup {}, which is on timeline {own}: \
                     the archive of {} leads from it to {}",
                    backup.id,
                    found.source,
                    if there.is_empty() { own.to_string() } else { there.join(", ") }
                )
            });
        }
    }
    Ok(known(own)
        .cloned()
        .unwrap_or_else(|| History::without_past(own)))
}

fn usable(backup: &Backup, found: &Found, major: u32) -> Result<(), Fault> {
    let id = &backup.id;
    let no = |why: String| Err(Fault::NeedsPerson(format!("backup {id} {why}")));
    if !backup.garbled.is_empty() {
        return no(format!(
            "has metadata that are not understood: {}",
            backup.garbled.join("; ")
        ));
    }
    if !backup.is_done() {
        return no(format!(
            "is {}, not DONE: it cannot be restored; {}",
            backup.status,
            known(found)
        ));
    }
    if backup.major().is_some_and(|m| m != major) {
        return no(format!(
            "was made by PostgreSQL {}, this image has {major}: use an image of that version",
            backup.major().unwrap_or_default()
        ));
    }
    if backup.kind() == Kind::Snapshot {
        return no("is a snapshot of a disk in a cloud: there are no files to restore".to_owned());
    }
    if let Some(how) = &backup.compression {
        return no(format!(
            "is compressed with {how} (`backup_compression`), which is not restored here: `{}` can, or \
             take one without",
            found.tool
        ));
    }
    if let Some(how) = &backup.encryption {
        return no(format!(
            "is encrypted with {how} (`encryption`), which is not restored here: `{}` can",
            found.tool
        ));
    }
    if !backup.tablespaces.is_empty() && backup.parent.is_some() {
        let names: Vec<&str> = backup.tablespaces.iter().map(|t| t.name.as_str()).collect();
        return no(format!(
            "is incremental and has tablespaces ({}), which are not put together here: take a full one, or \
             `{} --tablespace`",
            names.join(", "),
            found.tool
        ));
    }
    Ok(())
}

/// The full backup first.
fn chain(backup: &Backup, found: &Found, major: u32) -> Result<Vec<Backup>, Fault> {
    let mut chain = vec![backup.clone()];
    while let Some(last) = chain.last()
        && let Some(parent) = last.parent.clone()
    {
        // A parent is older than its child, so this comes to an end.
        let older = found
            .backups
            .iter()
            .find(|b| b.id == parent && b.id < last.id);
        let Some(older) = older else {
            return Err(Fault::NeedsPerson(format!(
                "backup {} rests on {parent}, which is not in the catalogue of {}: it cannot be \
                 restored; {}",
                backup.id,
                found.source,
                known(found)
            )));
        };
        usable(older, found, major)?;
        chain.push(older.clone());
    }
    chain.reverse();
    Ok(chain)
}

/// All WAL there is means all of it: a hole would pass for the end.
fn unbroken(
    wanted: &Restore,
    found: &Found,
    history: &History,
    last: WalName,
) -> Result<(), Fault> {
    let needed = match wanted.target {
        Target::End => true,
        Target::Lsn(lsn) => lsn >= last.end(),
        Target::Immediate | Target::Time(_) | Target::Xid(_) | Target::Name(_) => false,
    };
    match found.archive.newest(history.timeline) {
        Some(newest) if needed && newest.number > last.number => Err(Fault::NeedsPerson(format!(
            "WAL is missing between {last} and {newest} in the archive of {}: recovery would end at \
             {}; to restore what is before, set PGNODE_RESTORE_TARGET_LSN below that, or choose a \
             later backup ({})",
            found.source,
            last.end(),
            known(found)
        ))),
        Some(_) | None => Ok(()),
    }
}

/// How many backups a refusal lists.
const LISTED: usize = 12;

/// What there is instead.
#[must_use]
pub fn known(found: &Found) -> String {
    let mut lines: Vec<String> = found
        .backups
        .iter()
        .rev()
        .take(LISTED)
        .map(|b| {
            let end = b.end_lsn.map_or_else(String::new, |l| format!(" at {l}"));
            let at = b.end_ms.map_or_else(
                || "not ended".to_owned(),
                |t| format!("ended {}{end}", time(t)),
            );
            format!("{} ({}, {at})", b.id, b.status)
        })
        .collect();
    if lines.is_empty() {
        return "it holds none".to_owned();
    }
    if found.backups.len() > LISTED {
        lines.push(format!("{} older ones", found.backups.len() - LISTED));
    }
    format!("there are {}", lines.join(", "))
}

fn time(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_millis);
    at.map_or_else(|| ms.to_string(), |t| t.format("%F %T%.3f+00").to_string())
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
