//! The object store: where the bucket is, how to get in, what is written how.

mod kept;
mod profile;
mod read;
mod rules;
mod show;
#[cfg(test)]
mod tests;

use super::Secret;
pub use kept::{BadKept, Kept, KeptHost};
pub use profile::Profile;
pub(super) use rules::bucket;
use serde::{Deserialize, Serialize};
pub(super) use show::{has_secret, shown};
use std::path::PathBuf;
use std::time::Duration;

/// The least size of a part but the last, in bytes (Amazon S3, "multipart upload limits").
pub const LEAST_PART: u64 = 5 << 20;
/// The largest part, in bytes (as [`LEAST_PART`]).
pub const LARGEST_PART: u64 = 5 << 30;
/// Most parts of one upload (as [`LEAST_PART`]).
pub const MOST_PARTS: u64 = 10_000;

/// One bucket, and a path in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3 {
    /// `S3_ENDPOINT_URL`, without a `/` at its end; `None`: Amazon's for the region.
    pub endpoint: Option<String>,
    /// The bucket of `S3_BUCKET_URI`.
    pub bucket: String,
    /// The path of `S3_BUCKET_URI`, without `/` at either end; may be empty.
    pub prefix: String,
    /// `S3_REGION`.
    pub region: String,
    /// Who we are there.
    pub credentials: Credentials,
    /// `S3_CONFIG_FILE`: where some of it came from.
    pub config_file: Option<PathBuf>,
    /// `S3_ADDRESSING`.
    pub addressing: Addressing,
    /// `S3_CA_BUNDLE`: certificates that are trusted beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// `S3_SSE` and `S3_SSE_KMS_KEY_ID`.
    pub encryption: Encryption,
    /// `S3_TAGS`, for every object.
    pub tags: Tags,
    /// `S3_HISTORY_TAGS`, for history files instead of `S3_TAGS`.
    pub history_tags: Option<Tags>,
    /// `S3_MAX_PARALLEL`: requests with a body that are under way at once.
    pub max_parallel: usize,
    /// `S3_PART_SIZE`, in bytes.
    pub part_size: u64,
    /// `S3_COMPRESSION`: of WAL.
    pub wal_codec: Codec,
    /// `S3_BASE_COMPRESSION`: of base backups; only what barman-cloud reads.
    pub base_codec: Codec,
    /// `S3_BANDWIDTH_LIMIT`, in bytes a second.
    pub bandwidth: Option<u64>,
    /// `S3_RETRY`: how long what may pass is tried again.
    pub retry: Duration,
}

/// Key and value of each tag, in the order given.
pub type Tags = Vec<(String, String)>;

/// Who we are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// `S3_ACCESS_KEY_ID`, `S3_SECRET_ACCESS_KEY`, `S3_SESSION_TOKEN`.
    Keys {
        /// The key's id.
        id: String,
        /// The key.
        #[serde(with = "kept::plain")]
        secret: Secret,
        /// For temporary keys.
        #[serde(with = "kept::plain_option")]
        token: Option<Secret>,
    },
    /// A credentials file as Amazon's tools have it; read when it is needed, so that it may be changed.
    File {
        /// `S3_CREDENTIALS_FILE`.
        path: PathBuf,
        /// `S3_PROFILE`.
        profile: String,
    },
    /// The machine's own role at Amazon: instance metadata.
    Machine,
}

/// How a bucket is named in a request (`S3_ADDRESSING`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// How the server encrypts what it keeps (`S3_SSE`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// As the bucket says.
    Bucket,
    /// `AES256`.
    Aes256,
    /// `aws:kms`, with a key or the account's own.
    Kms {
        /// `S3_SSE_KMS_KEY_ID`.
        key: Option<String>,
    },
}

/// A way to compress, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// The format.
    pub format: Format,
    /// In the format's own scale; `None`: its usual one.
    pub level: Option<i32>,
}

/// The formats that barman-cloud knows, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As it is.
    None,
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.xz`
    Xz,
    /// `.snappy`: the framing format.
    Snappy,
    /// `.zst`
    Zstd,
    /// `.lz4`: the frame format.
    Lz4,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Gzip,
        Self::Bzip2,
        Self::Xz,
        Self::Snappy,
        Self::Zstd,
        Self::Lz4,
    ];

    /// What barman-cloud appends to an object's name; empty for none.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Xz => ".xz",
            Self::Snappy => ".snappy",
            Self::Zstd => ".zst",
            Self::Lz4 => ".lz4",
        }
    }
}

/// Shipping of a barman host's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipping {
    /// `S3_WAL_SYNC_SCHEDULE`.
    pub wal_schedule: String,
    /// `S3_BASE_SYNC_SCHEDULE`.
    pub base_schedule: String,
    /// `S3_FULL_SYNC_SCHEDULE`.
    pub full_schedule: String,
    /// `S3_QUEUE_DIR`.
    pub queue_dir: PathBuf,
    /// `S3_QUEUE_KEEP`: how long tasks that are done stay.
    pub queue_keep: Duration,
}
