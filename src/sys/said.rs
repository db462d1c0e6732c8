//! One thing that a child said, as data, and its way into the log.

use std::borrow::Cow;
use tracing::Level;

/// A line (or several that belong together) of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who: `postgres`, `repmgrd`, `crond`, `barman` …
    pub source: Cow<'static, str>,
    /// How bad.
    pub level: Level,
    /// What.
    pub message: String,
    /// The speaker's own time, RFC 3339, when it gave one with a zone.
    pub at: Option<String>,
    /// The speaker's word for the level where ours says less: `FATAL`, `PANIC`.
    pub severity: Option<Cow<'static, str>>,
    /// SQLSTATE.
    pub code: Option<String>,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in a function it happened.
    pub context: Option<String>,
    /// The SQL, or the command.
    pub statement: Option<String>,
    /// Database user.
    pub user: Option<String>,
    /// Database.
    pub db: Option<String>,
    /// `application_name`.
    pub app: Option<String>,
    /// Process id of the speaker.
    pub pid: Option<u64>,
    /// PostgreSQL's kind of backend.
    pub backend: Option<String>,
    /// barman's module.
    pub module: Option<String>,
    /// Bytes of the line that were not kept.
    pub cut: Option<u64>,
    /// Lines before this one that were not let through.
    pub dropped: Option<u64>,
}

impl Said {
    /// A message and nothing else.
    #[must_use]
    pub fn new(
        source: impl Into<Cow<'static, str>>,
        level: Level,
        message: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            level,
            message: message.into(),
            at: None,
            severity: None,
            code: None,
            detail: None,
            hint: None,
            context: None,
            statement: None,
            user: None,
            db: None,
            app: None,
            pid: None,
            backend: None,
            module: None,
            cut: None,
            dropped: None,
        }
    }

    /// Logs it. The source is also the event's target (`child` for one that is not in
    /// `log.rs`), so a filter can say `info,postgres=warn`.
    pub fn log(&self) {
        // A target must be constant, hence one call site for each.
        macro_rules! at {
            ($target:literal, $level:ident) => {
                tracing::event!(
                    target: $target,
                    Level::$level,
                    source = &*self.source,
                    at = self.at.as_deref(),
                    severity = self.severity.as_deref(),
                    code = self.code.as_deref(),
                    detail = self.detail.as_deref(),
                    hint = self.hint.as_deref(),
                    context = self.context.as_deref(),
                    statement = self.statement.as_deref(),
                    user = self.user.as_deref(),
                    db = self.db.as_deref(),
                    app = self.app.as_deref(),
                    backend = self.backend.as_deref(),
                    module = self.module.as_deref(),
                    pid = self.pid,
                    cut = self.cut,
                    dropped = self.dropped,
                    "{}",
                    self.message
                )
            };
            ($target:literal) => {
                match self.level {
                    Level::ERROR => at!($target, ERROR),
                    Level::WARN => at!($target, WARN),
                    Level::INFO => at!($target, INFO),
                    Level::DEBUG => at!($target, DEBUG),
                    Level::TRACE => at!($target, TRACE),
                }
            };
        }
        match &*self.source {
            "postgres" => at!("postgres"),
            "repmgrd" => at!("repmgrd"),
            "repmgr" => at!("repmgr"),
            "barman" => at!("barman"),
            "crond" => at!("crond"),
            _ => at!("child"),
        }
    }
}
