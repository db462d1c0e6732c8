//! Every variable, once: its name, kind, default and meaning. From here come the check of names,
//! the README's table and the output of `pgnode config`.

/// What a variable's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Free text with a rule of its own.
    Text,
    /// A password: never shown.
    Secret,
    /// An absolute directory.
    Path,
    /// A host name or IP address.
    Host,
    /// Addresses `host[:port]`, separated by `,`, `;` or white space.
    List,
    /// `true` or `false`.
    Bool,
    /// A TCP port.
    Port,
    /// A whole number.
    Number,
    /// An IP address and a port to listen on.
    Socket,
    /// `10`, `10s`, `5m`, `1h`, `2d`.
    Duration,
    /// `512MB`, `4GB`: powers of 1024, as in PostgreSQL.
    Bytes,
    /// Five cron fields.
    Cron,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// How the README calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Path => "path",
            Self::Host => "host",
            Self::List => "list",
            Self::Bool => "true/false",
            Self::Port => "port",
            Self::Number => "number",
            Self::Socket => "ip:port",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::Cron => "cron",
            Self::Choice(_) => "choice",
        }
    }
}

/// What an unset variable means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This text.
    Fixed(&'static str),
    /// Follows from something else: markdown that says how.
    Derived(&'static str),
    /// Nothing.
    Unset,
}

/// One variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Var {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it is when it is not set.
    pub default: Preset,
    /// Whether `NAME_FILE` reads it from a file.
    pub from_file: bool,
    /// Left out of the README and, unless set, of `pgnode config`.
    pub hidden: bool,
    /// Heading.
    pub group: &'static str,
    /// One line of markdown.
    pub meaning: &'static str,
    /// A value that is valid and not the default; empty for secrets.
    pub example: &'static str,
}

impl Var {
    /// Whether its value must never be shown.
    #[must_use]
    pub const fn secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// The name of its `_FILE` form.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}_FILE", self.name)
    }

    /// Its place in the table.
    pub(super) fn order(&self) -> usize {
        TABLE
            .iter()
            .position(|var| var.name == self.name)
            .unwrap_or(usize::MAX)
    }
}

/// Declares each variable as a static of its own name, so that the compiler checks every use, and
/// lists them all.
macro_rules! table {
    ($( $group:literal { $(
        $name:ident: $kind:expr, $default:expr, $example:literal, $meaning:literal
    );* $(;)? } )*) => {
        $($(
            #[doc = $meaning]
            pub static $name: Var = Var {
                name: stringify!($name),
                kind: $kind,
                default: $default,
                from_file: true,
                hidden: false,
                group: $group,
                meaning: $meaning,
                example: $example,
            };
        )*)*
        /// All variables, in the order in which they are shown.
        pub static TABLE: &[&Var] = &[$($(&$name,)*)* &PGNODE_TEST_HOLD];
    };
}

/// For the fault tests: holds the machine before or after a state.
pub static PGNODE_TEST_HOLD: Var = Var {
    name: "PGNODE_TEST_HOLD",
    kind: Kind::Text,
    default: Preset::Unset,
    from_file: false,
    hidden: true,
    group: "Tests",
    meaning: "holds the machine `<state>:before` or `<state>:after`; for fault tests, never in production",
    example: "configure:before",
};

use Kind::{
    Bool, Bytes, Choice, Cron, Duration, Host, List, Number, Path, Port, Secret, Socket, Text,
};
use Preset::{Derived, Fixed, Unset};

table! {
    "Node" {
        PGNODE_ROLE: Choice(&["postgres", "barman", "witness", "barman,witness"]), Fixed("postgres"), "postgres",
            "what the container is: `postgres`, a data node; `witness`, a vote without data; `barman`, a host that keeps backups; or both";
        REPMGR_MASTER: Bool, Fixed("true"), "false",
            "on an empty disk: create the cluster (`true`) or clone it (`false`). On a used disk only a hint: facts decide";
        REPMGR_NODE_NAME: Text, Fixed("node1"), "pg2",
            "the node's name, unique in the cluster; also barman's name for the server";
        REPMGR_NODE_ID: Number, Derived("the number at the end of `REPMGR_NODE_NAME`"), "2",
            "the node's number, unique in the cluster";
        REPMGR_NODE_NETWORK_NAME: Host, Derived("the hostname"), "pg2.example.com",
            "the name or address that the other nodes connect to";
    }
    "PostgreSQL" {
        PGPORT: Port, Fixed("5432"), "6432",
            "consumer port: open only when the node is sure of its role";
        PGNODE_TECHNICAL_PORT: Port, Fixed("5434"), "6434",
            "technical port: loopback only, while the node is being made ready";
        POSTGRES_USER: Text, Fixed("postgres"), "admin",
            "the superuser that the first start creates";
        POSTGRES_PASSWORD: Secret, Fixed("mysecretpassword"), "",
            "its password; a changed one takes effect on restart";
        POSTGRES_DB: Text, Derived("`POSTGRES_USER`"), "app",
            "a database that the first start creates, as in the official image";
        POSTGRES_INITDB_ARGS: Text, Unset, "--locale=C.UTF-8 --wal-segsize=64",
            "more arguments for `initdb`: locale, encoding, WAL segment size and the like";
        PGNODE_MAX_SLOT_WAL: Bytes, Derived("from the volume's size"), "8GB",
            "most WAL that slots may hold back for a standby or barman that is away; at least 64MB";
        PGNODE_KEEP_DIVERGED: Bool, Fixed("false"), "true",
            "an old primary that is rewound first copies the WAL that only it had to `.pgnode/diverged` on its volume";
    }
    "Cluster" {
        REPMGR_PRIMARY_HOST: Host, Unset, "pg1",
            "where a first-time slave finds the master";
        REPMGR_PRIMARY_PORT: Port, Fixed("5432"), "6432",
            "its consumer port";
        REPMGR_SLAVES: List, Unset, "pg2,pg3:6432",
            "the slaves: `host[:port],…` (port 5432 unless given)";
        REPMGR_PARTNER_NODES: List, Derived("`REPMGR_SLAVES` and `REPMGR_PRIMARY_HOST`"), "pg1,pg2,pg3",
            "every node to ask on start; the node itself may be among them";
        REPMGR_PASSWORD: Secret, Fixed("iamrepmgr"), "",
            "password of the user `repmgr`; the same on every node";
        REPMGR_STREAMING_PASSWORD: Secret, Fixed("iamstreamingrepmgr"), "",
            "password of the user `repmgr_streaming`; the same on every node";
    }
    "Failover" {
        PGNODE_FAILOVER_PROFILE: Choice(&["fast", "default", "cautious"]), Fixed("default"), "fast",
            "how quickly a failed primary is replaced: within about 3, 8 or 20 s; the same on every node";
        PGNODE_FAILOVER_BEAT: Duration, Derived("from the profile: 300ms, 1s, 2s"), "500ms",
            "between two of the primary's questions to the voters";
        PGNODE_FAILOVER_LEASE: Duration, Derived("from the profile: 1200ms, 4s, 12s"), "3s",
            "how long a primary stays open that too few voters answer; at least three beats";
        PGNODE_FAILOVER_CLOSE: Duration, Derived("from the profile: 600ms, 1500ms, 3s"), "1s",
            "how long closing it may take: a quick shutdown, then KILL after half of it";
        PGNODE_FAILOVER_PROMISE: Duration, Derived("from the profile: 1900ms, 6s, 16s"), "8s",
            "how long a voter that heard the primary elects nobody else; more than lease and closing together";
        PGNODE_SYNCHRONOUS: Text, Fixed("off"), "quorum:2",
            "how many standbys have a commit on disk before it is acknowledged: `off`: none; `on`: so many that no election can lose it; `quorum:<n>`: that many. The same on every node";
        PGNODE_SYNCHRONOUS_STRICT: Bool, Fixed("false"), "true",
            "what happens when too few standbys stream: `false`: commits go on with those that do, or none; `true`: they wait";
    }
    "Backups" {
        BARMAN_MODE: Choice(&["local", "remote", "cloud", "off"]), Fixed("local"), "remote",
            "`local`: barman in this container; `remote`: a barman host pulls; `cloud`: the node writes into a bucket, without barman; `off`: none, and always so on a witness";
        BARMAN_PASSWORD: Secret, Fixed("iambarman"), "",
            "password of the user `barman`";
        BARMAN_STREAMING_PASSWORD: Secret, Fixed("iamstreamingbarman"), "",
            "password of the user `barman_streaming`";
        BARMAN_SERVERS: Text, Unset, "main=pg1,pg2:6432; other=pg7",
            "on a barman host: the clusters it keeps, `name=host[:port],…`, separated by `;` or spaces; every node of a cluster that can become its primary";
        BARMAN_SERVER_NAME: Text, Derived("`REPMGR_NODE_NAME`"), "main",
            "on a data node: what barman calls this cluster; with `BARMAN_MODE=remote` the name in `BARMAN_SERVERS`";
        BARMAN_METHOD: Choice(&["streaming", "rsync"]), Fixed("streaming"), "rsync",
            "how barman takes WAL and backups: `streaming` over PostgreSQL's own protocol, without ssh; `rsync`: over ssh, both ways";
        BARMAN_HOST: Host, Unset, "barman1",
            "on a data node with `BARMAN_MODE=remote`: the barman host, for shipping WAL over ssh and for `doctor`";
        BARMAN_RETENTION: Text, Fixed("5 days"), "4 weeks",
            "how far back a restore can go: `<n> days`, `weeks` or `months`, or `redundancy <n>` backups";
        BARMAN_BACKUP_SCHEDULE: Cron, Fixed("0 3 * * *"), "30 1 * * 0",
            "when the full backup is made: minute, hour, day, month, weekday";
        BARMAN_INCREMENTAL_SCHEDULE: Cron, Unset, "0 */6 * * *",
            "when an incremental backup is made: what changed since the newest full one (PostgreSQL 17 or later, `streaming`); none unless set";
        BARMAN_MINIMUM_REDUNDANCY: Number, Fixed("1"), "2",
            "how many full backups are kept whatever `BARMAN_RETENTION` says";
        BARMAN_COMPRESSION: Choice(&["none", "gzip", "bzip2"]), Fixed("gzip"), "none",
            "how archived WAL is compressed";
        BARMAN_BANDWIDTH_LIMIT: Bytes, Unset, "50MB",
            "most bytes a second that a backup copies; no limit unless set";
        BARMAN_PARALLEL_JOBS: Number, Fixed("1"), "4",
            "how many files are copied at once (`rsync` only)";
        BARMAN_IMMEDIATE_CHECKPOINT: Bool, Fixed("true"), "false",
            "`true`: a backup begins with a checkpoint at full speed; `false`: with a spread one, which takes minutes";
        BARMAN_BACKUP_MAX_AGE: Duration, Fixed("2d"), "8d",
            "`doctor` and the metrics complain when the newest complete backup is older";
    }
    "S3" {
        S3_BUCKET_URI: Text, Unset, "s3://backups/prod",
            "the bucket and a path in it: where `BARMAN_MODE=cloud` writes, and where a barman host ships its catalogue to. Nothing goes to S3 unless set";
        S3_ENDPOINT_URL: Text, Derived("Amazon's for the region"), "https://s3.example.com:9000",
            "the server; also taken from `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`";
        S3_REGION: Text, Fixed("us-east-1"), "garage",
            "the region that requests are signed for; also `AWS_REGION`, `AWS_DEFAULT_REGION`";
        S3_ACCESS_KEY_ID: Text, Unset, "GK31c2f218a2e44f485b94239e",
            "the key's id; also `AWS_ACCESS_KEY_ID`";
        S3_SECRET_ACCESS_KEY: Secret, Unset, "",
            "the key; also `AWS_SECRET_ACCESS_KEY`";
        S3_SESSION_TOKEN: Secret, Unset, "",
            "with temporary keys; also `AWS_SESSION_TOKEN`";
        S3_CREDENTIALS_FILE: Path, Unset, "/run/secrets/aws",
            "instead of the keys: a credentials file of Amazon's tools; also `AWS_SHARED_CREDENTIALS_FILE`";
        S3_CONFIG_FILE: Path, Unset, "/run/secrets/aws-config",
            "a config file of Amazon's tools, for what is not set here: region, endpoint, CA bundle, addressing, keys; also `AWS_CONFIG_FILE`";
        S3_PROFILE: Text, Fixed("default"), "backup",
            "the profile in these files; also `AWS_PROFILE`";
        S3_ADDRESSING: Choice(&["path", "virtual"]), Fixed("path"), "virtual",
            "how the bucket is named in a request: in the path, or in the host's name";
        S3_CA_BUNDLE: Path, Unset, "/run/secrets/ca.pem",
            "a PEM file with certificates that are trusted beside the system's; also `AWS_CA_BUNDLE`";
        S3_SSE: Choice(&["none", "AES256", "aws:kms"]), Fixed("none"), "AES256",
            "the server-side encryption that is asked for; `none`: what the bucket does by itself";
        S3_SSE_KMS_KEY_ID: Text, Unset, "alias/backups",
            "the key of `aws:kms`; the account's own unless set";
        S3_TAGS: Text, Unset, "team=dba,tier=cold",
            "tags of every object, `key=value,…`";
        S3_HISTORY_TAGS: Text, Unset, "tier=hot",
            "tags of timeline history files, instead of `S3_TAGS`";
        S3_MAX_PARALLEL: Number, Fixed("4"), "8",
            "how many objects or parts are on their way at once, 1 to 64; four small ones (256 kB) count as one";
        S3_PART_SIZE: Bytes, Fixed("16MB"), "64MB",
            "the size of a multipart upload's parts, 5MB to 5GB; grows by itself where a file would need more than 10,000";
        S3_COMPRESSION: Text, Fixed("zstd"), "lz4",
            "how WAL is compressed: `none`, `gzip`, `bzip2`, `xz`, `snappy`, `zstd` or `lz4`, with a level where there is one (`zstd:1`)";
        S3_BASE_COMPRESSION: Text, Fixed("gzip"), "snappy",
            "the same for base backups: what barman-cloud reads, `none`, `gzip`, `bzip2` or `snappy`";
        S3_BANDWIDTH_LIMIT: Bytes, Unset, "50MB",
            "most bytes a second that one process sends; no limit unless set";
        S3_RETRY: Duration, Fixed("2m"), "10m",
            "how long one request that fails in passing (no route, 503, a stall) is tried again";
        BARMAN_CLOUD_SERVER_NAME: Text, Derived("`BARMAN_SERVER_NAME`"), "main",
            "what the cluster is called in the bucket; the same on all its nodes, and another one after a restore";
        S3_WAL_SYNC_SCHEDULE: Cron, Fixed("*/15 * * * *"), "*/5 * * * *",
            "on a barman host with a bucket: when archived WAL is shipped";
        S3_BASE_SYNC_SCHEDULE: Cron, Fixed("30 5 * * *"), "0 * * * *",
            "the same for backups: those in the queue";
        S3_FULL_SYNC_SCHEDULE: Cron, Fixed("0 6 1 * *"), "0 6 * * 0",
            "when all is compared, and what barman has deleted is deleted in the bucket";
        S3_QUEUE_DIR: Path, Derived("`$BARMAN_BACKUP_DIR/.s3-queue`"), "/srv/queue",
            "where backups wait for being shipped";
        S3_QUEUE_KEEP: Duration, Fixed("30d"), "7d",
            "how long shipped ones stay there as history";
    }
    "Restore" {
        PGNODE_RESTORE: Text, Unset, "latest",
            "on an empty disk: restore this backup, `latest` or an id, and open as a new primary. On a used disk it does nothing";
        PGNODE_RESTORE_FROM: Text, Fixed("local"), "ssh://barman1:2222/main",
            "where the backup is: `local`, this node's own barman; a directory, barman's of that cluster, mounted here; `ssh://host[:port]/cluster`, a barman host; `s3`, `s3/cluster` or `s3://bucket/path/cluster`, a bucket";
        PGNODE_RESTORE_TABLESPACES: Text, Unset, "fast=/srv/fast,16386=/srv/slow",
            "where its tablespaces go, `name=/directory` or `oid=/directory`, separated by commas; the others go where they were. Each directory must be missing or empty";
        PGNODE_RESTORE_TARGET_TIME: Text, Unset, "2026-11-21 10:15:00+00",
            "recover up to this time; UTC unless it names an offset. At most one target; without any: all WAL there is";
        PGNODE_RESTORE_TARGET_LSN: Text, Unset, "0/5000028",
            "recover up to this WAL position";
        PGNODE_RESTORE_TARGET_XID: Text, Unset, "742",
            "recover up to this transaction";
        PGNODE_RESTORE_TARGET_NAME: Text, Unset, "before_upgrade",
            "recover up to this restore point (`pg_create_restore_point`)";
        PGNODE_RESTORE_TARGET_IMMEDIATE: Bool, Fixed("false"), "true",
            "recover no further than the end of the backup itself";
        PGNODE_RESTORE_TARGET_INCLUSIVE: Bool, Fixed("true"), "false",
            "whether the target itself (time, position, transaction) is still recovered";
        PGNODE_RESTORE_TARGET_TIMELINE: Text, Fixed("latest"), "3",
            "the timeline to follow: `latest`, `current` (the backup's own) or a number";
        PGNODE_RESTORE_TARGET_ACTION: Choice(&["promote", "pause", "shutdown"]), Fixed("promote"), "pause",
            "at the target: `promote` and open; `pause`: stay closed, readable on the technical port, until `pgnode restore --resume`; `shutdown`: exit; the next start begins again";
        PGNODE_RESTORE_RETRY: Duration, Fixed("10m"), "1h",
            "how long a lost source of WAL is asked again before the restore gives up (exit 75)";
    }
    "Drills" {
        PGNODE_DRILL_SCHEDULE: Cron, Unset, "0 5 * * 0",
            "when the newest backup is restored into a scratch directory and checked, on the barman host, or with `BARMAN_MODE` `local` or `cloud` on the primary; never unless set";
        PGNODE_DRILL_DIR: Path, Derived("`$BARMAN_BACKUP_DIR/.drill`; with `BARMAN_MODE=cloud` `$PGNODE_DATA_DIR/.drill`"), "/srv/drill",
            "the scratch directory of drills and of `doctor --full`: needs room for one cluster";
    }
    "ssh" {
        PGNODE_SSH_PORT: Port, Fixed("2222"), "22022",
            "where the node's own sshd listens: only with `BARMAN_METHOD=rsync` or on a barman host with `PGNODE_SSH_KEYS`";
        PGNODE_SSH_KEYS: Path, Unset, "/srv/keys",
            "a directory that the cluster's nodes and its barman host share: each leaves its public keys there and trusts what is there. A volume or a secret";
    }
    "HTTP and log" {
        PGNODE_HTTP_ADDR: Socket, Fixed("0.0.0.0:8008"), "127.0.0.1:9008",
            "where health, status and metrics are served, read only";
        PGNODE_LOG_FORMAT: Choice(&["text", "json"]), Fixed("text"), "json",
            "`text` for a person, `json` for a collector; both carry the same fields";
        RUST_LOG: Text, Fixed("info"), "info,pgnode=debug",
            "what is logged: a level, or `target=level,…`";
    }
    "Time limits" {
        PGNODE_PRIMARY_TIMEOUT: Duration, Fixed("1h"), "10m",
            "how long a first-time slave waits for its master before it gives up (exit 75); `0`: for ever";
        PGNODE_STOP_TIMEOUT: Duration, Fixed("10s"), "60s",
            "the container runtime's grace period, at least 3s: a stop is over before it ends";
    }
    "Directories" {
        PGNODE_DATA_DIR: Path, Fixed("/var/lib/postgresql"), "/srv/pg",
            "all that the node keeps: mount the volume here";
        PGDATA: Path, Derived("`$PGNODE_DATA_DIR/data`"), "/srv/pg/17",
            "the cluster";
        BARMAN_BACKUP_DIR: Path, Fixed("/home/barman/data"), "/srv/barman",
            "the backups: mount a volume of their own here";
        REPMGR_CONFIG_DIR: Path, Fixed("/etc/repmgr.d/"), "/srv/etc/repmgr.d",
            "where `repmgr.conf` is written";
        BARMAN_CONFIG_DIR: Path, Fixed("/etc/barman.d/"), "/srv/etc/barman.d",
            "where barman's configuration of the server is written";
        PGNODE_CONFIG_DIR: Path, Fixed("/etc/pgnode"), "/srv/etc/pgnode",
            "yours: `conf.d/*.conf` for PostgreSQL, `pg_hba.d/*.conf`";
        PGNODE_RUN_DIR: Path, Fixed("/run/pgnode"), "/srv/run/pgnode",
            "rendered files, pipes and the control socket; may be a tmpfs";
        PGNODE_SOCKET_DIR: Path, Fixed("/run/postgresql"), "/srv/run/postgresql",
            "PostgreSQL's Unix sockets";
    }
}

/// The names under which other programs know a variable; the first that is set counts, and only where ours is not.
#[must_use]
pub fn aliases(var: &Var) -> &'static [&'static str] {
    match var.name {
        "S3_ENDPOINT_URL" => &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        "S3_REGION" => &["AWS_REGION", "AWS_DEFAULT_REGION"],
        "S3_ACCESS_KEY_ID" => &["AWS_ACCESS_KEY_ID"],
        "S3_SECRET_ACCESS_KEY" => &["AWS_SECRET_ACCESS_KEY"],
        "S3_SESSION_TOKEN" => &["AWS_SESSION_TOKEN"],
        "S3_CREDENTIALS_FILE" => &["AWS_SHARED_CREDENTIALS_FILE"],
        "S3_CONFIG_FILE" => &["AWS_CONFIG_FILE"],
        "S3_PROFILE" => &["AWS_PROFILE"],
        "S3_CA_BUNDLE" => &["AWS_CA_BUNDLE"],
        _ => &[],
    }
}

/// The variable of that name.
pub(super) fn named(name: &str) -> Option<&'static Var> {
    TABLE.iter().find(|var| var.name == name).copied()
}

/// The README's environment table, in markdown.
#[must_use]
pub fn readme_table() -> String {
    let mut out = String::new();
    let mut group = "";
    for var in TABLE.iter().filter(|var| !var.hidden) {
        if var.group != group {
            if !group.is_empty() {
                out.push('\n');
            }
            group = var.group;
            out.push_str(&format!(
                "### {group}\n\n| variable | kind | default | meaning |\n| --- | --- | --- | --- |\n"
            ));
        }
        let default = match var.default {
            Fixed(text) => format!("`{text}`"),
            Derived(how) => how.to_owned(),
            Unset => "none".to_owned(),
        };
        let mut meaning = var.meaning.to_owned();
        if !var.example.is_empty() && !matches!(var.kind, Choice(_) | Bool | Port) {
            meaning.push_str(&format!("; e.g. `{}`", var.example));
        }
        out.push_str(&format!(
            "| `{}` | {} | {default} | {meaning} |\n",
            var.name,
            var.kind.word()
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_made() {
        let mut names: Vec<_> = TABLE.iter().map(|var| var.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len(), "a name twice");
        for var in TABLE {
            assert!(!var.meaning.is_empty() && !var.group.is_empty());
            assert!(
                !var.meaning.contains(['|', '\n']),
                "{}: breaks markdown",
                var.name
            );
            assert_eq!(var.example.is_empty(), var.secret(), "{}", var.name);
            assert_eq!(var.from_file, !var.hidden, "{}", var.name);
            assert_eq!(named(var.name), Some(*var));
        }
    }

    #[test]
    fn the_readme_shows_every_variable_but_the_hidden() {
        let text = readme_table();
        for var in TABLE {
            assert_eq!(
                text.contains(&format!("| `{}` |", var.name)),
                !var.hidden,
                "{}",
                var.name
            );
        }
    }
}
