//! What is gathered, as data: the judgements take nothing else.

use crate::config::Address;
use crate::domain::Lsn;
use crate::pg::Refusal;

/// A node of the cluster, as barman's two roles saw it.
#[derive(Clone, Debug)]
pub struct NodeLogin {
    /// Its address.
    pub address: Address,
    /// `barman`, and what it could read.
    pub plain: Result<ServerFacts, Refusal>,
    /// `barman_streaming`, on the replication protocol.
    pub streaming: Result<(), Refusal>,
}

/// What the role barman can read of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Whether it is a standby.
    pub standby: bool,
    /// `server_version_num`.
    pub version: i32,
    /// Its clock minus ours, milliseconds; half of the question's time is taken off.
    pub skew_ms: i64,
    /// How long the question took: the skew is not known any better.
    pub asked_ms: u64,
    /// Rights that are missing: what for, and the statement that grants them.
    pub missing: Vec<(String, String)>,
    /// Whether the marker table can be used.
    pub marker: bool,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
    /// Slots; on a standby its own.
    pub slots: Vec<Slot>,
    /// `max_slot_wal_keep_size` in bytes; `None` without a limit.
    pub slot_limit: Option<u64>,
    /// `pg_stat_archiver` and the settings around it.
    pub archiver: Archiver,
    /// Tablespaces outside of the data directory: oid and place.
    pub tablespaces: Vec<(u32, String)>,
}

/// A replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub status: Option<String>,
    /// Bytes of WAL behind the present position that it holds back.
    pub held: Option<u64>,
}

/// The archiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archiver {
    /// `archive_mode`.
    pub mode: String,
    /// `archive_command`, live.
    pub command: String,
    /// The file that it comes from.
    pub source: Option<String>,
    /// Whether `archive_mode` waits for a restart.
    pub pending_restart: bool,
    /// The segment that failed last, when no other was archived since.
    pub failing: Option<String>,
    /// Failures so far.
    pub failed_count: i64,
}

/// Where a finished segment was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// In barman's archive.
    Archived,
    /// At barman, not archived.
    Received,
    /// Nowhere.
    Missing,
}

/// A marker row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its text: nobody else writes the same.
    pub token: String,
    /// The WAL behind it ends before this.
    pub lsn: Lsn,
    /// The segment that holds it.
    pub segment: String,
    /// The texts of the newest markers, this one among them.
    pub all: Vec<String>,
}
