//! What [`std::io::Read`] leaves to its callers.

use std::io::{self, Read};

/// Reads until the buffer is full or the end has come; how many bytes there are.
///
/// # Errors
/// Those of the reader; a call that a signal interrupted is made again.
pub fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Whether both give the same bytes, to the end.
///
/// # Errors
/// Those of the readers.
pub fn same(a: &mut impl Read, b: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (n, m) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if left.get(..n) != right.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, same};
    use std::io::{self, Read};

    /// A byte at a time, every second call interrupted.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = to.len().min(1);
            self.0.read(&mut to[..most])
        }
    }

    #[test]
    fn a_buffer_is_filled_by_however_many_calls() {
        let (mut from, mut to) = (Slow(b"abcde", false), [0; 3]);
        assert_eq!(fill(&mut from, &mut to).unwrap(), 3);
        assert_eq!(to, *b"abc");
        assert_eq!(fill(&mut from, &mut to).unwrap(), 2);
        assert_eq!(fill(&mut from, &mut to).unwrap(), 0);
        assert_eq!(fill(&mut from, &mut []).unwrap(), 0);
    }

    #[test]
    fn what_is_a_prefix_is_not_the_same() {
        let long = vec![7; 200_000];
        let mut other = long.clone();
        other[199_999] = 8;
        for (a, b, want) in [
            (&long[..], &long[..], true),
            (&long, &other, false),
            (&long, &long[..131_072], false),
            (&long[..65_536], &long, false),
            (&[], &[], true),
        ] {
            assert_eq!(same(&mut Slow(a, true), &mut &b[..]).unwrap(), want);
        }
    }
}
