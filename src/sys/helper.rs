//! The log of a child of ours: lines on standard error as PostgreSQL's programs write them, which the node reads and
//! puts into its own log.

use super::LogError;
use std::fmt::Write as _;
use std::io::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        // Libraries speak to their own developers.
        if !meta.target().starts_with("pgnode") || *meta.level() > Level::INFO {
            return;
        }
        let word = match *meta.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            _ => "INFO",
        };
        let mut text = Message::default();
        event.record(&mut text);
        let line = format!("{word}: {}\n", text.0.replace('\n', " "));
        // Nobody else can be told.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Into a string nothing fails.
            let _never = write!(self.0, "{value:?}");
        }
    }
}

/// Sets it up.
///
/// # Errors
/// There is a log already.
pub fn init_helper_log() -> Result<(), LogError> {
    let lines = tracing_subscriber::registry().with(Lines);
    Ok(tracing::subscriber::set_global_default(lines)?)
}
