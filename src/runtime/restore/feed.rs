//! WAL for the server that recovers. It asks by `restore_command`, which is this program as postgres's
//! own user; that asks here, over a socket that only postgres and root may open, because barman's files
//! and keys are not postgres's to read. One rule: *there is no such file* is said only when that is
//! certain. A source that does not answer is asked again until the budget is spent; then the answer is a
//! failure, which ends the server rather than the recovery.

use super::ahead::Ahead;
use super::source::{Source, SourceError};
use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::barman::{self, Place};
use crate::config::Config;
use crate::domain::{Fault, History, Lsn, SystemId, Timeline, WalName, human_duration};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Where it answers.
pub(super) fn socket(config: &Config) -> PathBuf {
    config.paths.run_dir.join("restore.sock")
}

/// What it hands out, and on what terms.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) source: Source,
    /// The backup that is being restored: while it is in the catalogue the source is the right one.
    pub(super) anchor: String,
    pub(super) system_id: SystemId,
    pub(super) history: History,
    /// The last segment that was archived when recovery began: up to it none may be missing.
    pub(super) last: WalName,
    /// Histories that were archived then.
    pub(super) histories: Vec<Timeline>,
    /// How long a lost source is asked again.
    pub(super) budget: Duration,
}

/// What has been asked for and given.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The segment that was asked for last.
    pub(super) asked: Option<String>,
    /// The furthest one that was handed over.
    pub(super) newest: Option<u64>,
    /// How often the server asked for what comes after all there is, since it last got something new.
    pub(super) ended: u32,
    /// How often in a row it asked for the same segment again.
    pub(super) again: u32,
    /// Since when the source has not answered, and why.
    pub(super) lost: Option<(Instant, String)>,
    /// Why no more WAL will come.
    pub(super) failure: Option<Fault>,
}

#[derive(Debug)]
struct Shared {
    terms: Arc<Terms>,
    ahead: Ahead,
    seen: Mutex<Seen>,
    partial: Mutex<BTreeSet<u64>>,
}

/// The service; it ends with this.
#[derive(Debug)]
pub(super) struct Feed {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
    path: PathBuf,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody answers there any more.
        drop(crate::sys::remove(&self.path));
    }
}

impl Feed {
    /// Begins to answer.
    pub(super) fn open(
        terms: Terms,
        config: &Config,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, Fault> {
        let path = socket(config);
        let listener =
            bind(&path, owner).map_err(|e| crate::sys::io_fault("make the socket", &path, &e))?;
        let shared = Arc::new(Shared {
            ahead: Ahead::of(&terms.source, terms.last.segment_size),
            terms: Arc::new(terms),
            seen: Mutex::default(),
            partial: Mutex::default(),
        });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            let mut answers = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        let shared = serving.clone();
                        answers.spawn(async move {
                            // Whoever asked may be gone: a server that was told to stop.
                            drop(shared.converse(stream).await);
                        });
                    },
                    Some(_) = answers.join_next() => {}
                }
            }
        });
        Ok(Self { shared, task, path })
    }

    pub(super) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

fn bind(path: &std::path::Path, owner: Option<(u32, u32)>) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    crate::sys::remove(path)?;
    let socket = tokio::net::UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    socket.listen(16)
}

/// The answer to one question.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Got(Vec<u8>),
    Absent,
    Failed(String),
}

/// A name is 24 digits and an ending at most.
const LONGEST_NAME: usize = 100;

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut name = String::new();
        stream.read_line(&mut name).await?;
        let name = name.trim();
        let answer = if name.is_empty() || name.len() > LONGEST_NAME {
            Answer::Failed("that is no name of a WAL file".to_owned())
        } else {
            // A server that was killed asks no more: then nobody is waited for.
            let mut scrap = [0_u8; 1];
            let gone = tokio::io::AsyncReadExt::read(stream.get_mut(), &mut scrap);
            tokio::select! {
                answer = self.answer(name) => answer,
                _ = gone => return Ok(()),
            }
        };
        let stream = stream.get_mut();
        match answer {
            Answer::Got(bytes) => {
                stream
                    .write_all(format!("got {}\n", bytes.len()).as_bytes())
                    .await?;
                stream.write_all(&bytes).await?;
            }
            Answer::Absent => stream.write_all(b"absent\n").await?,
            Answer::Failed(why) => {
                let line = format!("failed {}\n", why.replace('\n', " "));
                stream.write_all(line.as_bytes()).await?;
            }
        }
        stream.shutdown().await
    }

    /// Asks until there is a certain answer or the budget is spent.
    async fn answer(&self, name: &str) -> Answer {
        if let Some(failure) = self.seen().failure.clone() {
            return Answer::Failed(failure.why().to_owned());
        }
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask(name).await {
                Ok(found) => {
                    self.found_again(name);
                    return found.map_or(Answer::Absent, Answer::Got);
                }
                Err(error) if !error.is_lost() => {
                    let fault = error.fault();
                    let why = fault.why().to_owned();
                    self.seen().failure = Some(fault);
                    return Answer::Failed(why);
                }
                Err(error) => {
                    let why = Fault::chain(&error);
                    let budget = self.terms.budget;
                    if began.elapsed() >= budget {
                        let fault = Fault::Transient(format!(
                            "gave up on {name} after {}, the source is lost: {why}; nothing was \
                             opened, the next start begins again",
                            human_duration(budget)
                        ));
                        self.seen().failure = Some(fault);
                        return Answer::Failed(why);
                    }
                    self.lost(name, began, why);
                    tokio::time::sleep(pause.min(budget.saturating_sub(began.elapsed()))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn lost(&self, name: &str, since: Instant, why: String) {
        let mut seen = self.seen();
        if seen.lost.is_none() {
            let budget = human_duration(self.terms.budget);
            tracing::warn!("{name} cannot be had, recovery waits up to {budget}: {why}");
        }
        seen.lost = Some((since, why));
    }

    fn found_again(&self, name: &str) {
        if let Some((since, _)) = self.seen().lost.take() {
            let waited = human_duration(since.elapsed());
            tracing::info!("the source answers again after {waited}: {name}");
        }
    }

    async fn ask(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let terms = &self.terms;
        if let Ok(segment) = WalName::parse(name, terms.last.segment_size) {
            self.seen().asked = Some(name.to_owned());
            return self.segment(name, segment).await;
        }
        let file = terms.source.wal(name, &terms.anchor).await?;
        if file.is_none()
            && History::file_timeline(name).is_some_and(|t| terms.histories.contains(&t))
        {
            return Err(self.vanished(name));
        }
        Ok(file.map(|f| f.bytes))
    }

    /// Up to the last one that was archived none may be missing: where recovery reads it from.
    fn is_due(&self, segment: &WalName) -> bool {
        let last_byte = Lsn(segment.end().0.saturating_sub(1));
        segment.number <= self.terms.last.number
            && self.terms.history.timeline_at(last_byte) == segment.timeline
    }

    fn vanished(&self, name: &str) -> SourceError {
        let why = "it was archived when recovery began, and is not there now";
        SourceError::Barman(barman::SourceError::Lost {
            source_name: self.terms.source.to_string(),
            doing: name.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, why),
        })
    }

    async fn segment(&self, name: &str, segment: WalName) -> Result<Option<Vec<u8>>, SourceError> {
        let terms = &self.terms;
        let due = self.is_due(&segment);
        let Some(mut wal) = self.ahead.segment(terms, segment).await? else {
            return if due {
                Err(self.vanished(name))
            } else {
                Ok(self.nothing())
            };
        };
        if matches!(wal.place, Place::Partial | Place::ArchivedPartial) {
            if due {
                return Err(self.vanished(name));
            }
            // The rest of it is zeros. It is given once: what was given is in pg_wal.
            let given = !self.partial().insert(segment.number);
            if barman::is_blank(&wal.bytes) || given {
                return Ok(self.nothing());
            }
            let whole = usize::try_from(segment.segment_size).unwrap_or(usize::MAX);
            if wal.bytes.len() < whole {
                wal.bytes.resize(whole, 0);
            }
        }
        barman::check_segment(&wal.bytes, &segment, terms.system_id).map_err(|e| {
            SourceError::Barman(barman::SourceError::Unusable {
                what: format!("{e} ({}, {})", terms.source, wal.place),
            })
        })?;
        let mut seen = self.seen();
        if seen.newest.is_none_or(|n| n < segment.number) {
            seen.newest = Some(segment.number);
            (seen.ended, seen.again) = (0, 0);
        } else {
            seen.again += 1;
        }
        Ok(Some(wal.bytes))
    }

    fn partial(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After all there is.
    fn nothing(&self) -> Option<Vec<u8>> {
        let mut seen = self.seen();
        seen.ended += 1;
        seen.again = 0;
        None
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
