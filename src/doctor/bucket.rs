//! Step 9: the bucket. On a node with `BARMAN_MODE=cloud` it is all that backups hang on; on a barman host it is what the
//! catalogue is shipped to.

use super::ailments as a;
use super::examine::Order;
use super::{Doctor, Finding, Verdict, gather, judge};
use crate::config::{BarmanMode, S3};
use crate::domain::{Fault, SystemId, human_bytes, human_duration};
use crate::pg::Session;
use crate::s3::source::Bucket;
use crate::s3::store::Probe;
use crate::s3::verify::{self, Report, Seen};
use crate::s3::wal::{MARKER, cluster_of};
use crate::s3::{Refusal, S3Error, Store};
use crate::sys::{Spec, now_ms};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How long a segment may be on its way: the archiver tries again after a minute.
const ARRIVES: Duration = Duration::from_secs(75);
/// Between two looks.
const PACE: Duration = Duration::from_millis(200);
/// A person waits for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A backup takes what it takes.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);
/// What was touched since may be a backup that is being made.
const RECENT: Duration = Duration::from_secs(24 * 3600);
/// Sentences that are shown; `pgnode s3 verify` has all.
const SHOWN: usize = 5;

impl Doctor {
    /// Of one cluster's place in the bucket, which is called `name` there.
    pub(super) async fn bucket(&self, name: &str, order: &Order) -> Vec<Finding> {
        let Some(settings) = &self.config.s3 else {
            return Vec::new();
        };
        if !order.wants(9) {
            return Vec::new();
        }
        let settings = S3 {
            retry: settings.retry.min(PATIENCE),
            ..settings.clone()
        };
        let tried = format!("listing {}", settings.uri());
        let store = match Store::open(&settings) {
            Ok(store) => store,
            Err(error) => return vec![silent(&error, &tried)],
        };
        let mut found = match store.probe().await {
            Probe::Answers => vec![Finding::pass(9, "the bucket", &tried, "it answers")],
            Probe::Refuses(refusal) => return vec![refused(&refusal, &tried)],
            Probe::Silent(error) => return vec![silent(&error, &tried)],
        };
        let cloud = self.config.barman.mode == BarmanMode::Cloud;
        let bucket = Bucket::new(store, name);
        if cloud {
            found.extend(self.archiving(&bucket).await);
        }
        if cloud && order.full {
            found.push(self.bucket_backup().await);
        }
        let tried = format!("reading {bucket}");
        match verify::look(&bucket).await {
            Ok(seen) => {
                let report = verify::judge(&seen);
                if cloud {
                    let limit = self.config.barman.habits.max_age;
                    found.push(age(&seen, limit, now_ms(), &tried));
                }
                found.extend(verdict(&report, &tried));
                found.extend(leftovers(&seen, now_ms(), &tried));
                if order.full {
                    found.extend(proof(&bucket, &seen, &report).await);
                }
            }
            Err(S3Error::Refused { refusal, .. }) => found.push(refused(&refusal, &tried)),
            Err(error) => found.push(silent(&error, &tried)),
        }
        found
    }

    /// Whether PostgreSQL archives, and whether what it archives arrives.
    async fn archiving(&self, bucket: &Bucket) -> Vec<Finding> {
        let tried = "asking pg_stat_archiver";
        let asked = async {
            let port = self.config.postgres.port;
            let session = Session::local(&self.config, port, gather::DATABASE).await?;
            let facts = gather::server(&session).await?;
            Ok::<_, crate::pg::PgError>((session, facts))
        };
        let (session, facts) = match asked.await {
            Ok(asked) => asked,
            Err(error) => {
                let why = Fault::chain(&error);
                return vec![Finding::of(&a::BUCKET_ASKED, tried, &why, &[])];
            }
        };
        if facts.standby {
            let why = "this node is a standby: run `pgnode doctor` on the primary";
            return vec![Finding::skip(9, "archiving", why)];
        }
        let mut archiver = judge::wal_archiver(&facts.archiver);
        archiver.step = 9;
        let whose = self.whose(bucket).await;
        let wrong = whose.verdict == Verdict::Fail;
        let mut found = vec![whose, archiver];
        if wrong {
            // It would be waited for in vain.
            return found;
        }
        found.push(match self.sent_to(bucket, &session).await {
            Ok(what) => Finding::pass(9, "round trip", "finishing a segment", what),
            Err(why) => Finding::of(&a::BUCKET_WAL, "finishing a segment", &why, &[]),
        });
        found
    }

    /// Whether what is there is this cluster's.
    async fn whose(&self, bucket: &Bucket) -> Finding {
        let tried = format!("reading {bucket}/{MARKER}");
        let ours = match cluster_of(&self.config.paths.pgdata) {
            Ok(ours) => ours,
            Err(error) => {
                let why = Fault::chain(&error);
                return Finding::of(&a::BUCKET_ASKED, &tried, &why, &[]);
            }
        };
        owned(ours, bucket.wals().owner().await, &tried)
    }

    /// Finishes the segment that is being written, and waits for it in the bucket.
    async fn sent_to(&self, bucket: &Bucket, session: &Session) -> Result<String, String> {
        let segment = super::marker::segment(session)
            .await
            .map_err(|e| Fault::chain(&e))?;
        crate::barman::push_wal(session)
            .await
            .map_err(|e| Fault::chain(&e))?;
        let (began, wals) = (Instant::now(), bucket.wals());
        loop {
            let stored = wals.look(&segment).await.map_err(|e| Fault::chain(&e))?;
            let took = human_duration(began.elapsed());
            if let Some(object) = stored.first() {
                let uri = bucket.store().uri(&object.key);
                return Ok(format!("{uri} is there after {took}"));
            }
            if began.elapsed() >= ARRIVES {
                return Err(format!("{segment} is not there after {took}"));
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// With `--full`.
    async fn bucket_backup(&self) -> Finding {
        let tried = "pgnode backup";
        let began = Instant::now();
        let made = async {
            let program = std::env::current_exe().map_err(|e| e.to_string())?;
            let run_dir = self.config.paths.run_dir.clone();
            let words = [
                "backup".into(),
                "--run-dir".into(),
                run_dir.into_os_string(),
            ];
            let spec = Spec::new(program, words)
                .env(self.config.environment.base.clone())
                .account(Some(self.postgres.clone()));
            let end = self.children.run(spec, LONG).await;
            let end = end.map_err(|e| Fault::chain(&e))?;
            match end.exit.is_success() {
                true => Ok(()),
                false => Err(format!("{}: {}", end.exit, end.last_words())),
            }
        };
        match made.await {
            Ok(()) => {
                let took = human_duration(began.elapsed());
                Finding::pass(9, "a new backup", tried, format!("made in {took}"))
            }
            Err(why) => Finding::of(&a::BUCKET_BACKUP, tried, &why, &[]),
        }
    }
}

fn owned(ours: SystemId, owner: Result<Option<SystemId>, S3Error>, tried: &str) -> Finding {
    let theirs = |why: &str| Finding::of(&a::BUCKET_FOREIGN, tried, why, &[]);
    match owner {
        Ok(Some(owner)) if owner == ours => {
            Finding::pass(9, "whose it is", tried, "it is this cluster's")
        }
        Ok(Some(owner)) => theirs(&format!(
            "it is the archive of cluster {owner}, and this is cluster {ours}"
        )),
        Ok(None) => Finding::pass(9, "whose it is", tried, "nothing is there yet"),
        Err(S3Error::Refused { refusal, .. }) => refused(&refusal, tried),
        Err(error @ (S3Error::Unfit(_) | S3Error::Damaged { .. })) => theirs(&Fault::chain(&error)),
        Err(error) => silent(&error, tried),
    }
}

/// The server said no: which setting, in its words.
fn refused(refusal: &Refusal, tried: &str) -> Finding {
    let general = (
        "S3_BUCKET_URI",
        "the server's words are all there is to go by",
    );
    let (variable, remedy) = refusal.remedy().unwrap_or(general);
    let mut seen = format!("the S3 server says {refusal}");
    if let Some(skew) = refusal.skew() {
        seen.push_str(&format!("; {skew}"));
    }
    let words = [("variable", variable), ("remedy", remedy)];
    Finding::of(&a::BUCKET_REFUSES, tried, &seen, &words)
}

fn silent(error: &S3Error, tried: &str) -> Finding {
    let variable = match error {
        S3Error::Setting { variable, .. } => variable,
        _ => "S3_ENDPOINT_URL",
    };
    let seen = Fault::chain(error);
    Finding::of(&a::BUCKET_SILENT, tried, &seen, &[("variable", variable)])
}

fn age(seen: &Seen, limit: Duration, now: u64, tried: &str) -> Finding {
    let done = seen.entries.iter().rfind(|e| e.backup.is_done());
    let Some((id, end)) = done.and_then(|e| Some((&e.backup.id, e.backup.end_ms?))) else {
        return Finding::of(&a::BUCKET_NO_BACKUP, tried, "", &[]);
    };
    let age = Duration::from_millis(now.saturating_sub(end));
    let what = format!("{id} ended {} ago", human_duration(age));
    if age > limit {
        let words = [("limit", human_duration(limit))];
        let words: Vec<(&str, &str)> = words.iter().map(|(n, w)| (*n, w.as_str())).collect();
        return Finding::of(&a::BUCKET_STALE, tried, &what, &words);
    }
    Finding::pass(9, "last backup", tried, what)
}

fn verdict(report: &Report, tried: &str) -> Vec<Finding> {
    if !report.is_wrong() {
        return vec![Finding::pass(9, "verify", tried, report.summary())];
    }
    let more = report.wrong.len().saturating_sub(SHOWN);
    let mut found: Vec<Finding> = report
        .wrong
        .iter()
        .take(SHOWN)
        .map(|wrong| Finding::of(&a::BUCKET_WRONG, tried, wrong, &[]))
        .collect();
    if more > 0 {
        let seen = format!("{more} more");
        found.push(Finding::of(&a::BUCKET_WRONG, tried, &seen, &[]));
    }
    found
}

fn leftovers(seen: &Seen, now: u64, tried: &str) -> Option<Finding> {
    let is_old = |u: &&verify::Unfinished| {
        let touched = u.touched.as_deref();
        let touched = touched.and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
        let since = touched.and_then(|t| u64::try_from(t.timestamp_millis()).ok());
        since.is_none_or(|t| Duration::from_millis(now.saturating_sub(t)) > RECENT)
    };
    let old: Vec<_> = seen.unfinished.iter().filter(is_old).collect();
    let bytes: u64 = old.iter().map(|u| u.bytes).sum();
    let first = old.first()?;
    let what = format!(
        "{} of {} backups, the first is {}",
        human_bytes(bytes),
        old.len(),
        first.id
    );
    Some(Finding::of(
        &a::BUCKET_LEFTOVERS,
        tried,
        &what,
        &[("id", &first.id)],
    ))
}

/// The newest backup, read to its last byte.
async fn proof(bucket: &Bucket, seen: &Seen, report: &Report) -> Option<Finding> {
    let id = report.restorable().last().map(|b| b.id.as_str())?;
    let entry = seen.entries.iter().find(|e| e.backup.id == id)?;
    if entry.archives.is_empty() {
        return Some(Finding::skip(
            9,
            "contents",
            "a barman host's copy is restored from a download",
        ));
    }
    let tried = format!("unpacking all of {id}");
    let (began, done) = (Instant::now(), AtomicU64::new(0));
    Some(match bucket.prove(entry, &done).await {
        Ok(()) => {
            let (bytes, took) = (
                human_bytes(done.into_inner()),
                human_duration(began.elapsed()),
            );
            let how = match entry.manifest {
                Some(_) => "every file is as it was stored",
                None => "whole, without checksums to compare with",
            };
            Finding::pass(9, "contents", &tried, format!("{how}: {bytes} in {took}"))
        }
        Err(error @ S3Error::Damaged { .. }) => {
            Finding::of(&a::BUCKET_WRONG, &tried, &Fault::chain(&error), &[])
        }
        Err(error) => silent(&error, &tried),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, ahead: i64) -> Refusal {
        Refusal {
            status: 403,
            code: code.into(),
            message: "so it is".into(),
            ahead: Some(ahead),
        }
    }

    #[test]
    fn a_refusal_names_the_setting_and_the_servers_words() {
        let found = refused(&refusal("InvalidAccessKeyId", 1), "x");
        assert!(
            found.why.contains("InvalidAccessKeyId: so it is"),
            "{}",
            found.why
        );
        assert!(found.remedy.unwrap().contains("S3_ACCESS_KEY_ID"));
        let found = refused(&refusal("RequestTimeTooSkewed", -4000), "x");
        assert!(found.why.contains("behind ours"), "{}", found.why);
        assert!(found.remedy.unwrap().contains("the clock"));
        let lost = S3Error::Setting {
            variable: "S3_CA_BUNDLE",
            why: "cannot be read".into(),
        };
        assert!(silent(&lost, "x").remedy.unwrap().contains("S3_CA_BUNDLE"));
    }

    #[test]
    fn another_clusters_place_is_a_failure_and_an_empty_one_is_not() {
        let (ours, theirs) = (SystemId(7), SystemId(8));
        for (owner, verdict, word) in [
            (Ok(Some(ours)), Verdict::Pass, "this cluster's"),
            (Ok(None), Verdict::Pass, "nothing is there yet"),
            (Ok(Some(theirs)), Verdict::Fail, "cluster 8"),
            (
                Err(S3Error::Unfit("who knows".into())),
                Verdict::Fail,
                "who knows",
            ),
            (Err(S3Error::Busy("away".into())), Verdict::Fail, "away"),
        ] {
            let found = owned(ours, owner, "x");
            assert_eq!(found.verdict, verdict, "{}", found.why);
            assert!(found.why.contains(word), "{}", found.why);
        }
        let found = owned(ours, Ok(Some(theirs)), "x");
        assert!(found.remedy.unwrap().contains("BARMAN_CLOUD_SERVER_NAME"));
    }

    #[test]
    fn leftovers_count_once_they_are_surely_nobodys() {
        let of = |touched: &str| {
            let mut seen = Seen::default();
            seen.unfinished.push(verify::Unfinished {
                id: "20261121T010000".into(),
                bytes: 7,
                uploads: 1,
                node: None,
                touched: Some(touched.into()),
            });
            seen
        };
        let now = 1_795_000_000_000;
        assert!(leftovers(&of("2026-11-01T00:00:00+00:00"), now, "x").is_some());
        let recent = chrono::DateTime::from_timestamp_millis(1_795_000_000_000 - 1000).unwrap();
        assert!(leftovers(&of(&recent.to_rfc3339()), now, "x").is_none());
    }
}
