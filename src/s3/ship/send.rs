//! One file into the bucket: whole where it is small, in parts where it is not, and what a killed run has sent of it
//! is not sent again. A file that changes while it is read is read again.

use super::begun::Begun;
use super::walk::{Found, What};
use crate::s3::pages::{LARGE, Pages};
use crate::s3::store::{Label, Part, Unfinished, Upload};
use crate::s3::{S3Error, Store, mark};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a file may change before it is given up.
const TRIES: usize = 3;

/// Counts, which a person may look at while it works.
#[derive(Debug, Default)]
pub struct Tally {
    /// Objects sent.
    pub sent: AtomicU64,
    /// Bytes sent.
    pub bytes: AtomicU64,
    /// Bytes that an earlier run had sent of files whose upload it did not finish.
    pub resumed: AtomicU64,
    /// Objects that were there already.
    pub same: AtomicU64,
    /// Objects deleted, and unfinished uploads.
    pub deleted: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What is common to all files of a run.
#[derive(Debug)]
pub(super) struct Sender {
    store: Store,
    /// In KiB: what is in memory at once.
    budget: Arc<Semaphore>,
    most: u32,
    tally: Arc<Tally>,
    /// Uploads that earlier runs have begun.
    begun: Mutex<Begun>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            inode: meta.ino(),
        }
    }

    fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|meta| Self::of(&meta))
    }
}

/// File work, away from the loop.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, S3Error> {
    let owned = path.to_owned();
    match tokio::task::spawn_blocking(move || work(&owned)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(S3Error::File {
            what,
            path: path.to_owned(),
            source,
        }),
        Err(failed) => Err(S3Error::Bug(format!("{}: {failed}", path.display()))),
    }
}

impl Sender {
    pub(super) fn new(store: &Store, tally: Arc<Tally>) -> Self {
        let settings = store.settings();
        let parallel = u64::try_from(settings.max_parallel).unwrap_or(1);
        let kib = (parallel + 1).saturating_mul(settings.part_size.div_ceil(1024));
        // A semaphore takes no more; nor has any machine so much.
        let most = u32::try_from(kib).unwrap_or(u32::MAX).min(1 << 28);
        Self {
            store: store.clone(),
            budget: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1 << 28))),
            most,
            tally,
            begun: Mutex::default(),
        }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// So many files are worth having under way: small ones travel four at a time, and reading overlaps sending. What they
    /// take of memory is limited elsewhere.
    pub(super) fn width(&self) -> usize {
        self.store.settings().max_parallel.saturating_mul(8)
    }

    /// Finds what earlier runs have begun below a prefix.
    ///
    /// # Errors
    /// As [`Store::unfinished`].
    pub(super) async fn recall(&self, prefix: &str) -> Result<(), S3Error> {
        let found = self.store.unfinished(prefix).await?;
        self.begun(|begun| begun.found(prefix, found));
        Ok(())
    }

    /// What earlier runs have begun and nobody has taken up: asked when all is sent.
    pub(super) fn abandoned(&self) -> Vec<Unfinished> {
        self.begun(Begun::rest)
    }

    /// Sends nothing; what would be taken up is not abandoned.
    pub(super) fn pretend(&self, key: &str, found: &Found) {
        if found.what == What::File && found.size > self.store.settings().part_size {
            self.begun(|begun| begun.newest(key));
        }
    }

    fn begun<T>(&self, work: impl FnOnce(&mut Begun) -> T) -> T {
        work(&mut self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let kib = kib.clamp(1, self.most);
        // It is never closed.
        self.budget.clone().acquire_many_owned(kib).await.ok()
    }

    /// Sends one file.
    ///
    /// # Errors
    /// The server refuses it or does not answer; the file cannot be read, or never holds still.
    pub(super) async fn send(&self, key: &str, found: &Found) -> Result<(), S3Error> {
        let label = match key.ends_with(".history") {
            true => Label::History,
            false => Label::Plain,
        };
        match &found.what {
            What::Empty => self.store.put(key, Bytes::new(), label).await?,
            What::Link(to) => {
                let text = to.to_string_lossy().into_owned();
                self.store.put(key, Bytes::from(text), label).await?;
            }
            What::File => return self.file(key, &found.path, label).await,
        }
        self.done(found.size);
        Ok(())
    }

    fn done(&self, bytes: u64) {
        add(&self.tally.sent, 1);
        add(&self.tally.bytes, bytes);
    }

    async fn file(&self, key: &str, path: &Path, label: Label) -> Result<(), S3Error> {
        for _ in 0..TRIES {
            let before = blocking("read", path, Stamp::at).await?;
            let after = if before.size > self.store.settings().part_size {
                self.in_parts(key, path, before, label).await?
            } else {
                self.whole(key, path, before, label).await?
            };
            if after == before {
                return Ok(());
            }
            tracing::debug!("{} changed while it was read", path.display());
        }
        Err(S3Error::Unfit(format!(
            "{} changes while it is read, {TRIES} times in a row",
            path.display()
        )))
    }

    async fn whole(
        &self,
        key: &str,
        path: &Path,
        stamp: Stamp,
        label: Label,
    ) -> Result<Stamp, S3Error> {
        let _place = self.reserve(stamp.size).await;
        let (bytes, read) = blocking("read", path, move |path| {
            let file = File::open(path)?;
            let opened = Stamp::of(&file.metadata()?);
            Ok((body(&file, 0, opened.size)?, opened))
        })
        .await?;
        if read != stamp {
            return Ok(read);
        }
        self.store.put(key, bytes, label).await?;
        let after = blocking("read", path, Stamp::at).await?;
        if after == stamp {
            self.done(stamp.size);
        }
        Ok(after)
    }

    async fn in_parts(
        &self,
        key: &str,
        path: &Path,
        stamp: Stamp,
        label: Label,
    ) -> Result<Stamp, S3Error> {
        let (upload, had) = self.taken_up(key, label).await?;
        let size = self.store.part_size(stamp.size);
        let count = usize::try_from(stamp.size.div_ceil(size)).unwrap_or(usize::MAX);
        let file = blocking("read", path, |path| File::open(path)).await?;
        let file = Arc::new(file);
        let parallel = self.store.settings().max_parallel;
        let mut parts = Vec::new();
        let mut flights = FuturesUnordered::new();
        let mut ended = Ok(());
        let mut next = 0;
        loop {
            while ended.is_ok() && next < count && flights.len() <= parallel {
                let at = size.saturating_mul(u64::try_from(next).unwrap_or(u64::MAX));
                let length = size.min(stamp.size.saturating_sub(at));
                let have = had.get(&next).filter(|part| part.size == length);
                flights.push(self.part(&upload, path, file.clone(), (next, at, length), have));
                next += 1;
            }
            match flights.next().await {
                Some(Ok(part)) => parts.extend(part),
                // What is on its way arrives: the next run needs not send it.
                Some(Err(error)) => ended = ended.and(Err(error)),
                None => break,
            }
        }
        drop(flights);
        ended?;
        let after = blocking("read", path, Stamp::at).await?;
        if after != stamp || parts.len() != count {
            upload.abort().await?;
            return Ok(after);
        }
        upload.finish(parts).await?;
        for other in self.begun(|begun| begun.others(key)) {
            self.store.discard(&other).await?;
            add(&self.tally.deleted, 1);
        }
        add(&self.tally.sent, 1);
        Ok(after)
    }

    /// The upload that an earlier run has begun, the newest one, with what the server has of it; or a new one.
    async fn taken_up(
        &self,
        key: &str,
        label: Label,
    ) -> Result<(Upload, HashMap<usize, Part>), S3Error> {
        while let Some(newest) = self.begun(|begun| begun.newest(key)) {
            if let Some(parts) = self.store.parts(&newest).await? {
                let had = parts.into_iter().map(|p| (p.index, p)).collect();
                return Ok((self.store.resume(&newest)?, had));
            }
        }
        Ok((self.store.upload(key, label).await?, HashMap::new()))
    }

    /// `None`: the file is shorter than it was.
    async fn part(
        &self,
        upload: &Upload,
        path: &Path,
        file: Arc<File>,
        (index, at, length): (usize, u64, u64),
        have: Option<&Part>,
    ) -> Result<Option<Part>, S3Error> {
        let _place = self.reserve(length).await;
        let bytes = blocking("read", path, move |_| body(&file, at, length)).await?;
        if u64::try_from(bytes.len()).ok() != Some(length) {
            return Ok(None);
        }
        // The same bytes, or it is sent again: whoever has begun that upload.
        if let Some(part) = have
            && part.etag.trim_matches('"') == mark::of(&bytes)
        {
            add(&self.tally.resumed, length);
            return Ok(Some(part.clone()));
        }
        let part = upload.part(index, bytes).await?;
        add(&self.tally.bytes, length);
        Ok(Some(part))
    }
}

/// Bytes of a file, fewer where it ends.
fn body(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut from = Tail { file, at }.take(length);
    let size = usize::try_from(length).map_err(io::Error::other)?;
    if size < LARGE {
        let mut bytes = Vec::with_capacity(size);
        from.read_to_end(&mut bytes)?;
        return Ok(Bytes::from(bytes));
    }
    let mut bytes = Pages::new(length)?;
    bytes.fill(&mut from)?;
    Ok(Bytes::from_owner(bytes))
}

/// A file from a position on, whoever else reads it.
struct Tail<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(to, self.at)?;
        self.at += u64::try_from(got).map_err(io::Error::other)?;
        Ok(got)
    }
}
