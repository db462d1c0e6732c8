//! barman: its commands, run as its own account, and its catalogue.

mod catalogue;
mod client;
pub mod codec;
mod error;
mod finish;
mod recipe;
mod segment;
mod source;
pub mod ssh;
mod verify;

pub use catalogue::{
    Archive, Backup, BackupStatus, Keep, Kind, Place, Server, Tablespace, WalFile, WalRange, is_id,
    servers,
};
pub use client::{CheckLine, Client};
pub use error::BarmanError;
pub use finish::{finish, finish_once, push_wal};
pub use recipe::{ArchiveEnd, Found, Recipe, choose, known};
pub use segment::{
    BadSegment, HEADER, Origin, check as check_segment, check_head, is_blank, origin,
};
pub use source::{Entry, EntryKind, Host, Places, Source, SourceError, Wal};
pub use verify::{Check, Outcome, Verifier};

/// The file that keeps an empty directory in a bucket, so that a download has it too. Its name is one that base backups
/// leave out and that postgres takes nowhere for its own.
pub const EMPTY: &str = "pgsql_tmp.pgnode-empty";
