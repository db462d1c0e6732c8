//! `pgnode config`: what is in effect, and where each value came from. Pure: text goes in and out.

use super::source::{Source, Sources};
use super::table::{Preset, TABLE, Var};
use super::types::{Address, Config, FOR_EVER, StartAs};
use crate::domain::{Profile, Timing};
use serde_json::{Value, json};
use std::path::Path;

/// What stands in for a secret.
const MASK: &str = "********";

pub(super) const BYTES: [(u64, &str); 4] = [
    (1 << 40, "TB"),
    (1 << 30, "GB"),
    (1 << 20, "MB"),
    (1 << 10, "kB"),
];
pub(super) const SECONDS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];

/// A quantity in its largest unit that keeps it whole, so that it can be given back as it is.
pub(super) fn exact(n: u64, units: &[(u64, &str)]) -> String {
    units
        .iter()
        .find(|(size, _)| n.is_multiple_of(*size) && n > 0)
        .map_or_else(
            || n.to_string(),
            |(size, unit)| format!("{}{unit}", n / size),
        )
}

/// The effective value as text, secrets masked; empty when there is none.
fn value(config: &Config, var: &Var) -> String {
    if var.secret() {
        let none = var.default == Preset::Unset && !super::s3::has_secret(config, var.name);
        return if none { "" } else { MASK }.to_owned();
    }
    let path = |path: &Path| path.display().to_string();
    let list = |list: &[Address]| {
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        list.join(",")
    };
    let (postgres, peers, paths) = (&config.postgres, &config.peers, &config.paths);
    match var.name {
        "PGNODE_ROLE" => config.kind.to_string(),
        "REPMGR_MASTER" => (config.start_as == StartAs::Master).to_string(),
        "REPMGR_NODE_NAME" => config.identity.name.to_string(),
        "REPMGR_NODE_ID" => config.identity.id.to_string(),
        "REPMGR_NODE_NETWORK_NAME" => config.identity.network_name.clone(),
        "PGPORT" => postgres.port.to_string(),
        "PGNODE_TECHNICAL_PORT" => postgres.technical_port.to_string(),
        "POSTGRES_USER" => postgres.superuser.clone(),
        "POSTGRES_DB" => postgres.database.clone(),
        "POSTGRES_INITDB_ARGS" => shell_words::join(&postgres.initdb_args),
        "PGNODE_MAX_SLOT_WAL" => postgres
            .max_slot_wal
            .map_or_else(|| "auto".to_owned(), |n| exact(n, &BYTES)),
        "PGNODE_KEEP_DIVERGED" => postgres.keep_diverged.to_string(),
        "REPMGR_PRIMARY_HOST" => peers
            .primary
            .as_ref()
            .map_or_else(String::new, |p| p.host.clone()),
        "REPMGR_PRIMARY_PORT" => peers
            .primary
            .as_ref()
            .map_or_else(String::new, |p| p.port.to_string()),
        "REPMGR_SLAVES" => list(&peers.slaves),
        "REPMGR_PARTNER_NODES" => list(&peers.partners),
        "PGNODE_FAILOVER_PROFILE" => profile(&config.timing),
        "PGNODE_FAILOVER_BEAT" => ms(config.timing.beat),
        "PGNODE_FAILOVER_LEASE" => ms(config.timing.lease),
        "PGNODE_FAILOVER_CLOSE" => ms(config.timing.close),
        "PGNODE_FAILOVER_PROMISE" => ms(config.timing.promise),
        "PGNODE_SYNCHRONOUS" => config.synchronous.quorum.to_string(),
        "PGNODE_SYNCHRONOUS_STRICT" => config.synchronous.strict.to_string(),
        "PGNODE_HTTP_ADDR" => config.http.to_string(),
        "PGNODE_LOG_FORMAT" => config.log_format.to_string(),
        "RUST_LOG" => config.log_filter.clone(),
        "PGNODE_PRIMARY_TIMEOUT" if config.limits.primary_wait == FOR_EVER => "for ever".to_owned(),
        "PGNODE_PRIMARY_TIMEOUT" => exact(config.limits.primary_wait.as_secs(), &SECONDS),
        "PGNODE_STOP_TIMEOUT" => exact(config.limits.stop_grace.as_secs(), &SECONDS),
        "PGNODE_DATA_DIR" => path(&paths.data_dir),
        "PGDATA" => path(&paths.pgdata),
        "BARMAN_BACKUP_DIR" => path(&paths.barman_backup_dir),
        "REPMGR_CONFIG_DIR" => path(&paths.repmgr_config_dir),
        "BARMAN_CONFIG_DIR" => path(&paths.barman_config_dir),
        "PGNODE_CONFIG_DIR" => path(&paths.user_dir),
        "PGNODE_RUN_DIR" => path(&paths.run_dir),
        "PGNODE_SOCKET_DIR" => path(&paths.socket_dir),
        "PGNODE_TEST_HOLD" => config.test_hold.as_ref().map_or_else(String::new, |hold| {
            format!(
                "{}:{}",
                hold.state,
                if hold.after { "after" } else { "before" }
            )
        }),
        // A test shows that every other variable is known there.
        name => super::backups::shown(config, name)
            .or_else(|| super::s3::shown(config, name))
            .unwrap_or_default(),
    }
}

fn ms(time: std::time::Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// The profile whose waits these are; single durations do not change them.
fn profile(timing: &Timing) -> String {
    let waits = |p: Profile| Timing::of(p).cold_wait == timing.cold_wait;
    let all = [
        ("fast", Profile::Fast),
        ("default", Profile::Default),
        ("cautious", Profile::Cautious),
    ];
    let found = all.iter().find(|(_, p)| waits(*p));
    found.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// The value of a `-c` setting; some of them carry a secret.
fn setting_value(name: &str, value: &str) -> String {
    let hides = [
        "conninfo",
        "passphrase",
        "password",
        "secret",
        "token",
        "key",
    ];
    if hides.iter().any(|word| name.contains(word)) {
        MASK.to_owned()
    } else {
        value.to_owned()
    }
}

/// The variables to show, with value and source.
fn rows<'a>(
    config: &'a Config,
    sources: &'a Sources,
) -> impl Iterator<Item = (&'static Var, String, Source)> + 'a {
    TABLE.iter().filter_map(|var| {
        let value = value(config, var);
        let hidden = var.hidden && value.is_empty();
        (!hidden).then(|| (*var, value, sources.of(var)))
    })
}

/// One line of the text form.
struct Line {
    group: &'static str,
    name: String,
    value: String,
    source: String,
}

impl Line {
    fn of(var: &'static Var, value: String, source: &Source) -> Self {
        let unset = value.is_empty();
        Self {
            group: var.group,
            name: var.name.to_owned(),
            value: if unset { "-".to_owned() } else { value },
            source: if unset && *source == Source::Default {
                "not set".to_owned()
            } else {
                source.to_string()
            },
        }
    }
}

/// For a person: aligned columns by group, then the warnings.
#[must_use]
pub fn text(config: &Config, sources: &Sources) -> String {
    let mut lines: Vec<Line> = rows(config, sources)
        .map(|(var, value, source)| Line::of(var, value, &source))
        .collect();
    for (name, value) in &config.postgres.settings {
        lines.push(Line {
            group: "Arguments",
            name: format!("-c {name}"),
            value: setting_value(name, value),
            source: Source::Argument.to_string(),
        });
    }
    let width = |of: fn(&Line) -> &String| {
        let widths = lines.iter().map(|line| of(line).chars().count());
        widths.max().unwrap_or(0)
    };
    // One long list of nodes must not push the sources off the screen.
    let (names, values) = (width(|l| &l.name), width(|l| &l.value).min(44));
    let mut out = String::new();
    let mut last = "";
    for line in &lines {
        if line.group != last {
            if !last.is_empty() {
                out.push('\n');
            }
            last = line.group;
            out.push_str(&format!("{last}\n"));
        }
        let (name, value, source) = (&line.name, &line.value, &line.source);
        out.push_str(&format!("  {name:names$}  {value:values$}  {source}\n"));
    }
    let warnings = sources.warnings(config);
    if !warnings.is_empty() {
        out.push_str("\nWarnings\n");
        for warning in warnings {
            out.push_str(&format!("  {warning}\n"));
        }
    }
    out
}

/// For a program: `settings`, `arguments` and `warnings`. An unset value is `null`.
#[must_use]
pub fn json(config: &Config, sources: &Sources) -> Value {
    let settings: Vec<Value> = rows(config, sources)
        .map(|(var, value, source)| {
            json!({
                "name": var.name,
                "group": var.group,
                "value": Some(value).filter(|v| !v.is_empty()),
                "source": source.to_string(),
                "secret": var.secret(),
            })
        })
        .collect();
    let arguments: Vec<Value> = config
        .postgres
        .settings
        .iter()
        .map(|(name, value)| json!({"name": name, "value": setting_value(name, value)}))
        .collect();
    json!({
        "settings": settings,
        "arguments": arguments,
        "warnings": sources.warnings(config),
    })
}

/// The effective value of a variable, for the tests of this room.
#[cfg(test)]
pub(super) fn shown(config: &Config, name: &str) -> String {
    super::table::named(name).map_or_else(String::new, |var| value(config, var))
}
