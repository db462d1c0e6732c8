//! The list of checksums beside a backup: one JSON object a line, so that a million files need no memory. Its name is
//! one that barman-cloud passes over: what begins with `data_` or an oid would break its restore.
//!
//! First the backup; then each file in the order of the archives, as it stands there; then each archive; then the
//! end with the counts, without which the list is cut short.

use super::catalogue::{Catalogue, Entry};
use crate::s3::S3Error;
use crate::s3::store::Body;
use serde::{Deserialize, Serialize};

/// Its name in `base/<id>/`.
pub const MANIFEST: &str = "pgnode_manifest.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Backup {
        /// The format: 1.
        manifest: u32,
        /// The backup.
        id: String,
        /// The cluster.
        system_id: String,
    },
    /// A file in an archive. Directories are not listed.
    File {
        /// The archive: `data.tar.gz`.
        archive: String,
        /// The member's name there.
        path: String,
        /// Bytes in the archive.
        size: u64,
        /// SHA-256 of them, in hex.
        sha256: String,
    },
    /// An archive.
    Archive {
        /// Its name: `data.tar.gz`.
        archive: String,
        /// Bytes, compressed.
        size: u64,
        /// SHA-256 of them, in hex.
        sha256: String,
    },
    /// The last.
    End {
        /// Lines of files before it.
        files: u64,
        /// Lines of archives before it.
        archives: u64,
    },
}

/// A list that is being read, line by line.
#[derive(Debug)]
pub struct Manifest {
    body: Body,
    uri: String,
    buffer: Vec<u8>,
    at: usize,
    files: u64,
    archives: u64,
    ended: bool,
}

/// A file's path has at most 4096 bytes, which JSON may write six times as long.
const LONGEST_LINE: usize = 64 << 10;

impl Manifest {
    /// Opens a backup's list; `None` when it has none.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn open(catalogue: &Catalogue, entry: &Entry) -> Result<Option<Self>, S3Error> {
        let Some(object) = &entry.manifest else {
            return Ok(None);
        };
        let Some(body) = catalogue.store.get(&object.key).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            body,
            uri: catalogue.store.uri(&object.key),
            buffer: Vec::new(),
            at: 0,
            files: 0,
            archives: 0,
            ended: false,
        }))
    }

    /// The next line; `None` after [`Line::End`].
    ///
    /// # Errors
    /// [`S3Error::Damaged`] for a line that is not one of these, for a list that is cut short; those of the server.
    pub async fn next(&mut self) -> Result<Option<Line>, S3Error> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line = self.judge(rest.get(..end).unwrap_or_default())?;
                self.at += end + 1;
                match &line {
                    Line::File { .. } => self.files += 1,
                    Line::Archive { .. } => self.archives += 1,
                    Line::Backup { .. } | Line::End { .. } => {}
                }
                self.ended = matches!(line, Line::End { .. });
                return Ok(Some(line));
            }
            if rest.len() > LONGEST_LINE {
                return Err(self.damaged("has a line that does not end"));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            match self.body.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.ended && self.buffer.is_empty() => return Ok(None),
                None => return Err(self.damaged("is cut short")),
            }
        }
    }

    fn judge(&self, line: &[u8]) -> Result<Line, S3Error> {
        let read: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(_) => return Err(self.damaged("has a line that is not understood")),
        };
        match &read {
            _ if self.ended => Err(self.damaged("goes on after its end")),
            Line::Backup { manifest, .. } if *manifest != 1 => {
                Err(self.damaged("is of a later pgnode"))
            }
            Line::End { files, archives } if (*files, *archives) != (self.files, self.archives) => {
                Err(self.damaged("does not hold as many lines as it says"))
            }
            _ => Ok(read),
        }
    }

    fn damaged(&self, why: &str) -> S3Error {
        S3Error::Damaged {
            key: self.uri.clone(),
            why: why.to_owned(),
        }
    }
}
