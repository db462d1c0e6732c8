//! The crontab's lines for drills. cron gives its jobs none of the container's environment, so what a
//! drill needs to know stands above its line; no secret is among it. What it needs of a bucket is in `s3.json`.

use super::RenderFacts;
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
    /// Who makes them: whose the backups are.
    account: String,
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
    pub(super) fn of(config: &Config, facts: &RenderFacts) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let paths = &config.paths;
        let role = if config.kind.keeps_backups() {
            "barman"
        } else {
            "postgres"
        };
        let cloud = config.barman.mode == BarmanMode::Cloud;
        Self {
            account: match cloud {
                true => facts.postgres_account.clone(),
                false => facts.barman_account.clone(),
            },
            role: role.to_owned(),
            mode: match cloud {
                // The other mode asks for S3_…, and those for a secret: `--run-dir` stands in for both.
                true => BarmanMode::Off.to_string(),
                false => config.barman.mode.to_string(),
            },
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
pub(super) fn drills(config: &Config, facts: &RenderFacts) -> Vec<DrillJob> {
    let Some(schedule) = &config.drill.schedule else {
        return Vec::new();
    };
    let cloud = config.barman.mode == BarmanMode::Cloud;
    let word = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let settings = match cloud {
        true => format!("--run-dir {} ", word(&config.paths.run_dir)),
        false => String::new(),
    };
    // Where whoever makes them may write.
    let home = match cloud {
        true => &config.paths.data_dir,
        false => &config.paths.barman_backup_dir,
    };
    let job = |name: &str, servers: String| {
        let lock = home.join(".pgnode-drill.lock");
        DrillJob {
            servers,
            name: name.to_owned(),
            schedule: schedule.clone(),
            // One after the other; `-o`: what a drill starts does not inherit the lock.
            command: format!(
                "flock -o -w 86400 {} {} drill {settings}{} 2>&1 | logger -t drill",
                word(&lock),
                word(&facts.pgnode),
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
    if facts.role != Role::Primary {
        return Vec::new();
    }
    match config.barman.mode {
        BarmanMode::Local => vec![job(&config.barman.server_name, String::new())],
        BarmanMode::Cloud => vec![job(&config.barman.cloud_name, String::new())],
        BarmanMode::Remote | BarmanMode::Off => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kept, Surroundings};
    use crate::render::render;
    use crate::render::tests::example;

    fn loaded(vars: &[(String, String)]) -> Config {
        let around = Surroundings {
            hostname: "box".into(),
            arguments: Vec::new(),
            not_text: Vec::new(),
            read_file: &|_| Err(String::new()),
        };
        Config::from_vars(vars.to_vec(), &around).unwrap().0
    }

    fn node() -> Config {
        let vars = [
            ("BARMAN_MODE", "cloud"),
            ("BARMAN_CLOUD_SERVER_NAME", "main"),
            ("REPMGR_NODE_NAME", "pg1"),
            ("POSTGRES_USER", "boss"),
            ("POSTGRES_PASSWORD", "hidden1"),
            ("S3_BUCKET_URI", "s3://backups/p"),
            ("S3_ACCESS_KEY_ID", "hidden2"),
            ("S3_SECRET_ACCESS_KEY", "hidden3"),
            ("PGNODE_DRILL_SCHEDULE", "0 5 * * 0"),
        ];
        loaded(&vars.map(|(n, v)| (n.to_owned(), v.to_owned())))
    }

    fn crontab(config: &Config, role: Role) -> String {
        let files = render(config, &example::facts(role)).unwrap();
        let file = files.into_iter().find(|f| f.path.ends_with("crontab"));
        file.unwrap().text
    }

    #[test]
    fn of_a_bucket_the_primary_makes_them_as_the_account_that_may_read_its_key() {
        let text = crontab(&node(), Role::Primary);
        let line = "0 5 * * 0  postgres  flock -o -w 86400 /var/lib/postgresql/.pgnode-drill.lock \
                    /usr/local/bin/pgnode drill --run-dir /run/pgnode main 2>&1 | logger -t drill";
        assert!(text.lines().any(|l| l == line), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        let standby = crontab(&node(), Role::Standby);
        assert!(!standby.contains(" drill "), "{standby}");
    }

    #[test]
    fn what_stands_above_the_line_and_what_is_kept_are_settings() {
        let text = crontab(&node(), Role::Primary);
        let vars = text.lines().filter_map(|l| l.split_once("=\""));
        let ours = vars.filter(|(name, _)| name.contains('_') || *name == "PGPORT");
        let vars: Vec<_> = ours
            .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
            .collect();
        assert!(vars.len() > 8, "{vars:?}");
        let kept = Kept::of(&node()).unwrap();
        let config = kept.clone().over(&loaded(&vars));
        assert_eq!(config.drill.dir, node().drill.dir);
        assert_eq!(Kept::of(&config), Some(kept));
    }
}
