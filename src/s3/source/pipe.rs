//! From the network's task to the thread that unpacks: a few pieces wait in between, and no more.

use super::{Piece, listed};
use crate::s3::{S3Error, Store};
use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Chunks that may wait: a chunk is what came in one read from a socket.
const WAITING: usize = 64;

/// The reading end.
#[derive(Debug)]
pub(super) struct Pipe {
    from: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

pub(super) fn pipe() -> (mpsc::Sender<Bytes>, Pipe) {
    let (to, from) = mpsc::channel(WAITING);
    let chunk = Bytes::new();
    (to, Pipe { from, chunk })
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => break,
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, n: usize) {
        self.chunk.advance(n.min(self.chunk.len()));
    }
}

impl Read for Pipe {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(to.len());
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        self.consume(n);
        Ok(n)
    }
}

/// Sends an object through, whole, and gives its SHA-256; ends early without an error when nobody reads any more.
pub(super) async fn pour(
    store: &Store,
    piece: &Piece,
    to: mpsc::Sender<Bytes>,
    done: &AtomicU64,
) -> Result<String, S3Error> {
    let Some(mut body) = store.get(&piece.key).await? else {
        return Err(S3Error::Damaged {
            key: store.uri(&piece.key),
            why: "was listed, and is not there now".to_owned(),
        });
    };
    if body.size() != piece.size {
        return Err(S3Error::Damaged {
            key: store.uri(&piece.key),
            why: format!(
                "was listed with {} bytes and has {}",
                piece.size,
                body.size()
            ),
        });
    }
    let mut seen = Sha256::new();
    while let Some(chunk) = body.chunk().await? {
        let bytes = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        seen.update(&chunk);
        if to.send(chunk).await.is_err() {
            break;
        }
        done.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(listed::hex(&seen.finalize()))
}
