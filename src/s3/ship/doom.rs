//! What may be deleted in the bucket: pure. The catalogue decides, and only a sound one. Nothing goes that a backup
//! needs which is kept here or there.

use super::shelf::Shelved;
use crate::barman::{Backup, BackupStatus, Keep};
use crate::domain::WalName;
use crate::s3::layout::{WalKey, WalKind};
use std::collections::BTreeMap;

/// What is to become of a backup that only the bucket has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Delete it.
    Delete,
    /// It stays, and why.
    Stays(String),
}

/// Why nothing at all may be deleted, if so: a catalogue that lost its disk looks like one whose backups were all
/// deleted.
pub(super) fn unsound(local: &[Backup], segments: u64) -> Option<String> {
    if !local.iter().any(Backup::is_done) {
        return Some("the catalogue has no complete backup: perhaps it is not mounted".into());
    }
    if segments == 0 {
        return Some("the catalogue's archive has no WAL: perhaps it is not mounted".into());
    }
    let garbled = local
        .iter()
        .find(|b| b.status != BackupStatus::Failed && !b.garbled.is_empty());
    if let Some(backup) = garbled {
        return Some(format!(
            "the metadata of backup {} are not understood: {}",
            backup.id,
            backup.garbled.join("; ")
        ));
    }
    let blind = local
        .iter()
        .find(|b| b.is_copied() && b.begin_wal.is_none());
    blind.map(|b| {
        format!(
            "the metadata of backup {} do not say which WAL it needs",
            b.id
        )
    })
}

/// Of each backup that the bucket has and the catalogue has not, by id.
pub(super) fn judge(local: &[Backup], shelf: &[Shelved]) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    for shelved in shelf {
        if local.iter().any(|b| b.id == shelved.id) {
            continue;
        }
        let kept = shelved.info.as_ref().and_then(|b| b.keep);
        let verdict = match kept {
            Some(_) => Verdict::Stays("it is marked `keep` in the bucket".to_owned()),
            None => Verdict::Delete,
        };
        verdicts.insert(shelved.id.clone(), verdict);
    }
    // A backup rests on its parent, and that one on its own.
    loop {
        let stays = |id: &str| match verdicts.get(id) {
            Some(verdict) => *verdict != Verdict::Delete,
            None => true,
        };
        let here = local.iter();
        let there = shelf.iter().filter_map(|s| s.info.as_ref());
        let needed = here.chain(there).find_map(|b| {
            let parent = b.parent.as_ref().filter(|_| stays(&b.id))?;
            (verdicts.get(parent) == Some(&Verdict::Delete)).then(|| (parent.clone(), b.id.clone()))
        });
        let Some((parent, child)) = needed else {
            return verdicts;
        };
        let why = format!("backup {child} rests on it");
        verdicts.insert(parent, Verdict::Stays(why));
    }
}

/// The WAL that kept backups need, by the numbers of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    ranges: Vec<(u64, Option<u64>)>,
    segment_size: u64,
}

impl Needs {
    /// Of what is here, and of what stays there.
    pub(super) fn of<'a>(
        local: &'a [Backup],
        stays: impl IntoIterator<Item = &'a Backup>,
    ) -> Result<Self, String> {
        let mut needs = Self {
            ranges: Vec::new(),
            segment_size: crate::barman::Server::segment_size(local),
        };
        for backup in local.iter().chain(stays) {
            let Some(begin) = backup.begin_wal else {
                // One that is being made has none yet, and needs nothing old.
                if backup.is_copied() {
                    return Err(format!(
                        "backup {} does not say where its WAL begins",
                        backup.id
                    ));
                }
                continue;
            };
            if backup.status == BackupStatus::Failed {
                continue;
            }
            let until = match backup.keep {
                Some(Keep::Standalone) => backup.end_wal.map(|w| w.number),
                Some(Keep::Full) | None => None,
            };
            needs.ranges.push((begin.number, until));
        }
        Ok(needs)
    }

    /// Whether a file of the archive must stay. What is older than a backup is older on every timeline: a branch begins
    /// within the history of what it was restored from.
    pub(super) fn keep(&self, key: &str) -> bool {
        let Some(wal) = WalKey::parse(key) else {
            return true;
        };
        if wal.kind == WalKind::History {
            return true;
        }
        let segment = wal.name.get(..24).unwrap_or_default();
        let Ok(name) = WalName::parse(segment, self.segment_size) else {
            return true;
        };
        let within = |(from, until): &(u64, Option<u64>)| {
            name.number >= *from && until.is_none_or(|until| name.number <= until)
        };
        self.ranges.iter().any(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const OLD: &str = "20261101T000000";
    const MID: &str = "20261111T000000";
    const NEW: &str = "20261121T000000";

    fn backup(id: &str, from: u64, over: &str) -> Backup {
        let wal = |n: u64| format!("0000000100000000{n:08X}");
        let text = format!(
            "status=DONE\nbegin_wal={}\nend_wal={}\n{over}",
            wal(from),
            wal(from + 1)
        );
        Backup::parse(id, PathBuf::new(), &text)
    }

    fn shelved(backup: Backup) -> Shelved {
        Shelved {
            id: backup.id.clone(),
            commits: vec![format!("meta/{}-backup.info", backup.id)],
            notes: Vec::new(),
            info: Some(backup),
        }
    }

    fn seg(tli: u32, n: u32) -> String {
        format!("p/wals/{tli:08X}00000000/{tli:08X}00000000{n:08X}")
    }

    #[test]
    fn a_catalogue_that_lost_its_disk_deletes_nothing() {
        assert!(unsound(&[], 5).is_some());
        assert!(unsound(&[backup(NEW, 5, "")], 0).is_some());
        assert_eq!(unsound(&[backup(NEW, 5, "")], 1), None);
        let failed = Backup::parse(NEW, PathBuf::new(), "status=FAILED\n");
        assert!(unsound(std::slice::from_ref(&failed), 5).is_some());
        assert_eq!(unsound(&[backup(NEW, 5, ""), failed], 5), None);
        let garbled = Backup::parse(NEW, PathBuf::new(), "status=DONE\nbegin_wal=zz\n");
        assert!(unsound(&[garbled], 5).is_some());
        let blind = Backup::parse(NEW, PathBuf::new(), "status=DONE\n");
        assert!(unsound(&[blind], 5).is_some());
    }

    #[test]
    fn what_the_catalogue_has_not_goes_unless_something_rests_on_it() {
        let local = [backup(NEW, 30, "")];
        let shelf = [
            shelved(backup(OLD, 10, "")),
            shelved(backup(MID, 20, "")),
            shelved(backup(NEW, 30, "")),
        ];
        let verdicts = judge(&local, &shelf);
        let ids: Vec<_> = verdicts.keys().map(String::as_str).collect();
        assert_eq!(ids, [OLD, MID]);
        assert!(verdicts.values().all(|v| *v == Verdict::Delete));

        // An incremental one here rests on one that only the bucket has, and that on another.
        let local = [backup(NEW, 30, &format!("parent_backup_id={MID}\n"))];
        let shelf = [
            shelved(backup(OLD, 10, "")),
            shelved(backup(MID, 20, &format!("parent_backup_id={OLD}\n"))),
        ];
        let verdicts = judge(&local, &shelf);
        assert!(
            verdicts.values().all(|v| *v != Verdict::Delete),
            "{verdicts:?}"
        );

        // Half of one is no backup.
        let half = Shelved {
            id: OLD.into(),
            ..Shelved::default()
        };
        assert_eq!(judge(&local, &[half]).get(OLD), Some(&Verdict::Delete));

        let mut kept = backup(OLD, 10, "");
        kept.keep = Some(Keep::Standalone);
        let verdicts = judge(&[backup(NEW, 30, "")], &[shelved(kept)]);
        assert!(matches!(verdicts.get(OLD), Some(Verdict::Stays(_))));
    }

    #[test]
    fn wal_goes_only_when_no_kept_backup_needs_it() {
        let local = [backup(MID, 20, ""), backup(NEW, 30, "")];
        let needs = Needs::of(&local, []).unwrap();
        for tli in [1, 2] {
            assert!(!needs.keep(&seg(tli, 19)));
            assert!(needs.keep(&seg(tli, 20)));
            assert!(needs.keep(&seg(tli, 99)));
        }
        assert!(needs.keep("p/wals/00000001.history"));
        assert!(needs.keep("p/wals/foreign"));
        assert!(!needs.keep(&format!("{}.00000028.backup", seg(1, 19))));
        assert!(!needs.keep(&format!("{}.partial", seg(1, 19))));

        // A standalone one needs what makes it consistent, and so does one that stays there.
        let mut alone = backup(OLD, 10, "");
        alone.keep = Some(Keep::Standalone);
        for needs in [
            Needs::of(&[alone.clone(), local[0].clone()], []).unwrap(),
            Needs::of(&local, [&alone]).unwrap(),
        ] {
            let kept = [9, 10, 11, 12, 19, 20].map(|n| needs.keep(&seg(1, n)));
            assert_eq!(kept, [false, true, true, false, false, true]);
        }
        let blind = Backup::parse(OLD, PathBuf::new(), "status=DONE\n");
        assert!(Needs::of(&local, [&blind]).is_err());
    }
}
