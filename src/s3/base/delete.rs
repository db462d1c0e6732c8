//! Takes backups away, and WAL that no other needs. `backup.info` goes first: from then on nobody takes the rest for a
//! backup, and what a crash leaves is found as a leftover; a mark says whose it is until nothing else is left. History
//! files stay.

use super::catalogue::{Catalogue, DOOMED, Entry, INFO, KEEP, Leftover};
use super::marker::MARKER;
use super::retention::Needed;
use crate::barman::Keep;
use crate::domain::WalName;
use crate::s3::S3Error;
use crate::s3::layout::{WalKey, WalKind};
use crate::s3::store::{Label, Walk};
use bytes::Bytes;

/// How much went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Gone {
    /// Objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Gone {
    /// One more.
    pub const fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl Catalogue {
    /// Deletes a backup: its `backup.info`, then all the rest. The caller holds the lock, and has seen that it may go.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn delete(&self, entry: &Entry) -> Result<(), S3Error> {
        let key = |name: &str| self.layout.base(&entry.backup.id, name);
        let (info, mark) = (key(INFO), key(DOOMED));
        let text = Bytes::from_static(b"This backup is being deleted.\n");
        self.store.put(&mark, text, Label::Plain).await?;
        self.store.delete(std::slice::from_ref(&info)).await?;
        let rest = entry.objects.iter().map(|o| &o.key);
        let rest = rest.filter(|key| ![&info, &mark].contains(key));
        self.store
            .delete(&rest.cloned().collect::<Vec<_>>())
            .await?;
        for upload in self.store.unfinished(&key("")).await? {
            self.store.discard(&upload).await?;
        }
        self.store.delete(&[mark]).await
    }

    /// Lets the retention pass a backup over, or takes that back: barman-cloud's annotation.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn keep(&self, id: &str, keep: Option<Keep>) -> Result<(), S3Error> {
        let key = self.layout.base(id, KEEP);
        match keep {
            Some(keep) => {
                let body = Bytes::from(keep.to_string());
                self.store.put(&key, body, Label::Plain).await
            }
            None => self.store.delete(&[key]).await,
        }
    }

    /// Deletes what a killed backup or a delete that was broken off has left.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn sweep(&self, leftover: &Leftover) -> Result<(), S3Error> {
        for upload in &leftover.uploads {
            self.store.discard(upload).await?;
        }
        // What says that it is dead goes last: killed here, it is found again.
        let marks = [DOOMED, MARKER].map(|name| self.layout.base(&leftover.id, name));
        let keys = leftover.objects.iter().map(|o| o.key.clone());
        let (marks, rest): (Vec<_>, Vec<_>) = keys.partition(|key| marks.contains(key));
        self.store.delete(&rest).await?;
        self.store.delete(&marks).await
    }

    /// Deletes the WAL that is not needed, or only counts it. What must stay is not even listed, but for the
    /// directory in which it begins.
    ///
    /// # Errors
    /// [`S3Error`]: some may be gone then.
    pub async fn delete_wal(&self, needed: &Needed, dry_run: bool) -> Result<Gone, S3Error> {
        let wals = self.layout.wals();
        let mut gone = Gone::default();
        for folder in self.store.list(&Walk::level(wals.clone())).await?.folders {
            let name = folder.trim_end_matches('/').rsplit('/').next();
            let Some(first) = name.and_then(|n| first_of(n, needed.segment_size)) else {
                continue;
            };
            if !needed.spares_some(&first) {
                continue;
            }
            let mut more = None;
            loop {
                // A page, then what of it goes: memory does not grow with the archive.
                let mut page = self
                    .store
                    .page(&Walk::below(folder.clone()), more, None)
                    .await?;
                more = page.more.take();
                let going = page.objects.iter().filter(|o| goes(&o.key, needed));
                let keys: Vec<String> = going
                    .inspect(|o| gone.add(o.size))
                    .map(|o| o.key.clone())
                    .collect();
                if !dry_run {
                    self.store.delete(&keys).await?;
                }
                if more.is_none() {
                    break;
                }
            }
        }
        Ok(gone)
    }
}

/// The first segment of a directory of `wals/`.
fn first_of(dir: &str, segment_size: u64) -> Option<WalName> {
    WalName::parse(&format!("{dir}00000000"), segment_size).ok()
}

fn goes(key: &str, needed: &Needed) -> bool {
    let Some(key) = WalKey::parse(key).filter(|k| k.kind != WalKind::History) else {
        return false;
    };
    let segment = key.name.get(..24).unwrap_or_default();
    WalName::parse(segment, needed.segment_size).is_ok_and(|wal| needed.spares(&wal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timeline;

    #[test]
    fn history_files_and_what_is_no_wal_stay() {
        let needed = Needed {
            from: 0x105,
            by: "20261121T010000".into(),
            timeline: Timeline(2),
            spans: vec![(3, 4)],
            segment_size: 16 << 20,
        };
        let goes = |name: &str| goes(&format!("main/wals/x/{name}"), &needed);
        for (name, want) in [
            ("000000010000000000000002", true),
            ("000000010000000000000002.gz", true),
            ("000000010000000000000003", false),
            ("000000020000000000000004.zst", false),
            ("000000010000000000000003.00000028.backup", false),
            ("000000010000000000000005.00000028.backup", true),
            ("000000010000000100000004.partial", true),
            ("000000010000000100000005", false),
            ("000000030000000000000002", false),
            ("00000001.history", false),
            ("00000002.history.gz", false),
            ("identity.json", false),
            ("000000010000000000000002.tmp", false),
        ] {
            assert_eq!(goes(name), want, "{name}");
        }
        let size = needed.segment_size;
        let first = |dir: &str| first_of(dir, size).map(|w| needed.spares_some(&w));
        assert_eq!(first("0000000100000000"), Some(true));
        assert_eq!(first("0000000200000001"), Some(true));
        assert_eq!(first("0000000200000002"), Some(false));
        assert_eq!(first("0000000300000000"), Some(false));
        assert_eq!(first("x"), None);
    }
}
