//! The rows of `pgnode status` about backups and drills.

use super::{Mood, OLD_BACKUP, ms};
use crate::domain::{ArchivingView, DrillView, Role, Status, human_bytes};
use std::time::Duration;

/// How archiving into the bucket goes.
pub(super) fn archiving(v: &ArchivingView, now_ms: u64) -> (String, Mood) {
    let age = |then: u64| ms(now_ms.saturating_sub(then));
    let waits = match v.waiting {
        0 => String::new(),
        _ => format!("; {}", v.kept(now_ms)),
    };
    let stuck = v.stuck_since_ms().filter(|since| {
        Duration::from_millis(now_ms.saturating_sub(*since)) >= ArchivingView::PATIENCE
    });
    match (v.health.failing_since_ms, &v.health.why) {
        (Some(since), why) => {
            let why = why.as_deref().unwrap_or("no reason is known");
            (format!("fails for {}: {why}{waits}", age(since)), Mood::Bad)
        }
        // The first one is tried again for S3_RETRY before it has failed.
        (None, _) if stuck.is_some() => {
            let since = stuck.map(age).unwrap_or_default();
            (format!("nothing arrives for {since}{waits}"), Mood::Bad)
        }
        (None, _) => {
            let last = match (&v.health.last, v.health.last_ms) {
                (Some(last), Some(then)) => format!(", {last} {} ago", age(then)),
                _ => String::new(),
            };
            (format!("into {}{last}{waits}", v.place), Mood::Good)
        }
    }
}

pub(super) fn backup(s: &Status) -> Option<(String, Mood)> {
    let b = &s.backup;
    let (text, mood) = match (&b.last_id, b.last_end_ms) {
        (Some(id), Some(end)) => {
            let size = b.last_size.map(|n| format!(", {}", human_bytes(n)));
            let age = s.uptime.now_ms.saturating_sub(end);
            let mood = if age > OLD_BACKUP {
                Mood::Fair
            } else {
                Mood::Good
            };
            let count = b.count.map(|n| format!("; {n} in all"));
            let text = format!(
                "{id}, {} ago{}{}",
                ms(age),
                size.unwrap_or_default(),
                count.unwrap_or_default()
            );
            (text, mood)
        }
        _ => match b.mode.as_str() {
            "off" if s.host.is_some() => return None,
            "off" if s.role == Some(Role::Witness) => return None,
            "off" => ("nobody takes any (BARMAN_MODE=off)".to_owned(), Mood::Fair),
            "remote" => ("a barman host takes them".to_owned(), Mood::Good),
            _ => match s.role? {
                Role::Primary => ("none yet".to_owned(), Mood::Fair),
                Role::Standby => ("the primary takes them".to_owned(), Mood::Good),
                Role::Witness => return None,
            },
        },
    };
    Some(match &b.note {
        Some(note) => (format!("{text}; {note}"), mood),
        None => (text, mood),
    })
}

pub(super) fn drill(d: &DrillView, now_ms: u64) -> (String, Mood) {
    let id = d.backup.as_deref().unwrap_or("no backup");
    let old = ms(now_ms.saturating_sub(d.at_ms));
    match &d.error {
        None => (
            format!("{}: {id} was good {old} ago, {}", d.server, d.summary()),
            Mood::Good,
        ),
        Some(why) => (
            format!("{}: FAILED {old} ago with {id}: {why}", d.server),
            Mood::Bad,
        ),
    }
}
