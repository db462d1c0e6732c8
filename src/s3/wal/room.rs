//! The memory that packed files may take.

use crate::s3::S3Error;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for packed files, shared by all pushes of a process.
#[derive(Clone, Debug)]
pub struct Room {
    bytes: Arc<Semaphore>,
    most: u32,
    packers: Arc<Semaphore>,
}

impl Room {
    /// For so many bytes, and so many files that are packed at once. A file that needs more than all of it waits until it has
    /// all of it.
    #[must_use]
    pub fn new(bytes: u32, packers: usize) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(bytes as usize)),
            most: bytes,
            packers: Arc::new(Semaphore::new(packers.max(1))),
        }
    }

    /// A turn at packing.
    pub(super) async fn packer(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.packers.clone().acquire_owned().await.ok()
    }

    pub(super) async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, S3Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most);
        let permit = self.bytes.clone().acquire_many_owned(bytes).await;
        permit.map_err(|e| S3Error::Bug(e.to_string()))
    }
}

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
        Ok(Self { map, used: 0 })
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
