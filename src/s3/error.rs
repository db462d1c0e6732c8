//! What can go wrong with an object store.

use crate::domain::{Fault, WalName, human_duration};
use std::path::PathBuf;
use std::time::Duration;

/// By how many seconds clocks may differ (Amazon's limit for `RequestTimeTooSkewed`).
const SKEW: u64 = 15 * 60;

/// What is wrong, and what is not.
const CLOCK: (&str, &str) = (
    "the clock",
    "this machine's and the server's differ: set it (NTP); S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are not to blame",
);

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

    /// By how much the clocks differ, where it is too much for a signature: servers refuse that with whatever code they
    /// have (Garage: `InvalidRequest`). Told by minutes, so that the same is said each time.
    #[must_use]
    pub fn skew(&self) -> Option<String> {
        let ahead = self.ahead.filter(|s| s.unsigned_abs() > SKEW)?;
        if !matches!(self.status, 400 | 401 | 403) {
            return None;
        }
        let minutes = (ahead.unsigned_abs() + 30) / 60;
        let by = human_duration(Duration::from_secs(minutes * 60));
        let word = if ahead > 0 { "ahead of" } else { "behind" };
        Some(format!("its clock is {by} {word} ours"))
    }

    /// The setting that is most likely wrong, and what to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<(&'static str, &'static str)> {
        Some(match (self.code.as_str(), self.status) {
            ("InvalidAccessKeyId" | "NoSuchKeyId" | "InvalidAccessKey", _) => {
                ("S3_ACCESS_KEY_ID", "the server does not know this key")
            }
            ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => (
                "S3_SESSION_TOKEN",
                "temporary keys have run out: give new ones",
            ),
            ("NoSuchBucket" | "InvalidBucketName", _) => {
                ("S3_BUCKET_URI", "make the bucket first; pgnode makes none")
            }
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
            ("EntityTooSmall" | "EntityTooLarge" | "InvalidPart", _) => {
                ("S3_PART_SIZE", "the server takes parts of another size")
            }
            ("NotImplemented", _) => (
                "S3_SSE or S3_TAGS",
                "the server does not know something that is asked of it",
            ),
            ("RequestTimeTooSkewed" | "RequestExpired", _) => CLOCK,
            // Those above say what else is wrong; all others may be the clock's doing, and come after it.
            _ if self.skew().is_some() => CLOCK,
            ("SignatureDoesNotMatch" | "InvalidSignature", _) => (
                "S3_SECRET_ACCESS_KEY",
                "it is not this key's secret, or something on the way changes requests",
            ),
            ("AccessDenied" | "AllAccessDisabled" | "Forbidden", _) | (_, 401 | 403) => (
                "S3_ACCESS_KEY_ID",
                "the key may not do that in this bucket, or it is another's (S3_SECRET_ACCESS_KEY)",
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
                if let Some(skew) = refusal.skew() {
                    text.push_str(&format!("; {skew}"));
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and code, the difference; the variable, and what is said of the clock.
    type Row<'a> = (u16, &'a str, Option<i64>, Option<&'a str>, Option<&'a str>);

    fn refusal(status: u16, code: &str, ahead: Option<i64>) -> Refusal {
        Refusal {
            status,
            code: code.to_owned(),
            message: "so it is".to_owned(),
            ahead,
        }
    }

    #[test]
    fn a_clock_that_is_too_wrong_is_named_whatever_the_servers_code_is() {
        let (clock, id, secret) = ("the clock", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY");
        let (limit, hours, days) = (15 * 60, 2 * 3600, 25 * 3600);
        let table: [Row<'_>; 17] = [
            // Garage, more than a day apart.
            (
                400,
                "InvalidRequest",
                Some(days),
                Some(clock),
                Some("1 d 01 h ahead of"),
            ),
            (
                400,
                "InvalidRequest",
                Some(-days),
                Some(clock),
                Some("1 d 01 h behind"),
            ),
            (
                403,
                "AccessDenied",
                Some(hours),
                Some(clock),
                Some("2 h 00 m ahead of"),
            ),
            // Told by minutes: the next answer comes a second later.
            (
                403,
                "AccessDenied",
                Some(hours - 1),
                Some(clock),
                Some("2 h 00 m ahead of"),
            ),
            (
                403,
                "",
                Some(limit + 1),
                Some(clock),
                Some("15 m 00 s ahead of"),
            ),
            (
                403,
                "SignatureDoesNotMatch",
                Some(-hours),
                Some(clock),
                Some("behind"),
            ),
            (
                403,
                "RequestTimeTooSkewed",
                Some(-hours),
                Some(clock),
                Some("behind"),
            ),
            // Its word is enough.
            (403, "RequestTimeTooSkewed", None, Some(clock), None),
            // What is within the limit is no reason.
            (400, "InvalidRequest", Some(limit), None, None),
            (403, "AccessDenied", Some(-limit), Some(id), None),
            (403, "SignatureDoesNotMatch", Some(60), Some(secret), None),
            (403, "AccessDenied", None, Some(id), None),
            // No clock makes the server say these.
            (
                403,
                "InvalidAccessKeyId",
                Some(hours),
                Some(id),
                Some("2 h 00 m ahead of"),
            ),
            (
                400,
                "AuthorizationHeaderMalformed",
                Some(hours),
                Some("S3_REGION"),
                Some("ahead"),
            ),
            (
                404,
                "NoSuchBucket",
                Some(hours),
                Some("S3_BUCKET_URI"),
                None,
            ),
            (404, "NoSuchKey", Some(hours), None, None),
            (503, "SlowDown", Some(hours), None, None),
        ];
        for (status, code, ahead, variable, skew) in table {
            let refusal = refusal(status, code, ahead);
            let row = format!("{status} {code} {ahead:?}");
            assert_eq!(refusal.remedy().map(|r| r.0), variable, "{row}");
            let said = S3Error::Refused {
                what: "cannot list x".to_owned(),
                refusal,
            };
            let said = said.fault().why().to_owned();
            match skew {
                Some(skew) => assert!(
                    said.contains("its clock is ") && said.contains(skew) && said.contains(" ours"),
                    "{row}: {said}"
                ),
                None => assert!(!said.contains("its clock is"), "{row}: {said}"),
            }
            let blameless = format!("{id} and {secret} are not to blame");
            assert_eq!(
                said.contains(&blameless),
                variable == Some(clock),
                "{row}: {said}"
            );
        }
    }
}
