//! The values as `pgnode config` shows them; each can be given back as it is.

use super::{Addressing, Codec, Credentials, Encryption, Format, S3, Tags};
use crate::config::Config;
use crate::config::show::{BYTES, SECONDS, exact};
use std::fmt;

/// The effective value of a variable of this room; `None` for another's.
pub(in crate::config) fn shown(config: &Config, name: &str) -> Option<String> {
    let shipping = &config.shipping;
    Some(match name {
        "BARMAN_CLOUD_SERVER_NAME" => config.barman.cloud_name.clone(),
        "S3_WAL_SYNC_SCHEDULE" => shipping.wal_schedule.clone(),
        "S3_BASE_SYNC_SCHEDULE" => shipping.base_schedule.clone(),
        "S3_FULL_SYNC_SCHEDULE" => shipping.full_schedule.clone(),
        "S3_QUEUE_DIR" => shipping.queue_dir.display().to_string(),
        "S3_QUEUE_KEEP" => exact(shipping.queue_keep.as_secs(), &SECONDS),
        name if name.starts_with("S3_") => config
            .s3
            .as_ref()
            .map_or_else(String::new, |s3| of_bucket(s3, name)),
        _ => return None,
    })
}

/// Whether a secret of this room, which has no default, is given.
pub(in crate::config) fn has_secret(config: &Config, name: &str) -> bool {
    let keys = config.s3.as_ref().map(|s3| &s3.credentials);
    match (name, keys) {
        ("S3_SECRET_ACCESS_KEY", Some(Credentials::Keys { .. })) => true,
        ("S3_SESSION_TOKEN", Some(Credentials::Keys { token, .. })) => token.is_some(),
        _ => false,
    }
}

fn of_bucket(s3: &S3, name: &str) -> String {
    match (name, &s3.credentials) {
        ("S3_BUCKET_URI", _) => s3.uri(),
        ("S3_ENDPOINT_URL", _) => s3.endpoint.clone().unwrap_or_default(),
        ("S3_REGION", _) => s3.region.clone(),
        ("S3_ACCESS_KEY_ID", Credentials::Keys { id, .. }) => id.clone(),
        ("S3_CREDENTIALS_FILE", Credentials::File { path, .. }) => path.display().to_string(),
        ("S3_CONFIG_FILE", _) => {
            let path = s3.config_file.as_ref();
            path.map_or_else(String::new, |path| path.display().to_string())
        }
        ("S3_PROFILE", Credentials::File { profile, .. }) => profile.clone(),
        ("S3_ADDRESSING", _) => s3.addressing.to_string(),
        ("S3_CA_BUNDLE", _) => {
            let path = s3.ca_bundle.as_ref();
            path.map_or_else(String::new, |path| path.display().to_string())
        }
        ("S3_SSE", _) => s3.encryption.to_string(),
        ("S3_SSE_KMS_KEY_ID", _) => match &s3.encryption {
            Encryption::Kms { key } => key.clone().unwrap_or_default(),
            Encryption::Bucket | Encryption::Aes256 => String::new(),
        },
        ("S3_TAGS", _) => tags(&s3.tags),
        ("S3_HISTORY_TAGS", _) => s3.history_tags.as_ref().map_or_else(String::new, tags),
        ("S3_MAX_PARALLEL", _) => s3.max_parallel.to_string(),
        ("S3_PART_SIZE", _) => exact(s3.part_size, &BYTES),
        ("S3_COMPRESSION", _) => s3.wal_codec.to_string(),
        ("S3_BASE_COMPRESSION", _) => s3.base_codec.to_string(),
        ("S3_BANDWIDTH_LIMIT", _) => s3.bandwidth.map_or_else(String::new, |n| exact(n, &BYTES)),
        ("S3_RETRY", _) if s3.retry.subsec_millis() != 0 => format!("{}ms", s3.retry.as_millis()),
        ("S3_RETRY", _) => exact(s3.retry.as_secs(), &SECONDS),
        _ => String::new(),
    }
}

fn tags(tags: &Tags) -> String {
    let tags: Vec<_> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    tags.join(",")
}

impl S3 {
    /// `s3://bucket/path`.
    #[must_use]
    pub fn uri(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }
}

#[cfg(test)]
impl S3 {
    /// For unit tests: a bucket `b` and a path `p` there, nothing compressed, no limits.
    pub(crate) fn at(endpoint: &str) -> Self {
        let codec = Codec {
            format: Format::None,
            level: None,
        };
        Self {
            endpoint: Some(endpoint.to_owned()),
            bucket: "b".to_owned(),
            prefix: "p".to_owned(),
            region: "r".to_owned(),
            credentials: Credentials::Keys {
                id: "id".to_owned(),
                secret: crate::config::Secret::new("secret".to_owned()),
                token: None,
            },
            config_file: None,
            addressing: Addressing::Path,
            ca_bundle: None,
            encryption: Encryption::Bucket,
            tags: Vec::new(),
            history_tags: None,
            max_parallel: 1,
            part_size: super::LEAST_PART,
            wal_codec: codec,
            base_codec: codec,
            bandwidth: None,
            retry: std::time::Duration::ZERO,
        }
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Virtual => "virtual",
        })
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bucket => "none",
            Self::Aes256 => "AES256",
            Self::Kms { .. } => "aws:kms",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "{}:{level}", self.format),
            None => self.format.fmt(f),
        }
    }
}
