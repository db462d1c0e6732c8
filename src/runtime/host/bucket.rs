//! The first word with the bucket, when a barman host starts: a wrong key, a wrong name, no way there are said now, and not
//! by cron's first run, hours later. Nothing waits for it.

use crate::config::Config;
use crate::domain::{Fault, ShippingRun};
use crate::runtime::world::World;
use crate::s3::{S3Error, Store};
use crate::sys::now_ms;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between the first two tries; each pause is twice the one before.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);
/// The log's name of it.
const NAME: &str = "s3";
/// The status's, among the runs.
const KIND: &str = "look";

/// What is to be shown: the look that failed last, and nothing once the bucket answers.
pub(super) type Shown = watch::Receiver<Option<ShippingRun>>;

/// Tries until the bucket answers, and again when the settings are new.
pub(super) async fn look(
    world: Arc<World>,
    show: watch::Sender<Option<ShippingRun>>,
    mut stop: watch::Receiver<bool>,
    mut refresh: watch::Receiver<u64>,
) {
    loop {
        let tried = async {
            until_it_answers(&world, &show).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = tried => {}
            _ = stop.changed() => return,
            new = refresh.changed() => match new {
                Ok(()) => {}
                Err(_) => return,
            },
        }
    }
}

async fn until_it_answers(world: &World, show: &watch::Sender<Option<ShippingRun>>) {
    let (mut said, mut pause) = (String::new(), FIRST);
    while let Err(error) = ask(&world.config()).await {
        let why = why(&error);
        if said != why {
            tracing::error!(
                source = NAME,
                "{why}; nothing can be brought into the bucket until that is mended"
            );
            said.clone_from(&why);
        }
        show.send_replace(Some(ShippingRun {
            kind: KIND.to_owned(),
            at_ms: now_ms(),
            error: Some(why),
            ..ShippingRun::default()
        }));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
    show.send_replace(None);
    if !said.is_empty() {
        tracing::info!(source = NAME, "the bucket answers now");
    }
}

/// Once; a host without a bucket has nothing to ask.
async fn ask(config: &Config) -> Result<(), S3Error> {
    let Some(settings) = config.s3.clone() else {
        return Ok(());
    };
    // It reads certificates.
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings)).await;
    let store = opened.map_err(|e| S3Error::Bug(e.to_string()))??;
    store.reach().await
}

/// What the server said, and which variable it is about: where its words are of no known kind, the one that names the place.
fn why(error: &S3Error) -> String {
    let fault: Fault = error.fault();
    match error {
        S3Error::Refused { refusal, .. } if refusal.remedy().is_none() => {
            format!("{} (S3_BUCKET_URI)", fault.why())
        }
        _ => fault.why().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::Refusal;

    fn refused(status: u16, code: &str) -> S3Error {
        S3Error::Refused {
            what: "cannot list s3://b/".into(),
            refusal: Refusal {
                status,
                code: code.into(),
                message: "so it is".into(),
                ahead: None,
            },
        }
    }

    #[test]
    fn a_fault_names_the_variable_and_the_servers_words() {
        for (error, variable, words) in [
            (
                refused(403, "SignatureDoesNotMatch"),
                "S3_SECRET_ACCESS_KEY",
                "SignatureDoesNotMatch: so it is",
            ),
            (
                refused(404, "NoSuchBucket"),
                "S3_BUCKET_URI",
                "NoSuchBucket: so it is",
            ),
            (
                refused(403, "RequestTimeTooSkewed"),
                "the clock",
                "RequestTimeTooSkewed",
            ),
            (
                refused(400, "Strange"),
                "S3_BUCKET_URI",
                "Strange: so it is",
            ),
            (
                S3Error::Lost {
                    what: "cannot list s3://b/".into(),
                    tried: Duration::ZERO,
                    source: "no route".into(),
                },
                "S3_ENDPOINT_URL",
                "no route",
            ),
            (
                S3Error::Setting {
                    variable: "S3_CA_BUNDLE",
                    why: "cannot be read".into(),
                },
                "S3_CA_BUNDLE",
                "cannot be read",
            ),
        ] {
            let why = why(&error);
            assert!(why.contains(variable) && why.contains(words), "{why}");
        }
    }
}
