//! What can go wrong with an object store.

use crate::domain::{Fault, WalName};
use std::path::PathBuf;
use std::time::Duration;

/// What the server answered instead of doing it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// S3's code (`NoSuchBucket`); empty where the answer had none, as after HEAD.
    pub code: String,
    /// S3's message.
    pub message: String,
    /// Seconds by which the server's clock is ahead of ours, from its `Date`.
    pub ahead: Option<i64>,
}

impl Refusal {
    fn sentence(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => format!("HTTP status {}", self.status),
            (code, "") => format!("{code} (HTTP status {})", self.status),
            ("", message) => format!("HTTP status {}: {message}", self.status),
            (code, message) => format!("{code}: {message}"),
        }
    }

    /// Whether it may pass (Amazon S3, "error responses"; 429 and 503 are throttling).
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
            || matches!(
                self.code.as_str(),
                "SlowDown"
                    | "InternalError"
                    | "RequestTimeout"
                    | "ServiceUnavailable"
                    | "BadDigest"
                    | "IncompleteBody"
                    | "XAmzContentSHA256Mismatch"
                    | "OperationAborted"
            )
    }

    /// There is no such object. Not: there is no such bucket.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.status == 404 && matches!(self.code.as_str(), "" | "NoSuchKey" | "NotFound")
    }

    /// The setting that is most likely wrong, and what to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<(&'static str, &'static str)> {
        Some(match (self.code.as_str(), self.status) {
            ("InvalidAccessKeyId" | "NoSuchKeyId" | "InvalidAccessKey", _) => {
                ("S3_ACCESS_KEY_ID", "the server does not know this key")
            }
            ("SignatureDoesNotMatch" | "InvalidSignature", _) => (
                "S3_SECRET_ACCESS_KEY",
                "it is not this key's secret, or something on the way changes requests",
            ),
            ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => (
                "S3_SESSION_TOKEN",
                "temporary keys have run out: give new ones",
            ),
            ("NoSuchBucket" | "InvalidBucketName", _) => {
                ("S3_BUCKET_URI", "make the bucket first; pgnode makes none")
            }
            ("RequestTimeTooSkewed" | "RequestExpired", _) => (
                "the clock",
                "this machine's and the server's differ: set it (NTP)",
            ),
            (
                "AuthorizationHeaderMalformed"
                | "AuthorizationQueryParametersError"
                | "InvalidRegion",
                _,
            ) => ("S3_REGION", "the server signs for another region"),
            ("PermanentRedirect" | "TemporaryRedirect", _) | (_, 301 | 307) => (
                "S3_ENDPOINT_URL",
                "the bucket is at another endpoint or in another region (S3_REGION)",
            ),
            ("AccessDenied" | "AllAccessDisabled" | "Forbidden", _) | (_, 401 | 403) => (
                "S3_ACCESS_KEY_ID",
                "the key may not do that in this bucket, or it is another's (S3_SECRET_ACCESS_KEY)",
            ),
            ("EntityTooSmall" | "EntityTooLarge" | "InvalidPart", _) => {
                ("S3_PART_SIZE", "the server takes parts of another size")
            }
            ("NotImplemented", _) => (
                "S3_SSE or S3_TAGS",
                "the server does not know something that is asked of it",
            ),
            _ => return None,
        })
    }
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// A setting cannot be used.
    #[error("{variable}: {why}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The server said no.
    #[error("{what}: the S3 server says {refusal}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What it said.
        #[source]
        refusal: Refusal,
    },
    /// No answer, or half of one, for as long as it was tried.
    #[error("{what}: the S3 server does not answer{}", since(.tried))]
    Lost {
        /// What was asked for.
        what: String,
        /// For how long.
        tried: Duration,
        /// The last reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored is not what it should be.
    #[error("{key}: {why}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not there, and neither is the backup that is being restored: the place is another one, or empty.
    #[error("{name} is not there, and {what} is not either: is it the same bucket?")]
    Gone {
        /// What was looked for.
        name: String,
        /// What should be there in any case.
        what: String,
    },
    /// A backup needs WAL that nobody has: what is shipped of it could not be restored.
    #[error(
        "backup {backup} cannot be restored: WAL segment {first}{} that it needs {} neither in barman's archive nor in \
         the bucket; bring back what is lost, or make a new backup and then `barman delete {server} {backup}`",
        others(*.more), if *.more == 0 { "is" } else { "are" }
    )]
    Lacks {
        /// Its id.
        backup: String,
        /// barman's name of the cluster.
        server: String,
        /// The first segment that is missing.
        first: WalName,
        /// How many more are.
        more: u64,
    },
    /// Something else is there, or not what is needed: a person decides.
    #[error("{0}")]
    Unfit(String),
    /// Somebody else is at it.
    #[error("{0}")]
    Busy(String),
    /// A file of ours.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// `read`, `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// PostgreSQL.
    #[error(transparent)]
    Pg(#[from] crate::pg::PgError),
    /// barman's catalogue.
    #[error(transparent)]
    Catalogue(#[from] crate::barman::BarmanError),
    /// Our own mistake.
    #[error("{0}")]
    Bug(String),
}

/// ` and 3 more`; nothing for none.
fn others(more: u64) -> String {
    match more {
        0 => String::new(),
        n => format!(" and {n} more"),
    }
}

/// `, tried for 30 s`; nothing after a single try.
fn since(tried: &Duration) -> String {
    match tried.as_secs() {
        0 => String::new(),
        s => format!(", tried for {s} s"),
    }
}

impl S3Error {
    /// Whether the same may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lost { .. }
            | Self::File { .. }
            | Self::Gone { .. }
            | Self::Busy(_)
            | Self::Pg(_) => true,
            Self::Refused { refusal, .. } => refusal.may_pass(),
            Self::Catalogue(error) => error.fault().is_transient(),
            Self::Setting { .. }
            | Self::Damaged { .. }
            | Self::Lacks { .. }
            | Self::Unfit(_)
            | Self::Bug(_) => false,
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let mut text = Fault::chain(self);
        match self {
            Self::Setting { .. } => Fault::Config(text),
            Self::Refused { refusal, .. } => {
                if let Some((variable, remedy)) = refusal.remedy() {
                    text.push_str(&format!(" ({variable}: {remedy})"));
                }
                if refusal.may_pass() {
                    Fault::Transient(text)
                } else {
                    Fault::NeedsPerson(text)
                }
            }
            Self::Lost { .. } => Fault::Transient(format!("{text} (S3_ENDPOINT_URL)")),
            Self::File { .. } | Self::Gone { .. } | Self::Busy(_) => Fault::Transient(text),
            Self::Damaged { .. } | Self::Lacks { .. } | Self::Unfit(_) => Fault::NeedsPerson(text),
            Self::Pg(error) => error.fault(),
            Self::Catalogue(error) => error.fault(),
            Self::Bug(_) => Fault::Bug(text),
        }
    }
}
