//! From bytes to parts: one compressed stream an archive (several in a row would be read as one that ended early, see
//! `docs/s3-backups.md`), hashed and cut into parts that go to the uploader. What waits is bounded by the channel.

use crate::config::Codec;
use crate::domain::hex;
use crate::s3::codec::Encoder;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::Sender;

/// What the uploader is told. Objects are numbered in the order of their begin.
#[derive(Debug)]
pub(super) enum Piece {
    /// A new object.
    Begin { object: usize, name: String },
    /// Its next bytes; all but the last are a part's size.
    Part { object: usize, bytes: Bytes },
    /// It is whole.
    End { object: usize },
}

/// The uploader is gone: it has failed, or the backup is given up.
#[derive(Debug, thiserror::Error)]
#[error("the upload ended")]
pub(super) struct Gone;

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, gone)
    }
}

/// Cuts what is written into parts.
#[derive(Debug)]
pub(super) struct Parts {
    to: Sender<Piece>,
    object: usize,
    part_size: usize,
    buffer: Vec<u8>,
    /// Bytes so far; the codec does not give its writer away.
    size: Arc<AtomicU64>,
    hash: Sha256,
}

/// An object that was written to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Parts {
    pub(super) fn begin(
        to: Sender<Piece>,
        object: usize,
        name: &str,
        part_size: usize,
    ) -> Result<Self, Gone> {
        let name = name.to_owned();
        to.blocking_send(Piece::Begin { object, name })
            .map_err(|_| Gone)?;
        Ok(Self {
            to,
            object,
            part_size,
            buffer: Vec::new(),
            size: Arc::default(),
            hash: Sha256::new(),
        })
    }

    pub(super) fn end(mut self) -> Result<Sum, Gone> {
        self.send()?;
        let object = self.object;
        self.to
            .blocking_send(Piece::End { object })
            .map_err(|_| Gone)?;
        Ok(Sum {
            size: self.size.load(Ordering::Relaxed),
            sha256: hex(&self.hash.finalize()),
        })
    }

    fn send(&mut self) -> Result<(), Gone> {
        let part = Piece::Part {
            object: self.object,
            bytes: std::mem::take(&mut self.buffer).into(),
        };
        self.to.blocking_send(part).map_err(|_| Gone)
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= self.part_size {
            self.send()?;
        }
        let room = self.part_size - self.buffer.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if self.buffer.capacity() == 0 && self.size.load(Ordering::Relaxed) > 0 {
            // The second part shows that it will be a long one.
            self.buffer.reserve_exact(self.part_size);
        }
        self.buffer.extend_from_slice(taken);
        self.hash.update(taken);
        let count = u64::try_from(taken.len()).unwrap_or(u64::MAX);
        self.size.fetch_add(count, Ordering::Relaxed);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses on the way to the parts: one stream to its end.
#[derive(Debug)]
pub(super) struct Packer {
    encoder: Encoder<Parts>,
    size: Arc<AtomicU64>,
}

impl Packer {
    pub(super) fn new(codec: Codec, parts: Parts) -> io::Result<Self> {
        Ok(Self {
            size: parts.size.clone(),
            encoder: Encoder::new(codec, parts)?,
        })
    }

    /// Compressed bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) -> io::Result<Sum> {
        Ok(self.encoder.finish()?.end()?)
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
