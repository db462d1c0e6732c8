//! From the raw environment to the types of this room.

use super::rules as own;
use super::{Codec, Credentials, Encryption, Profile, S3, Shipping};
use crate::config::Secret;
use crate::config::backups::{Barman, Restore, RestoreFrom};
use crate::config::fault::{Problem, Wrong, printable};
use crate::config::given::{RawEnv, ReadFile};
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::source::Source;
use crate::config::table::{self, Var};
use crate::config::types::{BarmanMode, NodeKind, Paths, Peers, StartAs};
use crate::config::{naming, paths as directories, schedule};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Under which names other programs take a key's id and the key, in the letters that count.
const OTHER_IDS: [&str; 8] = [
    "ACCESSKEYID",
    "ACCESSKEY",
    "AWSACCESSKEY",
    "S3ACCESSKEY",
    "S3KEYID",
    "MINIOROOTUSER",
    "MINIOACCESSKEY",
    "RCLONES3ACCESSKEYID",
];
const OTHER_KEYS: [&str; 10] = [
    "SECRETACCESSKEY",
    "SECRETKEY",
    "ACCESSSECRETKEY",
    "ACCESSKEYSECRET",
    "AWSSECRETKEY",
    "S3SECRETKEY",
    "S3KEYSECRET",
    "MINIOROOTPASSWORD",
    "MINIOSECRETKEY",
    "RCLONES3SECRETACCESSKEY",
];

/// What was given of who we are.
struct Keys {
    id: Option<String>,
    secret: Option<Secret>,
    token: Option<Secret>,
    path: Option<PathBuf>,
    profile: String,
}

impl Reader {
    /// Fills what was not given from a config file of Amazon's tools, where one is named and there is a bucket.
    pub(in crate::config) fn amazons_config(&mut self, raw: &mut RawEnv, read: ReadFile<'_>) {
        let var = &table::S3_CONFIG_FILE;
        let path = self.optional(var, raw.s3_config_file.as_deref(), directories::directory);
        // An ambient AWS_CONFIG_FILE without a bucket is none of our business.
        let (Some(Some(path)), Some(_)) = (path, &raw.s3_bucket_uri) else {
            return;
        };
        let shown = path.display().to_string();
        let mut fault = |why: String| {
            let problem = Problem::File {
                path: printable(&shown),
                why,
            };
            self.faults.push(Wrong::of(var, None, problem));
        };
        let text = match read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return fault("is not UTF-8 text".to_owned()),
            Err(why) => return fault(why),
        };
        let wanted = raw.s3_profile.as_deref().unwrap_or("default");
        let profile = match Profile::find(&text, wanted) {
            Ok(profile) => profile,
            Err(why) => return fault(why),
        };
        let source = Source::File(printable(&shown));
        let mut fill = |field: &mut Option<String>, var: &'static Var, value: Option<&str>| {
            if let (None, Some(value)) = (&field, value) {
                *field = Some(value.to_owned());
                self.sources.set(var, source.clone());
            }
        };
        fill(&mut raw.s3_region, &table::S3_REGION, profile.get("region"));
        let endpoint = profile
            .get("s3.endpoint_url")
            .or(profile.get("endpoint_url"));
        fill(&mut raw.s3_endpoint_url, &table::S3_ENDPOINT_URL, endpoint);
        fill(
            &mut raw.s3_ca_bundle,
            &table::S3_CA_BUNDLE,
            profile.get("ca_bundle"),
        );
        // `auto` leaves it to the tool, as no value does.
        let style = profile
            .get("s3.addressing_style")
            .filter(|style| *style != "auto");
        fill(&mut raw.s3_addressing, &table::S3_ADDRESSING, style);
        let keys = [&raw.s3_access_key_id, &raw.s3_secret_access_key];
        if keys.iter().all(|key| key.is_none()) && profile.get("aws_access_key_id").is_some() {
            // Read anew at each use, as a credentials file is.
            fill(
                &mut raw.s3_credentials_file,
                &table::S3_CREDENTIALS_FILE,
                Some(&shown),
            );
        }
    }

    /// The bucket, if one is named.
    #[expect(
        clippy::option_option,
        reason = "unset and faulty are different things"
    )]
    pub(in crate::config) fn s3(
        &mut self,
        raw: &RawEnv,
        given: &BTreeMap<String, String>,
    ) -> Option<Option<S3>> {
        let place = self.optional(
            &table::S3_BUCKET_URI,
            raw.s3_bucket_uri.as_deref(),
            own::bucket,
        );
        let endpoint = self.endpoint(raw);
        let region = self.fixed(&table::S3_REGION, raw.s3_region.as_deref(), own::word);
        let addressing = self.fixed(
            &table::S3_ADDRESSING,
            raw.s3_addressing.as_deref(),
            own::addressing,
        );
        let ca_bundle = self.optional(
            &table::S3_CA_BUNDLE,
            raw.s3_ca_bundle.as_deref(),
            directories::directory,
        );
        let encryption = self.encryption(raw);
        let tags = self.optional(&table::S3_TAGS, raw.s3_tags.as_deref(), own::tags);
        let history_tags = self.optional(
            &table::S3_HISTORY_TAGS,
            raw.s3_history_tags.as_deref(),
            own::tags,
        );
        let parallel = self.fixed(
            &table::S3_MAX_PARALLEL,
            raw.s3_max_parallel.as_deref(),
            |text| rules::number(text, 1_usize, 64),
        );
        let part_size = self.fixed(
            &table::S3_PART_SIZE,
            raw.s3_part_size.as_deref(),
            own::part_size,
        );
        let wal_codec: Option<Codec> = self.fixed(
            &table::S3_COMPRESSION,
            raw.s3_compression.as_deref(),
            own::wal_codec,
        );
        let base_codec = self.fixed(
            &table::S3_BASE_COMPRESSION,
            raw.s3_base_compression.as_deref(),
            own::base_codec,
        );
        let bandwidth = self.optional(
            &table::S3_BANDWIDTH_LIMIT,
            raw.s3_bandwidth_limit.as_deref(),
            rules::rate,
        );
        let retry = self.fixed(
            &table::S3_RETRY,
            raw.s3_retry.as_deref(),
            rules::short_duration,
        );
        let keys = self.keys(raw);
        // An ambient AWS_… without a bucket is none of our business.
        if place == Some(None) {
            self.bucketless(given);
            return Some(None);
        }
        let endpoint = endpoint?;
        let credentials = keys.and_then(|keys| self.credentials(keys, given, endpoint.is_some()));
        let (bucket, prefix) = place??;
        Some(Some(S3 {
            endpoint,
            bucket,
            prefix,
            region: region?,
            credentials: credentials?,
            config_file: raw.s3_config_file.as_ref().map(PathBuf::from),
            addressing: addressing?,
            ca_bundle: ca_bundle?,
            encryption: encryption?,
            tags: tags?.unwrap_or_default(),
            history_tags: history_tags?,
            max_parallel: parallel?,
            part_size: part_size?,
            wal_codec: wal_codec?,
            base_codec: base_codec?,
            bandwidth: bandwidth?,
            retry: retry?,
        }))
    }

    #[expect(
        clippy::option_option,
        reason = "unset and faulty are different things"
    )]
    fn endpoint(&mut self, raw: &RawEnv) -> Option<Option<String>> {
        let var = &table::S3_ENDPOINT_URL;
        match raw.s3_endpoint_url.as_deref() {
            // Not repeated: what is before the sign may be a password.
            Some(text) if text.contains('@') => {
                let rule = "carries a user or a password; those have variables of their own";
                self.wrong(var, None, rule);
                None
            }
            text => self.optional(var, text, own::endpoint),
        }
    }

    /// Where to, without which the rest is of no use.
    fn bucketless(&mut self, given: &BTreeMap<String, String>) {
        for var in [&table::S3_ENDPOINT_URL, &table::S3_ACCESS_KEY_ID] {
            if given.get(var.name).is_some_and(|v| !v.is_empty()) && !self.is_wrong(var) {
                let rule = "is set, and S3_BUCKET_URI is not";
                let remedy = "name the bucket: S3_BUCKET_URI=s3://bucket/path".to_owned();
                self.wrong_with(var, None, rule, remedy);
            }
        }
    }

    fn encryption(&mut self, raw: &RawEnv) -> Option<Encryption> {
        let how = self.fixed(&table::S3_SSE, raw.s3_sse.as_deref(), own::encryption)?;
        let key = self.optional(
            &table::S3_SSE_KMS_KEY_ID,
            raw.s3_sse_kms_key_id.as_deref(),
            own::word,
        )?;
        match (how, key) {
            (Encryption::Kms { .. }, key) => Some(Encryption::Kms { key }),
            (how, None) => Some(how),
            (_, Some(key)) => {
                let rule = "is set, and S3_SSE is not aws:kms";
                self.wrong(&table::S3_SSE_KMS_KEY_ID, Some(&key), rule);
                None
            }
        }
    }

    fn keys(&mut self, raw: &RawEnv) -> Option<Keys> {
        let id = self.optional(
            &table::S3_ACCESS_KEY_ID,
            raw.s3_access_key_id.as_deref(),
            own::word,
        );
        let secret = self.optional(
            &table::S3_SECRET_ACCESS_KEY,
            raw.s3_secret_access_key.as_deref(),
            |text| own::word(text).map(Secret::new),
        );
        let token = self.optional(
            &table::S3_SESSION_TOKEN,
            raw.s3_session_token.as_deref(),
            |text| own::word(text).map(Secret::new),
        );
        let path = self.optional(
            &table::S3_CREDENTIALS_FILE,
            raw.s3_credentials_file.as_deref(),
            directories::directory,
        );
        let profile = self.fixed(&table::S3_PROFILE, raw.s3_profile.as_deref(), own::word);
        Some(Keys {
            id: id?,
            secret: secret?,
            token: token?,
            path: path?,
            profile: profile?,
        })
    }

    fn credentials(
        &mut self,
        keys: Keys,
        given: &BTreeMap<String, String>,
        elsewhere: bool,
    ) -> Option<Credentials> {
        let (token, profile) = (keys.token, keys.profile);
        match (keys.id, keys.secret, keys.path) {
            (Some(id), Some(secret), _) => Some(Credentials::Keys { id, secret, token }),
            (None, None, Some(path)) => Some(Credentials::File { path, profile }),
            (None, None, None) if !elsewhere && !has_other_names(given) => {
                let from = Source::Derived("the machine's role");
                self.sources.set(&table::S3_ACCESS_KEY_ID, from);
                Some(Credentials::Machine)
            }
            (id, secret, _) => {
                if id.is_none() {
                    self.missing(&table::S3_ACCESS_KEY_ID, &OTHER_IDS, given);
                }
                if secret.is_none() {
                    self.missing(&table::S3_SECRET_ACCESS_KEY, &OTHER_KEYS, given);
                }
                None
            }
        }
    }

    /// A key is not there: perhaps it has another name.
    fn missing(&mut self, var: &'static Var, others: &[&str], given: &BTreeMap<String, String>) {
        let Some(other) = other_name(others, given) else {
            let rule = "is not set, nor S3_CREDENTIALS_FILE, and S3_BUCKET_URI is";
            self.wrong(var, None, rule);
            return;
        };
        let other = printable(other);
        let rule = format!("is not set; {other} is, which is not read");
        let remedy = format!("give its value the name {}", var.name);
        self.faults
            .push(Wrong::of(var, None, Problem::Value { rule }).with_remedy(remedy));
    }

    /// Where no bucket is named, nothing may need one.
    pub(in crate::config) fn needs_bucket(
        &mut self,
        kind: Option<NodeKind>,
        barman: Option<&Barman>,
        restore: Option<&Restore>,
    ) {
        let plain = "is not set, and";
        let cloud = barman.is_some_and(|b| b.mode == BarmanMode::Cloud);
        let restored = restore.is_some_and(|r| matches!(r.from, RestoreFrom::Bucket { .. }));
        if cloud && kind == Some(NodeKind::Postgres) {
            let rule = format!("{plain} BARMAN_MODE=cloud archives into it");
            self.wrong(&table::S3_BUCKET_URI, None, rule);
        } else if restored {
            let rule = format!("{plain} PGNODE_RESTORE_FROM restores from it");
            self.wrong(&table::S3_BUCKET_URI, None, rule);
        }
    }

    /// A cluster of several nodes has one name in the bucket: by the node's own, a failover would begin another archive.
    pub(in crate::config) fn names_the_cluster(
        &mut self,
        raw: &RawEnv,
        kind: Option<NodeKind>,
        start_as: Option<StartAs>,
        barman: Option<&Barman>,
        peers: Option<&Peers>,
    ) {
        let cloud = barman.is_some_and(|b| b.mode == BarmanMode::Cloud);
        let others = peers.is_some_and(|p| !p.slaves.is_empty() || !p.partners.is_empty());
        let named = raw.barman_cloud_server_name.is_some() || raw.barman_server_name.is_some();
        if cloud
            && kind == Some(NodeKind::Postgres)
            && (others || start_as == Some(StartAs::Slave))
            && !named
        {
            let rule = "is not set, and this node is one of several: by its own name each would archive elsewhere";
            let remedy = "give the cluster one name, the same on every node".to_owned();
            self.wrong_with(&table::BARMAN_CLOUD_SERVER_NAME, None, rule, remedy);
        }
    }

    pub(in crate::config) fn cloud_name(
        &mut self,
        raw: &RawEnv,
        server_name: Option<&String>,
    ) -> Option<String> {
        let var = &table::BARMAN_CLOUD_SERVER_NAME;
        let given = self.optional(
            var,
            raw.barman_cloud_server_name.as_deref(),
            naming::node_name,
        );
        given.and_then(|given| {
            self.or_derive(var, given, "BARMAN_SERVER_NAME", || server_name.cloned())
        })
    }

    pub(in crate::config) fn shipping(
        &mut self,
        raw: &RawEnv,
        paths: Option<&Paths>,
    ) -> Option<Shipping> {
        let wal = self.fixed(
            &table::S3_WAL_SYNC_SCHEDULE,
            raw.s3_wal_sync_schedule.as_deref(),
            schedule::cron,
        );
        let base = self.fixed(
            &table::S3_BASE_SYNC_SCHEDULE,
            raw.s3_base_sync_schedule.as_deref(),
            schedule::cron,
        );
        let full = self.fixed(
            &table::S3_FULL_SYNC_SCHEDULE,
            raw.s3_full_sync_schedule.as_deref(),
            schedule::cron,
        );
        let queue = self.optional(
            &table::S3_QUEUE_DIR,
            raw.s3_queue_dir.as_deref(),
            directories::directory,
        );
        let queue = queue.and_then(|given| {
            let below = || paths.map(|p| p.barman_backup_dir.join(".s3-queue"));
            self.or_derive(&table::S3_QUEUE_DIR, given, "BARMAN_BACKUP_DIR", below)
        });
        let keep = self.fixed(
            &table::S3_QUEUE_KEEP,
            raw.s3_queue_keep.as_deref(),
            rules::duration,
        );
        Some(Shipping {
            wal_schedule: wal?,
            base_schedule: base?,
            full_schedule: full?,
            queue_dir: queue?,
            queue_keep: keep?,
        })
    }
}

fn other_name<'a>(others: &[&str], given: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let letters = |name: &str| -> String {
        let name = name.strip_suffix("_FILE").unwrap_or(name);
        let plain = name.chars().filter(char::is_ascii_alphanumeric);
        plain.map(|c| c.to_ascii_uppercase()).collect()
    };
    let set = given.iter().filter(|(_, v)| !v.is_empty());
    set.map(|(name, _)| name.as_str())
        .find(|name| others.contains(&letters(name).as_str()))
}

fn has_other_names(given: &BTreeMap<String, String>) -> bool {
    other_name(&OTHER_IDS, given).is_some() || other_name(&OTHER_KEYS, given).is_some()
}
