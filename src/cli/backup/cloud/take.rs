//! `pgnode backup` into a bucket, and what follows: leftovers of killed ones, and the retention.

use super::{Counter, Occasion, fault, look};
use crate::cli::backup::view::json as as_json;
use crate::cli::progress::Progress;
use crate::cli::status::ms;
use crate::cli::{note, say};
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::s3::base::{
    Entry, Gone, Leftover, Needed, Order, Policy, Primary, Shelf, Stage, Taken, Verdict, judge,
    take as make,
};
use crate::sys::now_ms;
use chrono::Utc;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// After a failure the next try is so much later.
const AGAIN_MS: u64 = 10 * 60 * 1000;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// What cron calls it for; `None` by hand.
    pub(super) occasion: Option<Occasion>,
    /// Compressed bytes after which an archive goes on in a next part.
    pub(super) longest: u64,
    pub(super) json: bool,
}

pub(super) async fn take(counter: &Counter, wish: Wish) -> Result<ExitCode, Fault> {
    let Wish { occasion, json, .. } = wish;
    let primary = match occasion {
        None => counter.locked("backup").await?,
        Some(occasion) => match ours(counter, occasion).await? {
            Some(primary) => primary,
            None => return Ok(ExitCode::STOPPED),
        },
    };
    // Read with the lock, so that nobody's backup is taken for a leftover that has ended since; and once more when it is
    // made, hours later: somebody may have said meanwhile that a backup is kept.
    let before = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    if occasion == Some(Occasion::Owed) && !owed(&before, now_ms()) {
        return Ok(ExitCode::STOPPED);
    }
    sweep(counter, &primary, &before).await?;
    drop(before);
    let began = Instant::now();
    let taken = work(counter, &primary, wish).await?;
    let took = began.elapsed();
    let after = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    report(counter, &after, &taken, took, json).await?;
    // The backup is made: what the retention cannot do now it does next time, and says.
    if let Err(fault) = retain(counter, &after, &taken.id).await {
        note(&format!("the retention was not applied: {}", fault.why()));
    }
    Ok(ExitCode::STOPPED)
}

/// The primary with the lock, where cron's occasion is one.
async fn ours(counter: &Counter, occasion: Occasion) -> Result<Option<Primary>, Fault> {
    let Some(primary) = counter.primary().await? else {
        return Ok(None);
    };
    // Nothing is mostly owed, and a look must not stand in anybody's way: it takes no lock.
    if occasion == Occasion::Owed {
        let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
        if !owed(&shelf, now_ms()) {
            return Ok(None);
        }
    }
    match counter.lock(&primary).await? {
        None => Ok(Some(primary)),
        Some(holder) => {
            if occasion == Occasion::Due {
                note(&format!("no backup now: one is under way ({holder})"));
            }
            Ok(None)
        }
    }
}

/// Whether there is no complete backup, or the newest try failed or was killed a while ago.
fn owed(shelf: &Shelf, now_ms: u64) -> bool {
    let begun = |done: bool| {
        let entries = shelf
            .entries
            .iter()
            .filter(move |e| e.backup.is_done() == done);
        entries.map(Entry::begun_ms)
    };
    let killed = shelf.leftovers.iter().filter(|l| l.marker.is_some());
    let done = begun(true).max();
    let newest_try = begun(false).chain(killed.map(Leftover::begun_ms)).max();
    match newest_try.filter(|at| Some(*at) > done) {
        Some(at) => at.saturating_add(AGAIN_MS) < now_ms,
        None => done.is_none(),
    }
}

/// Takes away what killed backups left. The caller holds the lock.
async fn sweep(counter: &Counter, primary: &Primary, shelf: &Shelf) -> Result<(), Fault> {
    let catalogue = &counter.catalogue;
    for leftover in &shelf.leftovers {
        let told = look::told(catalogue, leftover)
            .await
            .map_err(|e| fault(&e))?;
        if leftover.foreign.is_some() {
            note(&told);
        } else if leftover.is_dead(&counter.kept.node, primary.system_id(), Utc::now()) {
            catalogue.sweep(leftover).await.map_err(|e| fault(&e))?;
            note(&format!("{told}: removed"));
        } else {
            note(&format!(
                "{told}: left alone, because it may be another's that still runs; `pgnode backup delete {}` removes it",
                leftover.id
            ));
        }
    }
    Ok(())
}

async fn work(counter: &Counter, primary: &Primary, wish: Wish) -> Result<Taken, Fault> {
    let kept = &counter.kept;
    let order = Order {
        node: kept.node.clone(),
        pgdata: kept.pgdata.clone(),
        name: None,
        fast: kept.fast_checkpoint,
        longest: wish.longest,
    };
    let (tell, mut stage) = watch::channel(Stage::Begin);
    let mut stop = counter.stop.clone();
    let stopped = async move {
        // Without a sender nobody can stop us any longer.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut making = std::pin::pin!(make(&counter.catalogue, primary, &order, &tell, stopped));
    let mut shown = Shown::new(&kept.server, wish.json);
    let ended = loop {
        tokio::select! {
            ended = &mut making => break ended,
            Ok(()) = stage.changed() => {
                let now = stage.borrow_and_update().clone();
                shown.at(&now);
            }
        }
    };
    shown.end();
    ended.map_err(|e| fault(&e))
}

/// What is shown of its progress.
struct Shown {
    server: String,
    quiet: bool,
    bar: Option<Progress>,
    told: Option<String>,
    when: Instant,
}

/// Between two lines about the same segment.
const REMIND: Duration = Duration::from_secs(60);

impl Shown {
    fn new(server: &str, quiet: bool) -> Self {
        Self {
            server: server.to_owned(),
            quiet,
            bar: None,
            told: None,
            when: Instant::now(),
        }
    }

    fn at(&mut self, stage: &Stage) {
        match stage {
            Stage::Begin => {}
            Stage::Checkpoint => self.say("waiting for the checkpoint at its begin".to_owned()),
            Stage::Copy { bytes, of } => {
                let begin =
                    || Progress::begin(format!("copying {}", self.server), Some(*of), self.quiet);
                self.bar.get_or_insert_with(begin).at(*bytes);
            }
            Stage::Wal { segment, why } => {
                self.end();
                let why = why.as_ref().map(|w| format!(" ({w})")).unwrap_or_default();
                self.say(format!(
                    "all files are copied; waiting for WAL segment {segment} to come into the bucket{why}"
                ));
            }
        }
    }

    fn say(&mut self, text: String) {
        let new = self.told.as_ref() != Some(&text);
        if !self.quiet && (new || self.when.elapsed() > REMIND) {
            note(&text);
            self.told = Some(text);
            self.when = Instant::now();
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.end();
        }
    }
}

async fn report(
    counter: &Counter,
    shelf: &Shelf,
    taken: &Taken,
    took: Duration,
    json: bool,
) -> Result<(), Fault> {
    let Some(entry) = shelf.entry(&taken.id) else {
        return Err(Fault::NeedsPerson(format!(
            "backup {} was made, and is not in the bucket any longer",
            taken.id
        )));
    };
    let shown = look::shown(counter, entry).await?;
    if json {
        say(&as_json(&shown));
        return Ok(());
    }
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    say(&format!(
        "backup {} of {}: {}, {} ({} in the bucket) in {}, {}\n",
        shown.id,
        shown.server,
        shown.kind_words(),
        human_bytes(taken.bytes),
        human_bytes(entry.bytes()),
        ms(took_ms),
        shown.status
    ));
    Ok(())
}

/// Deletes what the retention does not need, and says what and why.
async fn retain(counter: &Counter, shelf: &Shelf, made: &str) -> Result<(), Fault> {
    let kept = &counter.kept;
    let policy = Policy::parse(&kept.retention).ok_or_else(|| {
        Fault::Config(format!(
            "BARMAN_RETENTION={:?} is not a retention",
            kept.retention
        ))
    })?;
    let catalogue = &counter.catalogue;
    let all = shelf.backups();
    let judged = |broken| judge(&all, &broken, policy, kept.redundancy, now_ms());
    let mut verdicts = judged(BTreeSet::new());
    if verdicts.iter().any(|v| v.goes()) {
        // Those that stay must be good for it.
        verdicts = judged(counter.broken().await?);
    }
    for (entry, verdict) in shelf.entries.iter().zip(&mut verdicts) {
        // A clock that was set back would make it the oldest.
        if verdict.goes() && entry.backup.id == made {
            *verdict = Verdict::Unclear;
        }
        if *verdict == Verdict::Broken {
            note(&format!("backup {} stays: {verdict}", entry.backup.id));
        }
        if verdict.goes() {
            catalogue.delete(entry).await.map_err(|e| fault(&e))?;
            note(&format!("deleted backup {}: {verdict}", entry.backup.id));
        }
    }
    let staying = all.iter().zip(&verdicts).filter(|(_, v)| !v.goes());
    let staying: Vec<_> = staying.map(|(b, _)| b).collect();
    if let Some((id, key)) = shelf.foreign() {
        note(&unknown(id, key));
        return Ok(());
    }
    let Some(needed) = Needed::by(&staying) else {
        let unclear: Vec<&str> = staying
            .iter()
            .filter(|b| !b.garbled.is_empty())
            .map(|b| b.id.as_str())
            .collect();
        if !unclear.is_empty() {
            note(&format!(
                "no WAL was deleted: what {} needs is not understood",
                unclear.join(", ")
            ));
        }
        return Ok(());
    };
    let gone = catalogue.delete_wal(&needed, false).await;
    let gone = gone.map_err(|e| fault(&e))?;
    if gone != Gone::default() {
        note(&wal_told(&gone, &needed, "deleted"));
    }
    Ok(())
}

/// Why no WAL goes beside something strange.
pub(super) fn unknown(id: &str, key: &str) -> String {
    format!(
        "no WAL was deleted: {id} is not of barman-cloud's format ({key}), and nobody here knows what it needs"
    )
}

/// `deleted 12 WAL files (192 MiB): backup 2026… is the oldest that needs WAL, from 0000… on`.
pub(super) fn wal_told(gone: &Gone, needed: &Needed, word: &str) -> String {
    format!(
        "{word} {} WAL files ({}): backup {} is the oldest that needs WAL, from {} on",
        gone.objects,
        human_bytes(gone.bytes),
        needed.by,
        needed.first(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barman::Backup;
    use crate::s3::base::Marker;

    const NOW: u64 = 1_795_000_000_000;
    const MINUTE: u64 = 60_000;

    fn entry(id: &str, status: &str, begun_ms: u64) -> Entry {
        let mut backup = Backup::parse(id, "/x".into(), &format!("status={status}\n"));
        backup.begin_ms = Some(begun_ms);
        Entry {
            backup,
            archives: Vec::new(),
            manifest: None,
            objects: Vec::new(),
            lacks: Vec::new(),
        }
    }

    fn killed(id: &str, begin_ms: u64) -> Leftover {
        Leftover {
            id: id.to_owned(),
            objects: Vec::new(),
            uploads: Vec::new(),
            doomed: false,
            foreign: None,
            marker: Some(Marker {
                node: "pg1".into(),
                system_id: "7".into(),
                timeline: 1,
                begin_ms,
            }),
        }
    }

    #[test]
    fn a_backup_is_owed_until_one_is_complete_and_again_after_one_that_failed() {
        let old = NOW - 11 * MINUTE;
        let owed = |entries: Vec<Entry>, leftovers: Vec<Leftover>| {
            super::owed(&Shelf { entries, leftovers }, NOW)
        };
        let done = || entry("20260101T000002", "DONE", old - MINUTE);
        let before = old - 2 * MINUTE;
        assert!(owed(vec![], vec![]));
        assert!(!owed(vec![done()], vec![]));
        // A failure before the newest complete one is history.
        let failed = |id, at| entry(id, "FAILED", at);
        assert!(!owed(
            vec![failed("20260101T000001", before), done()],
            vec![]
        ));
        assert!(owed(vec![done(), failed("20260101T000003", old)], vec![]));
        // Not at once again.
        assert!(!owed(vec![failed("20260101T000003", NOW - MINUTE)], vec![]));
        assert!(!owed(
            vec![done()],
            vec![killed("20260101T000003", NOW - MINUTE)]
        ));
        assert!(owed(vec![done()], vec![killed("20260101T000003", old)]));
        assert!(!owed(vec![done()], vec![killed("20260101T000001", before)]));
        // Ids are local times: what began later may be called earlier.
        assert!(owed(vec![failed("20260101T000001", old), done()], vec![]));
    }
}
