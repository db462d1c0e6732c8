//! The crontab's lines for drills. cron gives its jobs none of the container's environment, so what a
//! drill needs to know stands above its line; no secret is among it.

use crate::config::{BarmanMode, Config};
use crate::domain::Role;
use serde::Serialize;
use std::path::Path;

/// A line of the crontab and the variables above it.
#[derive(Serialize)]
pub(super) struct DrillJob {
    /// `BARMAN_SERVERS` with this cluster only.
    servers: String,
    name: String,
    schedule: String,
    command: String,
}

/// What is the same for all of them.
#[derive(Serialize)]
pub(super) struct DrillPlace {
    role: String,
    mode: String,
    server_name: String,
    node_name: String,
    /// A barman host has none.
    node_id: Option<String>,
    data_dir: String,
    pgdata: String,
    run_dir: String,
    config_dir: String,
    home: String,
    drill_dir: String,
    port: String,
}

impl DrillPlace {
    pub(super) fn of(config: &Config) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let paths = &config.paths;
        let role = if config.kind.keeps_backups() {
            "barman"
        } else {
            "postgres"
        };
        Self {
            role: role.to_owned(),
            mode: config.barman.mode.to_string(),
            server_name: config.barman.server_name.clone(),
            node_name: config.identity.name.0.clone(),
            node_id: (!config.kind.keeps_backups()).then(|| config.identity.id.to_string()),
            data_dir: text(&paths.data_dir),
            pgdata: text(&paths.pgdata),
            run_dir: text(&paths.run_dir),
            config_dir: text(&paths.barman_config_dir),
            home: text(&paths.barman_backup_dir),
            drill_dir: text(&config.drill.dir),
            port: config.postgres.port.to_string(),
        }
    }
}

/// One line a cluster; none on a node that keeps no backups, or is no primary.
pub(super) fn drills(config: &Config, role: Role, program: &Path) -> Vec<DrillJob> {
    let Some(schedule) = &config.drill.schedule else {
        return Vec::new();
    };
    let job = |name: &str, servers: String| {
        let lock = config.paths.barman_backup_dir.join(".pgnode-drill.lock");
        let word = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        DrillJob {
            servers,
            name: name.to_owned(),
            schedule: schedule.clone(),
            // One after the other; `-o`: what a drill starts does not inherit the lock.
            command: format!(
                "flock -o -w 86400 {} {} drill {} 2>&1 | logger -t drill",
                word(&lock),
                word(program),
                shell_words::quote(name)
            ),
        }
    };
    if config.kind.keeps_backups() {
        let servers = config.barman.servers.iter();
        return servers
            .map(|s| {
                let hosts: Vec<String> = s.hosts.iter().map(ToString::to_string).collect();
                job(&s.name, format!("{}={}", s.name, hosts.join(",")))
            })
            .collect();
    }
    match config.barman.mode {
        BarmanMode::Local if role == Role::Primary => {
            vec![job(&config.barman.server_name, String::new())]
        }
        BarmanMode::Local | BarmanMode::Remote | BarmanMode::Cloud | BarmanMode::Off => Vec::new(),
    }
}
