//! How long something is tried again, and how long one answer may take.

use crate::s3::{Refusal, S3Error};
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error;
use std::time::Duration;
use tokio::time::Instant;

/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(20);
/// The slowest upload that is no stall, in bytes a second.
const SLOWEST: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Too long without an answer.
#[derive(Debug, thiserror::Error)]
#[error("silent for {} s", .0.as_secs())]
pub(super) struct Silent(Duration);

/// How long a request with a body of so many bytes may take.
pub(super) fn limit(bytes: u64) -> Duration {
    SILENCE + Duration::from_secs(bytes / SLOWEST)
}

/// One request within its limit; its error in our words.
pub(super) async fn within<T>(
    what: &str,
    bytes: u64,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, S3Error> {
    let limit = limit(bytes);
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(judge(what, error)),
        Err(_) => Err(S3Error::Lost {
            what: what.to_owned(),
            tried: limit,
            source: Box::new(Silent(limit)),
        }),
    }
}

/// What the library says, by what is at the end of its chain.
pub(super) fn judge(what: &str, error: object_store::Error) -> S3Error {
    let what = what.to_owned();
    if let Some(refusal) = refusal(&error) {
        return S3Error::Refused { what, refusal };
    }
    match error {
        object_store::Error::InvalidPath { source } => {
            S3Error::Bug(format!("{what}: the key cannot be a key: {source}"))
        }
        error => match setting(&error) {
            Some(setting) => setting,
            None => S3Error::Lost {
                what,
                tried: Duration::ZERO,
                source: Box::new(Broken::of(error)),
            },
        },
    }
}

/// A connection that was not made, or did not last: the library's sentence repeats itself three times.
#[derive(Debug, thiserror::Error)]
#[error("{how}: {root}")]
struct Broken {
    how: &'static str,
    /// What is at the end of the chain.
    root: String,
    /// The whole chain, for `Debug`.
    whole: object_store::Error,
}

impl Broken {
    fn of(error: object_store::Error) -> Self {
        let (mut how, mut root) = ("failed", error.to_string());
        let mut next = error.source();
        while let Some(source) = next {
            if let Some(http) = source.downcast_ref::<HttpError>() {
                how = match http.kind() {
                    HttpErrorKind::Connect => "no connection",
                    HttpErrorKind::Timeout => "timed out",
                    HttpErrorKind::Interrupted => "the connection broke",
                    _ => "failed",
                };
            }
            root = source.to_string();
            next = source.source();
        }
        Self {
            how,
            root,
            whole: error,
        }
    }
}

/// A setting that turned out unusable on the way, such as the credentials file.
fn setting(error: &(dyn Error + 'static)) -> Option<S3Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(S3Error::Setting { variable, why }) = error.downcast_ref() {
            return Some(S3Error::Setting {
                variable,
                why: why.clone(),
            });
        }
        next = error.source();
    }
    None
}

/// The server's own words in an error's chain.
fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(refusal.clone());
        }
        next = error.source();
    }
    None
}

/// A budget of tries.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    budget: Duration,
    pause: Duration,
    told: bool,
}

impl Patience {
    pub(super) fn new(budget: Duration) -> Self {
        Self {
            began: Instant::now(),
            budget,
            pause: FIRST_PAUSE,
            told: false,
        }
    }

    /// Waits before the next try, or gives the error back: it cannot pass, or the time is up.
    pub(super) async fn again(&mut self, error: S3Error) -> Result<(), S3Error> {
        if !error.is_transient() || matches!(error, S3Error::File { .. }) {
            return Err(error);
        }
        let tried = self.began.elapsed();
        if tried + self.pause > self.budget {
            return Err(match error {
                S3Error::Lost { what, source, .. } => S3Error::Lost {
                    what,
                    tried,
                    source,
                },
                other => other,
            });
        }
        if self.told {
            tracing::debug!("{}; trying again", crate::domain::Fault::chain(&error));
        } else {
            self.told = true;
            tracing::warn!(
                "{}; trying again for up to {} s",
                crate::domain::Fault::chain(&error),
                self.budget.as_secs()
            );
        }
        tokio::time::sleep(jitter(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Between half of it and all of it, so that many do not come back at once.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without random numbers the pause is only less random.
    let _without = getrandom::fill(&mut byte).is_err();
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}
