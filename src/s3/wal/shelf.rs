//! Segments fetched before they are asked for. A server that recovers asks for one after the other, and replays each before
//! it asks for the next; meanwhile those that follow are put here.

use super::ahead::Ahead;
use super::{Agent, Patience};
use crate::domain::WalName;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// When nobody has asked for so long, the shelf is emptied.
const QUIET: Duration = Duration::from_secs(60);

/// `None`: under way; else whether it is here.
type There = Option<bool>;

#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: HashMap<String, watch::Receiver<There>>,
    asked: Option<Instant>,
}

impl Shelf {
    pub(super) fn new(dir: PathBuf) -> Self {
        // What an earlier worker has left. It is made when it is needed.
        drop(std::fs::remove_dir_all(&dir));
        Self {
            dir,
            state: Mutex::default(),
        }
    }

    /// Hands a segment over that is here, or on its way; `false`: it has to be fetched.
    pub(super) async fn take(&self, name: &str, to: &Path) -> bool {
        let under_way = {
            let mut state = self.state();
            state.asked = Some(Instant::now());
            state.segments.remove(name)
        };
        let Some(mut there) = under_way else {
            return false;
        };
        let there = there
            .wait_for(Option::is_some)
            .await
            .is_ok_and(|t| *t == Some(true));
        there && std::fs::rename(self.dir.join(name), to).is_ok()
    }

    /// Begins to fetch what follows a segment. Its failure is nobody's: who asks for it will see.
    pub(super) fn restock(self: &Arc<Self>, ahead: &Arc<Ahead>, name: &str, patience: Patience) {
        let agent = ahead.agent();
        let Some(mut next) = agent.segment(name) else {
            return;
        };
        for _ in 0..agent.archive().store().settings().max_parallel {
            next = next.next();
            let name = next.to_string();
            let (tell, hear) = watch::channel(None);
            {
                let mut state = self.state();
                if state.segments.contains_key(&name) {
                    continue;
                }
                state.segments.insert(name.clone(), hear);
            }
            let (this, ahead) = (self.clone(), ahead.clone());
            tokio::spawn(async move {
                let there = this.fetch(ahead.agent(), next, patience).await;
                if !there {
                    this.state().segments.remove(&name);
                }
                tell.send_replace(Some(there));
            });
        }
    }

    async fn fetch(&self, agent: &Agent, name: WalName, patience: Patience) -> bool {
        let name = name.to_string();
        if std::fs::create_dir_all(&self.dir).is_err() {
            return false;
        }
        let fetched = agent.fetch(&name, &self.dir.join(&name), patience).await;
        fetched.unwrap_or(false)
    }

    /// Empties the shelf when nobody asks any more.
    pub(super) async fn tidy(&self) {
        loop {
            tokio::time::sleep(QUIET).await;
            let mut state = self.state();
            if state.asked.is_some_and(|at| at.elapsed() > QUIET) {
                state.asked = None;
                state.segments.clear();
                drop(std::fs::remove_dir_all(&self.dir));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
