//! From the network's task to the thread that unpacks, and hashes: a few pieces wait in between, and no more.

use super::Piece;
use crate::domain::hex;
use crate::s3::{S3Error, Store};
use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Chunks that may wait: a chunk is what came in one read from a socket.
const WAITING: usize = 64;

/// The reading end. It hashes what comes: on a thread that may block, which the network's task is not.
#[derive(Debug)]
pub(super) struct Pipe {
    from: mpsc::Receiver<Bytes>,
    chunk: Bytes,
    seen: Sha256,
}

pub(super) fn pipe() -> (mpsc::Sender<Bytes>, Pipe) {
    let (to, from) = mpsc::channel(WAITING);
    let pipe = Pipe {
        from,
        chunk: Bytes::new(),
        seen: Sha256::new(),
    };
    (to, pipe)
}

impl Pipe {
    /// The next chunk, hashed; `None` at the end.
    fn next(&mut self) -> Option<Bytes> {
        let chunk = self.from.blocking_recv()?;
        self.seen.update(&chunk);
        Some(chunk)
    }

    /// The SHA-256 of all that was sent, after what nobody has read.
    pub(super) fn finish(mut self) -> String {
        while self.next().is_some() {}
        hex(&self.seen.finalize())
    }
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            match self.next() {
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

/// Sends an object through, whole; ends early without an error when nobody reads any more.
pub(super) async fn pour(
    store: &Store,
    piece: &Piece,
    to: mpsc::Sender<Bytes>,
    done: &AtomicU64,
) -> Result<(), S3Error> {
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
    while let Some(chunk) = body.chunk().await? {
        let bytes = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if to.send(chunk).await.is_err() {
            break;
        }
        done.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_sent_is_hashed_however_much_of_it_was_read() {
        let whole = hex(&Sha256::digest(b"0123456789"));
        for read in [0, 3, 4, 10] {
            let (to, mut pipe) = pipe();
            for chunk in ["0123", "", "456789"] {
                to.try_send(Bytes::from(chunk)).unwrap();
            }
            drop(to);
            let mut bytes = vec![0; read];
            pipe.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, b"0123456789"[..read]);
            assert_eq!(pipe.finish(), whole, "after {read}");
        }
    }
}
