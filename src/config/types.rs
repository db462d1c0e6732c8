//! The validated configuration: what the other rooms see. Everything here has been checked.

use super::Secret;
use super::backups::{Barman, Drill, Restore, Ssh};
use super::s3::{S3, Shipping};
use crate::domain::{NodeId, NodeName, Timing};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What a wait without end is held as: a century, which every clock can add to the present.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What this container is (`PGNODE_ROLE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A data node.
    Postgres,
    /// A barman host.
    Barman,
    /// A vote without data.
    Witness,
    /// Both.
    BarmanWitness,
}

impl NodeKind {
    /// Whether it votes and has no data.
    #[must_use]
    pub const fn is_witness(self) -> bool {
        matches!(self, Self::Witness | Self::BarmanWitness)
    }

    /// Whether it is a barman host.
    #[must_use]
    pub const fn keeps_backups(self) -> bool {
        matches!(self, Self::Barman | Self::BarmanWitness)
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Barman => "barman",
            Self::Witness => "witness",
            Self::BarmanWitness => "barman,witness",
        })
    }
}

/// What an empty disk becomes (`REPMGR_MASTER`); only a hint on a used one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// Create the cluster.
    Master,
    /// Clone it from the primary.
    Slave,
}

/// Who takes backups (`BARMAN_MODE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarmanMode {
    /// barman runs in this container, against this node.
    Local,
    /// A barman host pulls.
    Remote,
    /// The node writes into a bucket, in barman-cloud's layout.
    Cloud,
    /// Nobody.
    Off,
}

impl fmt::Display for BarmanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Cloud => "cloud",
            Self::Off => "off",
        })
    }
}

/// How log events are written (`PGNODE_LOG_FORMAT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// How many standbys a commit waits for (`PGNODE_SYNCHRONOUS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    /// None.
    #[default]
    Off,
    /// So many that no election can lose an acknowledged row.
    On,
    /// That many.
    Of(usize),
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On => f.write_str("on"),
            Self::Of(n) => write!(f, "quorum:{n}"),
        }
    }
}

/// Synchronous replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synchronous {
    /// `PGNODE_SYNCHRONOUS`.
    pub quorum: Quorum,
    /// `PGNODE_SYNCHRONOUS_STRICT`: with too few standbys commits wait.
    pub strict: bool,
}

/// Another node: `host[:port]`, the port being PostgreSQL's consumer port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Name or IP address (IPv6 without brackets).
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who the node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `REPMGR_NODE_NAME`.
    pub name: NodeName,
    /// `REPMGR_NODE_ID`, or the number in the name.
    pub id: NodeId,
    /// `REPMGR_NODE_NETWORK_NAME`: what peers connect to.
    pub network_name: String,
}

/// Directories, all absolute.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `PGNODE_DATA_DIR`: all that the node keeps.
    pub data_dir: PathBuf,
    /// `PGDATA`: the cluster.
    pub pgdata: PathBuf,
    /// `REPMGR_CONFIG_DIR`.
    pub repmgr_config_dir: PathBuf,
    /// `BARMAN_CONFIG_DIR`.
    pub barman_config_dir: PathBuf,
    /// `BARMAN_BACKUP_DIR`: barman's home.
    pub barman_backup_dir: PathBuf,
    /// `PGNODE_RUN_DIR` (`/run/pgnode`): rendered files, pipes, the control socket. May be a tmpfs.
    pub run_dir: PathBuf,
    /// `PGNODE_SOCKET_DIR` (`/run/postgresql`): PostgreSQL's Unix sockets.
    pub socket_dir: PathBuf,
    /// `PGNODE_CONFIG_DIR` (`/etc/pgnode`): the user's `conf.d/*.conf` and `pg_hba.d/*.conf`.
    pub user_dir: PathBuf,
    /// `/docker-entrypoint-initdb.d`.
    pub init_scripts: PathBuf,
}

/// PostgreSQL's own settings.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `PGPORT`: the consumer port.
    pub port: u16,
    /// `PGNODE_TECHNICAL_PORT`.
    pub technical_port: u16,
    /// `POSTGRES_USER`: the bootstrap superuser.
    pub superuser: String,
    /// `POSTGRES_PASSWORD`.
    pub password: Secret,
    /// `POSTGRES_DB`.
    pub database: String,
    /// `POSTGRES_INITDB_ARGS`, split as a shell splits words.
    pub initdb_args: Vec<String>,
    /// `-c name=value` arguments of the container's command, in order.
    pub settings: Vec<(String, String)>,
    /// `PGNODE_MAX_SLOT_WAL`: most bytes of WAL that slots may hold back; `None`: from the volume's size.
    pub max_slot_wal: Option<u64>,
    /// `PGNODE_KEEP_DIVERGED`: WAL that only an old primary had is copied before it is rewound.
    pub keep_diverged: bool,
}

/// The other nodes.
#[derive(Clone, Debug)]
pub struct Peers {
    /// `REPMGR_SLAVES`.
    pub slaves: Vec<Address>,
    /// `REPMGR_PRIMARY_HOST` and `_PORT`; `None` also when that is this node itself.
    pub primary: Option<Address>,
    /// `REPMGR_PARTNER_NODES`, ourselves left out: everyone to ask.
    pub partners: Vec<Address>,
}

/// repmgr's users; their names are fixed: `repmgr`, `repmgr_streaming`.
#[derive(Clone, Debug)]
pub struct Repmgr {
    /// `REPMGR_PASSWORD`.
    pub password: Secret,
    /// `REPMGR_STREAMING_PASSWORD`.
    pub streaming_password: Secret,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `PGNODE_PRIMARY_TIMEOUT`: how long a first-time slave waits for its master; [`FOR_EVER`] for
    /// `0`.
    pub primary_wait: Duration,
    /// `PGNODE_STOP_TIMEOUT`: the container runtime's grace period; the stop ladder stays below it.
    pub stop_grace: Duration,
}

impl Limits {
    /// How long a server that stops may archive: three quarters of what the ladder gives a fast shutdown.
    #[must_use]
    pub fn closing(&self) -> Duration {
        self.stop_grace * 3 / 8
    }
}

/// The whole configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the container is.
    pub kind: NodeKind,
    /// What an empty disk becomes.
    pub start_as: StartAs,
    /// Who we are.
    pub identity: Identity,
    /// Where things are.
    pub paths: Paths,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// The others.
    pub peers: Peers,
    /// repmgr.
    pub repmgr: Repmgr,
    /// `PGNODE_FAILOVER_*`: checked to fit together.
    pub timing: Timing,
    /// `PGNODE_SYNCHRONOUS*`; off on a witness.
    pub synchronous: Synchronous,
    /// barman.
    pub barman: Barman,
    /// `S3_*`: the bucket; `None` unless `S3_BUCKET_URI` is set.
    pub s3: Option<S3>,
    /// `S3_*_SCHEDULE`, `S3_QUEUE_*`: how a barman host ships its catalogue there.
    pub shipping: Shipping,
    /// `PGNODE_RESTORE*`: what an empty disk is restored from; `None` unless asked for.
    pub restore: Option<Restore>,
    /// Drills.
    pub drill: Drill,
    /// ssh, where barman needs it.
    pub ssh: Ssh,
    /// `PGNODE_HTTP_ADDR`.
    pub http: SocketAddr,
    /// `PGNODE_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `RUST_LOG`.
    pub log_filter: String,
    /// Time limits.
    pub limits: Limits,
    /// `PGNODE_TEST_HOLD=<state>:before|after`: fault tests hold the machine there. Never in production.
    pub test_hold: Option<TestHold>,
    /// What children inherit: everything that is not ours, and never a secret of ours.
    pub environment: Environment,
    /// Variables that are still on their well-known default password.
    pub default_passwords: Vec<&'static str>,
}

/// Where a fault test holds the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestHold {
    /// Name of the state.
    pub state: String,
    /// Before its actions are performed, or after its work is done and not yet reported.
    pub after: bool,
}

/// Environment for children: the container's own variables without those that pgnode reads
/// (`PATH`, `LANG`, `TZ`, the user's own variables for init scripts).
#[derive(Clone, Default)]
pub struct Environment {
    /// For every child: PATH, LANG, LC_*, TZ, TMPDIR. HOME is added per account.
    pub base: Vec<(String, String)>,
    /// For `/docker-entrypoint-initdb.d` scripts: all that the container was given except
    /// `REPMGR_*`, `BARMAN_*`, `S3_*` and `PGNODE_*`, with `POSTGRES_*` and `PGDATA` as they are in
    /// effect and `PGPASSWORD`, as in the official image. `PGHOST` and `PGPORT` are left to the
    /// caller, who knows which port is open.
    pub scripts: Vec<(String, String)>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets of the user's.
        f.debug_struct("Environment")
            .field(
                "base",
                &self.base.iter().map(|(k, _)| k).collect::<Vec<_>>(),
            )
            .field(
                "scripts",
                &self.scripts.iter().map(|(k, _)| k).collect::<Vec<_>>(),
            )
            .finish()
    }
}

impl Config {
    /// Where this container's own processes find the HTTP port: loopback, unless it listens on one address.
    #[must_use]
    pub fn http_locally(&self) -> SocketAddr {
        let mut address = self.http;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        address
    }
}
