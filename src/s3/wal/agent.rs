//! A cluster's own hand at its archive: from its data directory into the bucket, and from the bucket into a file.

use super::{Archive, Claim, Pushed, Room, cluster_of};
use crate::barman::{self, HEADER};
use crate::config::Kept;
use crate::domain::{History, SystemId, Timeline, WalName, millis};
use crate::pg;
use crate::s3::{S3Error, Store};
use crate::sys::now_ms;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Memory for packed files. With two that are being packed and what a connection buffers, the process stays below 64 MiB.
const ROOM: u32 = 36 << 20;
/// More cores than this are not taken from the server.
const PACKERS: usize = 2;
/// A standby has its primary: it waits no longer for a bucket.
const STANDBY_RETRY: Duration = Duration::from_secs(1);
const STANDBY_LIMIT: Duration = Duration::from_secs(5);
/// A server that stops waits so long for a bucket in which nothing arrives, and looks so often whether it stops.
const STOPPING_LIMIT: Duration = Duration::from_secs(3);
const STOPPING_LOOK: Duration = Duration::from_millis(200);

/// How long to try for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// `S3_RETRY`: a recovery has no other source.
    Recovery,
    /// Seconds: a standby goes on with its primary, and asks again.
    Standby,
}

/// Does the work for one data directory.
#[derive(Debug)]
pub struct Agent {
    archive: Archive,
    hasty: Archive,
    pgdata: PathBuf,
    room: Room,
    claim: Mutex<Option<Claim>>,
    /// Timelines whose histories are in the bucket.
    told: Mutex<BTreeSet<Timeline>>,
    /// The cluster that the archive was seen to belong to.
    confirmed: Mutex<Option<SystemId>>,
    /// How long a server that stops may archive.
    closing: Duration,
    /// When a file was last archived, in milliseconds since 1970.
    archived: AtomicU64,
}

impl Agent {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(kept: &Kept) -> Result<Self, S3Error> {
        let store = Store::open(&kept.s3)?;
        let hasty = store.with_retry(kept.s3.retry.min(STANDBY_RETRY));
        Ok(Self {
            archive: Archive::new(store, &kept.server),
            hasty: Archive::new(hasty, &kept.server),
            pgdata: kept.pgdata.clone(),
            room: Room::new(ROOM, PACKERS),
            claim: Mutex::default(),
            told: Mutex::default(),
            confirmed: Mutex::default(),
            closing: kept.closing,
            archived: AtomicU64::new(0),
        })
    }

    /// Where segments are put that nobody has asked for yet: beside those that are in use, under a name that base
    /// backups and pg_rewind leave out.
    #[must_use]
    pub fn shelf(&self) -> PathBuf {
        self.pgdata.join("pg_wal/pgsql_tmp.pgnode-wal")
    }

    /// A segment of this cluster by its name; `None` for other files.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<WalName> {
        let cluster = cluster_of(&self.pgdata).ok()?;
        let size = segment_size(&self.pgdata.join("pg_wal"), cluster);
        WalName::parse(name, size.unwrap_or(WalName::DEFAULT_SEGMENT_SIZE)).ok()
    }

    /// The archive.
    #[must_use]
    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Sees to it that the archive is this cluster's; asks the server once.
    ///
    /// # Errors
    /// As [`Archive::claim`]; the data directory cannot be read.
    pub async fn claim(&self) -> Result<Claim, S3Error> {
        let cluster = cluster_of(&self.pgdata)?;
        let mut claim = self.claim.lock().await;
        // It may have been cloned anew, from another cluster.
        if let Some(claim) = *claim
            && claim.cluster == cluster
        {
            return Ok(claim);
        }
        let segment_size = segment_size(&self.pgdata.join("pg_wal"), cluster)?;
        let ours = Claim {
            cluster,
            segment_size,
        };
        let made = self.archive.claim(ours).await?;
        *claim = Some(made);
        Ok(made)
    }

    /// Archives one file of `pg_wal`; on the way back it is durable.
    ///
    /// A server that stops waits for its archiver at the very end, and would be killed if that waited for the bucket as long
    /// as ever: what does not arrive soon is archived after the next start.
    ///
    /// # Errors
    /// As [`Archive::push`] and [`Agent::claim`]; [`S3Error::Busy`]: the server stops.
    pub async fn push(&self, path: &Path) -> Result<Pushed, S3Error> {
        tokio::select! {
            biased;
            () = self.has_to_end() => {
                let name = path.file_name().unwrap_or_default();
                Err(S3Error::Busy(format!(
                    "{} is not archived now: the server stops, and archives it after its next start",
                    name.display()
                )))
            }
            pushed = self.push_patiently(path) => {
                if pushed.is_ok() {
                    self.archived.store(now_ms(), Ordering::Relaxed);
                }
                pushed
            }
        }
    }

    /// Ends when a server that stops can wait no longer.
    async fn has_to_end(&self) {
        loop {
            if let Some(since) = pg::waits_for_archiver(&self.pgdata) {
                let archived = self.archived.load(Ordering::Relaxed);
                if now_ms() >= last_call(since, archived, self.closing) {
                    return;
                }
            }
            tokio::time::sleep(STOPPING_LOOK).await;
        }
    }

    async fn push_patiently(&self, path: &Path) -> Result<Pushed, S3Error> {
        let claim = self.claim().await?;
        self.tell_history(claim, path).await?;
        self.archive.push(claim, path, &self.room).await
    }

    /// A timeline's history comes before its segments. PostgreSQL archives it first too, but not where the timeline began
    /// while nothing was archived, as in a restore.
    async fn tell_history(&self, claim: Claim, path: &Path) -> Result<(), S3Error> {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let Ok(segment) = WalName::parse(name, claim.segment_size) else {
            return Ok(());
        };
        let mut told = self.told.lock().await;
        if segment.timeline.0 <= 1 || told.contains(&segment.timeline) {
            return Ok(());
        }
        let history = path.with_file_name(History::file_name(segment.timeline));
        if history.try_exists().unwrap_or(false) {
            self.archive.push(claim, &history, &self.room).await?;
        }
        told.insert(segment.timeline);
        Ok(())
    }

    /// Fetches one file, and puts it whole where it belongs; `false`: there is none.
    ///
    /// A standby gets no history from the bucket: its timeline is its primary's word, and the archive may know of timelines
    /// that this cluster left.
    ///
    /// # Errors
    /// As [`Archive::fetch`]; the archive is another cluster's, or is not there at all.
    pub async fn fetch(&self, name: &str, to: &Path, how: Patience) -> Result<bool, S3Error> {
        match how {
            Patience::Recovery => self.fetch_from(&self.archive, name, to).await,
            Patience::Standby if History::file_timeline(name).is_some() => Ok(false),
            Patience::Standby => {
                let fetch = self.fetch_from(&self.hasty, name, to);
                match tokio::time::timeout(STANDBY_LIMIT, fetch).await {
                    Ok(ended) => ended,
                    Err(_) => Err(S3Error::Busy(format!(
                        "{name}: no answer within {} s; the standby goes on with its primary",
                        STANDBY_LIMIT.as_secs()
                    ))),
                }
            }
        }
    }

    async fn fetch_from(&self, archive: &Archive, name: &str, to: &Path) -> Result<bool, S3Error> {
        let cluster = cluster_of(&self.pgdata)?;
        let mut new = to.as_os_str().to_owned();
        new.push(".pgnode-new");
        let new = PathBuf::from(new);
        let fetched = archive.fetch_into(name, cluster, &new).await;
        // Renamed when it is whole. It is not synced: the server syncs what it keeps (`KeepFileRestoredFromArchive`).
        let placed = match fetched {
            Ok(true) => std::fs::rename(&new, to)
                .map(|()| true)
                .map_err(|source| S3Error::File {
                    what: "write",
                    path: to.to_owned(),
                    source,
                }),
            other => other,
        };
        if placed.is_err() {
            // What is there of it must not fill the disk.
            drop(std::fs::remove_file(&new));
        }
        if placed? {
            return Ok(true);
        }
        // *Not there* ends a recovery: only an archive that is ours may say it.
        let mut confirmed = self.confirmed.lock().await;
        if *confirmed != Some(cluster) {
            archive.must_be_of(cluster).await?;
            *confirmed = Some(cluster);
        }
        Ok(false)
    }
}

/// Until when a server archives that stops since `since`: as long as files arrive, but for `closing` at most.
fn last_call(since: u64, archived: u64, closing: Duration) -> u64 {
    let patience = since.max(archived).saturating_add(millis(STOPPING_LIMIT));
    patience.min(since.saturating_add(millis(closing)))
}

/// Bytes of the segments in `pg_wal`, by the header of one of them.
fn segment_size(pg_wal: &Path, cluster: SystemId) -> Result<u64, S3Error> {
    let failed = |source| S3Error::File {
        what: "read",
        path: pg_wal.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(pg_wal).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if crate::s3::layout::kind(name) != Some(crate::s3::layout::WalKind::Segment) {
            continue;
        }
        let mut head = [0; HEADER];
        // It may be renamed or be empty at this moment.
        let read = std::fs::File::open(&path).and_then(|mut file| file.read_exact(&mut head));
        if let (Ok(()), Some(origin)) = (read, barman::origin(&head))
            && origin.cluster == cluster
            && WalName::is_segment_size(origin.segment_size)
        {
            return Ok(origin.segment_size);
        }
    }
    Err(S3Error::Unfit(format!(
        "{} holds no segment of cluster {cluster}",
        pg_wal.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stops_archives_as_long_as_files_arrive_and_never_too_long() {
        let closing = Duration::from_secs(22);
        // Nothing has arrived since, or never.
        assert_eq!(last_call(100_000, 0, closing), 103_000);
        assert_eq!(last_call(100_000, 90_000, closing), 103_000);
        assert_eq!(last_call(100_000, 110_000, closing), 113_000);
        assert_eq!(last_call(100_000, 121_000, closing), 122_000);
        assert_eq!(last_call(100_000, 0, Duration::from_secs(1)), 101_000);
    }
}
