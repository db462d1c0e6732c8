//! The memory that packed files may take.

use crate::s3::S3Error;
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
