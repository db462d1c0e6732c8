//! The archive into the bucket. What is archived never changes, so a file of the same size is the same.

use super::merge::Range;
use super::send::{add, blocking};
use super::walk::{Found, What};
use super::{Act, Rule, Ship};
use crate::barman::Backup;
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
        let rule = match self.order.checksum {
            true => Rule::Checksum,
            false => Rule::Size,
        };
        self.sync(&self.archive(), rule, extra).await?;
        self.lists().await
    }

    /// barman's list of the archive: `<server>-xlog.db` since 3.13, `xlog.db` before.
    async fn lists(&self) -> Result<(), S3Error> {
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
                .is_some_and(|o| super::is_same(&found, o, Rule::Time))
            {
                add(&self.tally.same, 1);
                continue;
            }
            (self.ear)(Act::Send {
                key: key.clone(),
                bytes: found.size,
            });
            if !self.order.dry_run {
                self.sender.send(&key, &found).await?;
            }
        }
        Ok(())
    }

    /// The WAL from a backup's begin to its end, without which it is none.
    pub(super) async fn wals_of(&self, backup: &Backup) -> Result<(), S3Error> {
        let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
            return Err(S3Error::Unfit(format!(
                "backup {}: its metadata do not say which WAL it needs",
                backup.id
            )));
        };
        let (begin, end) = (begin.to_string(), end.to_string());
        let key = |name: &str| format!("{}/{name}", name.get(..16).unwrap_or_default());
        let (first, last) = (key(&begin), key(&end));
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
        self.sync(&range, Rule::Size, drop).await
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
}
