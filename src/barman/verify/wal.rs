//! The WAL of a backup: what makes it consistent, and the way from there to the end of the archive.

use super::{Check, Outcome, segment};
use crate::barman::{Archive, Backup, Place, Server};
use crate::domain::{History, Lsn, Timeline, WalName};
use std::io::ErrorKind;

const WAL: &str = "wal";
const CONTINUITY: &str = "continuity";

/// Every segment from the backup's begin to its end: archived, and what its name says.
pub(super) fn needed(server: &Server, backup: &Backup) -> Check {
    let (Some(first), Some(last)) = (backup.begin_wal, backup.end_wal) else {
        return Check::fail(WAL, "the metadata name no first and last segment");
    };
    let Some(count) = backup.segments_needed() else {
        return Check::fail(
            WAL,
            format!("it ends with {last}, before it begins with {first}"),
        );
    };
    let ancestors = match ancestors(server, first.timeline) {
        Ok(history) => history,
        Err(why) => return Check::fail(WAL, why),
    };
    let mut name = first;
    while name.number <= last.number {
        if let Err((outcome, why)) = present(server, &name, backup, &ancestors) {
            let what = format!("segment {name} of {first} to {last} {why}");
            return Check::new(WAL, outcome, what);
        }
        name = name.next();
    }
    let plural = if count == 1 { "" } else { "s" };
    Check::pass(
        WAL,
        format!("{count} segment{plural} from {first} to {last} archived, unpacked and read"),
    )
}

fn present(
    server: &Server,
    name: &WalName,
    backup: &Backup,
    ancestors: &History,
) -> Result<(), (Outcome, String)> {
    let wrong = |why: String| (Outcome::Fail, why);
    let unread = |e: std::io::Error| match e.kind() {
        // Encrypted, or packed in a way that only barman reads: nothing is known of it.
        ErrorKind::Unsupported => (Outcome::Skip, format!("is {e}")),
        _ => (Outcome::Fail, format!("cannot be read: {e}")),
    };
    let file = server.wal_file(&name.to_string()).map_err(unread)?;
    let file = file.ok_or_else(|| wrong("is missing".to_owned()))?;
    match file.place {
        Place::Archived => {}
        Place::Incoming | Place::Streaming | Place::Partial | Place::ArchivedPartial => {
            return Err(wrong(format!("is not archived yet ({})", file.place)));
        }
    }
    let contents = file.open().map_err(unread)?;
    let may_begin = |timeline| ancestors.descends_from(timeline);
    segment::check(contents, name, backup.system_id, may_begin)
        .map_err(|error| wrong(error.to_string()))
}

/// What a timeline descends from. Without its history file nothing is known but itself.
fn ancestors(server: &Server, timeline: Timeline) -> Result<History, String> {
    match server.history(timeline) {
        Ok(Some(history)) => Ok(history),
        Ok(None) => Ok(History::without_past(timeline)),
        Err(error) => Err(error.to_string()),
    }
}

/// Replay from the backup's end on must reach the newest segment of the newest timeline that descends
/// from the backup's.
pub(super) fn continuity(server: &Server, backup: &Backup, archive: &Archive) -> Check {
    let (Some(end), Some(timeline)) = (backup.end_wal, backup.timeline) else {
        return Check::fail(
            CONTINUITY,
            "the metadata name no last segment or no timeline",
        );
    };
    let consistent = backup.end_lsn.unwrap_or(end.begin());
    let (history, newest) = match target(server, timeline, consistent, archive) {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Check::fail(
                CONTINUITY,
                format!("the archive has no segment of timeline {timeline} or of one that follows"),
            );
        }
        Err(why) => return Check::fail(CONTINUITY, why),
    };
    let along = match newest.timeline == timeline {
        true => format!("timeline {timeline}"),
        false => format!("the timelines from {timeline} to {}", newest.timeline),
    };
    match archive.reach(end, &history) {
        None => Check::fail(CONTINUITY, format!("segment {end} is missing")),
        Some(reached) if reached.number >= newest.number => Check::pass(
            CONTINUITY,
            format!("no gap from {end} to {newest}, the newest, along {along}"),
        ),
        Some(reached) => {
            let missing = history.segment(reached.next());
            Check::fail(
                CONTINUITY,
                format!(
                    "segment {missing} is missing: replay along {along} ends with {reached}, and the \
                     archive goes on to {newest}"
                ),
            )
        }
    }
}

/// The newest timeline with segments that descends from the backup's, and its newest segment.
fn target(
    server: &Server,
    timeline: Timeline,
    consistent: Lsn,
    archive: &Archive,
) -> Result<Option<(History, WalName)>, String> {
    for range in archive.ranges.iter().rev() {
        if range.timeline() < timeline {
            break;
        }
        let history = match server.history(range.timeline()) {
            Ok(Some(history)) => history,
            Ok(None) if range.timeline() == timeline => History::without_past(timeline),
            Ok(None) => {
                return Err(format!(
                    "{} is missing: nobody knows what timeline {} descends from",
                    History::file_name(range.timeline()),
                    range.timeline()
                ));
            }
            Err(error) => return Err(error.to_string()),
        };
        // One that left before the backup was consistent is another branch.
        let left = history.end_of(timeline);
        if history.descends_from(timeline) && left.is_none_or(|end| end >= consistent) {
            return Ok(Some((history, range.last)));
        }
    }
    Ok(None)
}
