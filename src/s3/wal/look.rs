//! What is stored under the name of a WAL file: as it is, packed, or several times.

use super::Archive;
use crate::config::Format;
use crate::domain::{History, Timeline, WalName};
use crate::s3::layout::{WalKey, WalKind};
use crate::s3::mark::{self, Mark};
use crate::s3::store::Walk;
use crate::s3::{S3Error, codec};
use std::collections::BTreeSet;

/// No history, label or anything else that is small has more bytes, packed or not.
pub(super) const SMALL: u64 = 1 << 20;

/// How often something is read until its contents are certain.
const READS: usize = 3;

/// How a reserved number's history begins: a timeline that was not begun (`pg::reserve_timelines`).
const RESERVED: &[u8] = b"# no timeline";

/// An object that holds a WAL file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key, below the store's path.
    pub key: String,
    /// How it is packed.
    pub format: Format,
    /// Its size in the bucket, in bytes.
    pub size: u64,
}

impl Archive {
    /// All objects that hold exactly this file, by one LIST: not its labels, not a partial of it.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn look(&self, name: &str) -> Result<Vec<Stored>, S3Error> {
        let walk = Walk::below(self.layout.wal(name));
        let page = self.store.list(&walk).await?;
        Ok(page
            .objects
            .into_iter()
            .filter_map(|object| {
                let key = WalKey::parse(&object.key)?;
                (key.name == name).then_some(Stored {
                    key: object.key,
                    format: key.format,
                    size: object.size,
                })
            })
            .collect())
    }

    /// An object's contents, unpacked, of at most `most` bytes; `None`: it is gone.
    ///
    /// # Errors
    /// [`S3Error::Damaged`]: it cannot be unpacked; else as [`crate::s3::Store::get`].
    pub async fn contents(&self, stored: &Stored, most: u64) -> Result<Option<Vec<u8>>, S3Error> {
        let format = stored.format;
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let unpack = move |packed: &[u8]| {
            let mut plain = Vec::new();
            match codec::unpack(format, packed, limit, &mut plain) {
                Ok(()) if codec::has_checksum(format, packed) => Seen::Sure(Ok(plain)),
                unpacked => Seen::Doubtful(unpacked.map(|()| plain)),
            }
        };
        // What does not get smaller gets a little larger.
        let seen = self
            .certainly(stored, most + most / 8 + 4096, unpack)
            .await?;
        seen.transpose().map_err(|e| S3Error::Damaged {
            key: self.store.uri(&stored.key),
            why: unpacking(format, &e),
        })
    }

    /// What is seen in an object of at most `most` bytes, as it is stored; `None`: it is gone. What is doubtful counts only
    /// when that was surely not done on the way: a person would be told to delete what is good.
    ///
    /// # Errors
    /// [`S3Error::Damaged`]: it comes otherwise each time; else as [`crate::s3::Store::get`].
    pub(super) async fn certainly<T: Send + 'static>(
        &self,
        stored: &Stored,
        most: u64,
        see: impl Fn(&[u8]) -> Seen<T> + Clone + Send + 'static,
    ) -> Result<Option<T>, S3Error> {
        let mut reads = Reads::default();
        loop {
            match self.seen(stored, most, see.clone(), &mut reads).await {
                Err(error) if reads.again(&error) => {}
                ended => return ended,
            }
        }
    }

    async fn seen<T: Send + 'static>(
        &self,
        stored: &Stored,
        most: u64,
        see: impl FnOnce(&[u8]) -> Seen<T> + Send + 'static,
        reads: &mut Reads,
    ) -> Result<Option<T>, S3Error> {
        let Some((bytes, mark)) = self.store.read_marked(&stored.key, most).await? else {
            return Ok(None);
        };
        let seeing = tokio::task::spawn_blocking(move || match see(&bytes) {
            Seen::Sure(seen) => (seen, None),
            Seen::Doubtful(seen) => (seen, Some(mark::of(&bytes))),
        });
        let (seen, digest) = seeing.await.map_err(|e| S3Error::Bug(e.to_string()))?;
        self.be_certain(stored, reads, &mark, digest).await?;
        Ok(Some(seen))
    }

    /// Whether what came is what is stored: by the server's mark and the MD5 of what came, where that is needed.
    ///
    /// Most that is packed has a checksum of its own. Of what has none, only the server's mark tells a byte that was changed
    /// on the way, and PostgreSQL would take it for the end of the WAL. Where marks are no MD5 (SSE-KMS, several parts) it
    /// counts that the same comes twice.
    ///
    /// # Errors
    /// [`S3Error::Damaged`]: it is not, or that is not known yet.
    pub(super) async fn be_certain(
        &self,
        stored: &Stored,
        reads: &mut Reads,
        mark: &Mark,
        digest: Option<String>,
    ) -> Result<(), S3Error> {
        let Some(digest) = digest else {
            return Ok(());
        };
        if self.store.matches(mark, &digest) {
            return Ok(());
        }
        let twice = reads.before.as_ref() == Some(&digest);
        if twice && !self.is_digest(mark).await? {
            return Ok(());
        }
        let why = format!(
            "came with the MD5 {digest}, and the server says {}: something on the way changes bytes",
            mark.text
        );
        reads.before = Some(digest);
        Err(S3Error::Damaged {
            key: self.store.uri(&stored.key),
            why,
        })
    }

    /// Whether a mark is surely a digest: an object that every archive of ours has tells what this server's are.
    async fn is_digest(&self, mark: &Mark) -> Result<bool, S3Error> {
        if mark.may_be_digest() && !self.store.is_digest(mark) {
            self.claimed().await?;
        }
        Ok(self.store.is_digest(mark))
    }

    /// The histories of timelines after this one, oldest first. Numbers that are only reserved are left out.
    ///
    /// # Errors
    /// As [`Archive::look`]; one is damaged.
    pub async fn histories_after(&self, timeline: Timeline) -> Result<Vec<History>, S3Error> {
        // `g` is after every digit, so the folders of `timeline` itself are not listed.
        let walk = Walk {
            after: Some(format!("{}{:08X}g", self.layout.wals(), timeline.0)),
            ..Walk::level(self.layout.wals())
        };
        let page = self.store.list(&walk).await?;
        let found: BTreeSet<Timeline> = page
            .objects
            .iter()
            .filter_map(|object| WalKey::parse(&object.key))
            .filter(|key| key.kind == WalKind::History)
            .filter_map(|key| key.timeline())
            .collect();
        let mut histories = Vec::new();
        for timeline in found {
            histories.extend(self.history(timeline).await?);
        }
        Ok(histories)
    }

    /// A timeline's history; `None`: there is none, or the number is only reserved.
    ///
    /// # Errors
    /// As [`Archive::look`]; it is damaged.
    pub async fn history(&self, timeline: Timeline) -> Result<Option<History>, S3Error> {
        for stored in self.look(&History::file_name(timeline)).await? {
            let Some(text) = self.contents(&stored, SMALL).await? else {
                continue;
            };
            if is_reserved(&text) {
                return Ok(None);
            }
            return history(timeline, &text)
                .map(Some)
                .map_err(|why| S3Error::Damaged {
                    key: self.store.uri(&stored.key),
                    why,
                });
        }
        Ok(None)
    }

    /// The segments of a timeline from one to another, both included, that are not in the bucket.
    ///
    /// # Errors
    /// As [`Archive::look`].
    pub async fn missing(&self, from: WalName, to: WalName) -> Result<Vec<WalName>, S3Error> {
        let mut wanted: Vec<WalName> = Vec::new();
        let mut next = from;
        while next.number <= to.number {
            wanted.push(next);
            next = next.next();
        }
        let mut there = BTreeSet::new();
        let per_log = WalName::per_log(from.segment_size);
        for log in from.number / per_log..=to.number / per_log {
            let first = WalName {
                number: from.number.max(log * per_log),
                ..from
            };
            let first = first.to_string();
            let folder = format!(
                "{}{}/",
                self.layout.wals(),
                first.get(..16).unwrap_or_default()
            );
            // Not the folder's beginning, but what is asked for.
            let key = self.layout.wal(&first);
            let walk = Walk {
                after: key.get(..key.len() - 1).map(str::to_owned),
                ..Walk::below(folder)
            };
            self.store
                .walk(&walk, |page| -> Result<(), S3Error> {
                    let keys = page.objects.iter().filter_map(|o| WalKey::parse(&o.key));
                    there.extend(keys.filter(|k| k.kind == WalKind::Segment).map(|k| k.name));
                    Ok(())
                })
                .await?;
        }
        wanted.retain(|name| !there.contains(&name.to_string()));
        Ok(wanted)
    }
}

/// What is seen in what came of an object.
#[derive(Debug)]
pub(super) enum Seen<T> {
    /// No byte that was changed on the way could make it look so.
    Sure(T),
    /// One could.
    Doubtful(T),
}

/// The reads of one object so far.
#[derive(Debug, Default)]
pub(super) struct Reads {
    count: usize,
    before: Option<String>,
}

impl Reads {
    /// Whether it is read once more: damage that the line did is not there a second time, and a recovery would end of it.
    pub(super) fn again(&mut self, error: &S3Error) -> bool {
        self.count += 1;
        let again = matches!(error, S3Error::Damaged { .. }) && self.count < READS;
        if again {
            tracing::debug!("{error}; it is read again");
        }
        again
    }
}

/// Why something cannot be unpacked.
pub(super) fn unpacking(format: Format, error: &std::io::Error) -> String {
    match format {
        Format::None => error.to_string(),
        format => format!("cannot be unpacked as {format}: {error}"),
    }
}

/// Whether it only holds a number's place.
pub(super) fn is_reserved(text: &[u8]) -> bool {
    text.starts_with(RESERVED)
}

/// A history file's text, whole: PostgreSQL ends every line (`writeTimeLineHistory` in `timeline.c`).
pub(super) fn history(timeline: Timeline, text: &[u8]) -> Result<History, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no text".to_owned())?;
    let history = History::parse(timeline, text)
        .map_err(|line| format!("is no history file: `{line}` is not understood"))?;
    if history.past.is_empty() || !text.ends_with('\n') {
        return Err("is cut off".to_owned());
    }
    Ok(history)
}
