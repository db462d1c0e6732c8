//! Log events on standard output: one line a person can read, or one JSON object; both carry the
//! same fields. Every event has a `source`: `pgnode`, or the child whose line it was.

use std::io::{IsTerminal as _, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// A filter that `RUST_LOG` cannot mean.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG={filter} is not a filter such as `info` or `info,pgnode::sys=debug`: {why}")]
pub struct BadFilter {
    filter: String,
    why: String,
}

/// Installs the one subscriber of the process. A second call changes nothing.
///
/// # Errors
/// [`BadFilter`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), BadFilter> {
    let parsed = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| BadFilter {
        filter: filter.to_owned(),
        why: e.to_string(),
    })?;
    let colour = format == LogFormat::Text && std::io::stdout().is_terminal();
    // A test may have installed one before.
    drop(
        tracing_subscriber::registry()
            .with(parsed)
            .with(Lines { format, colour })
            .try_init(),
    );
    Ok(())
}

struct Lines {
    format: LogFormat,
    colour: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = chrono::Utc::now();
        let line = fields.line(self.format, self.colour, *event.metadata().level(), now);
        // A reader that went away must not take PID 1 with it.
        drop(std::io::stdout().lock().write_all(line.as_bytes()));
    }
}

/// The fields of an event in the order in which they were given.
#[derive(Default)]
struct Fields {
    message: String,
    source: Option<String>,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            ("source", serde_json::Value::String(text)) => self.source = Some(text),
            (_, serde_json::Value::Null) => {}
            (name, value) => self.others.push((name, value)),
        }
    }

    fn line(
        self,
        format: LogFormat,
        colour: bool,
        level: Level,
        now: chrono::DateTime<chrono::Utc>,
    ) -> String {
        let time = now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let source = self.source.unwrap_or_else(|| "pgnode".to_owned());
        match format {
            LogFormat::Json => {
                let mut object = serde_json::Map::new();
                object.insert("time".into(), time.into());
                object.insert("level".into(), level.as_str().to_lowercase().into());
                object.insert("source".into(), source.into());
                object.insert("message".into(), self.message.into());
                for (name, value) in self.others {
                    object.insert(name.into(), value);
                }
                format!("{}\n", serde_json::Value::Object(object))
            }
            LogFormat::Text => {
                let (on, off) = match (colour, level) {
                    (false, _) => ("", ""),
                    (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
                    (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
                    (true, _) => ("\x1b[2m", "\x1b[0m"),
                };
                // Further lines of a message are indented, so that a line's beginning is a time.
                let message = self.message.trim_end().replace('\n', "\n    ");
                let mut line = format!("{time} {on}{level:<5}{off} {source:<9} {message}");
                for (name, value) in self.others {
                    let shown = match value {
                        serde_json::Value::String(s) if s.contains([' ', '"', '\n']) => {
                            format!("{s:?}")
                        }
                        serde_json::Value::String(s) => s,
                        other => other.to_string(),
                    };
                    line.push_str(&format!(" {name}={shown}"));
                }
                line.push('\n');
                line
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "two\nlines".into(),
            source: None,
            others: vec![("took_ms", 12.into()), ("why", "a b".into())],
        }
    }

    #[test]
    fn both_formats_carry_the_same() {
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 5_000_000).unwrap();
        assert_eq!(
            fields().line(LogFormat::Text, false, Level::INFO, now),
            "2023-11-14T22:13:20.005Z INFO  pgnode    two\n    lines took_ms=12 why=\"a b\"\n"
        );
        let json = fields().line(LogFormat::Json, true, Level::WARN, now);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "two\nlines");
        assert_eq!(value["took_ms"], 12);
        assert_eq!(json.matches('\n').count(), 1);
    }
}
