//! A base backup, from the begin to the moment at which it can be restored. Its `backup.info` says DONE only when all
//! archives and all WAL from begin to end are in the bucket; until then there is none, so that no reader takes it for
//! a backup. When it fails there are no archives, and what says so is a file that only we read.

use super::catalogue::{Catalogue, FAILED, INFO};
use super::copy::{Copied, Copier, Plan};
use super::info::{Info, Mark};
use super::marker::{MARKER, Marker};
use super::server::Primary;
use super::upload;
use crate::domain::{Fault, SystemId, WalName};
use crate::s3::S3Error;
use crate::s3::store::{Label, Walk};
use crate::s3::wal::{Archive as Wals, Claim};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// This node's name.
    pub node: String,
    /// `PGDATA`.
    pub pgdata: PathBuf,
    /// A name for the backup.
    pub name: Option<String>,
    /// Whether the checkpoint at its begin is made at once (`BARMAN_IMMEDIATE_CHECKPOINT`).
    pub fast: bool,
    /// Compressed bytes after which an archive is continued in a next part; [`Order::LONGEST`].
    pub longest: u64,
}

impl Order {
    /// barman-cloud's own limit (`--max-archive-size`), in bytes.
    pub const LONGEST: u64 = 100_000_000_000;
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has been done yet.
    Begin,
    /// A checkpoint is made.
    Checkpoint,
    /// Files are copied: bytes so far, and about how many there are.
    Copy {
        /// So far.
        bytes: u64,
        /// About.
        of: u64,
    },
    /// Everything is copied, and this segment is not in the bucket yet.
    Wal {
        /// The first that is missing.
        segment: WalName,
        /// Why it is not there, where the server knows.
        why: Option<String>,
    },
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its id.
    pub id: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Between two looks for WAL.
const PACE: Duration = Duration::from_secs(1);
/// Looks until WAL is pushed once more.
const PUSH_EVERY: u32 = 30;
/// Between two looks after the server and the progress.
const LOOK: Duration = Duration::from_secs(1);
/// How long the WAL of its end may take. As long as it takes WAL is not archived, and that is the alarm.
const WAIT: Duration = Duration::from_secs(6 * 3600);

/// Makes a backup; the caller holds [`Primary::lock`]. `stop` ends it early, as a failure. Whatever happens, nothing of
/// an unfinished upload is left but by a kill.
///
/// # Errors
/// [`S3Error`].
pub async fn take(
    catalogue: &Catalogue,
    primary: &Primary,
    order: &Order,
    stage: &watch::Sender<Stage>,
    stop: impl Future<Output = ()>,
) -> Result<Taken, S3Error> {
    let mut info = primary.describe(&order.pgdata).await?;
    claim_of(catalogue, &info).await?;
    info.name.clone_from(&order.name);
    let id = take_id(catalogue, primary, order).await?;
    let work = make(catalogue, primary, order, &id, &mut info, stage);
    let stopped = || S3Error::Unfit("the backup was stopped".to_owned());
    let ended = tokio::select! {
        ended = work => ended,
        () = stop => Err(stopped()),
    };
    match ended {
        Ok(taken) => Ok(taken),
        Err(error) => {
            fail(catalogue, &id, info, &error).await;
            Err(error)
        }
    }
}

/// Sees to it that the place is this cluster's: before anything is changed in it.
///
/// # Errors
/// [`S3Error`]: it is another's, or nobody can say whose.
pub async fn claim(catalogue: &Catalogue, primary: &Primary, pgdata: &Path) -> Result<(), S3Error> {
    let archive = claim_of(catalogue, &primary.describe(pgdata).await?).await?;
    archive.forget_tries().await
}

async fn claim_of(catalogue: &Catalogue, info: &Info) -> Result<Wals, S3Error> {
    let archive = Wals::new(catalogue.store.clone(), catalogue.layout.server());
    let garbled = |_| S3Error::Bug(format!("{} is no system identifier", info.system_id));
    let claim = Claim {
        cluster: SystemId(info.system_id.parse().map_err(garbled)?),
        segment_size: info.segment_size,
    };
    archive.claim(claim).await?;
    Ok(archive)
}

/// An id that nobody has, with a mark that it is ours.
async fn take_id(
    catalogue: &Catalogue,
    primary: &Primary,
    order: &Order,
) -> Result<String, S3Error> {
    loop {
        let now = chrono::Local::now();
        let id = now.format("%Y%m%dT%H%M%S").to_string();
        let prefix = catalogue.layout.base(&id, "");
        let there = catalogue
            .store
            .page(&Walk::below(prefix), None, Some(1))
            .await?;
        if there.objects.is_empty() {
            let marker = Marker {
                node: order.node.clone(),
                system_id: primary.system_id().to_owned(),
                timeline: primary.timeline().0,
                begin_ms: u64::try_from(now.timestamp_millis()).unwrap_or(0),
            };
            put(catalogue, &id, MARKER, marker.text()).await?;
            return Ok(id);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn make(
    catalogue: &Catalogue,
    primary: &Primary,
    order: &Order,
    id: &str,
    info: &mut Info,
    stage: &watch::Sender<Stage>,
) -> Result<Taken, S3Error> {
    stage.send_replace(Stage::Checkpoint);
    let begin = primary.start(id, order.fast).await?;
    info.begin = Some(begin);
    info.tablespaces = primary.tablespaces().await?;
    let (end, label, copied) = copy(catalogue, primary, order, id, info, begin, stage).await?;
    info.end = Some(end);
    info.label = Some(label);
    info.size = Some(copied.bytes);
    let span = (info.segment(&begin), info.segment(&end));
    wait(catalogue, primary, id, span, stage).await?;
    primary.alive().await?;
    put(catalogue, id, INFO, info.text()).await?;
    // The lock may have gone while the server took its time, and another may have swept what looked dead.
    if primary.alive().await.is_err() && !is_whole(catalogue, id).await? {
        let info = catalogue.layout.base(id, INFO);
        catalogue.store.delete(&[info]).await?;
        let why =
            "the server closed while the backup's last file was stored, and its archives are gone";
        return Err(S3Error::Unfit(why.to_owned()));
    }
    // It is made; that it is not being made any longer is only said.
    let marker = catalogue.layout.base(id, MARKER);
    drop(catalogue.store.delete(&[marker]).await);
    Ok(Taken {
        id: id.to_owned(),
        bytes: copied.bytes,
    })
}

/// Whether every archive that it needs is there.
async fn is_whole(catalogue: &Catalogue, id: &str) -> Result<bool, S3Error> {
    let shelf = catalogue.finished().await?;
    Ok(shelf.entry(id).is_some_and(super::Entry::is_sound))
}

async fn copy(
    catalogue: &Catalogue,
    primary: &Primary,
    order: &Order,
    id: &str,
    info: &Info,
    begin: Mark,
    stage: &watch::Sender<Stage>,
) -> Result<(Mark, String, Copied), S3Error> {
    let plan = plan(catalogue, primary, order, id, info).await?;
    let (plan, of) = plan;
    let read = Arc::new(AtomicU64::new(0));
    // With the parts on their way, and the two that are being filled, this is all that is in memory.
    let (to, mut pieces) = mpsc::channel(1);
    let counter = read.clone();
    let work = async {
        let copier = blocking(move || Copier::begin(plan, to, counter)?.copy()).await?;
        let (end, label) = primary.stop(begin.timeline).await?;
        let text = label.clone();
        let copied = blocking(move || copier.finish(&text)).await?;
        primary.push_wal(id).await?;
        Ok((end, label, copied))
    };
    let look = async {
        let mut pace = tokio::time::interval(LOOK);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let bytes = read.load(Ordering::Relaxed);
            stage.send_replace(Stage::Copy { bytes, of });
            // A server that closes ends the backup: there is no point in going on.
            if let Err(error) = primary.alive().await {
                return error;
            }
        }
    };
    let send = upload::send(catalogue, id, &mut pieces);
    let both = async { tokio::try_join!(work, send) };
    tokio::select! {
        ended = both => ended.map(|(made, ())| made),
        error = look => Err(error),
    }
}

/// What to copy, and about how many bytes that is.
async fn plan(
    catalogue: &Catalogue,
    primary: &Primary,
    order: &Order,
    id: &str,
    info: &Info,
) -> Result<(Plan, u64), S3Error> {
    let roots: Vec<PathBuf> = std::iter::once(&info.pgdata)
        .chain(info.tablespaces.iter().map(|t| &t.location))
        .cloned()
        .collect();
    let of = blocking(move || {
        let size = |root: &PathBuf| {
            crate::sys::dir_size(root).map_err(|source| S3Error::File {
                what: "measure",
                path: root.clone(),
                source,
            })
        };
        let all = roots.iter().map(size).sum::<Result<u64, S3Error>>()?;
        // WAL is archived, not copied.
        let wal = roots.first().map(|pgdata| size(&pgdata.join("pg_wal")));
        Ok(all.saturating_sub(wal.transpose()?.unwrap_or(0)))
    })
    .await?;
    let outside = [&info.config_file, &info.hba_file, &info.ident_file];
    let outside = outside.into_iter().flatten().map(PathBuf::from);
    let settings = catalogue.store.settings();
    let part_size = catalogue
        .store
        .part_size(of.min(order.longest.saturating_mul(2)));
    let plan = Plan {
        id: id.to_owned(),
        system_id: info.system_id.clone(),
        pgdata: info.pgdata.clone(),
        tablespaces: info.tablespaces.clone(),
        major: primary.major(),
        outside: outside.filter(|f| !f.starts_with(&info.pgdata)).collect(),
        codec: settings.base_codec,
        part_size: usize::try_from(part_size).unwrap_or(usize::MAX),
        longest: order.longest,
    };
    Ok((plan, of))
}

/// Waits until all WAL of the backup is in the bucket.
async fn wait(
    catalogue: &Catalogue,
    primary: &Primary,
    id: &str,
    (first, last): (WalName, WalName),
    stage: &watch::Sender<Stage>,
) -> Result<(), S3Error> {
    let began = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What is there stays there: only the rest is looked for again.
    let mut from = first;
    for round in 1_u32.. {
        pace.tick().await;
        let Some(missing) = catalogue.missing(from, last).await? else {
            return Ok(());
        };
        from = missing;
        let why = primary.archiver_says().await;
        if began.elapsed() > WAIT {
            let why = why.map(|w| format!(": {w}")).unwrap_or_default();
            return Err(S3Error::Unfit(format!(
                "WAL segment {missing}, which the backup needs, did not come into the bucket within {} h{why}",
                WAIT.as_secs() / 3600
            )));
        }
        stage.send_replace(Stage::Wal {
            segment: missing,
            why,
        });
        match round % PUSH_EVERY {
            0 => primary.push_wal(id).await?,
            _ => primary.alive().await?,
        }
    }
    Ok(())
}

/// Says in the bucket that it failed, once nothing of it is left that a reader could take for a backup.
async fn fail(catalogue: &Catalogue, id: &str, mut info: Info, error: &S3Error) {
    let why = error.fault().why().to_owned();
    info.error = Some(format!("failure uploading data ({why})"));
    let work = async {
        let prefix = catalogue.layout.base(id, "");
        for upload in catalogue.store.unfinished(&prefix).await? {
            catalogue.store.discard(&upload).await?;
        }
        let marker = catalogue.layout.base(id, MARKER);
        let there = catalogue.store.list(&Walk::below(prefix)).await?;
        let keys: Vec<String> = there.objects.into_iter().map(|o| o.key).collect();
        let (_, rest): (Vec<String>, Vec<String>) = keys.into_iter().partition(|k| *k == marker);
        catalogue.store.delete(&rest).await?;
        put(catalogue, id, FAILED, info.text()).await?;
        catalogue.store.delete(&[marker]).await
    };
    if let Err(error) = work.await {
        // The next backup finds it by its mark.
        let why = Fault::chain(&error);
        tracing::warn!(backup = id, "the failed backup was not cleaned up: {why}");
    }
}

async fn put(catalogue: &Catalogue, id: &str, name: &str, text: String) -> Result<(), S3Error> {
    let key = catalogue.layout.base(id, name);
    catalogue
        .store
        .put(&key, Bytes::from(text), Label::Plain)
        .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, S3Error> + Send + 'static,
) -> Result<T, S3Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(S3Error::Bug(format!("a backup's copy: {error}"))),
    }
}
