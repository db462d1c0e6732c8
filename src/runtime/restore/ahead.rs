//! Segments that recovery will ask for next, fetched while it replays. From a bucket each is a request that waits for
//! the network; recovery asks for one at a time. What went wrong ahead is nothing yet: it is asked for again when it
//! is due, by the rules of the feed.

use super::feed::Terms;
use super::source::{Source, SourceError};
use crate::barman::Wal;
use crate::domain::WalName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

type Fetched = Result<Option<Wal>, SourceError>;

/// Bytes of segments that may wait, and how many at most.
const BYTES: u64 = 64 << 20;
const MOST: u64 = 4;

/// What is on its way, by number.
#[derive(Debug)]
pub(super) struct Ahead {
    most: u64,
    begun: Mutex<BTreeMap<u64, (WalName, JoinHandle<Fetched>)>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        for (_, task) in self.begun().values() {
            task.abort();
        }
    }
}

impl Ahead {
    /// Nothing is fetched ahead from a barman: it is near, or its ssh connection is one.
    pub(super) fn of(source: &Source, segment_size: u64) -> Self {
        let most = match source {
            Source::Bucket { .. } => (BYTES / segment_size).min(MOST),
            Source::Barman(_) => 0,
        };
        Self {
            most,
            begun: Mutex::default(),
        }
    }

    /// A segment; those after it are begun.
    pub(super) async fn segment(&self, terms: &Arc<Terms>, segment: WalName) -> Fetched {
        let mine = self.take(&segment);
        self.begin(terms, segment);
        if let Some(task) = mine
            && let Ok(Ok(Some(wal))) = task.await
        {
            return Ok(Some(wal));
        }
        terms.source.wal(&segment.to_string(), &terms.anchor).await
    }

    /// PostgreSQL asks for a number on each of its timelines, the newest first.
    fn take(&self, segment: &WalName) -> Option<JoinHandle<Fetched>> {
        let mut begun = self.begun();
        let (name, _) = begun.get(&segment.number)?;
        if name != segment {
            return None;
        }
        begun.remove(&segment.number).map(|(_, task)| task)
    }

    fn begin(&self, terms: &Arc<Terms>, segment: WalName) {
        let mut begun = self.begun();
        let wanted = segment.number + 1..=(segment.number + self.most).min(terms.last.number);
        begun.retain(|number, (_, task)| {
            let keep = *number == segment.number || wanted.contains(number);
            if !keep {
                task.abort();
            }
            keep
        });
        for number in wanted {
            // On the timeline that replay will read it from.
            let name = terms.history.segment(WalName { number, ..segment });
            begun.entry(number).or_insert_with(|| {
                let terms = terms.clone();
                let fetch = async move { terms.source.wal(&name.to_string(), &terms.anchor).await };
                (name, tokio::spawn(fetch))
            });
        }
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<u64, (WalName, JoinHandle<Fetched>)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
