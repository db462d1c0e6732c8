//! `barman receive-wal` as a child of ours: it holds barman's lock, so that cron leaves it alone, and its
//! end is an event.

use crate::barman::Client;
use crate::domain::Fault;
use crate::plan::keeper::Receiver;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// It runs until something ends it.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The receiver of one cluster.
#[derive(Debug, Default)]
pub(super) struct Running {
    task: Option<(JoinHandle<String>, Instant)>,
    failures: u32,
    ended: Option<Instant>,
}

impl Running {
    pub(super) fn seen(&self) -> Receiver {
        match &self.task {
            Some((_, since)) => Receiver::Running(since.elapsed()),
            None => Receiver::Stopped {
                failures: self.failures,
                ago: self.ended.map(|at| at.elapsed()),
            },
        }
    }

    /// Starts it; what it prints is also in barman's log, so only its last words are kept.
    pub(super) fn start(&mut self, client: &Client) {
        if self.task.is_some() {
            return;
        }
        let (children, spec) = (client.children.clone(), client.receive_wal());
        let task = tokio::spawn(async move {
            match children.run(spec, FOR_EVER).await {
                Ok(end) => format!("{}: {}", end.exit, end.last_words()),
                Err(error) => Fault::chain(&error),
            }
        });
        self.task = Some((task, Instant::now()));
    }

    /// It was seen to receive: what failed before is forgotten.
    pub(super) const fn receives(&mut self) {
        self.failures = 0;
    }

    /// Ends it.
    pub(super) fn kick(&mut self) {
        if let Some((task, _)) = self.task.take() {
            // Dropped with its task, the child gets TERM, and KILL after a moment.
            task.abort();
            self.over();
        }
    }

    /// Its end, in words; waits for ever where none runs.
    pub(super) async fn ended(&mut self) -> String {
        let how = match &mut self.task {
            Some((task, _)) => task
                .await
                .unwrap_or_else(|_| "its task panicked".to_owned()),
            None => std::future::pending().await,
        };
        self.task = None;
        self.over();
        how
    }

    fn over(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.ended = Some(Instant::now());
    }
}
