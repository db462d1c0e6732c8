//! What a line of a child's log means: pure parsers, one a program. A line that is not understood
//! is passed on as it is.

use tracing::Level;

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// The server: JSON lines from its collector, plain ones from before the collector runs.
    Postgres,
    /// repmgr's daemon and commands.
    Repmgrd,
    /// Debian's cron by syslog.
    Crond,
    /// barman.
    Barman,
}

impl LogSource {
    /// The value of the event's `source`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Repmgrd => "repmgrd",
            Self::Crond => "crond",
            Self::Barman => "barman",
        }
    }
}

/// An event that a line became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How loud.
    pub level: Level,
    /// What.
    pub message: String,
    /// Its own time, where it has one.
    pub at: Option<String>,
    /// Further fields: name and value.
    pub fields: Vec<(&'static str, String)>,
}

impl LogLine {
    fn plain(level: Level, message: &str) -> Self {
        Self {
            level,
            message: message.to_owned(),
            at: None,
            fields: Vec::new(),
        }
    }
}

/// Understands a line.
#[must_use]
pub fn understand(source: LogSource, line: &str) -> LogLine {
    let line = line.trim_end();
    match source {
        LogSource::Postgres => postgres(line),
        LogSource::Repmgrd => repmgr(line),
        LogSource::Barman => barman(line),
        LogSource::Crond => cron(line),
    }
    .unwrap_or_else(|| LogLine::plain(Level::INFO, line))
}

/// A jsonlog line (PostgreSQL manual, "Using JSON-Format Log Output"), or `LEVEL:  text`.
fn postgres(line: &str) -> Option<LogLine> {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(line) else {
        // Before the collector runs: `2026-11-21 08:00:00.123 UTC [42] FATAL:  text`.
        let (level, text) = [
            "FATAL", "PANIC", "ERROR", "WARNING", "HINT", "DETAIL", "LOG",
        ]
        .iter()
        .find_map(|word| {
            let at = line.find(&format!("{word}:  "))?;
            Some((severity(word), &line[at + word.len() + 3..]))
        })?;
        return Some(LogLine::plain(level, text));
    };
    let text = |key: &str| match object.get(key) {
        Some(serde_json::Value::String(s)) => Some(s.clone()),
        Some(serde_json::Value::Number(n)) => Some(n.to_string()),
        _ => None,
    };
    let fields = [
        ("code", "state_code"),
        ("detail", "detail"),
        ("hint", "hint"),
        ("statement", "statement"),
        ("user", "user"),
        ("db", "dbname"),
        ("client", "remote_host"),
        ("backend", "backend_type"),
        ("pid", "pid"),
    ];
    Some(LogLine {
        level: severity(&text("error_severity")?),
        message: text("message").unwrap_or_default(),
        at: text("timestamp"),
        fields: fields
            .into_iter()
            .filter_map(|(name, key)| Some((name, text(key)?)))
            .filter(|(name, value)| !(*name == "code" && value == "00000"))
            .collect(),
    })
}

fn severity(word: &str) -> Level {
    match word {
        "PANIC" | "FATAL" | "ERROR" => Level::ERROR,
        "WARNING" | "WARN" => Level::WARN,
        word if word.starts_with("DEBUG") => Level::DEBUG,
        _ => Level::INFO,
    }
}

/// `[2026-11-21 08:00:00] [NOTICE] text`, `NOTICE: text`, libpq's `INFO:  text`, or a continuation.
fn repmgr(line: &str) -> Option<LogLine> {
    if let Some(rest) = line.strip_prefix('[') {
        let (at, rest) = rest.split_once("] [")?;
        let (level, text) = rest.split_once("] ")?;
        let mut parsed = LogLine::plain(severity(level), text);
        parsed.at = Some(at.to_owned());
        return Some(parsed);
    }
    let (level, text) = line.split_once(':')?;
    let known = [
        "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "DETAIL", "HINT",
    ];
    known
        .contains(&level)
        .then(|| LogLine::plain(severity(level), text.trim_start()))
}

/// `2026-11-21 07:58:14,220 [pid] barman.module LEVEL: text`.
fn barman(line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(" [")?;
    let (_, rest) = rest.split_once("] ")?;
    let (head, text) = rest.split_once(": ")?;
    let (module, level) = head.split_once(' ')?;
    let level = match level {
        "CRITICAL" | "EXCEPTION" => Level::ERROR,
        other => severity(other),
    };
    Some(LogLine {
        level,
        message: text.to_owned(),
        at: Some(at.to_owned()),
        fields: vec![("module", module.to_owned())],
    })
}

/// `<78>Nov 21 08:00:01 CRON[123]: (barman) CMD (…)`: what ran is for debugging, what failed is not.
fn cron(line: &str) -> Option<LogLine> {
    let (_, rest) = line.strip_prefix('<')?.split_once('>')?;
    // `Mon DD HH:MM:SS ` is 16 bytes.
    let (tag, text) = rest.get(16..)?.split_once(": ")?;
    let noise = text.starts_with("pam_unix")
        || text.contains(") CMD (")
        || text.contains(") END (")
        || text.contains(") INFO (");
    let level = if text.contains("error") || text.contains("failed") || text.contains("Error") {
        Level::WARN
    } else if noise {
        Level::DEBUG
    } else {
        Level::INFO
    };
    let mut parsed = LogLine::plain(level, text);
    let program = tag.split('[').next().unwrap_or(tag);
    if !program.eq_ignore_ascii_case("cron") {
        parsed.fields.push(("program", program.to_owned()));
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: LogSource, line: &str) -> (Level, String) {
        let parsed = understand(source, line);
        (parsed.level, parsed.message)
    }

    #[test]
    fn lines_as_they_were_captured() {
        use LogSource::{Barman, Crond, Postgres, Repmgrd};
        for (source, line, level, message) in [
            (
                Postgres,
                r#"{"timestamp":"2026-11-21 07:55:00.1 UTC","pid":9,"error_severity":"FATAL","state_code":"28P01","message":"password authentication failed for user \"x\"","backend_type":"client backend"}"#,
                Level::ERROR,
                "password authentication failed for user \"x\"",
            ),
            (
                Postgres,
                "2026-11-21 07:55:00.123 UTC [42] LOG:  redirecting log output to logging collector process",
                Level::INFO,
                "redirecting log output to logging collector process",
            ),
            (
                Postgres,
                "postgres: could not find X",
                Level::INFO,
                "postgres: could not find X",
            ),
            (
                Repmgrd,
                "[2026-11-21 07:55:00] [NOTICE] repmgrd (repmgrd 5.5.0) starting up",
                Level::INFO,
                "repmgrd (repmgrd 5.5.0) starting up",
            ),
            (
                Repmgrd,
                "[2026-11-21 07:55:00] [WARNING] unable to ping",
                Level::WARN,
                "unable to ping",
            ),
            (
                Repmgrd,
                "INFO:  set_repmgrd_pid(): pid 7",
                Level::INFO,
                "set_repmgrd_pid(): pid 7",
            ),
            (Repmgrd, "  continued here", Level::INFO, "  continued here"),
            (
                Barman,
                "2026-11-21 07:58:14,220 [83] barman.backup_executor INFO: Backup start at LSN: 0/4000028",
                Level::INFO,
                "Backup start at LSN: 0/4000028",
            ),
            (
                Barman,
                "2026-11-21 07:58:14,220 [83] barman.server ERROR: Check 'x' failed",
                Level::ERROR,
                "Check 'x' failed",
            ),
            (
                Crond,
                "<78>Nov 21 07:58:01 CRON[61]: (root) CMD ([60] echo tick)",
                Level::DEBUG,
                "(root) CMD ([60] echo tick)",
            ),
            (
                Crond,
                "<78>Nov 21 07:58:01 CRON[61]: (CRON) error (grandchild #59 failed with exit status 3)",
                Level::WARN,
                "(CRON) error (grandchild #59 failed with exit status 3)",
            ),
        ] {
            assert_eq!(seen(source, line), (level, message.to_owned()), "{line}");
        }
    }

    #[test]
    fn fields_and_times_are_kept() {
        let line = r#"{"timestamp":"T","pid":9,"error_severity":"LOG","state_code":"00000","message":"m","detail":"d"}"#;
        let parsed = understand(LogSource::Postgres, line);
        assert_eq!(parsed.at.as_deref(), Some("T"));
        assert_eq!(
            parsed.fields,
            [("detail", "d".to_owned()), ("pid", "9".to_owned())]
        );
    }
}
