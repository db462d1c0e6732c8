//! What the templates see: plain values, each derived in one place.

use super::quote::conninfo;
use super::sizes::{Memory, Wal};
use super::{RenderFacts, RunFiles, Setting};
use crate::config::{BarmanMode, Config, NodeKind, Quorum};
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
    primary: bool,
    witness: bool,
    our_roles: [&'static str; 4],

    pgdata: String,
    pg_bin: String,
    memory: Option<Memory>,
    wal: Wal,
    user_dir: String,
    user_conf_dir: Option<String>,
    synchronous_conf: Option<String>,
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
    retention_policy: String,
    backup_schedule: String,
    backup_command: String,
    path: String,
}

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
            primary: facts.role == Role::Primary,
            witness: config.kind == NodeKind::Witness,
            our_roles: OUR_ROLES,

            pgdata: text(&config.paths.pgdata),
            pg_bin: text(&facts.pg_bin),
            memory: facts.memory_limit.and_then(Memory::under),
            wal: Wal::on(facts.volume_bytes, config.postgres.max_slot_wal),
            user_dir: text(&config.paths.user_dir),
            user_conf_dir: facts.user_conf_dir_exists.then(|| text(&user_conf_dir)),
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
            retention_policy: config.barman.retention_policy.clone(),
            backup_schedule: config.barman.backup_schedule.clone(),
            backup_command: format!(
                "barman -q backup {} 2>&1 | logger -t barman",
                shell_words::quote(&identity.name.0)
            ),
            path: search_path(config, facts),
        }
    }
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
    if config.kind != NodeKind::Witness {
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
