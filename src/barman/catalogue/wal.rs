//! One file of the archive: where it is, and its contents.

use super::Server;
use crate::barman::codec;
use crate::domain::History;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

/// Where a WAL file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `wals/`.
    Archived,
    /// In `incoming/`: shipped by an `archive_command`, not yet archived.
    Incoming,
    /// In `streaming/`: received whole, not yet archived.
    Streaming,
    /// `streaming/<name>.partial`: being received. Its size is a whole segment's; behind what was
    /// received come zeros.
    Partial,
    /// `<name>.partial` in the archive: the last of a timeline that ended in a promotion.
    ArchivedPartial,
}

impl Place {
    const ALL: [Self; 5] = [
        Self::Archived,
        Self::Incoming,
        Self::Streaming,
        Self::Partial,
        Self::ArchivedPartial,
    ];

    /// The place that calls itself so.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|place| place.to_string() == word)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Archived => "archived",
            Self::Incoming => "incoming",
            Self::Streaming => "streaming",
            Self::Partial => "partial",
            Self::ArchivedPartial => "archived partial",
        })
    }
}

/// A WAL, history or label file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFile {
    /// Where it lies.
    pub place: Place,
    /// The file.
    pub path: PathBuf,
    /// Its bytes on disk, packed as it is.
    pub bytes: u64,
    /// When it was last written, milliseconds since the epoch.
    pub modified_ms: Option<u64>,
}

impl WalFile {
    /// Its contents, unpacked by what its first bytes say: gzip, zstd, lz4, bzip2, xz or nothing.
    ///
    /// # Errors
    /// Those of the file; [`ErrorKind::Unsupported`] for encryption and foreign compression,
    /// [`ErrorKind::InvalidData`] for what is neither WAL nor packed;
    /// [`ErrorKind::NotFound`] when the archiver has moved it meanwhile: look for it again.
    pub fn open(&self) -> io::Result<impl Read + Send + use<>> {
        codec::unpacked(std::fs::File::open(&self.path)?)
    }
}

impl Server {
    /// Looks for a segment, a history file or a label file by its name: in the archive, then where it
    /// waits to be archived, last where it is being received. A name with a slash is nowhere.
    ///
    /// # Errors
    /// Those of the file system, other than that it is not there.
    pub fn wal_file(&self, name: &str) -> io::Result<Option<WalFile>> {
        let Some(archive) = self.archive_dir(name) else {
            return Ok(None);
        };
        let partial = format!("{name}.partial");
        let streaming = self.dir.join("streaming");
        // The archive again: a file may have gone there while we looked elsewhere.
        for (place, path) in [
            (Place::Archived, archive.join(name)),
            (Place::Incoming, self.dir.join("incoming").join(name)),
            (Place::Streaming, streaming.join(name)),
            (Place::Partial, streaming.join(&partial)),
            (Place::Streaming, streaming.join(name)),
            (Place::ArchivedPartial, archive.join(&partial)),
            (Place::Archived, archive.join(name)),
        ] {
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    let modified = meta.modified().ok();
                    let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                    return Ok(Some(WalFile {
                        place,
                        path,
                        bytes: meta.len(),
                        modified_ms: since.and_then(|d| u64::try_from(d.as_millis()).ok()),
                    }));
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// A timeline's history; timeline 1 has an empty one. `None` when the file is not there.
    ///
    /// # Errors
    /// Those of the file; [`ErrorKind::InvalidData`] for one that is not understood.
    pub fn history(&self, timeline: crate::domain::Timeline) -> io::Result<Option<History>> {
        if timeline.0 == 1 {
            return Ok(Some(History::without_past(timeline)));
        }
        let name = History::file_name(timeline);
        let Some(file) = self.wal_file(&name)? else {
            return Ok(None);
        };
        let mut text = String::new();
        // The longest history is a few lines; anything else is not one.
        file.open()?.take(1 << 20).read_to_string(&mut text)?;
        History::parse(timeline, &text).map(Some).map_err(|line| {
            let what = format!("{}: `{line}` is not understood", file.path.display());
            io::Error::new(ErrorKind::InvalidData, what)
        })
    }

    /// The archive directory of a name: history files lie at the top, the rest by their first 16 digits.
    fn archive_dir(&self, name: &str) -> Option<PathBuf> {
        let wals = self.dir.join("wals");
        if History::file_timeline(name).is_some() {
            return Some(wals);
        }
        let (digits, rest) = name.split_at_checked(24)?;
        let is_digit = |b: u8| b.is_ascii_digit() || matches!(b, b'A'..=b'F');
        let sound = digits.bytes().all(is_digit) && !rest.contains('/');
        sound.then(|| wals.join(&digits[..16]))
    }
}
