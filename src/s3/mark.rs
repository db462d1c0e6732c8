//! The mark (ETag) that a server gives to what it stores: the MD5 of what came whole, or the MD5 of the parts' MD5s with
//! their number. Only where nothing is encrypted with a key of the server's (`aws:kms`).

use crate::domain::hex;
use md5::{Digest as _, Md5};
use std::fs::File;
use std::io;
use std::path::Path;

/// A mark as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Without its quotes.
    pub(super) text: String,
    /// The server says that it has encrypted the object with a key: the mark is no digest then.
    pub(super) keyed: bool,
}

impl Mark {
    /// Whether it is the digest of what is stored, on a server whose marks are digests.
    pub(super) fn may_be_digest(&self) -> bool {
        may_be(&self.text) && !self.keyed
    }

    pub(super) fn is(&self, digest: &str) -> bool {
        self.text.eq_ignore_ascii_case(digest)
    }
}

/// Whether it looks like the MD5 of something that was stored whole.
pub(super) fn may_be(mark: &str) -> bool {
    mark.len() == 32 && mark.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Of bytes that are stored whole.
pub(super) fn of(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// Of a file that is stored whole, or in parts of `part` bytes.
pub(super) fn of_file(path: &Path, part: Option<u64>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut outer = Md5::new();
    let mut count = 0_u64;
    let limit = part.unwrap_or(u64::MAX);
    loop {
        let mut inner = Md5::new();
        let copied = io::copy(
            &mut io::Read::take(&mut file, limit),
            &mut Hasher(&mut inner),
        )?;
        if part.is_none() {
            return Ok(hex(&inner.finalize()));
        }
        if copied == 0 {
            return Ok(format!("{}-{count}", hex(&outer.finalize())));
        }
        outer.update(inner.finalize());
        count += 1;
    }
}

struct Hasher<'a>(&'a mut Md5);

impl io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_servers() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("f");
        std::fs::write(&path, "hello world").unwrap();
        let whole = of_file(&path, None).unwrap();
        assert_eq!(whole, "5eb63bbbe01eeed093cb22bb8f5acdc3");
        assert_eq!(whole, of(b"hello world"));
        // `openssl md5` of the two binary digests of "hello " and "world".
        let parts = of_file(&path, Some(6)).unwrap();
        let mut outer = Md5::new();
        outer.update(Md5::digest(b"hello "));
        outer.update(Md5::digest(b"world"));
        assert_eq!(parts, format!("{}-2", hex(&outer.finalize())));
    }
}
