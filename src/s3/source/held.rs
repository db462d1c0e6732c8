//! What `wals/` holds, gathered from LIST a page at a time: ranges and counts, never names, so that a million
//! objects cost no more memory than their gaps.

use crate::barman::Archive;
use crate::domain::{Timeline, WalName};
use crate::s3::layout::{WalKey, WalKind};
use crate::s3::store::Object;

/// What `wals/` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Segments and histories.
    pub archive: Archive,
    /// Objects, of whatever kind.
    pub objects: u64,
    /// Bytes of them all, as stored.
    pub bytes: u64,
    /// Segments that are there more than once, packed differently.
    pub doubles: u64,
    /// Objects without a byte: nothing that PostgreSQL archives is empty.
    pub empty: u64,
    /// The first such, for a person.
    pub first_empty: Option<String>,
    /// The first object that PostgreSQL has not archived.
    pub first_strange: Option<String>,
    segment_size: u64,
    last: Option<WalName>,
}

impl Held {
    /// Nothing yet; segments have so many bytes.
    #[must_use]
    pub fn of(segment_size: u64) -> Self {
        Self {
            segment_size,
            ..Self::default()
        }
    }

    /// One more, in LIST's order: then ranges grow at their end.
    pub fn add(&mut self, object: &Object) {
        self.objects += 1;
        self.bytes += object.size;
        let Some(key) = WalKey::parse(&object.key) else {
            // What marks an empty directory is nobody's file.
            if !object.key.ends_with('/') {
                self.strange(object);
            }
            return;
        };
        if object.size == 0 {
            self.empty += 1;
            if self.first_empty.is_none() {
                self.first_empty = Some(object.key.clone());
            }
        }
        match key.kind {
            WalKind::Segment => match WalName::parse(&key.name, self.segment_size) {
                Ok(name) if is_at_home(&object.key, &key.name) => {
                    if self.last == Some(name) {
                        self.doubles += 1;
                    } else {
                        self.archive.push(name);
                        self.last = Some(name);
                    }
                }
                Ok(_) | Err(_) => self.strange(object),
            },
            WalKind::History => {
                let known = key.timeline().unwrap_or(Timeline(0));
                if !self.archive.histories.contains(&known) {
                    self.archive.histories.push(known);
                }
            }
            WalKind::Partial | WalKind::BackupLabel => {}
        }
    }

    fn strange(&mut self, object: &Object) {
        self.archive.strange += 1;
        if self.first_strange.is_none() {
            self.first_strange = Some(object.key.clone());
        }
    }

    /// Puts in order what came out of it: a server need not sort as S3 does.
    pub fn settle(&mut self) {
        self.archive.settle();
    }
}

/// In the folder where it is looked for.
fn is_at_home(key: &str, name: &str) -> bool {
    let mut parts = key.rsplit('/');
    let (_, folder) = (parts.next(), parts.next());
    folder.is_some_and(|folder| name.get(..16) == Some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, size: u64) -> Object {
        Object {
            key: key.to_owned(),
            size,
            etag: None,
            modified: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn held(names: &[&str]) -> Held {
        let mut held = Held::of(16 << 20);
        for name in names {
            let key = crate::s3::Layout::of("main").wal(name);
            held.add(&object(&key, 100));
        }
        held.settle();
        held
    }

    #[test]
    fn ranges_and_gaps_come_from_names_however_they_are_packed() {
        let found = held(&[
            "00000002.history.gz",
            "0000000100000000000000FE",
            "0000000100000000000000FF",
            "0000000100000000000000FF.00000028.backup",
            "0000000100000000000000FF.gz",
            "000000010000000100000000.zst",
            "000000010000000100000003.lz4",
            "000000010000000100000004.partial",
            "000000020000000100000004",
        ]);
        let ranges: Vec<String> = found
            .archive
            .ranges
            .iter()
            .map(|r| format!("{}-{}", r.first, r.last))
            .collect();
        assert_eq!(
            ranges,
            [
                "0000000100000000000000FE-000000010000000100000000",
                "000000010000000100000003-000000010000000100000003",
                "000000020000000100000004-000000020000000100000004",
            ]
        );
        assert_eq!(found.archive.histories, [Timeline(2)]);
        let gap = found.archive.gaps().next().unwrap();
        assert_eq!(gap.count(), 2);
        assert_eq!(
            (found.doubles, found.archive.strange, found.objects),
            (1, 0, 9)
        );
        assert_eq!(found.bytes, 900);
    }

    #[test]
    fn what_does_not_belong_there_is_counted_and_the_first_is_named() {
        let mut held = Held::of(16 << 20);
        held.add(&object("main/wals/0000000100000000/readme", 1));
        held.add(&object(
            "main/wals/0000000200000000/000000010000000000000001",
            1,
        ));
        held.add(&object(
            "main/wals/0000000100000000/000000010000000000000002",
            0,
        ));
        held.add(&object("main/wals/0000000100000000/", 0));
        assert_eq!(held.archive.strange, 2);
        assert!(held.first_strange.unwrap().ends_with("readme"));
        assert_eq!(held.empty, 1);
    }

    #[test]
    fn an_order_that_is_not_s3s_makes_no_gaps() {
        let found = held(&[
            "000000010000000000000003",
            "000000010000000000000001",
            "000000010000000000000002",
        ]);
        assert_eq!(found.archive.ranges.len(), 1);
        assert_eq!(found.archive.count(), 3);
    }
}
