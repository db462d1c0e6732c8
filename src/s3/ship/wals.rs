//! The archive into the bucket. What is archived never changes, so a file of the same size is the same.

use super::merge::{Merge, Range, Side};
use super::send::{add, blocking};
use super::walk::{Found, What};
use super::{Rule, Ship};
use crate::barman::Backup;
use crate::domain::WalName;
use crate::s3::layout::kind;
use crate::s3::{Object, S3Error};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// Files of the archive, and the directories of them: 16 hex digits.
pub(super) fn is_archive(key: &str) -> bool {
    match key.strip_suffix('/') {
        Some(dir) => dir.len() == 16 && dir.bytes().all(|b| b.is_ascii_hexdigit()),
        None => key.rsplit('/').next().is_some_and(|n| kind(n).is_some()),
    }
}

impl Ship {
    pub(super) fn archive(&self) -> Range {
        Range {
            root: self.server.dir.join("wals"),
            prefix: self.layout.wals(),
            want: Arc::new(is_archive),
            after: None,
            until: None,
        }
    }

    /// Ships the archive, its list last. What is only there is given to `extra`.
    ///
    /// # Errors
    /// The server refuses or does not answer; a file cannot be read.
    pub async fn ship_wals(&self, extra: impl FnMut(Object)) -> Result<(), S3Error> {
        self.sync(&self.archive(), self.constant(), extra).await?;
        self.lists().await
    }

    /// The rule for what never changes.
    const fn constant(&self) -> Rule {
        match self.order.checksum {
            true => Rule::Checksum,
            false => Rule::Size,
        }
    }

    /// barman's list of the archive: `<server>-xlog.db` since 3.13, `xlog.db` before. It grows, so the rule is that of
    /// what may change.
    async fn lists(&self) -> Result<(), S3Error> {
        let rule = self.rule();
        let dir = self.server.dir.join("wals");
        let found = blocking("read", &dir, |dir| {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with("xlog.db") && !name.starts_with('.') {
                    let meta = entry.metadata()?;
                    found.push(Found {
                        key: name,
                        path: entry.path(),
                        what: What::File,
                        size: meta.len(),
                        modified: (meta.mtime(), meta.mtime_nsec()),
                    });
                }
            }
            Ok(found)
        })
        .await?;
        for found in found {
            let key = format!("{}{}", self.layout.wals(), found.key);
            let object = self.store().find(&key).await?;
            if object
                .as_ref()
                .is_some_and(|o| super::is_same(&found, o, rule))
            {
                add(&self.tally.same, 1);
                continue;
            }
            self.one(&key, &found, object, rule).await?;
        }
        Ok(())
    }

    /// The WAL from a backup's begin to its end, without which it is none.
    pub(super) async fn wals_of(&self, backup: &Backup) -> Result<(), S3Error> {
        let (_, range) = self.needed(backup)?;
        self.sync(&range, self.constant(), drop).await
    }

    /// Whether all WAL that a backup needs is in one of the places.
    ///
    /// # Errors
    /// [`S3Error::Lacks`]: which segment is not; the server refuses or does not answer; the archive cannot be read.
    pub(super) async fn must_have_wals(&self, backup: &Backup, at: At) -> Result<(), S3Error> {
        let (segments, range) = self.needed(backup)?;
        let mut lacks = Lacks::of(segments);
        let mut merge = Merge::begin(self.store(), &range);
        while let Some(side) = merge.next().await? {
            match side {
                Side::Here(found) if at == At::Either => lacks.hear(&found.key),
                Side::Here(_) => {}
                Side::Both(found, _) => lacks.hear(&found.key),
                Side::There(object) => lacks.hear(&object.key),
            }
        }
        match lacks.end() {
            None => Ok(()),
            Some((first, more)) => Err(S3Error::Lacks {
                backup: backup.id.clone(),
                server: self.server.name(),
                first,
                more,
            }),
        }
    }

    /// The segments that a backup needs, and where they are looked for.
    fn needed(&self, backup: &Backup) -> Result<([WalName; 2], Range), S3Error> {
        let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
            return Err(S3Error::Unfit(format!(
                "backup {}: its metadata do not say which WAL it needs",
                backup.id
            )));
        };
        let segments = [begin, end];
        let key = |name: String| format!("{}/{name}", name.get(..16).unwrap_or_default());
        let [first, last] = segments.map(|name| key(name.to_string()));
        let until = last.clone();
        // The key before the first one: LIST begins after it.
        let after = first.get(..first.len() - 1).map(str::to_owned);
        let want = move |key: &str| match key.strip_suffix('/') {
            Some(dir) => {
                is_archive(key) && first.get(..16) <= Some(dir) && Some(dir) <= last.get(..16)
            }
            None => is_archive(key) && *first <= *key && *key <= *last,
        };
        let range = Range {
            want: Arc::new(want),
            after,
            until: Some(until),
            ..self.archive()
        };
        Ok((segments, range))
    }
}

/// Where WAL may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Here or there: what is here can be sent.
    Either,
    /// There.
    Bucket,
}

/// Looks for gaps while the names go by in their order: what a backup needs may be of any length.
#[derive(Debug)]
struct Lacks(Vec<Span>);

/// Segments that must all come.
#[derive(Debug)]
struct Span {
    /// The next one; beyond the last one when all have come.
    next: WalName,
    last: WalName,
    /// The first that did not, and how many did not.
    first: Option<WalName>,
    count: u64,
}

impl Lacks {
    /// From one to another, both included. Where the timeline changed between them only these two are known to be needed:
    /// the metadata do not tell where it changed.
    fn of([begin, end]: [WalName; 2]) -> Self {
        let span = |next, last| Span {
            next,
            last,
            first: None,
            count: 0,
        };
        Self(match begin.timeline == end.timeline {
            true => vec![span(begin, end)],
            false => vec![span(begin, begin), span(end, end)],
        })
    }

    /// A file of the archive, by its key.
    fn hear(&mut self, key: &str) {
        let name = key.rsplit('/').next().unwrap_or_default();
        for span in &mut self.0 {
            let name = WalName::parse(name, span.last.segment_size);
            if let Ok(name) = name
                && (span.next..=span.last).contains(&name)
            {
                span.gap_until(name.number);
                span.next = name.next();
            }
        }
    }

    /// The first segment that did not come, and how many more did not.
    fn end(mut self) -> Option<(WalName, u64)> {
        for span in &mut self.0 {
            span.gap_until(span.last.number + 1);
        }
        let first = self.0.iter().find_map(|span| span.first)?;
        let count: u64 = self.0.iter().map(|span| span.count).sum();
        Some((first, count.saturating_sub(1)))
    }
}

impl Span {
    fn gap_until(&mut self, number: u64) {
        if self.next.number < number {
            self.first.get_or_insert(self.next);
            self.count += number - self.next.number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgres_archives_is_of_the_archive() {
        for key in [
            "0000000100000000/",
            "0000000100000000/000000010000000000000003",
            "0000000100000000/000000010000000000000003.00000028.backup",
            "0000000100000000/000000010000000000000003.partial",
            "00000002.history",
        ] {
            assert!(is_archive(key), "{key}");
        }
        for key in [
            "xlog.db",
            "main-xlog.db",
            "x/",
            "0000000100000000/.000000010000000000000003.tmp",
            "0000000100000000/000000010000000000000003.gz",
            "0000000100000000/pgsql_tmp.pgnode-empty",
        ] {
            assert!(!is_archive(key), "{key}");
        }
    }

    fn wal(name: &str) -> WalName {
        WalName::parse(name, WalName::DEFAULT_SEGMENT_SIZE).unwrap()
    }

    /// What is lacking of the segments from 0xFE of the first log to 1 of the next one.
    fn lacking(there: &[&str]) -> Option<(String, u64)> {
        let ends = ["0000000100000000000000FE", "000000010000000100000001"].map(wal);
        let mut lacks = Lacks::of(ends);
        for name in there {
            lacks.hear(&format!("main/wals/{}/{name}", &name[..16]));
        }
        lacks.end().map(|(first, more)| (first.to_string(), more))
    }

    #[test]
    fn a_segment_that_a_backup_needs_and_nobody_has_is_named() {
        let all = [
            "0000000100000000000000FE",
            "0000000100000000000000FF",
            "000000010000000100000000",
            "000000010000000100000001",
        ];
        assert_eq!(lacking(&all), None);
        // Labels, neighbours and other timelines are none of them.
        let more = [
            "0000000100000000000000FD",
            all[0],
            "0000000100000000000000FE.00000028.backup",
            all[1],
            all[2],
            all[3],
            "000000010000000100000002",
            "000000020000000100000000",
        ];
        assert_eq!(lacking(&more), None);
        for (n, name) in all.iter().enumerate() {
            let left: Vec<&str> = all.iter().copied().filter(|a| a != name).collect();
            assert_eq!(lacking(&left), Some((all[n].to_owned(), 0)));
        }
        let label = "0000000100000000000000FE.00000028.backup";
        assert_eq!(lacking(&[label]), Some((all[0].to_owned(), 3)));
        assert_eq!(lacking(&all[1..3]), Some((all[0].to_owned(), 1)));
        assert_eq!(lacking(&all[..1]), Some((all[1].to_owned(), 2)));
    }

    #[test]
    fn of_a_backup_over_two_timelines_its_ends_are_needed() {
        let [begin, end] = ["000000010000000000000003", "000000020000000000000005"];
        let lacks = |there: &[&str]| {
            let mut lacks = Lacks::of([begin, end].map(wal));
            there.iter().for_each(|name| lacks.hear(name));
            lacks.end().map(|(first, _)| first.to_string())
        };
        assert_eq!(lacks(&[begin, end]), None);
        assert_eq!(lacks(&[begin]).as_deref(), Some(end));
        assert_eq!(lacks(&[end]).as_deref(), Some(begin));
    }
}
