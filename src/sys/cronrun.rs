//! A cron of our own, for a container that does not run as root: crond needs root to change
//! accounts, and here there is only one.
//!
//! The same crontab text as crond's is read; the user field is passed over. Where crond's lines say
//! ` | logger -t TAG`, the output goes into the log as from `TAG` directly, because `/dev/log`
//! cannot be bound without root.

use super::crontab::{BadLine, Job, Schedule, parse};
use super::parse::Format;
use super::pump::pump_until;
use super::{Child, Children, Exit, Spec};
use crate::domain::Fault;
use chrono::{DateTime, Local, TimeDelta};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::Level;

/// Where and with what jobs run.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Starts the shells.
    pub children: Children,
    /// Complete environment: PATH, HOME, LANG, TZ, nss_wrapper's. The crontab's own wins.
    pub env: Vec<(String, String)>,
    /// Working directory, the home of whom we are.
    pub home: PathBuf,
}

/// A crontab that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CrontabError {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line.
    #[error(transparent)]
    Line(#[from] BadLine),
}

impl CrontabError {
    /// What can be done about it: the file is our own rendering.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::NeedsPerson(Fault::chain(self))
    }
}

/// The longest sleep: how late a change of the clock is noticed.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs a crontab's jobs. Never ends: abort the task, and start another for a new crontab. Jobs that
/// run go on; [`Children`] ends them with the process.
///
/// # Errors
/// [`CrontabError`], before the first job.
pub async fn run_crontab(path: &Path, around: Surroundings) -> Result<(), CrontabError> {
    // A few lines on a tmpfs: not worth a thread.
    let text = std::fs::read_to_string(path).map_err(|source| CrontabError::Read {
        path: path.to_owned(),
        source,
    })?;
    let jobs = parse(&text)?;
    let around = Arc::new(around);
    let mut schedule = Schedule::new(jobs, &Local::now());
    let busy: Vec<Arc<AtomicBool>> = schedule.jobs().iter().map(|_| Arc::default()).collect();
    for (job, busy) in schedule.jobs().iter().zip(&busy) {
        if job.at_start() {
            start(job, busy, &around);
        }
    }
    loop {
        let now = Local::now();
        for index in schedule.due(&now) {
            if let (Some(job), Some(busy)) = (schedule.jobs().get(index), busy.get(index)) {
                start(job, busy, &around);
            }
        }
        tokio::time::sleep(pause(&now, schedule.next())).await;
    }
}

/// How long to sleep: to the next run, never too long to notice a changed clock.
fn pause(now: &DateTime<Local>, next: Option<&DateTime<Local>>) -> Duration {
    let wait = next.map_or(TimeDelta::MAX, |next| next.signed_duration_since(now));
    // A millisecond more, so that the clock has surely reached it.
    let wait = wait.to_std().unwrap_or(Duration::ZERO);
    wait.saturating_add(Duration::from_millis(1)).min(LONGEST)
}

/// Starts a job unless its former run is still going.
fn start(job: &Job, busy: &Arc<AtomicBool>, around: &Arc<Surroundings>) {
    let command = job.written.as_str();
    if busy.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            target: "crond",
            source = "crond",
            statement = command,
            "skipped: its former run is still going"
        );
        return;
    }
    tracing::debug!(target: "crond", source = "crond", statement = command, "a job starts");
    let (job, around, idle) = (job.clone(), Arc::clone(around), Idle(Arc::clone(busy)));
    tokio::spawn(async move {
        perform(&job, &around).await;
        drop(idle);
    });
}

/// The job is not going any more, however its task ends.
struct Idle(Arc<AtomicBool>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The command without ` | logger -t TAG` (also with `2>&1` before it), and TAG.
fn tagged(command: &str) -> (&str, Option<&str>) {
    let split = || {
        let (head, tail) = command.rsplit_once('|')?;
        let tag = tail.trim().strip_prefix("logger -t ")?.trim();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let plain = !tag.is_empty() && tag.chars().all(word);
        (plain && !head.ends_with('|')).then(|| (head.trim_end(), tag))
    };
    match split() {
        Some((head, tag)) => (head, Some(tag)),
        None => (command, None),
    }
}

fn spec(job: &Job, around: &Surroundings, command: &str) -> Spec {
    let shell = job.env.iter().rev().find(|(name, _)| name == "SHELL");
    let shell = shell.map_or("/bin/sh", |(_, path)| path.as_str());
    let spec = Spec::new(shell, ["-c", command])
        .env(around.env.clone())
        .env(job.env.clone())
        .cwd(&around.home);
    match &job.input {
        Some(text) => spec.input(text.clone().into_bytes()),
        None => spec,
    }
}

async fn perform(job: &Job, around: &Surroundings) {
    let (command, tag) = tagged(&job.command);
    let format = match tag {
        Some("barman") => Format::Barman,
        Some(tag) => Format::Plain {
            source: tag.to_owned().into(),
            level: Level::INFO,
        },
        None => Format::plain("crond"),
    };
    let child = match around.children.spawn(spec(job, around, command)).await {
        Ok(child) => child,
        Err(why) => {
            let error = &why as &dyn std::error::Error;
            tracing::error!(target: "crond", source = "crond", statement = job.written, error, "a job cannot be started");
            return;
        }
    };
    let exit = follow(child, &format).await;
    match exit {
        Some(Exit::Code(0)) => {
            tracing::debug!(target: "crond", source = "crond", statement = job.written, "a job ended");
        }
        Some(exit) => {
            tracing::warn!(target: "crond", source = "crond", statement = job.written, "a job failed with {exit}");
        }
        None => {}
    }
}

/// Output to the log, until the end of the job itself and what it wrote until then.
async fn follow(mut child: Child, format: &Format) -> Option<Exit> {
    let (ended, end) = tokio::sync::watch::channel(());
    let stream = |pipe: Option<tokio::net::unix::pipe::Receiver>| {
        let mut end = end.clone();
        async move {
            let Some(pipe) = pipe else { return };
            // A grandchild may hold the pipe for ever. Only ever an error: the sender is gone.
            let stop = async move { drop(end.changed().await) };
            pump_until(pipe, format.clone(), stop).await;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let wait = async {
        let exit = child.wait().await.ok();
        drop(ended);
        exit
    };
    let (exit, (), ()) = tokio::join!(wait, stream(stdout), stream(stderr));
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_to_logger_becomes_a_tag() {
        for (command, want) in [
            (
                "barman cron 2>&1 | logger -t barman",
                ("barman cron 2>&1", Some("barman")),
            ),
            ("a | b | logger -t x-y", ("a | b", Some("x-y"))),
            ("a|logger -t b", ("a", Some("b"))),
            ("barman cron", ("barman cron", None)),
            ("a || logger -t b", ("a || logger -t b", None)),
            ("a | logger -t b -p err", ("a | logger -t b -p err", None)),
            ("a | logger -t $(b)", ("a | logger -t $(b)", None)),
            ("a | logger", ("a | logger", None)),
        ] {
            assert_eq!(tagged(command), want, "{command}");
        }
    }

    #[test]
    fn a_sleep_is_never_long_and_never_negative() {
        let now = Local::now();
        let ms = Duration::from_millis(1);
        assert_eq!(pause(&now, None), LONGEST);
        let next = now + TimeDelta::seconds(5);
        assert_eq!(pause(&now, Some(&next)), Duration::from_secs(5) + ms);
        let far = now + TimeDelta::days(5);
        assert_eq!(pause(&now, Some(&far)), LONGEST);
        let past = now - TimeDelta::days(5);
        assert_eq!(pause(&now, Some(&past)), ms);
    }

    fn around() -> Surroundings {
        Surroundings {
            children: Children::new(),
            env: vec![("A".into(), "1".into()), ("B".into(), "1".into())],
            home: "/".into(),
        }
    }

    #[test]
    fn a_job_whose_former_run_is_going_is_skipped() {
        let job = &super::super::crontab::parse("@reboot me x").unwrap()[0];
        let busy = Arc::new(AtomicBool::new(true));
        // Outside of a runtime: it would panic if it started anything.
        start(job, &busy, &Arc::new(around()));
        assert!(busy.load(Ordering::Relaxed));
        drop(Idle(Arc::clone(&busy)));
        assert!(!busy.load(Ordering::Relaxed));
    }

    #[test]
    fn the_crontabs_environment_wins_and_input_is_given() {
        let text = "A=2\nSHELL=/bin/bash\n@reboot me cat%hello";
        let job = &super::super::crontab::parse(text).unwrap()[0];
        let around = around();
        let spec = spec(job, &around, "cat");
        assert_eq!(spec.program, "/bin/bash");
        let a: Vec<_> = spec.env.iter().filter(|(k, _)| k == "A").collect();
        assert_eq!(a.last().unwrap().1, "2", "a later one wins");
        assert!(matches!(&spec.input, super::super::Input::Bytes(b) if b == b"hello\n"));
    }
}
