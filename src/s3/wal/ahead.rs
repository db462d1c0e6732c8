//! Archiving ahead of the postmaster's requests. It asks for one file after the other and waits for each; meanwhile those that
//! wait in `archive_status` are archived too, and their success is remembered until it asks for them.

use super::{Agent, Pushed};
use crate::domain::{ArchiveHealth, Fault};
use crate::s3::layout::{WalKind, kind};
use crate::sys::now_ms;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A listing of `archive_status` serves for so long.
const FRESH: Duration = Duration::from_secs(1);
/// So many successes are remembered: the postmaster catches up in a second or two.
const REMEMBERED: usize = 200;
/// When it has not asked for so long, nothing more is done ahead.
const QUIET: Duration = Duration::from_secs(120);

type Ended = Option<Result<(), Fault>>;

/// The files that are under way, and what came of those before.
#[derive(Debug)]
pub(super) struct Ahead {
    agent: Agent,
    window: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, watch::Receiver<Ended>>,
    done: BTreeSet<String>,
    ready: VecDeque<PathBuf>,
    listed: Option<Instant>,
    asked: Option<Instant>,
    health: ArchiveHealth,
    /// Since when the archive could not be claimed, milliseconds since the epoch, and why.
    unclaimed: Option<(u64, String)>,
    /// The same of a bucket that has not answered yet.
    silent: Option<(u64, String)>,
}

impl Ahead {
    pub(super) fn new(agent: Agent) -> Self {
        // Two more than travel: they are packed meanwhile.
        let window = agent.archive().store().settings().max_parallel + 2;
        Self {
            agent,
            window,
            state: Mutex::default(),
        }
    }

    pub(super) const fn agent(&self) -> &Agent {
        &self.agent
    }

    pub(super) fn health(&self) -> ArchiveHealth {
        let state = self.state();
        let mut health = state.health.clone();
        // What the postmaster was told is newer.
        let before = state.unclaimed.as_ref().or(state.silent.as_ref());
        if let (None, Some((since, why))) = (health.failing_since_ms, before) {
            (health.failing_since_ms, health.why) = (Some(*since), Some(why.clone()));
        }
        health
    }

    /// Why the bucket has not answered yet; `None`: it has.
    pub(super) fn silent(&self, why: Option<&str>) {
        let silent = &mut self.state().silent;
        let since = silent.take().map(|s| s.0);
        *silent = why.map(|why| (since.unwrap_or_else(now_ms), why.to_owned()));
    }

    /// Sees to it that the archive is this cluster's before there is anything to archive, so that a wrong place shows at
    /// once. What it came to counts until the postmaster has archived something.
    pub(super) async fn claim(&self) -> Result<(), Fault> {
        let claimed = self.agent.claim().await;
        let claimed = claimed.map(drop).map_err(|e| e.fault());
        let mut state = self.state();
        state.unclaimed = match &claimed {
            Ok(()) => None,
            Err(fault) => {
                let since = state.unclaimed.take().map_or_else(now_ms, |u| u.0);
                Some((since, fault.why().to_owned()))
            }
        };
        claimed
    }

    /// Archives the file that the postmaster asks for.
    pub(super) async fn push(self: &Arc<Self>, path: &Path) -> Result<(), Fault> {
        let name = name(path);
        let under_way = {
            let mut state = self.state();
            state.asked = Some(Instant::now());
            if state.done.remove(&name) {
                drop(state);
                self.look_ahead(path.parent());
                self.judged(&Ok(()));
                return Ok(());
            }
            state.running.get(&name).cloned()
        };
        let joined = under_way.is_some();
        let mut ended = under_way.unwrap_or_else(|| self.start(path));
        self.look_ahead(path.parent());
        let mut result = outcome(&mut ended).await;
        // It was begun ahead and failed: that counts for nothing now that it is asked for.
        if joined && result.is_err() {
            result = outcome(&mut self.start(path)).await;
        }
        self.state().done.remove(&name);
        self.judged(&result);
        result
    }

    fn judged(&self, result: &Result<(), Fault>) {
        let mut state = self.state();
        if result.is_ok() {
            (state.unclaimed, state.silent) = (None, None);
        }
        let health = &mut state.health;
        match result {
            Ok(()) => (health.failing_since_ms, health.why) = (None, None),
            Err(fault) => {
                health.failing_since_ms.get_or_insert_with(now_ms);
                health.why = Some(fault.why().to_owned());
            }
        }
    }

    fn start(self: &Arc<Self>, path: &Path) -> watch::Receiver<Ended> {
        let (tell, hear) = watch::channel(None);
        let (name, path) = (name(path), path.to_owned());
        self.state().running.insert(name.clone(), hear.clone());
        let this = self.clone();
        tokio::spawn(async move {
            let pushed = this.agent.push(&path).await;
            let result = this.ended(&name, pushed.map_err(|e| e.fault()));
            let go_on = result.is_ok();
            tell.send_replace(Some(result));
            if go_on {
                this.look_ahead(path.parent());
            }
        });
        hear
    }

    fn ended(&self, name: &str, pushed: Result<Pushed, Fault>) -> Result<(), Fault> {
        let mut state = self.state();
        state.running.remove(name);
        let pushed = pushed?;
        state.done.insert(name.to_owned());
        let health = &mut state.health;
        if let Pushed::Stored(bytes) = pushed {
            health.bytes += bytes;
        }
        health.archived += 1;
        health.last = Some(name.to_owned());
        health.last_ms = Some(now_ms());
        Ok(())
    }

    /// Begins with what waits, oldest first.
    fn look_ahead(self: &Arc<Self>, pg_wal: Option<&Path>) {
        let Some(pg_wal) = pg_wal else { return };
        loop {
            let next = {
                let mut state = self.state();
                let quiet = state.asked.is_none_or(|at| at.elapsed() > QUIET);
                if quiet || state.running.len() >= self.window || state.done.len() >= REMEMBERED {
                    return;
                }
                state.next(pg_wal)
            };
            match next {
                Some(path) => drop(self.start(&path)),
                None => return,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next file that waits and that nobody is at.
    fn next(&mut self, pg_wal: &Path) -> Option<PathBuf> {
        if self.ready.is_empty() && self.listed.is_none_or(|at| at.elapsed() > FRESH) {
            let ready = ready(pg_wal);
            // What the postmaster no longer waits for it will not ask for.
            let waiting: BTreeSet<&str> = ready.iter().map(String::as_str).collect();
            self.done.retain(|name| waiting.contains(name.as_str()));
            self.ready = ready.iter().map(|name| pg_wal.join(name)).collect();
            self.listed = Some(Instant::now());
        }
        while let Some(path) = self.ready.pop_front() {
            let name = name(&path);
            if !self.running.contains_key(&name) && !self.done.contains(&name) {
                return Some(path);
            }
        }
        None
    }
}

async fn outcome(ended: &mut watch::Receiver<Ended>) -> Result<(), Fault> {
    match ended.wait_for(Option::is_some).await {
        Ok(ended) => ended.clone().unwrap_or(Ok(())),
        Err(_) => Err(Fault::Bug("archiving ended without a result".to_owned())),
    }
}

/// Segments that wait to be archived, oldest first. Those of the newest timeline come last, as PostgreSQL has it.
pub(super) fn ready(pg_wal: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(pg_wal.join("archive_status")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let name = name.strip_suffix(".ready")?;
            (kind(name) == Some(WalKind::Segment)).then(|| name.to_owned())
        })
        .collect();
    names.sort_unstable();
    names
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
