//! From the network's task to a thread that may block: a few chunks wait in between, and no more.

use super::{Body, S3Error};
use crate::domain::hex;
use bytes::{Buf as _, Bytes};
use sha2::Digest;
use std::io::{self, BufRead, Read};
use tokio::sync::mpsc;

/// The reading end. It ends where the sender is dropped, also where that is too early: the sender knows.
#[derive(Debug)]
pub(super) struct Pipe {
    from: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

/// So many chunks may wait; a chunk is what came in one read from a socket, 400 kB at most.
pub(super) fn pipe(waiting: usize) -> (mpsc::Sender<Bytes>, Pipe) {
    let (to, from) = mpsc::channel(waiting);
    let chunk = Bytes::new();
    (to, Pipe { from, chunk })
}

/// Sends an object through, whole, and says of each chunk how many bytes it had; ends early without an error when nobody
/// reads any more: why is said by who read.
pub(super) async fn pour(
    mut body: Body,
    to: mpsc::Sender<Bytes>,
    mut sent: impl FnMut(u64),
) -> Result<(), S3Error> {
    while let Some(chunk) = body.chunk().await? {
        let bytes = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if to.send(chunk).await.is_err() {
            break;
        }
        sent(bytes);
    }
    Ok(())
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
        read(self, to)
    }
}

/// Hashes what is read of another reader.
#[derive(Debug)]
pub(super) struct Hashed<R, D> {
    from: R,
    seen: D,
}

impl<R: BufRead, D: Digest> Hashed<R, D> {
    pub(super) fn new(from: R) -> Self {
        let seen = D::new();
        Self { from, seen }
    }

    /// The digest of all there is, in hexadecimal digits: after what nobody has read.
    pub(super) fn finish(mut self) -> io::Result<String> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(hex(&self.seen.finalize())),
                rest => self.consume(rest),
            }
        }
    }
}

impl<R: BufRead, D: Digest> BufRead for Hashed<R, D> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        // What it gave last, again.
        let read = self.from.fill_buf().unwrap_or_default();
        self.seen.update(read.get(..n).unwrap_or(read));
        self.from.consume(n);
    }
}

impl<R: BufRead, D: Digest> Read for Hashed<R, D> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read(self, to)
    }
}

fn read(from: &mut impl BufRead, to: &mut [u8]) -> io::Result<usize> {
    let n = io::Read::read(&mut from.fill_buf()?, to)?;
    from.consume(n);
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Sha256;

    #[test]
    fn all_that_was_sent_is_hashed_however_much_of_it_was_read() {
        let whole = hex(&Sha256::digest(b"0123456789"));
        for read in [0, 3, 4, 10] {
            let (to, pipe) = pipe(3);
            for chunk in ["0123", "", "456789"] {
                to.try_send(Bytes::from(chunk)).unwrap();
            }
            drop(to);
            let mut pipe = Hashed::<_, Sha256>::new(pipe);
            let mut bytes = vec![0; read];
            pipe.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, b"0123456789"[..read]);
            assert_eq!(pipe.finish().unwrap(), whole, "after {read}");
        }
    }
}
