//! What was given: each variable by value or by file, then the raw environment of serde and envy.

use super::fault::{Faults, Problem, Wrong, printable};
use super::names;
use super::source::{Source, Sources};
use super::table::{self, Kind, Var};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Reads a file for `NAME_FILE`; says why not in words that follow the path.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Result<Vec<u8>, String>;

/// What the edge of the program knows besides the variables.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// The machine's name; empty when it has none.
    pub hostname: String,
    /// The container's command after the verb: `-c name=value …`.
    pub arguments: Vec<String>,
    /// Names of variables whose value is not UTF-8.
    pub not_text: Vec<String>,
    /// How a file is read.
    pub read_file: ReadFile<'a>,
}

impl Surroundings<'_> {
    /// Surroundings with a hostname and nothing else: no argument, no file.
    #[must_use]
    pub fn bare(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            arguments: Vec::new(),
            not_text: Vec::new(),
            read_file: &|_| Err("does not exist".to_owned()),
        }
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// Every variable as text, one field each, none unset by the empty text.
///
/// envy does no more than fill it. Its errors end at the first and are bare strings, so rules are
/// applied afterwards, to all fields; what it gives is that a variable of the table that is never
/// read is a field that is never read, which the compiler reports. A test holds the fields to the
/// table. No `Debug`: passwords are still plain here.
#[derive(Deserialize)]
pub(super) struct RawEnv {
    pub(super) pgnode_role: Option<String>,
    pub(super) repmgr_master: Option<String>,
    pub(super) repmgr_node_name: Option<String>,
    pub(super) repmgr_node_id: Option<String>,
    pub(super) repmgr_node_network_name: Option<String>,
    pub(super) pgport: Option<String>,
    pub(super) pgnode_technical_port: Option<String>,
    pub(super) postgres_user: Option<String>,
    pub(super) postgres_password: Option<String>,
    pub(super) postgres_db: Option<String>,
    pub(super) postgres_initdb_args: Option<String>,
    pub(super) pgnode_max_slot_wal: Option<String>,
    pub(super) pgnode_keep_diverged: Option<String>,
    pub(super) repmgr_primary_host: Option<String>,
    pub(super) repmgr_primary_port: Option<String>,
    pub(super) repmgr_slaves: Option<String>,
    pub(super) repmgr_partner_nodes: Option<String>,
    pub(super) repmgr_password: Option<String>,
    pub(super) repmgr_streaming_password: Option<String>,
    pub(super) pgnode_failover_profile: Option<String>,
    pub(super) pgnode_failover_beat: Option<String>,
    pub(super) pgnode_failover_lease: Option<String>,
    pub(super) pgnode_failover_close: Option<String>,
    pub(super) pgnode_failover_promise: Option<String>,
    pub(super) pgnode_synchronous: Option<String>,
    pub(super) pgnode_synchronous_strict: Option<String>,
    pub(super) barman_mode: Option<String>,
    pub(super) barman_password: Option<String>,
    pub(super) barman_streaming_password: Option<String>,
    pub(super) barman_servers: Option<String>,
    pub(super) barman_server_name: Option<String>,
    pub(super) barman_method: Option<String>,
    pub(super) barman_host: Option<String>,
    pub(super) barman_retention: Option<String>,
    pub(super) barman_backup_schedule: Option<String>,
    pub(super) barman_incremental_schedule: Option<String>,
    pub(super) barman_minimum_redundancy: Option<String>,
    pub(super) barman_compression: Option<String>,
    pub(super) barman_bandwidth_limit: Option<String>,
    pub(super) barman_parallel_jobs: Option<String>,
    pub(super) barman_immediate_checkpoint: Option<String>,
    pub(super) barman_backup_max_age: Option<String>,
    pub(super) s3_bucket_uri: Option<String>,
    pub(super) s3_endpoint_url: Option<String>,
    pub(super) s3_region: Option<String>,
    pub(super) s3_access_key_id: Option<String>,
    pub(super) s3_secret_access_key: Option<String>,
    pub(super) s3_session_token: Option<String>,
    pub(super) s3_credentials_file: Option<String>,
    pub(super) s3_config_file: Option<String>,
    pub(super) s3_profile: Option<String>,
    pub(super) s3_addressing: Option<String>,
    pub(super) s3_ca_bundle: Option<String>,
    pub(super) s3_sse: Option<String>,
    pub(super) s3_sse_kms_key_id: Option<String>,
    pub(super) s3_tags: Option<String>,
    pub(super) s3_history_tags: Option<String>,
    pub(super) s3_max_parallel: Option<String>,
    pub(super) s3_part_size: Option<String>,
    pub(super) s3_compression: Option<String>,
    pub(super) s3_base_compression: Option<String>,
    pub(super) s3_bandwidth_limit: Option<String>,
    pub(super) s3_retry: Option<String>,
    pub(super) barman_cloud_server_name: Option<String>,
    pub(super) s3_wal_sync_schedule: Option<String>,
    pub(super) s3_base_sync_schedule: Option<String>,
    pub(super) s3_full_sync_schedule: Option<String>,
    pub(super) s3_queue_dir: Option<String>,
    pub(super) s3_queue_keep: Option<String>,
    pub(super) pgnode_restore: Option<String>,
    pub(super) pgnode_restore_from: Option<String>,
    pub(super) pgnode_restore_tablespaces: Option<String>,
    pub(super) pgnode_restore_target_time: Option<String>,
    pub(super) pgnode_restore_target_lsn: Option<String>,
    pub(super) pgnode_restore_target_xid: Option<String>,
    pub(super) pgnode_restore_target_name: Option<String>,
    pub(super) pgnode_restore_target_immediate: Option<String>,
    pub(super) pgnode_restore_target_inclusive: Option<String>,
    pub(super) pgnode_restore_target_timeline: Option<String>,
    pub(super) pgnode_restore_target_action: Option<String>,
    pub(super) pgnode_restore_retry: Option<String>,
    pub(super) pgnode_drill_schedule: Option<String>,
    pub(super) pgnode_drill_dir: Option<String>,
    pub(super) pgnode_ssh_port: Option<String>,
    pub(super) pgnode_ssh_keys: Option<String>,
    pub(super) pgnode_http_addr: Option<String>,
    pub(super) pgnode_log_format: Option<String>,
    pub(super) rust_log: Option<String>,
    pub(super) pgnode_primary_timeout: Option<String>,
    pub(super) pgnode_stop_timeout: Option<String>,
    pub(super) pgnode_data_dir: Option<String>,
    pub(super) pgdata: Option<String>,
    pub(super) barman_backup_dir: Option<String>,
    pub(super) repmgr_config_dir: Option<String>,
    pub(super) barman_config_dir: Option<String>,
    pub(super) pgnode_config_dir: Option<String>,
    pub(super) pgnode_run_dir: Option<String>,
    pub(super) pgnode_socket_dir: Option<String>,
    pub(super) pgnode_test_hold: Option<String>,
}

/// Checks the names, reads the files, and fills the raw environment. `None` only with a fault.
pub(super) fn gather(
    vars: &BTreeMap<String, String>,
    ctx: &Surroundings<'_>,
    faults: &mut Faults,
    sources: &mut Sources,
) -> Option<RawEnv> {
    let not_text = ctx.not_text.iter().map(String::as_str);
    names::check(vars, not_text, faults, sources);
    let mut values = Vec::new();
    for var in table::TABLE {
        if let Some((value, source)) = one(var, vars, ctx, faults, sources) {
            values.push((var.name.to_owned(), value));
            sources.set(var, source);
        }
    }
    match envy::from_iter(values) {
        Ok(raw) => Some(raw),
        Err(error) => {
            // Cannot come: every field is an optional text and every name is there once.
            let rule = format!("cannot be read: {error}");
            faults.push(Wrong::outside("environment", Problem::Value { rule }, ""));
            None
        }
    }
}

/// The text of one variable and where it came from; `None` when it is unset, or a fault.
fn one(
    var: &'static Var,
    vars: &BTreeMap<String, String>,
    ctx: &Surroundings<'_>,
    faults: &mut Faults,
    sources: &mut Sources,
) -> Option<(String, Source)> {
    let set = |name: &str| vars.get(name).is_some_and(|v| !v.is_empty());
    let is_not_text = |name: &str| ctx.not_text.iter().any(|n| n == name);
    // Another program's name for it counts where ours is not given at all.
    let given = |name: &&str| {
        [name, &*format!("{name}_FILE")].map(|n| set(n) || is_not_text(n)) != [false; 2]
    };
    let name = std::iter::once(&var.name)
        .chain(table::aliases(var))
        .copied()
        .find(given)
        .unwrap_or(var.name);
    let file_name = format!("{name}_FILE");
    let mut by_value = vars.get(name).filter(|v| !v.is_empty());
    let by_file = vars
        .get(&file_name)
        .filter(|path| var.from_file && !path.is_empty());
    if is_not_text(name) || var.from_file && is_not_text(&file_name) {
        faults.push(Wrong::of(var, None, Problem::NotText));
        return None;
    }
    if var.kind == Kind::Port
        && let Some(url) = by_value
        && names::injected_value(url)
    {
        // A Kubernetes service named `repmgr-primary` puts its URL here.
        sources.note(format!(
            "{}={} is passed over: Kubernetes or a Docker link put it there",
            var.name,
            printable(url)
        ));
        by_value = None;
    }
    match (by_value, by_file) {
        (Some(_), Some(_)) => {
            let remedy = format!("keep one of {name} and {file_name}");
            faults.push(Wrong::of(var, None, Problem::Twice).with_remedy(remedy));
            None
        }
        (Some(value), None) if name == var.name => Some((value.clone(), Source::Environment)),
        (Some(value), None) => Some((value.clone(), Source::Alias(name))),
        (None, Some(path)) => match from_file(var, path, ctx.read_file) {
            Ok(text) => text.map(|text| (text, Source::File(printable(path)))),
            Err((path, why)) => {
                let remedy = format!("{file_name} names a readable text file");
                faults.push(Wrong::of(var, None, Problem::File { path, why }).with_remedy(remedy));
                None
            }
        },
        (None, None) => None,
    }
}

/// Reads a value from its file, without the line break at its end; or the path, made printable,
/// and what is wrong.
fn from_file(
    var: &Var,
    path: &str,
    read: ReadFile<'_>,
) -> Result<Option<String>, (String, String)> {
    if !path.starts_with('/') {
        // Whoever puts the password itself into NAME_FILE does not want to read it in a log.
        let shown = if var.secret() { "given" } else { path };
        return Err((
            printable(shown),
            "is not named by an absolute path".to_owned(),
        ));
    }
    let fault = |why: String| (printable(path), why);
    let mut bytes = read(Path::new(path)).map_err(fault)?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| fault("is not UTF-8 text".to_owned()))?;
    if text.is_empty() && var.secret() {
        // Empty means unset, and unset means the default password: nobody who mounts a secret
        // wants that.
        return Err(fault("is empty".to_owned()));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_environment_has_the_tables_fields() {
        // serde hands a deserializer the names of a struct's fields.
        struct Fields(Vec<String>);
        #[derive(Debug)]
        struct Done;
        impl fmt::Display for Done {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("done")
            }
        }
        impl std::error::Error for Done {}
        impl serde::de::Error for Done {
            fn custom<T: fmt::Display>(_: T) -> Self {
                Self
            }
        }
        impl<'de> serde::Deserializer<'de> for &mut Fields {
            type Error = Done;
            fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Done> {
                Err(Done)
            }
            fn deserialize_struct<V: serde::de::Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                _: V,
            ) -> Result<V::Value, Done> {
                self.0 = fields.iter().map(|f| f.to_uppercase()).collect();
                Err(Done)
            }
            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
                option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
                ignored_any
            }
        }
        let mut fields = Fields(Vec::new());
        assert!(RawEnv::deserialize(&mut fields).is_err());
        let names: Vec<_> = table::TABLE.iter().map(|var| var.name).collect();
        assert_eq!(fields.0, names);
    }
}
