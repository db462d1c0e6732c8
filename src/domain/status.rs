//! What the node shows of itself: one value, published by the runtime, read by HTTP, logs, metrics
//! and `pgnode status`. Times are milliseconds since the Unix epoch, sizes bytes.

use super::{
    ArchivingView, DrillView, HostView, Lsn, NodeId, NodeName, Role, SystemId, Timeline,
    VerifiedView,
};
use serde::{Deserialize, Serialize};

/// Where PostgreSQL can be reached at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    /// No postmaster of ours accepts connections.
    #[default]
    Closed,
    /// The technical port: loopback and socket only.
    Technical,
    /// The consumer port.
    Consumer,
}

impl std::fmt::Display for Exposure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Technical => "technical port",
            Self::Consumer => "open",
        })
    }
}

/// The answer of one health check, with the reason when it is no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the check passed.
    pub ok: bool,
    /// Why, in one sentence.
    pub why: String,
}

/// A process of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildView {
    /// `postgres`, `repmgrd`, `crond`.
    pub name: String,
    /// Its pid while it runs.
    pub pid: Option<i32>,
    /// How often it was started again after an unexpected end.
    pub restarts: u64,
    /// Since when it runs (or is down).
    pub since_ms: u64,
}

/// How long one state of the boot took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStep {
    /// The state's name.
    pub state: String,
    /// Milliseconds spent in it.
    pub took_ms: u64,
}

/// A row of repmgr's own table, as the node last read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// `node_id`.
    pub node_id: NodeId,
    /// `node_name`.
    pub name: NodeName,
    /// `type`: primary, standby or witness.
    pub kind: String,
    /// `active`.
    pub active: bool,
    /// `upstream_node_id`.
    pub upstream: Option<NodeId>,
    /// Host in the registered conninfo.
    pub host: String,
    /// Port in it.
    pub port: u16,
    /// For the rows of standbys on the primary: whether it streams at the moment.
    pub streaming: Option<bool>,
    /// For a streaming standby: bytes of WAL it has not replayed.
    pub lag_bytes: Option<u64>,
}

/// What barman says of its backups of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupView {
    /// `local`, `remote` or `off`.
    pub mode: String,
    /// Complete backups in the catalogue; `None` when barman was not asked yet.
    pub count: Option<u64>,
    /// The newest complete backup's id.
    pub last_id: Option<String>,
    /// When it ended.
    pub last_end_ms: Option<u64>,
    /// Its size in bytes.
    pub last_size: Option<u64>,
    /// What barman's work is doing or waiting for, for a person.
    pub note: Option<String>,
    /// The last drill of each cluster that is kept here.
    #[serde(default)]
    pub drills: Vec<DrillView>,
}

/// Since when, for the age of things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// When pgnode started.
    pub started_ms: u64,
    /// When the present state was entered.
    pub state_since_ms: u64,
    /// When this status was made.
    pub now_ms: u64,
}

/// How an old primary came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejoinView {
    /// When.
    pub at_ms: u64,
    /// The new primary's address.
    pub from: String,
    /// `follow`, `rewind` or `clone`.
    pub how: String,
    /// Where the histories part; `None` when nothing was lost, or that is not known.
    pub fork: Option<Lsn>,
    /// Where this node's own WAL ended.
    pub end: Option<Lsn>,
    /// Bytes of WAL that only this node had; `None` when that is not known.
    pub lost_bytes: Option<u64>,
    /// The directory with a copy of that WAL.
    pub kept: Option<String>,
}

/// How long a primary may stay open by the votes that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum LeaseView {
    /// Not at all.
    #[default]
    None,
    /// Until then.
    Until {
        /// Milliseconds since the epoch.
        until_ms: u64,
    },
    /// The others could not elect anybody without it.
    Unlimited,
}

impl LeaseView {
    /// What is left of it, in milliseconds; `None`: unlimited.
    #[must_use]
    pub const fn left_ms(self, now_ms: u64) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Until { until_ms } => Some(until_ms.saturating_sub(now_ms)),
            Self::Unlimited => None,
        }
    }
}

/// What the node knows of the cluster's elections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionView {
    /// The latest term that it knows of.
    pub term: u64,
    /// Whether it is the one elected last, as far as it knows.
    pub leads: bool,
    /// The primary that it heard last since its start.
    pub primary: Option<NodeName>,
    /// When.
    pub heard_at_ms: Option<u64>,
    /// The lease that this node has as the primary.
    pub lease: LeaseView,
    /// All voters.
    pub voters: usize,
    /// So many elect.
    pub majority: usize,
    /// While it leads: voters that have answered within a lease, itself included.
    pub reached: Option<usize>,
    /// Maintenance: nobody is elected.
    pub paused: bool,
    /// The list of voters is being changed.
    pub roster_changes: bool,
}

/// On a primary with synchronous replication: what a commit waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynchronousView {
    /// `PGNODE_SYNCHRONOUS`.
    pub quorum: String,
    /// `PGNODE_SYNCHRONOUS_STRICT`.
    pub strict: bool,
    /// So many standbys must have a commit on disk, by the settings.
    pub required: usize,
    /// So many it waits for at the moment; less than required while degraded.
    pub in_force: usize,
    /// Standbys that can confirm it: they stream.
    pub streaming: Vec<NodeName>,
    /// Those that do not.
    pub missing: Vec<NodeName>,
    /// Since when fewer stream than are required.
    pub short_since_ms: Option<u64>,
    /// All of it in one sentence.
    pub sentence: String,
}

/// Everything that the node shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of pgnode.
    pub version: String,
    /// repmgr's node name.
    pub node: NodeName,
    /// repmgr's node id.
    pub node_id: NodeId,
    /// Where peers connect to.
    pub network_name: String,
    /// Name of the machine's state, as in `docs/state-machine.md`.
    pub state: String,
    /// The operator sentence of the state, with what it waits for.
    pub sentence: String,
    /// What the data directory is; `None` while that is not known.
    pub role: Option<Role>,
    /// Where PostgreSQL can be reached.
    pub exposure: Exposure,
    /// The consumer port.
    pub port: u16,
    /// The technical port.
    pub technical_port: u16,
    /// Times.
    #[serde(flatten)]
    pub uptime: Uptime,
    /// The cluster's identity; a witness shows that of the cluster it votes in.
    pub system_id: Option<SystemId>,
    /// Timeline of the last sample.
    pub timeline: Option<Timeline>,
    /// Primary: current WAL position. Standby: last replayed. Closed: latest checkpoint.
    pub lsn: Option<Lsn>,
    /// Standby: bytes received and not replayed, or behind what the upstream last reported.
    pub lag_bytes: Option<u64>,
    /// Standby: milliseconds since the last replayed commit, 0 when nothing is left to replay.
    pub lag_ms: Option<u64>,
    /// Standby: whether the walreceiver streams.
    pub streaming: Option<bool>,
    /// Standby: the host it streams from.
    pub upstream: Option<String>,
    /// repmgr's table.
    pub members: Vec<MemberView>,
    /// Processes.
    pub children: Vec<ChildView>,
    /// Unexpected ends of postgres since pgnode started.
    pub restarts: u64,
    /// Orphans reaped since pgnode started.
    pub orphans_reaped: u64,
    /// The boot so far.
    pub boot: Vec<BootStep>,
    /// Milliseconds from start to open; `None` until then.
    pub boot_total_ms: Option<u64>,
    /// Backups.
    pub backup: BackupView,
    /// Archiving into a bucket; `None` where there is none.
    #[serde(default)]
    pub archiving: Option<ArchivingView>,
    /// Primary: what of the bucket can be restored; `None` before the first look.
    #[serde(default)]
    pub verified: Option<VerifiedView>,
    /// How it last came back from being a primary, since pgnode started.
    #[serde(default)]
    pub rejoin: Option<RejoinView>,
    /// The cluster's elections, once the node has looked at its disk.
    #[serde(default)]
    pub election: Option<ElectionView>,
    /// Primary: synchronous replication; `None` where it is off.
    #[serde(default)]
    pub synchronous: Option<SynchronousView>,
    /// The clusters whose backups it keeps; `None` where it is no barman host.
    #[serde(default)]
    pub host: Option<HostView>,
    /// The last fault, while it matters.
    pub fault: Option<String>,
}

impl Status {
    /// Whether clients may use the node: the consumer port is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.exposure == Exposure::Consumer
    }

    /// A child started (`Some`) or ended; `again`: after an unexpected end.
    pub fn child(&mut self, name: &str, pid: Option<i32>, again: bool, now_ms: u64) {
        if let Some(view) = self.children.iter_mut().find(|c| c.name == name) {
            view.pid = pid;
            view.since_ms = now_ms;
            view.restarts += u64::from(again);
        } else {
            self.children.push(ChildView {
                name: name.to_owned(),
                pid,
                restarts: 0,
                since_ms: now_ms,
            });
        }
    }

    /// Milliseconds in the present state.
    #[must_use]
    pub const fn state_age_ms(&self) -> u64 {
        self.uptime
            .now_ms
            .saturating_sub(self.uptime.state_since_ms)
    }
}

/// The part of a peer's [`Status`] that decisions rest on; older and newer versions may add fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its node name.
    pub node: NodeName,
    /// Its node id.
    pub node_id: NodeId,
    /// Its state's name.
    pub state: String,
    /// What its data directory is.
    pub role: Option<Role>,
    /// Where its PostgreSQL can be reached.
    pub exposure: Exposure,
    /// Its cluster.
    pub system_id: Option<SystemId>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// Its position.
    pub lsn: Option<Lsn>,
}

impl PeerReport {
    /// Whether it serves clients as the primary at this moment.
    #[must_use]
    pub fn is_open_primary(&self) -> bool {
        self.role == Some(Role::Primary) && self.exposure == Exposure::Consumer
    }
}
