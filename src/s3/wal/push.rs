//! A file of `pg_wal` into the bucket: only what belongs there, and never over something else.

use super::judge::{self, Past};
use super::look::{SMALL, Seen, Stored};
use super::room::Room;
use super::{Archive, Claim};
use crate::barman::{self, HEADER};
use crate::config::{Codec, Format};
use crate::domain::{History, Timeline, WalName};
use crate::s3::layout::{WalKind, kind};
use crate::s3::pages::Pages;
use crate::s3::store::Label;
use crate::s3::{S3Error, codec};
use crate::sys;
use bytes::Bytes;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What came of a push. In all cases the bucket has the file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Stored, with so many bytes in the bucket.
    Stored(u64),
    /// The same was there already.
    There,
}

/// A file that is to be archived.
struct Local {
    path: PathBuf,
    name: String,
    kind: WalKind,
    length: u64,
}

impl Archive {
    /// Archives one file, and returns when it is durably in the bucket. `ours` is the claim that [`Archive::claim`] gave.
    ///
    /// # Errors
    /// [`S3Error::Unfit`]: it must not be archived here; [`S3Error::Damaged`]: what is stored under its name cannot be
    /// read; else as [`crate::s3::Store::put`].
    pub async fn push(&self, ours: Claim, path: &Path, room: &Room) -> Result<Pushed, S3Error> {
        let local = local(path)?;
        if local.kind == WalKind::History {
            return self.push_history(ours, &local, room).await;
        }
        let segment = judge::segment_of(&local.name, ours.segment_size).ok_or_else(|| {
            unfit(
                &local,
                &format!("segments here have {} bytes", ours.segment_size),
            )
        })?;
        if matches!(local.kind, WalKind::Segment | WalKind::Partial) {
            let head = head(&local)?;
            barman::check_head(&head, local.length, &segment, ours.cluster)
                .map_err(|e| S3Error::Unfit(format!("not archived: {e}")))?;
        } else if local.length > SMALL {
            return Err(unfit(&local, "it is too large for a label"));
        }
        let (stored, current) = tokio::join!(
            self.look(&local.name),
            self.must_be_current(&local, segment)
        );
        let stored = stored?;
        if !stored.is_empty() {
            self.same(&local, &stored, room).await?;
            return Ok(Pushed::There);
        }
        current?;
        self.store_packed(&local, room).await
    }

    /// Whether what is stored under the name is the same, whatever it is packed with.
    async fn same(&self, local: &Local, stored: &[Stored], room: &Room) -> Result<(), S3Error> {
        for object in stored {
            let _held = room.take(object.size).await?;
            let (path, format) = (local.path.clone(), object.format);
            let most = local.length * 9 / 8 + 4096;
            let compare = move |packed: &[u8]| match compared(&path, format, packed) {
                // Nobody is blamed for these.
                said @ (Err(_) | Ok(Ok(true))) => Seen::Sure(said),
                said => Seen::Doubtful(said),
            };
            let Some(said) = self.certainly(object, most, compare).await? else {
                // Deleted since it was listed; the next try sees it.
                return Err(S3Error::Busy(format!(
                    "{} was there and is gone",
                    object.key
                )));
            };
            match said.map_err(|e| read_failed(local, e))? {
                Ok(true) => {}
                Ok(false) => {
                    return Err(unfit(
                        local,
                        &format!(
                            "{} is there with other contents; two servers have written this file, and a person must say \
                             which of them goes on in this archive",
                            self.store.uri(&object.key)
                        ),
                    ));
                }
                Err(error) => {
                    return Err(S3Error::Damaged {
                        key: self.store.uri(&object.key),
                        why: format!("{error}; delete it, and {} is archived again", local.name),
                    });
                }
            }
        }
        Ok(())
    }

    /// An old primary, whose timeline was left for another one, must not archive.
    async fn must_be_current(&self, local: &Local, segment: WalName) -> Result<(), S3Error> {
        let archived = self.histories_after(segment.timeline).await?;
        if archived.is_empty() {
            return Ok(());
        }
        let dir = local.path.parent().unwrap_or(Path::new("."));
        let mut known = Vec::new();
        for other in &archived {
            if dir.join(History::file_name(other.timeline)).exists() {
                known.push(other.timeline);
            }
        }
        let own = self.own_history(dir, segment.timeline).await?;
        match judge::superseded(&own, segment.end(), &archived, &known) {
            None => Ok(()),
            Some(by) => Err(unfit(
                local,
                &format!(
                    "timeline {} was left at {} for timeline {}, whose server archives here now; this one was the \
                     primary before, and must become a standby",
                    segment.timeline, by.at, by.by
                ),
            )),
        }
    }

    /// From `pg_wal`, else from the archive.
    async fn own_history(&self, dir: &Path, timeline: Timeline) -> Result<History, S3Error> {
        let none = History::without_past(timeline);
        if timeline.0 <= 1 {
            return Ok(none);
        }
        let path = dir.join(History::file_name(timeline));
        match std::fs::read(&path) {
            Ok(text) => super::look::history(timeline, &text)
                .map_err(|why| S3Error::Unfit(format!("{}: {why}", path.display()))),
            Err(_) => Ok(self.history(timeline).await?.unwrap_or(none)),
        }
    }

    async fn push_history(
        &self,
        ours: Claim,
        local: &Local,
        room: &Room,
    ) -> Result<Pushed, S3Error> {
        let timeline = History::file_timeline(&local.name)
            .ok_or_else(|| unfit(local, "it is no history file"))?;
        self.fill_before(ours, local, timeline, room).await?;
        let pushed = self.push_one_history(local, timeline).await?;
        // PostgreSQL looks for the newest timeline number by number, and stops at the first that is missing: those that
        // were only reserved must be there too. The lowest comes last, so that none of them is ever the newest.
        for (number, path) in reserved_before(&local.path, timeline) {
            self.push_one_history(&self::local(&path)?, number).await?;
        }
        Ok(pushed)
    }

    /// What the old primary had not archived when it failed, and this one has: PostgreSQL takes a standby's segments for
    /// archived (`XLogArchiveForceDone`), so that nobody would bring them, and the archive would have a gap before every new
    /// timeline. What is not here any more is not brought, and `pgnode s3 verify` tells the gap.
    async fn fill_before(
        &self,
        ours: Claim,
        local: &Local,
        timeline: Timeline,
        room: &Room,
    ) -> Result<(), S3Error> {
        let text = std::fs::read(&local.path).map_err(|e| read_failed(local, e))?;
        let Some(left) = super::look::history(timeline, &text)
            .ok()
            .and_then(|h| h.past.last().copied())
        else {
            return Ok(());
        };
        let dir = local.path.parent().unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(dir).map_err(|e| read_failed(local, e))?;
        let mut here: Vec<WalName> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| WalName::parse(&name, ours.segment_size).ok())
            .filter(|name| name.timeline == left.timeline && name.end() <= left.end)
            .collect();
        here.sort_unstable();
        let (Some(first), Some(last)) = (here.first(), here.last()) else {
            return Ok(());
        };
        let missing = self.missing(*first, *last).await?;
        for name in missing
            .iter()
            .filter(|name| here.binary_search(name).is_ok())
        {
            let segment = self::local(&dir.join(name.to_string()))?;
            let head = head(&segment)?;
            if let Err(bad) = barman::check_head(&head, segment.length, name, ours.cluster) {
                tracing::warn!("{bad}; it is not archived with the new timeline");
                continue;
            }
            self.store_packed(&segment, room).await?;
            tracing::info!("{name} was not archived by the former primary, and is now");
        }
        Ok(())
    }

    async fn push_one_history(&self, local: &Local, timeline: Timeline) -> Result<Pushed, S3Error> {
        if local.length > SMALL {
            return Err(unfit(local, "it is too large for a history file"));
        }
        let ours = std::fs::read(&local.path).map_err(|e| read_failed(local, e))?;
        judge::sound_history(timeline, &ours).map_err(|why| unfit(local, &why))?;
        let stored = self.look(&local.name).await?;
        let theirs = match stored.first() {
            None => None,
            Some(object) => self.contents(object, SMALL).await?,
        };
        match judge::past(&ours, theirs.as_deref()) {
            Past::There => Ok(Pushed::There),
            Past::Differs => Err(unfit(
                local,
                &format!(
                    "{} says otherwise: two servers have begun timeline {timeline}, and a person must say which of them \
                     goes on in this archive",
                    self.store.uri(&self.layout.wal(&local.name))
                ),
            )),
            Past::Store => {
                let stored = self.put_history(local, ours).await?;
                Ok(Pushed::Stored(stored))
            }
        }
    }

    async fn put_history(&self, local: &Local, text: Vec<u8>) -> Result<u64, S3Error> {
        let how = self.store.settings().wal_codec;
        let packed =
            codec::pack(how, &text, Vec::new()).map_err(|e| S3Error::Bug(e.to_string()))?;
        let size = packed.len() as u64;
        let key = self.key(&local.name, how);
        self.store
            .put(&key, Bytes::from(packed), Label::History)
            .await?;
        Ok(size)
    }

    fn key(&self, name: &str, how: Codec) -> String {
        format!("{}{}", self.layout.wal(name), how.format.extension())
    }

    async fn store_packed(&self, local: &Local, room: &Room) -> Result<Pushed, S3Error> {
        let how = self.store.settings().wal_codec;
        // What cannot be packed gets a little larger.
        let most = local.length + local.length / 64 + 4096;
        let packer = room.packer().await;
        let mut held = room.take(most).await?;
        let (path, length) = (local.path.clone(), local.length);
        let packed = blocking(move || packed(&path, length, most, how)).await;
        drop(packer);
        let packed = packed.map_err(|e| read_failed(local, e))?;
        let needed = packed.len();
        drop(
            held.num_permits()
                .checked_sub(needed)
                .and_then(|n| held.split(n)),
        );
        let size = packed.len() as u64;
        let key = self.key(&local.name, how);
        self.store.put(&key, packed, Label::Plain).await?;
        drop(held);
        Ok(Pushed::Stored(size))
    }
}

/// Whether an object holds a file. What cannot be unpacked is an answer about the object, not a fault of our file: that is the
/// outer error.
fn compared(path: &Path, format: Format, packed: &[u8]) -> io::Result<io::Result<bool>> {
    let mut file = std::fs::File::open(path)?;
    let theirs = codec::Decoder::new(format, packed);
    Ok(theirs.and_then(|mut theirs| sys::same(&mut file, &mut theirs)))
}

/// What is packed of a file that must have so many bytes.
fn packed(path: &Path, length: u64, most: u64, how: Codec) -> io::Result<Bytes> {
    let mut file = std::fs::File::open(path)?;
    let mut into = Pages::new(most)?;
    let copied = match how.format {
        Format::None => into.fill(&mut file)?,
        _ => {
            let mut encoder = codec::Encoder::sized(how, Some(length), into)?;
            let copied = pour(&mut file, &mut encoder)?;
            into = encoder.finish()?;
            copied
        }
    };
    if copied != length {
        return Err(io::Error::other("it changed while it was read"));
    }
    Ok(Bytes::from_owner(into))
}

/// [`io::copy`] by larger pieces than its own.
fn pour(from: &mut impl Read, to: &mut impl io::Write) -> io::Result<u64> {
    let mut chunk = vec![0; 256 << 10];
    let mut copied = 0_u64;
    loop {
        let got = sys::fill(from, &mut chunk)?;
        if got == 0 {
            return Ok(copied);
        }
        copied += got as u64;
        to.write_all(chunk.get(..got).unwrap_or_default())?;
    }
}

fn local(path: &Path) -> Result<Local, S3Error> {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let Some(kind) = kind(name) else {
        return Err(S3Error::Unfit(format!(
            "{} is no file that PostgreSQL archives",
            path.display()
        )));
    };
    let length = std::fs::metadata(path).map_err(|source| S3Error::File {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(Local {
        path: path.to_owned(),
        name: name.to_owned(),
        kind,
        length: length.len(),
    })
}

fn head(local: &Local) -> Result<[u8; HEADER], S3Error> {
    let mut head = [0; HEADER];
    if local.length < HEADER as u64 {
        return Err(unfit(local, "it is empty"));
    }
    std::fs::File::open(&local.path)
        .and_then(|mut file| file.read_exact(&mut head))
        .map_err(|e| read_failed(local, e))?;
    Ok(head)
}

/// Histories beside this one that only hold the places of numbers below it, down to the first that does not.
fn reserved_before(path: &Path, timeline: Timeline) -> Vec<(Timeline, PathBuf)> {
    (2..timeline.0)
        .rev()
        .map(|n| {
            (
                Timeline(n),
                path.with_file_name(History::file_name(Timeline(n))),
            )
        })
        .take_while(|(_, path)| {
            std::fs::read(path).is_ok_and(|text| super::look::is_reserved(&text))
        })
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn unfit(local: &Local, why: &str) -> S3Error {
    S3Error::Unfit(format!("{} is not archived: {why}", local.name))
}

fn read_failed(local: &Local, source: io::Error) -> S3Error {
    S3Error::File {
        what: "read",
        path: local.path.clone(),
        source,
    }
}
