//! Lines of children, read: pure functions, checked against captured output.

use super::said::Said;
use serde::Deserialize;
use std::borrow::Cow;
use tracing::Level;

/// What kind of lines a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// PostgreSQL's `jsonlog`: one object a line.
    PostgresJson,
    /// PostgreSQL's standard error, with `log_line_prefix = '%m [%p] '` (the default).
    PostgresText,
    /// What the logging collector writes as text beside `jsonlog`: two lines that are in both at
    /// its start, for debugging only, and whatever a backend or a library writes raw.
    PostgresRest,
    /// repmgr or repmgrd: `[2026-11-21 08:50:11] [NOTICE] text`, `NOTICE: text`, libpq's own
    /// `WARNING:  text`, and lines that go on.
    Repmgr {
        /// `repmgrd`, `repmgr`.
        source: Cow<'static, str>,
    },
    /// barman's log: `2026-11-21 07:58:14,220 [pid] barman.module LEVEL: text`, also its console
    /// output `LEVEL: text`.
    Barman,
    /// Anything else, a line an event.
    Plain {
        /// Who.
        source: Cow<'static, str>,
        /// How bad.
        level: Level,
    },
}

/// What a line is to the event before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An event, complete.
    Whole(Box<Said>),
    /// An event that more lines may belong to.
    Begin(Box<Said>),
    /// Detail of the event before.
    Detail(String),
    /// Hint of the event before.
    Hint(String),
    /// Statement of the event before.
    Statement(String),
    /// Context of the event before.
    Context(String),
    /// The last piece goes on.
    More(String),
}

impl Format {
    /// Reads one line, without its newline. `cut`: bytes at its end that were not kept.
    #[must_use]
    pub fn piece(&self, line: &str, cut: Option<u64>) -> Piece {
        let mut piece = match self {
            Self::PostgresJson => postgres_json(line, cut.is_some()),
            Self::PostgresText => postgres_text(line),
            Self::PostgresRest => match postgres_text(line) {
                Piece::Begin(mut said) if said.pid.is_some() && said.level == Level::INFO => {
                    said.level = Level::DEBUG;
                    Piece::Begin(said)
                }
                piece => piece,
            },
            Self::Repmgr { source } => repmgr(source.clone(), line),
            Self::Barman => barman(line),
            Self::Plain { source, level } => {
                Piece::Whole(Box::new(Said::new(source.clone(), *level, line)))
            }
        };
        if let Piece::Whole(said) | Piece::Begin(said) = &mut piece {
            said.cut = cut;
        }
        piece
    }

    /// For lines that go on where nothing began.
    fn orphan(&self, text: String) -> Said {
        match self {
            Self::PostgresJson => Said::new("postgres", Level::WARN, text),
            Self::PostgresText | Self::PostgresRest => Said::new("postgres", Level::INFO, text),
            Self::Repmgr { source } => Said::new(source.clone(), Level::INFO, text),
            Self::Barman => Said::new("barman", Level::INFO, text),
            Self::Plain { source, level } => Said::new(source.clone(), *level, text),
        }
    }
}

#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    user: Option<String>,
    dbname: Option<String>,
    pid: Option<u64>,
    error_severity: Option<Cow<'a, str>>,
    state_code: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
    statement: Option<String>,
    application_name: Option<String>,
    backend_type: Option<String>,
}

fn postgres_json(line: &str, cut: bool) -> Piece {
    let read = serde_json::from_str::<JsonLine<'_>>(line).ok();
    let said = match read {
        Some(read) => from_json(read),
        None if cut => {
            let mended = mend(line);
            match serde_json::from_str::<JsonLine<'_>>(&mended) {
                Ok(read) => from_json(read),
                Err(_) => Said::new("postgres", Level::WARN, line),
            }
        }
        None => Said::new("postgres", Level::WARN, line),
    };
    Piece::Whole(Box::new(said))
}

/// A JSON object that was cut off inside a string, which is where a long one is cut: closed again.
fn mend(line: &str) -> String {
    let mut head = line;
    // An escape that was cut itself: `\`, `\u`, `\u00e`. After an even number of backslashes none begins.
    if let Some(at) = line.rfind('\\') {
        let (before, escape) = line.split_at(at);
        let begins = before.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0;
        let needs = if escape.starts_with("\\u") { 6 } else { 2 };
        if begins && escape.len() < needs {
            head = before;
        }
    }
    format!("{head}\"}}")
}

fn from_json(read: JsonLine<'_>) -> Said {
    let word = read.error_severity.as_deref().unwrap_or("LOG");
    let code = read.state_code.filter(|code| code != "00000");
    let (level, severity) = postgres_level(word, code.as_deref());
    let mut said = Said::new("postgres", level, read.message.unwrap_or_default());
    said.at = read.timestamp.as_deref().and_then(postgres_time);
    said.severity = severity;
    said.code = code;
    said.detail = read.detail;
    said.hint = read.hint;
    said.context = read.context;
    said.statement = read.statement;
    said.user = read.user;
    said.db = read.dbname;
    said.app = read.application_name.filter(|app| !app.is_empty());
    said.pid = read.pid;
    said.backend = read.backend_type;
    said
}

/// `elog.c`, `error_severity()`. FATAL ends one session only; it is told apart by its name. Sessions
/// refused or ended by a start, a stop or recovery (class 57P) are what a boot looks like, no error.
fn postgres_level(word: &str, code: Option<&str>) -> (Level, Option<Cow<'static, str>>) {
    match word {
        "DEBUG" | "DEBUG1" => (Level::DEBUG, None),
        "DEBUG2" | "DEBUG3" | "DEBUG4" | "DEBUG5" => (Level::TRACE, None),
        "WARNING" => (Level::WARN, None),
        "ERROR" => (Level::ERROR, None),
        "FATAL" => {
            let level = match code {
                Some("57P01" | "57P02" | "57P03") => Level::INFO,
                _ => Level::ERROR,
            };
            (level, Some("FATAL".into()))
        }
        "PANIC" => (Level::ERROR, Some("PANIC".into())),
        // LOG, INFO, NOTICE.
        _ => (Level::INFO, None),
    }
}

/// `2026-11-21 08:50:05.128 UTC` as RFC 3339. Another zone's abbreviation says nothing certain
/// about the offset: then our own time stands.
fn postgres_time(text: &str) -> Option<String> {
    let (clock, zone) = text.rsplit_once(' ')?;
    if !matches!(zone, "UTC" | "GMT") || clock.len() != 23 {
        return None;
    }
    let shape = |(i, b): (usize, u8)| match i {
        4 | 7 => b == b'-',
        10 => b == b' ',
        13 | 16 => b == b':',
        19 => b == b'.',
        _ => b.is_ascii_digit(),
    };
    clock
        .bytes()
        .enumerate()
        .all(shape)
        .then(|| format!("{}T{}Z", &clock[..10], &clock[11..]))
}

/// `WORD: text` with one of PostgreSQL's or repmgr's words, as libpq, repmgr and barman print it.
fn leading_word(line: &str) -> Option<(&str, &str)> {
    let (word, text) = line.split_once(':')?;
    let known = matches!(
        word,
        "DEBUG"
            | "INFO"
            | "NOTICE"
            | "WARNING"
            | "ERROR"
            | "LOG"
            | "FATAL"
            | "PANIC"
            | "DETAIL"
            | "HINT"
            | "STATEMENT"
            | "QUERY"
            | "CONTEXT"
            | "ALERT"
            | "CRIT"
            | "EMERG"
            | "CRITICAL"
            | "EXCEPTION"
    );
    (known && text.starts_with([' ', '\t'])).then(|| (word, text.trim_start()))
}

/// A piece by its word.
fn by_word(source: impl Into<Cow<'static, str>>, word: &str, text: &str) -> Piece {
    let level = match word {
        "DETAIL" => return Piece::Detail(text.to_owned()),
        "HINT" => return Piece::Hint(text.to_owned()),
        "STATEMENT" | "QUERY" => return Piece::Statement(text.to_owned()),
        "CONTEXT" => return Piece::Context(text.to_owned()),
        "ALERT" | "CRIT" | "EMERG" | "CRITICAL" | "EXCEPTION" => (Level::ERROR, None),
        word => postgres_level(word, None),
    };
    let mut said = Said::new(source, level.0, text);
    said.severity = level.1;
    Piece::Begin(Box::new(said))
}

fn postgres_text(line: &str) -> Piece {
    let prefixed = || {
        let (time, rest) = line.split_once(" [")?;
        let (pid, rest) = rest.split_once("] ")?;
        let pid: u64 = pid.parse().ok()?;
        let (word, text) = leading_word(rest)?;
        Some((postgres_time(time), pid, word, text))
    };
    if let Some((at, pid, word, text)) = prefixed() {
        let mut piece = by_word("postgres", word, text);
        if let Piece::Begin(said) = &mut piece {
            said.at = at;
            said.pid = Some(pid);
        }
        return piece;
    }
    match leading_word(line) {
        Some((word, text)) => by_word("postgres", word, text),
        None if line.starts_with('\t') || line.is_empty() => Piece::More(line.to_owned()),
        // `postgres: could not …`, the dynamic linker, a library.
        None => Piece::Begin(Box::new(Said::new("postgres", Level::WARN, line))),
    }
}

fn repmgr(source: Cow<'static, str>, line: &str) -> Piece {
    let stamped = || {
        let rest = line.strip_prefix('[')?;
        let (time, rest) = rest.split_once("] [")?;
        let (word, text) = rest.split_once(']')?;
        let is_time = time.len() == 19
            && time
                .bytes()
                .all(|b| b.is_ascii_digit() || b"- :".contains(&b));
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase());
        (is_time && is_word).then(|| (word, text.trim_start()))
    };
    match stamped().or_else(|| leading_word(line)) {
        Some((word, text)) => by_word(source, word, text),
        None => Piece::More(line.to_owned()),
    }
}

fn barman(line: &str) -> Piece {
    let stamped = || {
        let time = line.get(..23)?;
        let is_time = time
            .bytes()
            .all(|b| b.is_ascii_digit() || b"- :,".contains(&b));
        let (pid, rest) = line.get(23..)?.strip_prefix(" [")?.split_once("] ")?;
        let pid: u64 = pid.parse().ok()?;
        let (module, rest) = rest.split_once(' ')?;
        let (word, text) = leading_word(rest)?;
        is_time.then_some((pid, module, word, text))
    };
    if let Some((pid, module, word, text)) = stamped() {
        let mut piece = by_word("barman", word, text);
        if let Piece::Begin(said) = &mut piece {
            said.pid = Some(pid);
            said.module = Some(module.to_owned());
        }
        return piece;
    }
    match leading_word(line) {
        Some((word, text)) => by_word("barman", word, text),
        None => Piece::More(line.to_owned()),
    }
}

/// Puts lines that belong together into one event.
#[derive(Debug)]
pub struct Assembler {
    format: Format,
    open: Option<(Said, Slot)>,
}

/// What the last line added to.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Message,
    Detail,
    Hint,
    Statement,
    Context,
}

/// Most bytes of one part of an event, however many lines go on.
const PART: usize = 64 * 1024;

impl Assembler {
    /// For a stream of such lines.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format, open: None }
    }

    /// Whether an event waits for lines that may still belong to it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes one line; gives what is complete by it.
    pub fn feed(&mut self, line: &str, cut: Option<u64>, out: &mut impl FnMut(Said)) {
        let line = line.trim_end_matches('\r');
        let (slot, text) = match self.format.piece(line, cut) {
            Piece::Whole(said) => {
                self.flush(out);
                return Self::give(*said, out);
            }
            Piece::Begin(said) => {
                self.flush(out);
                self.open = Some((*said, Slot::Message));
                return;
            }
            Piece::Detail(text) => (Some(Slot::Detail), text),
            Piece::Hint(text) => (Some(Slot::Hint), text),
            Piece::Statement(text) => (Some(Slot::Statement), text),
            Piece::Context(text) => (Some(Slot::Context), text),
            Piece::More(text) => (None, text),
        };
        if slot.is_none() && text.trim().is_empty() {
            return; // libpq ends its messages with an empty line.
        }
        let Some((said, at)) = &mut self.open else {
            self.open = Some((self.format.orphan(text), Slot::Message));
            return;
        };
        let part = match slot.unwrap_or(*at) {
            Slot::Message => &mut said.message,
            Slot::Detail => said.detail.get_or_insert_default(),
            Slot::Hint => said.hint.get_or_insert_default(),
            Slot::Statement => said.statement.get_or_insert_default(),
            Slot::Context => said.context.get_or_insert_default(),
        };
        if part.len() + text.len() > PART {
            let more = u64::try_from(text.len()).unwrap_or(u64::MAX);
            said.cut = Some(said.cut.unwrap_or(0).saturating_add(more));
        } else {
            if !part.is_empty() {
                part.push('\n');
            }
            part.push_str(&text);
        }
        *at = slot.unwrap_or(*at);
    }

    /// Nothing more belongs to what is open: the next event began, it was quiet, or the end came.
    pub fn flush(&mut self, out: &mut impl FnMut(Said)) {
        if let Some((said, _)) = self.open.take() {
            Self::give(said, out);
        }
    }

    fn give(mut said: Said, out: &mut impl FnMut(Said)) {
        let tidy = |text: &mut String| {
            if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
                *text = text.trim().to_owned();
            }
        };
        tidy(&mut said.message);
        for part in [
            &mut said.detail,
            &mut said.hint,
            &mut said.statement,
            &mut said.context,
        ] {
            part.as_mut().map(tidy);
            if part.as_ref().is_some_and(String::is_empty) {
                *part = None;
            }
        }
        if !said.message.is_empty() {
            out(said);
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
