//! Memory for large things.

use std::io;

/// From so many bytes on it is worth a mapping of its own.
pub(super) const LARGE: usize = 1 << 20;

/// Memory of its own that goes back to the system with its last user. The allocator would keep what large buffers had,
/// once for each thread: a third more than all that is in use was seen.
pub(super) struct Pages {
    map: memmap2::MmapMut,
    used: usize,
}

impl Pages {
    /// Room for so many bytes; only those that are used take memory.
    pub(super) fn new(most: u64) -> io::Result<Self> {
        let most = usize::try_from(most).map_err(io::Error::other)?;
        let map = memmap2::MmapMut::map_anon(most)?;
        // A page of 4 kB at a time costs as much as filling it. Where there are no huge ones it is a wish.
        drop(map.advise(memmap2::Advice::HugePage));
        Ok(Self { map, used: 0 })
    }

    /// Appends what a reader gives, until it ends or nothing more fits; how many bytes.
    pub(super) fn fill(&mut self, from: &mut impl io::Read) -> io::Result<u64> {
        let before = self.used;
        while let Some(free) = self.map.get_mut(self.used..).filter(|f| !f.is_empty()) {
            match from.read(free) {
                Ok(0) => break,
                Ok(n) => self.used += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        u64::try_from(self.used - before).map_err(io::Error::other)
    }
}

impl io::Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = self.map.get_mut(self.used..).unwrap_or_default();
        let n = bytes.len().min(free.len());
        if let (Some(to), Some(from)) = (free.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.used += n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.map.get(..self.used).unwrap_or_default()
    }
}
