//! The crontab without cron: not being root, crond could not switch to another account, so the same
//! file is read here and its commands run as ourselves.

use super::lines::LogSource;
use super::{Children, Spec, pump};
use chrono::{DateTime, Local};
use croner::Cron;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

/// A line that runs a command.
#[derive(Clone, Debug)]
pub struct Job {
    schedule: Cron,
    command: String,
}

/// A crontab that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CrontabError {
    /// The file.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line.
    #[error("line {line} of the crontab is not understood: {why}")]
    Line {
        /// Its number.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// Variables and jobs.
#[derive(Clone, Debug, Default)]
pub struct Crontab {
    vars: Vec<(String, String)>,
    jobs: Vec<Job>,
}

impl Crontab {
    /// Reads the cron.d format (crontab(5)): variables, five fields, a user, which is ours whatever
    /// it says, and a command, in which `\%` stands for `%`.
    ///
    /// # Errors
    /// [`CrontabError::Line`].
    pub fn parse(text: &str) -> Result<Self, CrontabError> {
        let mut tab = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let failed = |why: String| CrontabError::Line {
                line: number + 1,
                why,
            };
            if let Some((name, value)) = variable(line) {
                tab.vars.push((name, value));
                continue;
            }
            let mut rest = line;
            let mut fields = Vec::new();
            for _ in 0..6 {
                let (field, after) = rest
                    .split_once([' ', '\t'])
                    .ok_or_else(|| failed("six fields and a command are needed".into()))?;
                fields.push(field);
                rest = after.trim_start();
            }
            let schedule =
                Cron::from_str(&fields[..5].join(" ")).map_err(|e| failed(e.to_string()))?;
            tab.jobs.push(Job {
                schedule,
                command: rest.replace("\\%", "%"),
            });
        }
        Ok(tab)
    }
}

fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let value = value.trim().trim_matches('"');
    (plain && !name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

impl Job {
    /// The next time strictly after `now`. Computed anew after each run, so a clock that was set
    /// back fires nothing twice and one that was set forward fires once.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Local>) -> Option<DateTime<Local>> {
        self.schedule.find_next_occurrence(&now, false).ok()
    }
}

/// At most this long is slept: a clock that is set while we sleep is noticed.
const NAP: Duration = Duration::from_secs(60);

/// Runs the jobs of a crontab for ever; each waits for its own former run.
///
/// # Errors
/// [`CrontabError`].
pub async fn run_crontab(
    children: Children,
    path: PathBuf,
    home: PathBuf,
) -> Result<(), CrontabError> {
    let read = std::fs::read_to_string(&path);
    let text = read.map_err(|source| CrontabError::Read {
        path: path.clone(),
        source,
    })?;
    let tab = Crontab::parse(&text)?;
    let mut jobs = tokio::task::JoinSet::new();
    for job in tab.jobs {
        let (children, vars, home) = (children.clone(), tab.vars.clone(), home.clone());
        jobs.spawn(async move {
            while let Some(due) = job.next_after(Local::now()) {
                while let Ok(left) = (due - Local::now()).to_std() {
                    tokio::time::sleep(left.min(NAP)).await;
                }
                run(&children, &job, &vars, &home).await;
            }
        });
    }
    while jobs.join_next().await.is_some() {}
    // Nothing to do is no end: the machine would start us again and again.
    std::future::pending::<()>().await;
    Ok(())
}

async fn run(children: &Children, job: &Job, vars: &[(String, String)], home: &std::path::Path) {
    tracing::debug!(source = LogSource::Crond.name(), "running {}", job.command);
    let spec = Spec::new("/bin/sh", ["-c", &job.command])
        .env(vars.iter().map(|(k, v)| (k, v)))
        .env([("HOME", home)]);
    let mut child = match children.spawn(spec).await {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(source = LogSource::Crond.name(), "{error}: {}", job.command);
            return;
        }
    };
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        tokio::spawn(pump(pipe, LogSource::Barman));
    }
    match child.wait().await {
        Ok(exit) if exit.is_success() => {}
        Ok(exit) => {
            tracing::warn!(source = LogSource::Crond.name(), %exit, "failed: {}", job.command);
        }
        Err(error) => tracing::warn!(source = LogSource::Crond.name(), "{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;

    #[test]
    fn a_crontab_is_read() {
        let text =
            "# c\nSHELL=/bin/sh\nPATH=\"/usr/bin\"\n\n*/5 * * * *  barman  date +\\%H | cat\n";
        let tab = Crontab::parse(text).unwrap();
        assert_eq!(tab.vars[1], ("PATH".into(), "/usr/bin".into()));
        assert_eq!(tab.jobs[0].command, "date +%H | cat");
        for bad in ["* * * * *", "61 * * * * u x", "* * * * * u"] {
            assert!(Crontab::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_run_follows_the_clock() {
        let tab = Crontab::parse("30 3 * * * u x").unwrap();
        let at = |h, m, s| Local.with_ymd_and_hms(2026, 6, 1, h, m, s).unwrap();
        let next = |t| tab.jobs[0].next_after(t).unwrap();
        assert_eq!(next(at(0, 0, 0)), at(3, 30, 0));
        // Just fired: the next day, not again.
        assert_eq!(next(at(3, 30, 0)), at(3, 30, 0) + chrono::Duration::days(1));
        // Hours were jumped over: only what is ahead counts.
        assert_eq!(next(at(9, 0, 0)), at(3, 30, 0) + chrono::Duration::days(1));
    }
}
