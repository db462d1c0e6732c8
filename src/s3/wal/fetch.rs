//! A file out of the bucket: verified before anybody sees it.

use super::look::{Reads, SMALL, Stored, is_reserved, unpacking};
use super::{Archive, judge};
use crate::barman::{self, HEADER};
use crate::config::Format;
use crate::domain::{History, SystemId};
use crate::s3::layout::{WalKind, kind};
use crate::s3::mark::Mark;
use crate::s3::pipe::{Hashed, pipe, pour};
use crate::s3::{S3Error, codec};
use md5::Md5;
use std::io::{self, BufRead, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The largest segment (`IsValidWalSegSize`).
const LARGEST: u64 = 1 << 30;

/// Chunks of one object that wait between the network and the thread that unpacks: 3 MB at most.
const WAITING: usize = 8;

/// A file that was fetched and found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// The object that it came from, below the store's path.
    pub key: String,
}

impl Archive {
    /// One file, unpacked, which is what its name says and of that cluster (of any, where none is given). `None`
    /// only when the server says that nothing is stored under the name. Where it is stored several times, what can be
    /// verified counts.
    ///
    /// # Errors
    /// [`S3Error::Damaged`]: it is there, and is not what it should be; else as [`crate::s3::Store::get`].
    pub async fn fetch(
        &self,
        name: &str,
        cluster: Option<SystemId>,
    ) -> Result<Option<Fetched>, S3Error> {
        let Some(kind) = kind(name) else {
            return Err(S3Error::Unfit(format!("{name} is no name of a WAL file")));
        };
        let mut stored = self.look(name).await?;
        // barman-cloud takes packed files first too.
        stored.sort_by_key(|s| s.format == Format::None);
        let mut sound: Option<Fetched> = None;
        let mut damage = None;
        for object in &stored {
            match self.verified(object, name, kind, cluster).await {
                Ok(None) => {}
                Ok(Some(bytes)) => match &sound {
                    Some(first) if first.bytes != bytes => {
                        return Err(S3Error::Damaged {
                            key: self.store.uri(&object.key),
                            why: format!("and {} differ, and either could be right", first.key),
                        });
                    }
                    Some(_) => {}
                    None => {
                        sound = Some(Fetched {
                            bytes,
                            key: object.key.clone(),
                        });
                    }
                },
                Err(error @ S3Error::Damaged { .. }) => {
                    tracing::warn!("{error}");
                    damage = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (sound, damage) {
            (Some(sound), _) => Ok(Some(sound)),
            (None, Some(error)) => Err(error),
            (None, None) if stored.is_empty() => Ok(None),
            // Listed, and gone when it was read.
            (None, None) => Err(S3Error::Busy(format!("{name} was there and is gone"))),
        }
    }

    /// As [`Archive::fetch`], into a new file, while it comes; `false`: it is not there. The file may be left behind by an
    /// error.
    ///
    /// # Errors
    /// As [`Archive::fetch`]; the file cannot be written.
    pub async fn fetch_into(
        &self,
        name: &str,
        cluster: SystemId,
        new: &Path,
    ) -> Result<bool, S3Error> {
        let mut reads = Reads::default();
        loop {
            match self.fetch_once(name, cluster, new, &mut reads).await {
                Err(error) if reads.again(&error) => {}
                ended => return ended,
            }
        }
    }

    async fn fetch_once(
        &self,
        name: &str,
        cluster: SystemId,
        new: &Path,
        reads: &mut Reads,
    ) -> Result<bool, S3Error> {
        let stored = self.look(name).await?;
        let segment = matches!(kind(name), Some(WalKind::Segment | WalKind::Partial));
        let ([only], true) = (stored.as_slice(), segment) else {
            // Small, or stored several times: looked at as a whole.
            let Some(found) = self.fetch(name, Some(cluster)).await? else {
                return Ok(false);
            };
            write(name, new, move |file| file.write_all(&found.bytes)).await?;
            return Ok(true);
        };
        let damaged = |why: String| S3Error::Damaged {
            key: self.store.uri(&only.key),
            why,
        };
        let Some((mark, came)) = self.stream(name, only, new).await? else {
            return Err(S3Error::Busy(format!("{name} was there and is gone")));
        };
        let came = came.map_err(|e| damaged(unpacking(only.format, &e)))?;
        self.be_certain(only, reads, &mark, came.digest).await?;
        sound_head(&came.head, came.length, name, cluster).map_err(damaged)?;
        Ok(true)
    }

    /// One object into a new file, unpacked while it comes, with the server's mark; `None`: it is gone.
    async fn stream(
        &self,
        name: &str,
        stored: &Stored,
        new: &Path,
    ) -> Result<Option<(Mark, io::Result<Came>)>, S3Error> {
        let Some(body) = self.store.get(&stored.key).await? else {
            return Ok(None);
        };
        let mark = body.mark();
        let (sender, mut packed) = pipe(WAITING);
        let format = stored.format;
        let writing = write(name, new, move |file| {
            if codec::has_checksum(format, packed.fill_buf()?) {
                return unpack(format, packed, file);
            }
            let mut packed = Hashed::<_, Md5>::new(packed);
            let came = unpack(format, &mut packed, file)?;
            let digest = Some(packed.finish()?);
            Ok(came.map(|came| Came { digest, ..came }))
        });
        let (poured, written) = tokio::join!(pour(body, sender, |_| {}), writing);
        // What ended early for want of bytes says so, and is not the reason.
        poured?;
        Ok(Some((mark, written?)))
    }

    async fn verified(
        &self,
        stored: &Stored,
        name: &str,
        kind: WalKind,
        cluster: Option<SystemId>,
    ) -> Result<Option<Vec<u8>>, S3Error> {
        let most = match kind {
            WalKind::Segment | WalKind::Partial => LARGEST,
            WalKind::History | WalKind::BackupLabel => SMALL,
        };
        let Some(bytes) = self.contents(stored, most).await? else {
            return Ok(None);
        };
        match sound(&bytes, name, kind, cluster) {
            Ok(()) => Ok(Some(bytes)),
            Err(why) => Err(S3Error::Damaged {
                key: self.store.uri(&stored.key),
                why,
            }),
        }
    }
}

/// What came of an object.
#[derive(Debug, Default)]
struct Came {
    /// The first bytes.
    head: Vec<u8>,
    /// Unpacked.
    length: u64,
    /// MD5 of what came, where it has no checksum of its own.
    digest: Option<String>,
}

/// The outer error is the file's, the inner one the object's.
fn unpack(
    format: Format,
    packed: impl BufRead,
    file: &mut std::fs::File,
) -> io::Result<io::Result<Came>> {
    let mut came = Came::default();
    let mut plain = match codec::Decoder::new(format, packed) {
        Ok(decoder) => decoder.take(LARGEST + 1),
        Err(error) => return Ok(Err(error)),
    };
    let mut chunk = vec![0; 256 << 10];
    loop {
        let bytes = match plain.read(&mut chunk) {
            Ok(0) => return Ok(Ok(came)),
            Ok(got) => chunk.get(..got).unwrap_or_default(),
            Err(error) => return Ok(Err(error)),
        };
        if came.head.len() < HEADER {
            let lacks = HEADER - came.head.len();
            came.head.extend(bytes.iter().take(lacks));
        }
        came.length += bytes.len() as u64;
        file.write_all(bytes)?;
    }
}

async fn write<T: Send + 'static>(
    name: &str,
    new: &Path,
    with: impl FnOnce(&mut std::fs::File) -> io::Result<T> + Send + 'static,
) -> Result<T, S3Error> {
    let path = new.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        with(&mut file)
    })
    .await;
    written
        .map_err(|e| S3Error::Bug(format!("{name}: {e}")))?
        .map_err(|source| S3Error::File {
            what: "write",
            path: new.to_owned(),
            source,
        })
}

/// Whether a segment begins, and is as long, as its name says.
fn sound_head(head: &[u8], length: u64, name: &str, cluster: SystemId) -> Result<(), String> {
    let origin = barman::origin(head).ok_or("its first page is not the beginning of a segment")?;
    let name = judge::segment_of(name, origin.segment_size)
        .ok_or_else(|| format!("it says that segments have {} bytes", origin.segment_size))?;
    barman::check_head(head, length, &name, cluster).map_err(|e| e.why)
}

/// Whether contents are what the name says.
pub(super) fn sound(
    bytes: &[u8],
    name: &str,
    kind: WalKind,
    cluster: Option<SystemId>,
) -> Result<(), String> {
    match kind {
        WalKind::Segment | WalKind::Partial => {
            let own = barman::origin(bytes).map(|o| o.cluster);
            let cluster = cluster.or(own).unwrap_or(SystemId(0));
            sound_head(bytes, bytes.len() as u64, name, cluster)
        }
        WalKind::History => {
            let timeline = History::file_timeline(name).ok_or("its name is no history file's")?;
            judge::sound_history(timeline, bytes)
        }
        WalKind::BackupLabel if bytes.starts_with(b"START WAL LOCATION:") => Ok(()),
        WalKind::BackupLabel => Err("is no backup label".to_owned()),
    }
}

/// Whether a history file says that the number was only reserved, and that there is no such timeline.
#[must_use]
pub fn is_reservation(bytes: &[u8]) -> bool {
    is_reserved(bytes)
}
