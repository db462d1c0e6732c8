//! What of the bucket can be restored, looked at by the primary from time to time (`pgnode s3 verify` without `--deep`): a
//! backup that lost its WAL is found before it is needed. Also the drills that were made here, shown.

use super::archiver::archives;
use super::chores;
use super::world::World;
use crate::config::Config;
use crate::domain::{Fault, VerifiedView};
use crate::s3::source::Bucket;
use crate::s3::verify::{judge, look};
use crate::s3::{S3Error, Store};
use crate::sys::now_ms;
use std::sync::Arc;
use std::time::Duration;

/// After the start the first segments and a first backup come into an empty place.
const FIRST: Duration = Duration::from_secs(600);
/// Then; one LIST page for each thousand objects.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Between two looks at whether it is due.
const PACE: Duration = Duration::from_secs(30);
/// The log's name of it.
const NAME: &str = "s3";

/// Lives as long as the process; ends at once where nothing is archived into a bucket.
pub(super) async fn keep(world: Arc<World>) {
    if !archives(&world.config()) {
        return;
    }
    let mut due = tokio::time::Instant::now() + FIRST;
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        if let Ok(drills) = chores::drills(&world).await {
            world.show(move |status| status.backup.drills = drills);
        }
        if !world.is_primary() {
            world.show(|status| status.verified = None);
            continue;
        }
        if tokio::time::Instant::now() < due {
            continue;
        }
        match verified(&world.config()).await {
            Ok(view) => {
                due = tokio::time::Instant::now() + AGAIN;
                if let Some(first) = &view.first {
                    let wrong = view.wrong;
                    tracing::warn!(
                        source = NAME,
                        "{wrong} things in {} are wrong, the first is: {first}; `pgnode s3 verify` shows all",
                        view.place
                    );
                }
                world.show(move |status| status.verified = Some(view));
            }
            // That the bucket does not answer is said by those who archive.
            Err(error) => tracing::debug!(source = NAME, "{}", Fault::chain(&error)),
        }
    }
}

async fn verified(config: &Config) -> Result<VerifiedView, S3Error> {
    let Some(settings) = &config.s3 else {
        return Err(S3Error::Bug("no bucket".to_owned()));
    };
    let bucket = Bucket::new(Store::open(settings)?, &config.barman.cloud_name);
    let report = judge(&look(&bucket).await?);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(VerifiedView {
        at_ms: now_ms(),
        backups: count(report.backups.len()),
        restorable: count(report.restorable().count()),
        wrong: count(report.wrong.len()),
        first: report.wrong.first().cloned(),
        unfinished_bytes: report.unfinished.iter().map(|u| u.bytes).sum(),
        place: report.place,
    })
}
