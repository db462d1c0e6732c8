//! The log: every event of ours and of our children as one line on standard output.
//!
//! Text is for a person, JSON for a collector; both carry the same fields. The field `source` says
//! who speaks (default `pgnode`), `at` is the speaker's own time where it gives one and takes the
//! place of ours.

use super::outlet::{Full, Outlet};
use crate::config::LogFormat;
use crate::domain::Fault;
use chrono::{DateTime, SecondsFormat, Utc};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Names that a filter may use as targets: ours, and the sources of children's lines.
const TARGETS: [&str; 7] = [
    "pgnode", "postgres", "repmgrd", "repmgr", "barman", "crond", "child",
];

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("RUST_LOG=`{value}` is not a log filter such as `info` or `info,postgres=warn`")]
    Filter {
        /// What was given.
        value: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A filter without a level that names nobody: a misspelt level would silence everything.
    #[error(
        "RUST_LOG: `{word}` is neither a level (error, warn, info, debug, trace, off) nor one of {}",
        TARGETS.join(", ")
    )]
    Word {
        /// The word.
        word: String,
    },
    /// No thread, or no standard output.
    #[error("cannot write the log")]
    Output(#[from] std::io::Error),
    /// Somebody else set up a log before.
    #[error("the log is set up twice")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

impl LogError {
    /// What can be done about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = Fault::chain(self);
        match self {
            Self::Filter { .. } | Self::Word { .. } => Fault::Config(why),
            Self::Output(_) => Fault::NeedsPerson(why),
            Self::Twice(_) => Fault::Bug(why),
        }
    }
}

/// Reads a filter.
///
/// # Errors
/// [`LogError::Filter`], [`LogError::Word`].
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let text = if text.trim().is_empty() { "info" } else { text };
    for word in text.split(',').map(str::trim) {
        let bare = !word.is_empty() && !word.contains(['=', '[']);
        let target = word.split("::").next().unwrap_or_default();
        if bare && word.parse::<LevelFilter>().is_err() && !TARGETS.contains(&target) {
            let word = word.to_owned();
            return Err(LogError::Word { word });
        }
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| LogError::Filter {
            value: text.to_owned(),
            source,
        })
}

/// The log of this process.
struct Log {
    outlet: Outlet,
    /// Every pump holds a receiver: a change tells it to come to its end, its drop that it did.
    pumps: watch::Sender<()>,
}

/// As the subscriber that `tracing` keeps: one for the process, set once.
static LOG: OnceLock<Log> = OnceLock::new();

/// Sets up the log of this process on its standard output. Colours only on a terminal. What is
/// logged at the very end is written by [`flush`].
///
/// # Errors
/// [`LogError`].
pub fn init(format: LogFormat, filter_text: &str) -> Result<(), LogError> {
    use std::io::IsTerminal as _;
    use std::os::fd::AsFd as _;
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal();
    // A descriptor of our own: std's handle would copy every line through its own buffer.
    let file = std::fs::File::from(stdout.as_fd().try_clone_to_owned()?);
    init_on(file, colour, format, filter_text)
}

/// As [`init`], written to anything.
///
/// # Errors
/// [`LogError`].
pub fn init_on(
    to: impl Write + Send + 'static,
    colour: bool,
    format: LogFormat,
    filter_text: &str,
) -> Result<(), LogError> {
    let filter = filter(filter_text)?;
    let outlet = Outlet::start(to)?;
    let lines = Lines {
        format,
        colour,
        now: SystemTime::now,
        outlet: outlet.clone(),
    };
    tracing::subscriber::set_global_default(subscriber(filter, lines))?;
    let (pumps, _) = watch::channel(());
    drop(LOG.set(Log { outlet, pumps }));
    Ok(())
}

/// The end of the log's sources: tells every pump to read what is still in its pipe and end, and
/// waits for that, at most `limit`. A FIFO has no end of its own, and the last line of a stop
/// ("database system is shut down") is the one that a person wants to see.
pub async fn end(limit: Duration) {
    if let Some(log) = LOG.get() {
        log.pumps.send_replace(());
        drop(tokio::time::timeout(limit, log.pumps.closed()).await);
    }
}

/// Waits until everything that was logged has been written, at most `limit`. Blocks: the last act
/// of the process.
pub fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        // Nobody is left who could be told that it was not enough.
        let _in_time: bool = log.outlet.flush(limit);
    }
}

/// Waits while the log is written slower than it is fed.
pub(super) async fn room() {
    if let Some(log) = LOG.get() {
        log.outlet.room().await;
    }
}

/// Ready when [`end`] was called; never without a log.
pub(super) async fn told_to_end(pass: &mut Option<watch::Receiver<()>>) {
    match pass {
        // An error, too, is the end.
        Some(pass) => drop(pass.changed().await),
        None => std::future::pending().await,
    }
}

/// For a pump, to be held until it has ended: [`end`] waits for that.
pub(super) fn pump_pass() -> Option<watch::Receiver<()>> {
    LOG.get().map(|log| log.pumps.subscribe())
}

/// A subscriber that writes lines.
fn subscriber(filter: EnvFilter, lines: Lines) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(filter).with(lines)
}

/// Writes each event as one line.
#[derive(Clone, Debug)]
struct Lines {
    /// Text or JSON.
    format: LogFormat,
    /// Text with colours.
    colour: bool,
    /// The clock.
    now: fn() -> SystemTime,
    /// Where lines go.
    outlet: Outlet,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut said = Fields::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        if let Ok(dropped @ 1..) = self.outlet.push(self.line(level, &said).as_bytes()) {
            let note = Fields {
                message: "log lines were lost: standard output was not read".to_owned(),
                rest: vec![("dropped", Value::Bare(dropped.to_string()))],
                ..Fields::default()
            };
            // A second loss is counted for the next line.
            let _counted: Result<u64, Full> =
                self.outlet.push(self.line(Level::WARN, &note).as_bytes());
        }
    }
}

impl Lines {
    fn line(&self, level: Level, said: &Fields) -> String {
        let now;
        let time = match &said.at {
            Some(at) => at.as_str(),
            None => {
                now = rfc3339((self.now)());
                &now
            }
        };
        match self.format {
            LogFormat::Text => text(time, level, said, self.colour),
            LogFormat::Json => json(time, level, said),
        }
    }
}

/// `2026-11-21T08:00:00.123Z`.
#[must_use]
fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The fields of one event.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    source: Option<String>,
    at: Option<String>,
    rest: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    /// A number, `true`, `false`: as it is.
    Bare(String),
    Text(String),
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "source" => self.source = Some(value.to_owned()),
            "at" => self.at = Some(value.to_owned()),
            name => self.rest.push((name, Value::Text(value.to_owned()))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &Fault::chain(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value.to_string());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.bare(field, value.to_string());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.bare(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value.to_string());
        } else {
            self.record_str(field, &value.to_string()); // JSON has no word for it.
        }
    }
}

impl Fields {
    fn bare(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" | "source" | "at" => self.record_str(field, &value),
            name => self.rest.push((name, Value::Bare(value))),
        }
    }

    fn source(&self) -> &str {
        self.source.as_deref().unwrap_or("pgnode")
    }
}

fn text(time: &str, level: Level, said: &Fields, colour: bool) -> String {
    let (dim, strong, end) = if colour {
        ("\x1b[2m", level_colour(level), "\x1b[0m")
    } else {
        ("", "", "")
    };
    let source = printable(said.source(), "");
    let mut line = format!("{dim}{time}{end} {strong}{level:<5}{end} {source:<8}  ");
    line.push_str(&printable(said.message.trim_end(), "\n    "));
    for (name, value) in &said.rest {
        // Writing to a String cannot fail.
        let _ok = match value {
            Value::Bare(text) => write!(line, " {dim}{name}={end}{text}"),
            Value::Text(text) if is_plain(text) => write!(line, " {dim}{name}={end}{text}"),
            Value::Text(text) => write!(line, " {dim}{name}={end}{text:?}"),
        };
    }
    line.push('\n');
    line
}

const fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// A value that needs no quotes to be read back.
fn is_plain(text: &str) -> bool {
    let bare = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    !text.is_empty() && text.chars().all(bare)
}

/// Control characters escaped, so that what a client logs cannot paint over a terminal or pretend
/// to be another line; newlines become `newline`.
fn printable<'a>(text: &'a str, newline: &str) -> std::borrow::Cow<'a, str> {
    if !text.contains(|c: char| c.is_control()) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str(newline),
            '\t' => out.push('\t'),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.into()
}

fn json(time: &str, level: Level, said: &Fields) -> String {
    let mut line = String::from("{");
    let mut field = |name: &str, value: &str| {
        if line.len() > 1 {
            line.push(',');
        }
        quote(&mut line, name);
        line.push(':');
        line.push_str(value);
    };
    let quoted = |text: &str| {
        let mut out = String::with_capacity(text.len() + 2);
        quote(&mut out, text);
        out
    };
    field("time", &quoted(time));
    field("level", &quoted(level.as_str()));
    field("source", &quoted(said.source()));
    field("message", &quoted(said.message.trim_end()));
    for (name, value) in &said.rest {
        match value {
            Value::Bare(text) => field(name, text),
            Value::Text(text) => field(name, &quoted(text)),
        }
    }
    line.push_str("}\n");
    line
}

fn quote(out: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        // A string always can be written.
        Err(_) => out.push_str("\"\""),
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
