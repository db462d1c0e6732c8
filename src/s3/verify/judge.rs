//! What it means. Pure.

use super::report::{BackupView, Gap, Report, TimelineView, UnfinishedView};
use crate::barman::{Archive, Backup, WalRange};
use crate::domain::{History, SystemId, Timeline, WalName, human_bytes};
use crate::s3::base::Entry;
use crate::s3::source::Held;
use std::collections::{BTreeMap, BTreeSet};

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The place, for a person.
    pub place: String,
    /// Backups that say what they are, oldest first.
    pub entries: Vec<Entry>,
    /// Those that do not.
    pub unfinished: Vec<Unfinished>,
    /// The WAL.
    pub held: Held,
    /// The histories that could be read, without the numbers that are only reserved.
    pub histories: Vec<History>,
    /// Why others could not be.
    pub bad_histories: Vec<String>,
    /// Whose place it says it is.
    pub claim: Option<SystemId>,
    /// What a backup's list of checksums says against what is stored, by its id.
    pub lists: BTreeMap<String, String>,
    /// The key may not list unfinished uploads.
    pub blind: bool,
}

/// Something that has no `backup.info`.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The backup's id.
    pub id: String,
    /// Bytes of objects and parts.
    pub bytes: u64,
    /// Uploads.
    pub uploads: usize,
    /// Who makes it.
    pub node: Option<String>,
    /// The last sign of life.
    pub touched: Option<String>,
}

/// Says what can be restored, and what is wrong.
#[must_use]
pub fn judge(seen: &Seen) -> Report {
    let archive = &seen.held.archive;
    let cluster = seen.claim.or_else(|| {
        let ids = seen.entries.iter().rev();
        ids.filter_map(|e| e.backup.system_id).next()
    });
    let mut report = Report {
        place: seen.place.clone(),
        system_id: cluster.map(|c| c.to_string()),
        timelines: timelines(archive),
        unfinished: seen.unfinished.iter().map(unfinished).collect(),
        wal_objects: seen.held.objects,
        wal_bytes: seen.held.bytes,
        ..Report::default()
    };
    // Where recovery would end early, and the backups that it would happen to.
    let mut holes: BTreeMap<(u32, u64), (WalName, Vec<&str>)> = BTreeMap::new();
    for entry in &seen.entries {
        let (view, hole) = backup(seen, entry, cluster);
        if let Some(hole) = hole {
            let key = (hole.timeline.0, hole.number);
            let at = holes.entry(key).or_insert((hole, Vec::new()));
            at.1.push(&entry.backup.id);
        }
        report.backups.push(view);
    }
    verdicts(seen, &mut report);
    for (hole, ids) in holes.into_values() {
        report.wrong.push(format!(
            "WAL segment {hole} is missing, and there is WAL beyond it: recovery of {} ends before it",
            list(&ids)
        ));
    }
    wal(seen, &mut report);
    report
}

/// What one backup is good for, and where recovery of it ends though there is more.
fn backup(seen: &Seen, entry: &Entry, cluster: Option<SystemId>) -> (BackupView, Option<WalName>) {
    let backup = &entry.backup;
    let way = way(seen, backup);
    let reached = backup
        .begin_wal
        .zip(way)
        .and_then(|(begin, history)| seen.held.archive.reach(begin, history));
    let why_not = why_not(seen, entry, cluster, reached);
    let name = |wal: Option<WalName>| wal.map(|w| w.to_string());
    let hole = match (&why_not, reached, way) {
        (None, Some(last), Some(history)) => {
            let newest = seen.held.archive.newest(history.timeline);
            let beyond = newest.is_some_and(|newest| newest.number > last.number);
            beyond.then(|| history.segment(last.next()))
        }
        _ => None,
    };
    let view = BackupView {
        id: backup.id.clone(),
        status: backup.status.to_string(),
        bytes: entry.bytes(),
        begin_wal: name(backup.begin_wal),
        end_wal: name(backup.end_wal),
        reaches: name(reached),
        why_not,
    };
    (view, hole)
}

/// The newest timeline that was left from the backup's own after the backup was complete.
fn way<'a>(seen: &'a Seen, backup: &Backup) -> Option<&'a History> {
    let own = backup.timeline?;
    seen.histories.iter().rfind(|h| {
        h.timeline == own
            || h.end_of(own)
                .zip(backup.end_lsn)
                .is_some_and(|(left, end)| end <= left)
    })
}

fn why_not(
    seen: &Seen,
    entry: &Entry,
    cluster: Option<SystemId>,
    reached: Option<WalName>,
) -> Option<String> {
    let backup = &entry.backup;
    if !backup.garbled.is_empty() {
        return Some(format!(
            "its metadata are not understood: {}",
            backup.garbled.join("; ")
        ));
    }
    if !backup.is_done() {
        let error = backup.error.as_deref();
        let error = error.map_or_else(String::new, |e| format!(": {e}"));
        return Some(format!("it is {}{error}", backup.status));
    }
    // A barman host's copy has files where barman-cloud has tars.
    let copied = entry.objects.iter().any(|o| o.key.contains("/data/"));
    if !entry.lacks.is_empty() && !copied {
        return Some(entry.lacks.join("; "));
    }
    if let Some(empty) = entry.archives.iter().find(|a| a.object.size == 0) {
        return Some(format!("{} is empty", empty.name));
    }
    if let Some(why) = seen.lists.get(&backup.id) {
        return Some(why.clone());
    }
    if let (Some(own), Some(cluster)) = (backup.system_id, cluster)
        && own != cluster
    {
        return Some(format!(
            "it is of cluster {own}, and this place is of {cluster}"
        ));
    }
    let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
        return Some("it does not say which WAL it needs".to_owned());
    };
    match reached {
        None => Some(format!("WAL segment {begin}, its first, is missing")),
        Some(last) if last.number < end.number => {
            let missing = last.next();
            Some(format!(
                "WAL segment {missing} is missing, and it needs all up to {end}"
            ))
        }
        Some(_) => None,
    }
}

/// What the backups taken together mean.
fn verdicts(seen: &Seen, report: &mut Report) {
    let newest = seen.entries.last().map(|e| e.backup.id.as_str());
    let mut wrong = Vec::new();
    for (entry, view) in seen.entries.iter().zip(&report.backups) {
        let Some(why) = &view.why_not else {
            continue;
        };
        let text = format!("backup {} cannot be restored: {why}", view.id);
        // A failure that a later backup has made good is history.
        let failed = !entry.backup.is_done() && entry.backup.garbled.is_empty();
        if failed && newest != Some(view.id.as_str()) {
            report.remarks.push(text);
        } else {
            wrong.push(text);
        }
    }
    if report.restorable().next().is_none() {
        wrong.push("there is no backup that can be restored".to_owned());
    }
    report.wrong.extend(wrong);
    let bytes: u64 = seen.unfinished.iter().map(|u| u.bytes).sum();
    if !seen.unfinished.is_empty() {
        report.remarks.push(format!(
            "{} in {} without a backup.info: being made, or left by backups that were killed (`pgnode backup list`)",
            human_bytes(bytes),
            list(&seen.unfinished.iter().map(|u| &*u.id).collect::<Vec<_>>())
        ));
    }
    if seen.blind {
        report.remarks.push(
            "the key may not list unfinished uploads (s3:ListBucketMultipartUploads): they are not counted".to_owned(),
        );
    }
}

fn wal(seen: &Seen, report: &mut Report) {
    let held = &seen.held;
    report.wrong.extend(seen.bad_histories.iter().cloned());
    let with_wal: BTreeSet<Timeline> = held.archive.ranges.iter().map(WalRange::timeline).collect();
    for timeline in with_wal.into_iter().filter(|t| t.0 > 1) {
        let known = seen.histories.iter().any(|h| h.timeline == timeline);
        let name = History::file_name(timeline);
        if !known && !seen.bad_histories.iter().any(|why| why.contains(&name)) {
            report.wrong.push(format!(
                "timeline {timeline} has WAL and {name} is missing: nothing can be recovered along it"
            ));
        }
    }
    if let Some(first) = &held.first_empty {
        let empty = held.empty;
        report.wrong.push(format!(
            "{empty} objects of wals/ have no byte, the first is {first}"
        ));
    }
    if let Some(first) = &held.first_strange {
        let strange = held.archive.strange;
        report.remarks.push(format!(
            "{strange} objects of wals/ are nothing that PostgreSQL archives, the first is {first}"
        ));
    }
    if held.doubles > 0 {
        let doubles = held.doubles;
        report.remarks.push(format!(
            "{doubles} segments are stored twice, packed differently"
        ));
    }
}

fn timelines(archive: &Archive) -> Vec<TimelineView> {
    let mut views: Vec<TimelineView> = Vec::new();
    let mut before: Option<&WalRange> = None;
    for range in &archive.ranges {
        let gap = before.filter(|b| b.timeline() == range.timeline());
        match (views.last_mut(), gap) {
            (Some(view), Some(before)) => {
                let last = WalName {
                    number: range.first.number - 1,
                    ..range.first
                };
                view.gaps.push(Gap {
                    first: before.last.next().to_string(),
                    last: last.to_string(),
                    segments: range.first.number - before.last.number - 1,
                });
                view.last = range.last.to_string();
                view.segments += range.count();
            }
            _ => views.push(TimelineView {
                timeline: range.timeline().0,
                first: range.first.to_string(),
                last: range.last.to_string(),
                segments: range.count(),
                gaps: Vec::new(),
            }),
        }
        before = Some(range);
    }
    views
}

fn unfinished(u: &Unfinished) -> UnfinishedView {
    UnfinishedView {
        id: u.id.clone(),
        bytes: u.bytes,
        uploads: u.uploads,
        node: u.node.clone(),
        touched: u.touched.clone(),
    }
}

/// A few by name, many by their ends.
fn list(ids: &[&str]) -> String {
    match ids {
        [first, _, _, _, .., last] => format!("{} backups, {first} to {last}", ids.len()),
        few => few.join(", "),
    }
}
