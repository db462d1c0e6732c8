//! Base backups in a bucket, as barman-cloud makes and reads them: `base/<id>/data.tar[.gz]`, `<oid>.tar[.gz]` for
//! each tablespace, and `backup.info`, which is written last.

mod archive;
mod catalogue;
mod compare;
mod copy;
mod delete;
mod header;
mod info;
mod manifest;
mod marker;
mod pack;
mod python;
mod retention;
mod server;
mod take;
mod upload;
mod wal;
mod walk;

pub use archive::ArchiveName;
pub use catalogue::{Archive, Catalogue, Entry, Leftover, Shelf};
pub use compare::Compared;
pub use delete::Gone;
pub use manifest::{Line, MANIFEST, Manifest};
pub use marker::Marker;
pub use retention::{Needed, Policy, Verdict, judge};
pub use server::{Primary, Where};
pub use take::{Order, Stage, Taken, claim, take};
