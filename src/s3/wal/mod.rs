//! WAL in the bucket: whose archive it is, a file in, a file out, and the worker that does both for the postmaster.

mod agent;
mod ahead;
mod claim;
mod errand;
mod fetch;
mod judge;
mod look;
mod push;
mod room;
mod shelf;
#[cfg(test)]
mod tests;
mod worker;

pub use agent::{Agent, Patience};
pub use claim::{Claim, MARKER};
pub use errand::{Answer, DIRECTORY, Errand, ask, socket};
pub use fetch::{Fetched, is_reservation};
pub use look::Stored;
pub use push::Pushed;
pub use room::Room;
pub use worker::work;

use super::layout::Layout;
use super::{S3Error, Store};
use crate::domain::SystemId;
use std::path::Path;

/// One cluster's WAL in a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Store,
    layout: Layout,
}

impl Archive {
    /// Of the cluster that has this name in the bucket.
    #[must_use]
    pub fn new(store: Store, server: &str) -> Self {
        Self {
            store,
            layout: Layout::of(server),
        }
    }

    /// The client that it uses.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Where the objects are.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For messages: `s3://bucket/path/server/`.
    #[must_use]
    pub fn uri(&self) -> String {
        self.store.uri(&self.layout.all())
    }
}

/// The cluster whose data are in a directory: the first field of `pg_control`, the same in every release
/// (`ControlFileData` in `pg_control.h`).
///
/// # Errors
/// The file cannot be read.
pub fn cluster_of(pgdata: &Path) -> Result<SystemId, S3Error> {
    use std::io::Read as _;
    let path = pgdata.join("global/pg_control");
    let mut id = [0_u8; 8];
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_exact(&mut id))
        .map_err(|source| S3Error::File {
            what: "read",
            path,
            source,
        })?;
    Ok(SystemId(u64::from_ne_bytes(id)))
}
