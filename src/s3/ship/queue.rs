//! The queue: a directory with one file a task, `<backup id>.run`, `.running`, `.done`, `.error`. A task goes from one
//! to the next by a rename; its file's lines are the task and what became of it. Whoever works on a task holds a
//! flock(2) on its file, so a process that dies leaves nothing behind but `.running`, which the next run picks up.

use super::task::{Event, Next, State, Task, step};
use crate::s3::S3Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The directory.
#[derive(Clone, Debug)]
pub struct Queue {
    dir: PathBuf,
}

/// What became of a task at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// Why it failed; `None`: it was shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A task as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file's name without its ending.
    pub stem: String,
    /// Where it is.
    pub state: State,
    /// The task; `None`: the file is not one of ours.
    pub task: Option<Task>,
    /// What became of it last.
    pub outcome: Option<Outcome>,
}

impl Entry {
    /// For a person: why it failed.
    #[must_use]
    pub fn why(&self) -> &str {
        let error = self.outcome.as_ref().and_then(|o| o.error.as_deref());
        error.unwrap_or(match self.task {
            Some(_) => "it says not why",
            None => "its file is not what queue-add writes",
        })
    }
}

/// A task that this process works on, until it is dropped.
#[derive(Debug)]
pub struct Held {
    queue: Queue,
    file: Flock<File>,
    /// The file's name without its ending.
    pub stem: String,
    /// The task; `None`: the file is not one of ours.
    pub task: Option<Task>,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> S3Error {
    let path = path.to_owned();
    move |source| S3Error::File { what, path, source }
}

impl Queue {
    /// In this directory, which is made when something is added.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, stem: &str, state: State) -> PathBuf {
        self.dir.join(format!("{stem}{}", state.ending()))
    }

    /// Names change only under this lock, which nobody holds for long.
    fn guard(&self) -> Result<Flock<File>, S3Error> {
        crate::sys::ensure_dir(&self.dir, 0o700, None).map_err(failed("make", &self.dir))?;
        let path = self.dir.join(".lock");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(failed("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &path)(errno.into()))
    }

    /// Adds a task; the file is complete and synced before it has its name. One that is there, in whatever state, stays
    /// as it is. Two clusters may begin a backup in the same second: the later one's task is `<id>.<server>`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn add(&self, task: &Task) -> Result<Entry, S3Error> {
        let _guard = self.guard()?;
        let named = format!("{}.{}", task.id, task.server);
        let mut stem = task.id.clone();
        for entry in self.list()? {
            let same = entry.task.as_ref().is_some_and(|t| t.server == task.server);
            if same && (entry.stem == task.id || entry.stem == named) {
                return Ok(entry);
            }
            if entry.stem == task.id {
                stem.clone_from(&named);
            }
        }
        let path = self.path(&stem, State::Run);
        let mut text = serde_json::to_vec(task).map_err(|e| S3Error::Bug(e.to_string()))?;
        text.push(b'\n');
        crate::sys::write_atomic(&path, &text, 0o600, None).map_err(failed("write", &path))?;
        Ok(Entry {
            stem,
            state: State::Run,
            task: Some(task.clone()),
            outcome: None,
        })
    }

    /// All tasks, oldest first; none where there is no directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, S3Error> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &self.dir))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let Some((stem, state)) = State::of(&name) else {
                continue;
            };
            let text = match fs::read_to_string(entry.path()) {
                // It has another name by now, or none.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => String::new(),
                other => other.map_err(failed("read", &entry.path()))?,
            };
            let (task, outcome) = read(&text);
            found.push(Entry {
                stem: stem.to_owned(),
                state,
                task,
                outcome,
            });
        }
        found.sort_unstable_by(|a, b| (&a.stem, a.state).cmp(&(&b.stem, b.state)));
        Ok(found)
    }

    /// Takes a task that waits, or that was left by a process that died; `None`: another process has it, or it is
    /// elsewhere by now.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn take(&self, stem: &str) -> Result<Option<Held>, S3Error> {
        let _guard = self.guard()?;
        for state in [State::Running, State::Run] {
            let Some(Next::Become(to)) = step(state, Event::Taken) else {
                continue;
            };
            let path = self.path(stem, state);
            let file = match OpenOptions::new().read(true).append(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed("open", &path))?,
            };
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(failed("lock", &path)(errno.into())),
            };
            let mut text = String::new();
            match file.read_to_string(&mut text) {
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
                other => drop(other.map_err(failed("read", &path))?),
            }
            self.rename(stem, state, to)?;
            return Ok(Some(Held {
                queue: self.clone(),
                file,
                stem: stem.to_owned(),
                task: read(&text).0,
            }));
        }
        Ok(None)
    }

    /// Has failed tasks wait again, of one cluster or of all; how many.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn retry(&self, server: Option<&str>) -> Result<usize, S3Error> {
        let _guard = self.guard()?;
        let mut count = 0;
        for entry in self.list()? {
            let of = entry.task.as_ref().map(|t| t.server.as_str());
            if server.is_some() && server != of {
                continue;
            }
            if let Some(Next::Become(to)) = step(entry.state, Event::Retry) {
                self.rename(&entry.stem, entry.state, to)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Removes what was shipped longer ago than `keep`; how many.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn tidy(&self, keep: Duration, now: SystemTime) -> Result<usize, S3Error> {
        let _guard = self.guard()?;
        let mut count = 0;
        for entry in self.list()? {
            if step(entry.state, Event::Expired) != Some(Next::Gone) {
                continue;
            }
            let path = self.path(&entry.stem, entry.state);
            let ended = match &entry.outcome {
                Some(outcome) => SystemTime::UNIX_EPOCH + Duration::from_millis(outcome.at_ms),
                None => fs::metadata(&path)
                    .and_then(|m| m.modified())
                    .map_err(failed("read", &path))?,
            };
            if now.duration_since(ended).is_ok_and(|age| age > keep) {
                crate::sys::remove(&path).map_err(failed("remove", &path))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn rename(&self, stem: &str, from: State, to: State) -> Result<(), S3Error> {
        let (from, to) = (self.path(stem, from), self.path(stem, to));
        if from != to {
            fs::rename(&from, &to).map_err(failed("rename", &from))?;
            crate::sys::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        }
        Ok(())
    }
}

impl Held {
    /// Writes down what became of it, and where it goes by that.
    ///
    /// # Errors
    /// The disk is full, or the directory cannot be written: it stays `.running`, and is picked up again.
    pub fn end(mut self, error: Option<String>, now_ms: u64) -> Result<State, S3Error> {
        let _guard = self.queue.guard()?;
        let event = match error {
            None => Event::Shipped,
            Some(_) => Event::Failed,
        };
        let Some(Next::Become(to)) = step(State::Running, event) else {
            return Err(S3Error::Bug("a task that runs has no end".to_owned()));
        };
        let outcome = Outcome {
            at_ms: now_ms,
            error,
        };
        let path = self.queue.path(&self.stem, State::Running);
        // A line that a crash cut off is passed over, and the next one begins anew.
        let line = serde_json::to_string(&outcome).map_err(|e| S3Error::Bug(e.to_string()))?;
        let ragged = ends_within_a_line(&mut self.file).map_err(failed("read", &path))?;
        let line = format!("{}{line}\n", if ragged { "\n" } else { "" });
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &path))?;
        self.queue.rename(&self.stem, State::Running, to)?;
        Ok(to)
    }
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    let size = file.seek(SeekFrom::End(0))?;
    if size == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn read(text: &str) -> (Option<Task>, Option<Outcome>) {
    let mut lines = text.lines();
    let task = lines.next().and_then(|l| serde_json::from_str(l).ok());
    let outcome = lines.rev().find_map(|l| serde_json::from_str(l).ok());
    (task, outcome)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
