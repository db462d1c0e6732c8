//! A barman host's catalogue in the bucket, as barman keeps it: `<server>/base/<id>/…`, `<server>/wals/…`,
//! `<server>/meta/…`, `<server>/identity.json`. A plain download of it is a barman catalogue again.
//!
//! A reader of the bucket never takes half a backup for a whole one: its files come first, then the WAL that makes it
//! consistent, its metadata last; when it is deleted they go first.

mod base;
mod begun;
mod doom;
mod full;
mod identity;
mod merge;
mod place;
mod queue;
mod record;
mod send;
mod shelf;
mod task;
mod walk;
mod wals;

pub use full::Swept;
pub use queue::{Entry, Outcome, Queue};
pub use record::{Kind, Record};
pub use send::Tally;
pub use shelf::Shelved;
pub use task::{Event, Next, NoTask, State, Task, step};
pub use walk::{EMPTY, Flow, Found, LINK, What, walk};

use super::layout::Layout;
use super::store::Object;
use super::{S3Error, Store};
use crate::barman::{Backup, Server};
use crate::config::Encryption;
use crate::s3::mark;
use merge::{Merge, Range, Side};
use send::{Sender, add, blocking};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How a run is asked to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Change nothing, and say what would be done.
    pub dry_run: bool,
    /// Compare contents instead of times.
    pub checksum: bool,
}

/// What is done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// An object is stored.
    Send {
        /// Its key.
        key: String,
        /// Its size.
        bytes: u64,
    },
    /// An object is deleted, or an upload that was begun and never finished.
    Delete {
        /// Its key; of an upload with `?uploadId=…`, as S3 calls it: an object of the same key is another thing.
        key: String,
        /// Its size.
        bytes: u64,
    },
    /// It is not in the catalogue and stays.
    Keep {
        /// The object, or what several have in common.
        key: String,
        /// Why.
        why: String,
    },
    /// A file could not be read; the others are sent.
    Failed {
        /// Which, and why.
        why: String,
    },
}

/// Hears of everything that is done or would be.
pub type Ear = Arc<dyn Fn(Act) + Send + Sync>;

/// One cluster's catalogue on its way into the bucket. Cheap to clone.
#[derive(Clone)]
pub struct Ship {
    sender: Arc<Sender>,
    server: Server,
    layout: Layout,
    order: Order,
    tally: Arc<Tally>,
    ear: Ear,
}

impl std::fmt::Debug for Ship {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ship")
            .field("server", &self.server)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// What makes a file another one than its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Its size: for what never changes.
    Size,
    /// Its size, or it was changed after the object was stored.
    Time,
    /// Its size, or its contents.
    Checksum,
}

impl Ship {
    /// Of the cluster whose files are in `dir` (`<barman_home>/<server>`).
    #[must_use]
    pub fn of(store: &Store, dir: PathBuf, order: Order, ear: Ear) -> Self {
        let server = Server::at(dir);
        let tally = Arc::new(Tally::default());
        Self {
            sender: Arc::new(Sender::new(store, tally.clone())),
            layout: Layout::of(&server.name()),
            server,
            order,
            tally,
            ear,
        }
    }

    /// How far it is.
    #[must_use]
    pub const fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    fn store(&self) -> &Store {
        self.sender.store()
    }

    /// A key of this cluster.
    fn key(&self, below: &str) -> String {
        format!("{}{below}", self.layout.all())
    }

    /// The rule for what may change.
    const fn rule(&self) -> Rule {
        match self.order.checksum {
            true => Rule::Checksum,
            false => Rule::Time,
        }
    }

    /// The catalogue as it is now. A directory that is not there is no empty catalogue.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn backups(&self) -> Result<Vec<Backup>, S3Error> {
        let server = self.server.clone();
        let base = self.server.dir.join("base");
        blocking("read", &base, |path| std::fs::read_dir(path).map(drop)).await?;
        match tokio::task::spawn_blocking(move || server.backups()).await {
            Ok(backups) => Ok(backups?),
            Err(failed) => Err(S3Error::Bug(failed.to_string())),
        }
    }

    /// Sends what is here and not there, or there otherwise. `extra` is told what is only there.
    ///
    /// # Errors
    /// The server refuses or does not answer; either list cannot be read. A file that cannot be read is an error at the
    /// end: the others are sent.
    async fn sync(
        &self,
        range: &Range,
        rule: Rule,
        mut extra: impl FnMut(Object),
    ) -> Result<(), S3Error> {
        let mut merge = Merge::begin(self.store(), range);
        let mut flights = JoinSet::new();
        let mut troubles = Troubles::default();
        while let Some(side) = merge.next().await? {
            let (found, object) = match side {
                Side::There(object) => {
                    extra(object);
                    continue;
                }
                Side::Here(found) => (found, None),
                Side::Both(found, object) => (found, Some(object)),
            };
            if object.as_ref().is_some_and(|o| is_same(&found, o, rule)) {
                add(&self.tally.same, 1);
                continue;
            }
            while flights.len() >= self.sender.width() {
                troubles.hear(flights.join_next().await, &self.ear)?;
            }
            let (ship, key) = (self.clone(), format!("{}{}", range.prefix, found.key));
            flights.spawn(async move { ship.one(&key, &found, object, rule).await });
        }
        while !flights.is_empty() {
            troubles.hear(flights.join_next().await, &self.ear)?;
        }
        troubles.end()
    }

    async fn one(
        &self,
        key: &str,
        found: &Found,
        object: Option<Object>,
        rule: Rule,
    ) -> Result<(), S3Error> {
        if let (Some(object), Rule::Checksum) = (&object, rule)
            && found.size == object.size
            && self.has_the_mark(found, object).await?
        {
            add(&self.tally.same, 1);
            return Ok(());
        }
        (self.ear)(Act::Send {
            key: key.to_owned(),
            bytes: found.size,
        });
        if self.order.dry_run {
            self.sender.pretend(key, found);
            return Ok(());
        }
        self.sender.send(key, found).await
    }

    /// Whether the file's contents are those that the server has marked. A mark that is no MD5 says nothing: then the
    /// times decide.
    async fn has_the_mark(&self, found: &Found, object: &Object) -> Result<bool, S3Error> {
        let etag = object.etag.as_deref().unwrap_or_default();
        let Some((mark, parts)) = md5(etag, &self.store().settings().encryption) else {
            return Ok(is_same(found, object, Rule::Time));
        };
        let ours = match &found.what {
            What::Empty => mark::of(b""),
            What::Link(to) => mark::of(to.to_string_lossy().as_bytes()),
            What::File => {
                let part = parts.then(|| self.store().part_size(found.size));
                let hash = move |path: &std::path::Path| mark::of_file(path, part);
                blocking("read", &found.path, hash).await?
            }
        };
        Ok(ours == mark)
    }

    /// Sends a small file unless its contents are there already.
    async fn commit(&self, below: &str, path: &std::path::Path) -> Result<(), S3Error> {
        let key = self.key(below);
        let read = |path: &std::path::Path| {
            let meta = std::fs::metadata(path)?;
            Ok((std::fs::read(path)?, meta.len()))
        };
        let (bytes, _) = blocking("read", path, read).await?;
        let mark = mark::of(&bytes);
        let there = self.store().find(&key).await?;
        if there.is_some_and(|o| o.etag.is_some_and(|e| e.trim_matches('"') == mark)) {
            add(&self.tally.same, 1);
            return Ok(());
        }
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        (self.ear)(Act::Send {
            key: key.clone(),
            bytes: size,
        });
        if self.order.dry_run {
            return Ok(());
        }
        let label = super::store::Label::Plain;
        self.store().put(&key, bytes.into(), label).await?;
        add(&self.tally.sent, 1);
        add(&self.tally.bytes, size);
        Ok(())
    }
}

/// The MD5 that a server's mark is, and whether it is that of parts; `None`: it says nothing of the contents. Marks of
/// what is encrypted with SSE-KMS look like an MD5, and are none (Amazon S3, "Checking object integrity").
fn md5(etag: &str, how: &Encryption) -> Option<(String, bool)> {
    let mark = etag.trim_matches('"').to_ascii_lowercase();
    let (digest, parts) = match mark.split_once('-') {
        Some((digest, _)) => (digest, true),
        None => (mark.as_str(), false),
    };
    let says = mark::may_be(digest) && !matches!(how, Encryption::Kms { .. });
    says.then_some((mark, parts))
}

/// Whether that can be seen without reading the file.
fn is_same(found: &Found, object: &Object, rule: Rule) -> bool {
    let stored = (
        object.modified.timestamp(),
        i64::from(object.modified.timestamp_subsec_nanos()),
    );
    found.size == object.size
        && match rule {
            Rule::Size => true,
            Rule::Time => found.modified <= stored,
            Rule::Checksum => false,
        }
}

/// Files that could not be read, while the others are sent.
#[derive(Default)]
struct Troubles {
    first: Option<S3Error>,
}

impl Troubles {
    /// Ends the run for what concerns the server.
    fn hear(
        &mut self,
        ended: Option<Result<Result<(), S3Error>, tokio::task::JoinError>>,
        ear: &Ear,
    ) -> Result<(), S3Error> {
        match ended {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error @ S3Error::File { .. }))) => {
                let why = crate::domain::Fault::chain(&error);
                ear(Act::Failed { why });
                self.first.get_or_insert(error);
                Ok(())
            }
            Some(Ok(Err(error))) => Err(error),
            Some(Err(failed)) => Err(S3Error::Bug(failed.to_string())),
        }
    }

    fn end(self) -> Result<(), S3Error> {
        match self.first {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(size: u64, modified: (i64, i64), stored: i64) -> (Found, Object) {
        let found = Found {
            key: "k".into(),
            path: "/k".into(),
            what: What::File,
            size,
            modified,
        };
        let object = Object {
            key: "p/k".into(),
            size: 5,
            etag: None,
            modified: chrono::DateTime::from_timestamp(stored, 0).unwrap(),
        };
        (found, object)
    }

    #[test]
    fn a_mark_that_is_no_md5_says_nothing() {
        let digest = "5eb63bbbe01eeed093cb22bb8f5acdc3";
        let plain = |etag: &str| md5(etag, &Encryption::Bucket);
        let quoted = format!("\"{}\"", digest.to_uppercase());
        assert_eq!(plain(&quoted), Some((digest.to_owned(), false)));
        let parts = format!("{digest}-3");
        assert_eq!(plain(&parts), Some((parts.clone(), true)));
        for none in ["", "abc", &digest.replace('5', "z")] {
            assert_eq!(plain(none), None, "{none}");
        }
        // It looks like one.
        assert_eq!(md5(digest, &Encryption::Kms { key: None }), None);
    }

    #[test]
    fn a_file_is_sent_again_when_its_size_or_its_time_says_so() {
        for (size, modified, by_size, by_time) in [
            (5, (99, 0), true, true),
            (5, (100, 0), true, true),
            (5, (100, 1), true, false),
            (4, (99, 0), false, false),
        ] {
            let (found, object) = pair(size, modified, 100);
            assert_eq!(is_same(&found, &object, Rule::Size), by_size);
            assert_eq!(is_same(&found, &object, Rule::Time), by_time);
            assert!(!is_same(&found, &object, Rule::Checksum));
        }
    }
}
