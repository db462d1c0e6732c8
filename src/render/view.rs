//! What the templates see: plain values, each derived in one place.

use super::quote::conninfo;
use super::sizes::{Memory, Wal};
use super::{RenderFacts, RunFiles, Setting};
use crate::config::{
    BarmanMode, BarmanServer, Compression, Config, Habits, Method, Quorum, incoming_wals,
};
use crate::domain::Role;
use serde::Serialize;
use std::path::Path;

/// The database that barman connects to; its grants are needed there.
const BARMAN_DATABASE: &str = "postgres";

/// The four roles that pgnode makes. Where they are not let in by name they are kept out by name.
const OUR_ROLES: [&str; 4] = ["repmgr", "repmgr_streaming", "barman", "barman_streaming"];

#[derive(Serialize)]
pub(super) struct View {
    node_id: i32,
    node_name: String,
    barman_server: String,
    primary: bool,
    witness: bool,
    our_roles: [&'static str; 4],

    pgdata: String,
    pg_bin: String,
    memory: Option<Memory>,
    wal: Wal,
    summaries: bool,
    user_dir: String,
    user_conf_dir: Option<String>,
    synchronous_conf: Option<String>,
    /// Where WAL is shipped by an `archive_command`.
    archive_conf: Option<String>,
    /// Where WAL goes into a bucket.
    bucket: Option<Bucket>,
    settings: Vec<(String, String)>,
    enforced: Vec<Setting>,

    superuser: String,
    /// Accounts of the system that may become the superuser over the socket.
    trusted: Vec<String>,
    user_hba: Vec<(String, String)>,

    repmgr_conninfo: String,
    register_conninfo: String,
    pgpass: String,
    repmgr_password: String,
    repmgr_streaming_password: String,
    start_command: String,
    stop_command: String,
    restart_command: String,
    reload_command: String,
    promote_command: String,
    validate_command: String,
    follow_command: String,

    barman_mode: &'static str,
    barman_account: String,
    barman_home: String,
    barman_config_dir: String,
    barman_log: String,
    barman_database: &'static str,
    barman_conninfo: String,
    barman_streaming_conninfo: String,
    barman_password: String,
    barman_streaming_password: String,
    keeps: Keeps,
    backup_schedule: String,
    backup_command: String,
    incremental_schedule: Option<String>,
    incremental_command: String,
    /// Backups into a bucket.
    cloud: Option<Cloud>,
    /// A barman host's clusters.
    clusters: Vec<Jobs>,
    /// A barman host's jobs for the bucket.
    shipping: Vec<super::shipping::ShipJob>,
    drills: Vec<super::drills::DrillJob>,
    drill_place: super::drills::DrillPlace,
    path: String,
}

/// barman's habits as its configuration has them.
#[derive(Serialize)]
struct Keeps {
    method: &'static str,
    /// How barman gets to the primary of the moment, and where WAL comes in.
    ssh_command: Option<String>,
    incoming: Option<String>,
    /// Tells the queue of the bucket that a backup was made.
    post_backup_script: Option<String>,
    immediate_checkpoint: &'static str,
    compression: Option<&'static str>,
    /// kB a second.
    bandwidth_limit: Option<u64>,
    parallel_jobs: u32,
    retention_policy: String,
    minimum_redundancy: u32,
    max_age: String,
}

impl Keeps {
    fn of(habits: &Habits, method: Method) -> Self {
        // barman knows no smaller unit.
        let hours = habits.max_age.as_secs().div_ceil(3600).max(1);
        Self {
            method: match method {
                Method::Streaming => "postgres",
                Method::Rsync => "rsync",
            },
            ssh_command: None,
            incoming: None,
            post_backup_script: None,
            immediate_checkpoint: if habits.immediate_checkpoint {
                "true"
            } else {
                "false"
            },
            compression: match habits.compression {
                Compression::None => None,
                Compression::Gzip => Some("gzip"),
                // In Python: the image has no bzip2 program, and barman would archive nothing.
                Compression::Bzip2 => Some("pybzip2"),
            },
            bandwidth_limit: habits.bandwidth.map(|bytes| (bytes / 1024).max(1)),
            parallel_jobs: habits.parallel_jobs,
            retention_policy: habits.retention_policy.clone(),
            minimum_redundancy: habits.minimum_redundancy,
            max_age: format!("{hours} HOURS"),
        }
    }
}

/// What cron does where backups go to a bucket: on every data node, and the verb looks whether it is the primary's.
#[derive(Serialize)]
struct Cloud {
    account: String,
    due: String,
    owed: String,
}

impl Cloud {
    fn of(config: &Config, facts: &RenderFacts) -> Option<Self> {
        if config.barman.mode != BarmanMode::Cloud || config.kind.is_witness() {
            return None;
        }
        let word = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        let (program, run_dir) = (word(&facts.pgnode), word(&config.paths.run_dir));
        let command = |occasion: &str| {
            format!(
                "{program} backup --run-dir {run_dir} --occasion {occasion} 2>&1 | logger -t backup"
            )
        };
        Some(Self {
            account: facts.postgres_account.clone(),
            due: command("due"),
            owed: command("owed"),
        })
    }
}

/// The commands that PostgreSQL calls for each WAL file.
#[derive(Serialize)]
struct Bucket {
    push: String,
    fetch: String,
}

impl Bucket {
    fn of(config: &Config, facts: &RenderFacts) -> Option<Self> {
        if config.barman.mode != BarmanMode::Cloud || config.kind.is_witness() {
            return None;
        }
        let (program, run_dir) = (text(&facts.pgnode), text(&config.paths.run_dir));
        // %f and %p are the server's: they must not be quoted away.
        let command = |words: &[&str], files: &str| {
            let words = [&[program.as_str()], words, &["--run-dir", &run_dir]].concat();
            format!("{} {files}", shell_words::join(words))
        };
        Some(Self {
            push: command(&["wal-push"], "%p"),
            fetch: command(&["wal-fetch", "--standby"], "%f %p"),
        })
    }
}

/// What cron does for a cluster.
#[derive(Serialize)]
struct Jobs {
    name: String,
    schedule: String,
    command: String,
    incremental_schedule: Option<String>,
    incremental_command: String,
}

impl Jobs {
    fn of(server: &BarmanServer, habits: &Habits) -> Self {
        Self {
            name: server.name.clone(),
            schedule: habits.backup_schedule.clone(),
            command: backup_command(&server.name, ""),
            incremental_schedule: habits.incremental_schedule.clone(),
            incremental_command: backup_command(&server.name, FROM_FULL),
        }
    }
}

/// What `barman.server.conf` needs to know of a cluster that a barman host keeps.
pub(super) fn cluster(
    context: &mut tera::Context,
    config: &Config,
    facts: &RenderFacts,
    server: &BarmanServer,
) {
    let list = |each: fn(&crate::config::Address) -> String| {
        server.hosts.iter().map(each).collect::<Vec<_>>().join(",")
    };
    let (hosts, ports) = (list(|a| a.host.clone()), list(|a| a.port.to_string()));
    let pass = text(&RunFiles::of(config).barman_pgpass);
    let dsn = |user: &str| {
        let mut pairs = vec![
            ("host", hosts.as_str()),
            ("port", &ports),
            ("user", user),
            ("dbname", BARMAN_DATABASE),
            ("passfile", &pass),
        ];
        pairs.extend(REMOTE);
        conninfo(&pairs)
    };
    let mut keeps = Keeps::of(&config.barman.habits, config.barman.method);
    let (program, run_dir) = (text(&facts.pgnode), text(&config.paths.run_dir));
    let hop = [&program, "hop", "--run-dir", &run_dir, &server.name];
    keeps.ssh_command = Some(shell_words::join(hop));
    let home = &config.paths.barman_backup_dir;
    keeps.incoming = Some(text(&incoming_wals(home, &server.name)));
    keeps.post_backup_script = super::shipping::hook(config, facts);
    context.insert("keeps", &keeps);
    context.insert("barman_server", &server.name);
    context.insert("primary", &true);
    context.insert("barman_conninfo", &dsn("barman"));
    context.insert("barman_streaming_conninfo", &dsn("barman_streaming"));
}

/// Whichever of the nodes is the primary; one that is gone is noticed within seconds.
const REMOTE: [(&str, &str); 6] = [
    ("target_session_attrs", "read-write"),
    ("connect_timeout", "3"),
    ("keepalives_idle", "1"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
];

impl View {
    pub(super) fn of(config: &Config, facts: &RenderFacts) -> Self {
        let files = RunFiles::of(config);
        let identity = &config.identity;
        let hook = |what: &str| {
            let program = shell_words::quote(&text(&facts.pgnode)).into_owned();
            format!("{program} hook {what}")
        };
        let http = config.http_locally();
        let user_conf_dir = config.paths.user_dir.join("conf.d");
        Self {
            node_id: identity.id.0,
            node_name: identity.name.0.clone(),
            barman_server: config.barman.server_name.clone(),
            primary: facts.role == Role::Primary && !facts.foreign_archive,
            witness: config.kind.is_witness(),
            our_roles: OUR_ROLES,

            pgdata: text(&config.paths.pgdata),
            pg_bin: text(&facts.pg_bin),
            memory: facts.memory_limit.and_then(Memory::under),
            wal: Wal::on(facts.volume_bytes, config.postgres.max_slot_wal),
            summaries: facts.pg_major >= 17 && config.barman.mode != BarmanMode::Off,
            user_dir: text(&config.paths.user_dir),
            user_conf_dir: facts.user_conf_dir_exists.then(|| text(&user_conf_dir)),
            archive_conf: (config.barman.method == Method::Rsync
                && config.barman.mode == BarmanMode::Remote)
                .then(|| text(&files.archive_conf)),
            bucket: Bucket::of(config, facts),
            synchronous_conf: (config.synchronous.quorum != Quorum::Off)
                .then(|| text(&files.synchronous_conf)),
            settings: config.postgres.settings.clone(),
            enforced: super::enforced(config, facts),

            superuser: config.postgres.superuser.clone(),
            trusted: trusted(facts),
            user_hba: facts.user_hba.clone(),

            repmgr_conninfo: repmgr(&identity.network_name, config.postgres.port),
            register_conninfo: register_conninfo(config),
            pgpass: text(&files.pgpass),
            repmgr_password: config.repmgr.password.reveal().to_owned(),
            repmgr_streaming_password: config.repmgr.streaming_password.reveal().to_owned(),
            start_command: hook("start"),
            stop_command: hook("stop"),
            restart_command: hook("restart"),
            reload_command: hook("reload"),
            promote_command: hook(&format!("promote --http={http}")),
            validate_command: hook(&format!("validate --http={http}")),
            follow_command: hook("follow --upstream-node-id=%n"),

            barman_mode: match config.barman.mode {
                BarmanMode::Local => "local",
                BarmanMode::Remote => "remote",
                BarmanMode::Cloud => "cloud",
                BarmanMode::Off => "off",
            },
            barman_account: facts.barman_account.clone(),
            barman_home: text(&config.paths.barman_backup_dir),
            barman_config_dir: text(&config.paths.barman_config_dir),
            barman_log: text(&files.barman_log),
            barman_database: BARMAN_DATABASE,
            barman_conninfo: barman(config, "barman", &[]),
            barman_streaming_conninfo: barman(
                config,
                "barman_streaming",
                // It fsyncs to the backup disk while the server waits for its answer; a slow disk is
                // not a lost peer. barman would add its own `options` only where there are none.
                &[("options", "-cwal_sender_timeout=60s")],
            ),
            barman_password: config.barman.password.reveal().to_owned(),
            barman_streaming_password: config.barman.streaming_password.reveal().to_owned(),
            keeps: Keeps::of(&config.barman.habits, config.barman.method),
            clusters: {
                let servers = config.barman.servers.iter();
                servers
                    .map(|s| Jobs::of(s, &config.barman.habits))
                    .collect()
            },
            backup_schedule: config.barman.habits.backup_schedule.clone(),
            shipping: super::shipping::jobs(config, facts),
            drills: super::drills::drills(config, facts),
            drill_place: super::drills::DrillPlace::of(config, facts),
            backup_command: backup_command(&config.barman.server_name, ""),
            incremental_schedule: config.barman.habits.incremental_schedule.clone(),
            incremental_command: backup_command(&config.barman.server_name, FROM_FULL),
            cloud: Cloud::of(config, facts),
            path: search_path(config, facts),
        }
    }
}

/// What changed since the newest full backup.
const FROM_FULL: &str = " --incremental latest-full";

fn backup_command(server: &str, how: &str) -> String {
    let server = shell_words::quote(server);
    format!("barman -q backup {server}{how} 2>&1 | logger -t barman")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How nodes reach each other. A peer that is gone must be noticed in seconds, by whoever asks: the
/// connect timeout bounds a new connection, keepalives an idle one, the user timeout one with
/// unanswered bytes.
fn repmgr(host: &str, port: u16) -> String {
    let port = port.to_string();
    conninfo(&[[("host", host), ("port", &port)].as_slice(), &REPMGR_LOGIN].concat())
}

/// What a registration on the technical port connects with, and records for a moment. A witness
/// registers in the primary's table, where nobody may take the loopback for a node's address.
fn register_conninfo(config: &Config) -> String {
    let port = config.postgres.technical_port;
    if !config.kind.is_witness() {
        return repmgr("127.0.0.1", port);
    }
    let host = [
        ("host", config.identity.network_name.as_str()),
        ("hostaddr", "127.0.0.1"),
        ("port", &port.to_string()),
    ];
    conninfo(&[host.as_slice(), &REPMGR_LOGIN].concat())
}

/// Dead peers are noticed within seconds.
const REPMGR_LOGIN: [(&str, &str); 7] = [
    ("user", "repmgr"),
    ("dbname", "repmgr"),
    ("connect_timeout", "2"),
    ("keepalives_idle", "1"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "3000"),
];

/// How the barman in this container reaches its server. The password is in a file, so the string
/// may be shown.
fn barman(config: &Config, user: &str, more: &[(&str, &str)]) -> String {
    let port = config.postgres.port.to_string();
    let pass = text(&RunFiles::of(config).barman_pgpass);
    let mut pairs = vec![
        ("host", "127.0.0.1"),
        ("port", &port),
        ("user", user),
        ("dbname", BARMAN_DATABASE),
        ("connect_timeout", "5"),
        ("passfile", &pass),
    ];
    pairs.extend(more);
    conninfo(&pairs)
}

fn trusted(facts: &RenderFacts) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in ["root", &facts.postgres_account, &facts.our_account] {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// cron knows no PATH but its own short one. The server's binaries come first: those in /usr/bin are
/// Perl wrappers that cost 30 ms each.
fn search_path(config: &Config, facts: &RenderFacts) -> String {
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let given = config.environment.base.iter().find(|(k, _)| k == "PATH");
    let rest = given.map_or(USUAL, |(_, v)| v.as_str());
    format!("{}:{rest}", text(&facts.pg_bin))
}
