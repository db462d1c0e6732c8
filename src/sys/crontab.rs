//! A crontab of `/etc/cron.d`'s form, read as Debian's cron reads it (crontab(5)), and when its
//! lines run: pure, the time is passed in.

use chrono::{DateTime, TimeDelta, TimeZone};
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, JobType};

/// One line that runs something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The user field: who cron would run it as.
    pub user: String,
    /// The command as written, for logs.
    pub written: String,
    /// What the shell is given: up to the first `%`, `\%` being a `%`.
    pub command: String,
    /// What the command reads: after the first `%`, each further `%` a newline.
    pub input: Option<String>,
    /// Variables set above the line.
    pub env: Vec<(String, String)>,
    when: When,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    /// `@reboot`: once, when the scheduler starts.
    AtStart,
    At(Box<Cron>),
}

/// A line that cannot be read. As cron does, one such line makes the whole file void: half of a
/// backup schedule is worse than an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the crontab: {why}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// Reads a crontab with a user field.
///
/// # Errors
/// [`BadLine`], the first one.
pub fn parse(text: &str) -> Result<Vec<Job>, BadLine> {
    let mut jobs = Vec::new();
    let mut env = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(variable) = assignment(line) {
            env.push(variable);
            continue;
        }
        let job = job(line, &env).map_err(|why| BadLine {
            line: index + 1,
            why,
        })?;
        jobs.push(job);
    }
    Ok(jobs)
}

/// `NAME = value`, the value perhaps in quotes. No variable is expanded.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = unquote(name.trim());
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    Some((name.to_owned(), unquote(value.trim()).to_owned()))
}

fn unquote(text: &str) -> &str {
    let inside = |q: char| text.strip_prefix(q)?.strip_suffix(q);
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

/// The first word and the rest, at blanks.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start_matches([' ', '\t']))
}

fn job(line: &str, env: &[(String, String)]) -> Result<Job, String> {
    let (when, rest) = if line.starts_with('@') {
        let (name, rest) = word(line);
        (named(name)?, rest)
    } else {
        let mut rest = line;
        let mut fields = [""; 5];
        for field in &mut fields {
            (*field, rest) = word(rest);
        }
        (at(&fields)?, rest)
    };
    let (user, command) = word(rest);
    if command.is_empty() {
        return Err("five fields, a user and a command are expected".to_owned());
    }
    let written = command.trim_end().to_owned();
    let (command, input) = at_percent(&written);
    Ok(Job {
        user: user.to_owned(),
        written,
        command,
        input,
        env: env.to_vec(),
        when,
    })
}

fn named(name: &str) -> Result<When, String> {
    let fields = match name {
        "@reboot" => return Ok(When::AtStart),
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => return Err(format!("`{other}` is not a time that cron knows")),
    };
    at(&fields.split(' ').collect::<Vec<_>>())
}

fn at(fields: &[&str]) -> Result<When, String> {
    let text = fields.join(" ");
    // croner knows more than cron (L, W, #, ?): what crond would refuse is refused here too, so the
    // same file means the same with both.
    let known = |c: char| c.is_ascii_alphanumeric() || "*/,-".contains(c);
    let spare = |f: &&str| {
        let f = f.to_ascii_uppercase();
        // JUL has an L, WED a W.
        let plain = f.replace("JUL", "").replace("WED", "");
        !f.chars().all(known) || plain.contains(['L', 'W'])
    };
    if fields.iter().any(|f| f.is_empty()) || fields.iter().any(spare) {
        return Err(format!("`{text}` is not a time of five fields"));
    }
    let cron = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        // cron.c, `DOM_STAR | DOW_STAR`: a field that begins with `*`, as in `*/2`, narrows the
        // other one; only two that do not are alternatives.
        .dom_and_dow(fields[2].starts_with('*') || fields[4].starts_with('*'))
        .build()
        .parse(&text)
        .map_err(|why| format!("`{text}`: {why}"))?;
    Ok(When::At(Box::new(cron)))
}

/// Splits a command at its first `%`.
fn at_percent(written: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        let first = parts.len() == 1;
        let part = match c {
            '\\' if chars.peek() == Some(&'%') => {
                chars.next();
                '%'
            }
            '%' if first => {
                parts.push(String::new());
                continue;
            }
            '%' => '\n',
            c => c,
        };
        if let Some(last) = parts.last_mut() {
            last.push(part);
        }
    }
    let input = (parts.len() > 1).then(|| parts.pop()).flatten();
    // cron ends what it gives with a newline.
    let input = input.map(|text| text + "\n");
    (parts.pop().unwrap_or_default(), input)
}

impl Job {
    /// Whether it runs once when the scheduler starts.
    #[must_use]
    pub fn at_start(&self) -> bool {
        self.when == When::AtStart
    }

    /// cron(8) keeps such jobs from running twice or not at all when the clock is changed: those
    /// at one time of the day. Others just follow the clock.
    fn at_fixed_time(&self) -> bool {
        match &self.when {
            When::AtStart => false,
            When::At(cron) => cron.determine_job_type() == JobType::FixedTime,
        }
    }
}

/// When a line runs next after `now`; `None` for `@reboot` and for a time that never comes. In a
/// zone with daylight saving a daily job inside the skipped hour runs right after it, and one
/// inside the repeated hour once.
#[must_use]
pub fn next_after<Tz: TimeZone>(job: &Job, now: &DateTime<Tz>) -> Option<DateTime<Tz>> {
    match &job.when {
        When::AtStart => None,
        When::At(cron) => cron.find_next_occurrence(now, false).ok(),
    }
}

/// When the jobs of one crontab run, over every change of the clock.
#[derive(Clone, Debug)]
pub struct Schedule<Tz: TimeZone> {
    jobs: Vec<Job>,
    turns: Vec<Turn<Tz>>,
}

#[derive(Clone, Debug)]
struct Turn<Tz: TimeZone> {
    /// When it ran last, by the clock of then.
    last: Option<DateTime<Tz>>,
    next: Option<DateTime<Tz>>,
}

/// A clock set back by more was wrong before: what ran by it does not count (cron(8) has the same
/// three hours).
const CORRECTED: TimeDelta = TimeDelta::hours(3);
/// A clock set back by less is a small correction, also for a job of every minute.
const SLEWED: TimeDelta = TimeDelta::minutes(2);

impl<Tz: TimeZone> Schedule<Tz> {
    /// Begins: nothing is due for a time before `now`.
    #[must_use]
    pub fn new(jobs: Vec<Job>, now: &DateTime<Tz>) -> Self {
        let turns = jobs
            .iter()
            .map(|job| Turn {
                last: None,
                next: next_after(job, now),
            })
            .collect();
        Self { jobs, turns }
    }

    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The jobs that are due, each once however much time has passed, by their place in
    /// [`Schedule::jobs`].
    pub fn due(&mut self, now: &DateTime<Tz>) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, (job, turn)) in self.jobs.iter().zip(&mut self.turns).enumerate() {
            if turn.next.as_ref().is_some_and(|next| next <= now) {
                due.push(index);
                turn.last = Some(now.clone());
            }
            // From now each time; from the last run where the clock went back a little.
            let bound = if job.at_fixed_time() {
                CORRECTED
            } else {
                SLEWED
            };
            if let Some(last) = &turn.last
                && last.clone() - now.clone() > bound
            {
                turn.last = None;
            }
            let from = turn.last.as_ref().filter(|last| *last > now).unwrap_or(now);
            turn.next = next_after(job, from);
        }
        due
    }

    /// The earliest next run.
    #[must_use]
    pub fn next(&self) -> Option<&DateTime<Tz>> {
        self.turns.iter().filter_map(|t| t.next.as_ref()).min()
    }
}

#[cfg(test)]
#[path = "crontab_tests.rs"]
mod tests;
