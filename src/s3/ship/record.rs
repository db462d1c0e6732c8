//! What the last run of each kind came to, for status and metrics: a file beside the queue.

use super::Queue;
use crate::s3::S3Error;
use crate::sys::{LockError, VolumeLock};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The kinds of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The archive.
    Wal,
    /// Backups of the queue.
    Base,
    /// Everything.
    Full,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Wal, Self::Base, Self::Full];

    /// In names of files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Base => "base",
            Self::Full => "full",
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it ended, milliseconds since the epoch.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Objects sent.
    pub sent: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Bytes that an earlier run had sent.
    #[serde(default)]
    pub resumed: u64,
    /// Objects that were there already.
    pub same: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// When one last succeeded.
    pub ok_ms: Option<u64>,
}

impl Queue {
    fn beside(&self, server: &str, kind: Kind, ending: &str) -> PathBuf {
        let word = kind.word();
        self.dir().join(format!(".{server}-{word}.{ending}"))
    }

    /// What the last one came to; `None` before the first.
    #[must_use]
    pub fn record(&self, server: &str, kind: Kind) -> Option<Record> {
        let text = std::fs::read(self.beside(server, kind, "json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes it down; the time of the last success stays.
    ///
    /// # Errors
    /// The disk.
    pub fn write_record(
        &self,
        server: &str,
        kind: Kind,
        mut record: Record,
    ) -> Result<(), S3Error> {
        record.ok_ms = match record.error {
            None => Some(record.at_ms),
            Some(_) => self.record(server, kind).and_then(|r| r.ok_ms),
        };
        let path = self.beside(server, kind, "json");
        let text = serde_json::to_vec(&record).map_err(|e| S3Error::Bug(e.to_string()))?;
        let written = crate::sys::ensure_dir(self.dir(), 0o700, None)
            .and_then(|_| crate::sys::write_volatile(&path, &text, 0o600, None));
        match written {
            Ok(_) => Ok(()),
            Err(source) => Err(S3Error::File {
                what: "write",
                path,
                source,
            }),
        }
    }

    /// The right to be the only run of a kind; `None`: another is under way. A process that dies gives it back.
    ///
    /// # Errors
    /// The lock cannot be used.
    pub fn lock(&self, server: &str, kind: Kind) -> Result<Option<VolumeLock>, S3Error> {
        let path = self.beside(server, kind, "lock");
        let io = |source| S3Error::File {
            what: "lock",
            path: path.clone(),
            source,
        };
        crate::sys::ensure_dir(self.dir(), 0o700, None).map_err(io)?;
        match VolumeLock::acquire(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(LockError::Held { .. }) => Ok(None),
            Err(LockError::Io { source, .. }) => Err(io(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_forget_the_last_success() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = Queue::at(tmp.path().to_owned());
        assert_eq!(queue.record("main", Kind::Wal), None);
        let at = |at_ms, error: Option<&str>| Record {
            at_ms,
            error: error.map(str::to_owned),
            ..Record::default()
        };
        queue.write_record("main", Kind::Wal, at(5, None)).unwrap();
        let failed = at(9, Some("no route"));
        queue.write_record("main", Kind::Wal, failed).unwrap();
        let record = queue.record("main", Kind::Wal).unwrap();
        assert_eq!((record.at_ms, record.ok_ms), (9, Some(5)));
        assert_eq!(queue.record("main", Kind::Full), None);
        // A task's name is none of these.
        assert_eq!(queue.list().unwrap(), []);
    }

    #[test]
    fn one_run_of_a_kind_at_a_time() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = Queue::at(tmp.path().to_owned());
        let first = queue.lock("main", Kind::Wal).unwrap();
        assert!(first.is_some());
        assert!(queue.lock("main", Kind::Wal).unwrap().is_none());
        assert!(queue.lock("main", Kind::Base).unwrap().is_some());
        drop(first);
        assert!(queue.lock("main", Kind::Wal).unwrap().is_some());
    }
}
