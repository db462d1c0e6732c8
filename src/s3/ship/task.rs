//! A task of the queue: one backup that is to be shipped. Pure: what may happen to it, and nothing else may.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a task is; the ending of its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits.
    Run,
    /// It is being shipped, or was when its process died.
    Running,
    /// It was shipped.
    Done,
    /// It was not, and a person is to look.
    Error,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run has its lock and begins.
    Taken,
    /// All of the backup is in the bucket.
    Shipped,
    /// It could not be shipped, or should not.
    Failed,
    /// A person asks for another try.
    Retry,
    /// It is older than `S3_QUEUE_KEEP`.
    Expired,
}

/// Where a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its file is renamed to that ending.
    Become(State),
    /// Its file is removed.
    Gone,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Running, Self::Done, Self::Error];

    /// The ending of the file's name, with its dot.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Run => ".run",
            Self::Running => ".running",
            Self::Done => ".done",
            Self::Error => ".error",
        }
    }

    /// From a file's name: what is before the ending, and the state.
    #[must_use]
    pub fn of(name: &str) -> Option<(&str, Self)> {
        Self::ALL
            .into_iter()
            .find_map(|state| Some((name.strip_suffix(state.ending())?, state)))
    }
}

/// The whole of a task's life; `None`: this cannot happen to it there, and nothing is done.
#[must_use]
pub const fn step(state: State, event: Event) -> Option<Next> {
    match (state, event) {
        // Its lock is free, so whoever had it is dead: it is picked up again.
        (State::Run | State::Running, Event::Taken) => Some(Next::Become(State::Running)),
        (State::Running, Event::Shipped) => Some(Next::Become(State::Done)),
        (State::Running, Event::Failed) => Some(Next::Become(State::Error)),
        (State::Error, Event::Retry) => Some(Next::Become(State::Run)),
        (State::Done, Event::Expired) => Some(Next::Gone),
        (State::Run, Event::Shipped | Event::Failed | Event::Retry | Event::Expired)
        | (State::Running, Event::Retry | Event::Expired)
        | (State::Done, Event::Taken | Event::Shipped | Event::Failed | Event::Retry)
        | (State::Error, Event::Taken | Event::Shipped | Event::Failed | Event::Expired) => None,
    }
}

/// What barman says to its `post_backup_script` (`barman/hooks.py`, 3.13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `BARMAN_SERVER`
    pub server: String,
    /// `BARMAN_BACKUP_ID`
    pub id: String,
    /// `BARMAN_BACKUP_DIR`
    pub dir: PathBuf,
    /// `BARMAN_STATUS`
    pub status: String,
    /// `BARMAN_PHASE`
    pub phase: String,
    /// `BARMAN_ERROR`; empty without one.
    pub error: String,
    /// When it was queued, milliseconds since the epoch.
    pub added_ms: u64,
}

/// barman's environment has no such variable, or one that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {rule}; queue-add is barman's post_backup_script, which has it set")]
pub struct NoTask {
    variable: &'static str,
    rule: &'static str,
}

impl Task {
    /// From the environment of the hook.
    ///
    /// # Errors
    /// The server or the backup is not named, so there is no name for the task.
    pub fn from_hook(get: impl Fn(&str) -> Option<String>, now_ms: u64) -> Result<Self, NoTask> {
        let named = |variable: &'static str, fits: fn(&str) -> bool| {
            let wrong = |rule| NoTask { variable, rule };
            let value = get(variable).ok_or_else(|| wrong("is not set"))?;
            if fits(&value) {
                return Ok(value);
            }
            Err(wrong("cannot be part of a file's name"))
        };
        let said = |variable: &str| get(variable).unwrap_or_default();
        Ok(Self {
            server: named("BARMAN_SERVER", is_name)?,
            id: named("BARMAN_BACKUP_ID", is_name)?,
            dir: PathBuf::from(said("BARMAN_BACKUP_DIR")),
            status: said("BARMAN_STATUS"),
            phase: said("BARMAN_PHASE"),
            error: said("BARMAN_ERROR"),
            added_ms: now_ms,
        })
    }

    /// Why this must not be shipped, if so. A backup that waits for its last WAL is copied, and becomes DONE.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        if self.phase != "post" {
            return Some(format!("BARMAN_PHASE is `{}`, not `post`", self.phase));
        }
        if !self.error.is_empty() {
            return Some(format!("barman says that it failed: {}", self.error));
        }
        if !matches!(&*self.status, "DONE" | "WAITING_FOR_WALS") {
            return Some(format!("BARMAN_STATUS is `{}`, not `DONE`", self.status));
        }
        if !is_backup_id(&self.id) {
            return Some(format!("`{}` is no id of a backup", self.id));
        }
        None
    }
}

/// One part of a path, and nothing hidden.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.chars().all(plain)
}

/// `20261121T195810`
pub(super) fn is_backup_id(text: &str) -> bool {
    let digits = |s: &[u8]| s.iter().all(u8::is_ascii_digit);
    matches!(text.as_bytes().split_at_checked(8), Some((day, [b'T', time @ ..]))
        if digits(day) && time.len() == 6 && digits(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 5] = [
        Event::Taken,
        Event::Shipped,
        Event::Failed,
        Event::Retry,
        Event::Expired,
    ];

    #[test]
    fn nothing_else_happens_to_a_task() {
        use State::{Done, Error, Run, Running};
        let allowed = [
            (Run, Event::Taken, Next::Become(Running)),
            (Running, Event::Taken, Next::Become(Running)),
            (Running, Event::Shipped, Next::Become(Done)),
            (Running, Event::Failed, Next::Become(Error)),
            (Error, Event::Retry, Next::Become(Run)),
            (Done, Event::Expired, Next::Gone),
        ];
        for state in State::ALL {
            for event in EVENTS {
                let want = allowed.iter().find(|(s, e, _)| (*s, *e) == (state, event));
                assert_eq!(step(state, event), want.map(|w| w.2), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn only_what_was_shipped_is_forgotten_and_only_by_age() {
        for state in State::ALL {
            for event in EVENTS {
                let gone = step(state, event) == Some(Next::Gone);
                assert_eq!(gone, (state, event) == (State::Done, Event::Expired));
            }
        }
    }

    #[test]
    fn a_files_name_says_where_the_task_is() {
        for state in State::ALL {
            let name = format!("20261121T195810{}", state.ending());
            assert_eq!(State::of(&name), Some(("20261121T195810", state)));
        }
        for other in [".lock", "20261121T195810", "x.txt", "x.run.new"] {
            assert_eq!(State::of(other), None, "{other}");
        }
    }

    fn hook(over: &[(&str, &str)]) -> Result<Task, NoTask> {
        let usual = [
            ("BARMAN_SERVER", "main"),
            ("BARMAN_BACKUP_ID", "20261121T195810"),
            (
                "BARMAN_BACKUP_DIR",
                "/home/barman/data/main/base/20261121T195810",
            ),
            ("BARMAN_STATUS", "DONE"),
            ("BARMAN_PHASE", "post"),
            ("BARMAN_ERROR", ""),
        ];
        let get = |name: &str| {
            let all = over.iter().chain(&usual);
            let found = all.into_iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| (*v).to_owned())
        };
        Task::from_hook(get, 5)
    }

    #[test]
    fn a_backup_that_must_not_be_shipped_says_why() {
        assert_eq!(hook(&[]).unwrap().unfit(), None);
        let waiting = hook(&[("BARMAN_STATUS", "WAITING_FOR_WALS")]).unwrap();
        assert_eq!(waiting.unfit(), None);
        for (name, value, word) in [
            ("BARMAN_PHASE", "pre", "BARMAN_PHASE"),
            ("BARMAN_PHASE", "", "BARMAN_PHASE"),
            ("BARMAN_ERROR", "no space", "no space"),
            ("BARMAN_STATUS", "FAILED", "BARMAN_STATUS"),
            ("BARMAN_STATUS", "", "BARMAN_STATUS"),
            ("BARMAN_BACKUP_ID", "latest", "latest"),
        ] {
            let why = hook(&[(name, value)]).unwrap().unfit().unwrap();
            assert!(why.contains(word), "{why}");
        }
        for (name, value) in [
            ("BARMAN_SERVER", ""),
            ("BARMAN_SERVER", "../x"),
            ("BARMAN_BACKUP_ID", ".hidden"),
            ("BARMAN_BACKUP_ID", "a/b"),
        ] {
            assert!(hook(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
