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
            Self::Path => "directory",
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
            "what the container is: `postgres`, a data node, or `witness`, a vote without data; this version knows no other";
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
        BARMAN_MODE: Choice(&["local", "remote", "off"]), Fixed("local"), "remote",
            "`local`: barman in this container; `remote`: a barman host pulls; `off`: none, and always so on a witness";
        BARMAN_PASSWORD: Secret, Fixed("iambarman"), "",
            "password of the user `barman`";
        BARMAN_STREAMING_PASSWORD: Secret, Fixed("iamstreamingbarman"), "",
            "password of the user `barman_streaming`";
        BARMAN_RETENTION: Text, Fixed("5 days"), "4 weeks",
            "how far back a restore can go: `<n> days`, `weeks` or `months`, or `redundancy <n>` backups";
        BARMAN_BACKUP_SCHEDULE: Cron, Fixed("0 3 * * *"), "30 1 * * 0",
            "when the full backup is made: minute, hour, day, month, weekday";
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
