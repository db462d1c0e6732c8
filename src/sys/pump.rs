//! From a child's pipe to log events, with a limit for floods.

use super::lines::{LogLine, LogSource, understand};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tracing::Level;

/// Longer lines are cut: a statement of megabytes belongs into no log.
const LONGEST: usize = 64 * 1024;

/// A token bucket: so many lines at once, then so many a second; what is dropped is counted.
/// repmgrd writes about 15 lines a second while its database is down.
#[derive(Clone, Debug, PartialEq)]
pub struct Limiter {
    burst: f64,
    per_second: f64,
    tokens: f64,
    last: Duration,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It is written; so many were dropped before it.
    Yes {
        /// Lines dropped since the last one that was written.
        after: u64,
    },
    /// It is counted only.
    No,
}

impl Limiter {
    /// The limit for a source, if it has one.
    #[must_use]
    pub fn of(source: LogSource) -> Option<Self> {
        match source {
            LogSource::Repmgrd => Some(Self::new(30.0, 1.0)),
            LogSource::Postgres | LogSource::Crond | LogSource::Barman => None,
        }
    }

    /// `burst` lines at once, then `per_second`.
    #[must_use]
    pub const fn new(burst: f64, per_second: f64) -> Self {
        Self {
            burst,
            per_second,
            tokens: burst,
            last: Duration::ZERO,
            dropped: 0,
        }
    }

    /// A line at a moment, given as time since any fixed beginning.
    pub fn admit(&mut self, now: Duration) -> Admit {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens < 1.0 {
            self.dropped += 1;
            return Admit::No;
        }
        self.tokens -= 1.0;
        Admit::Yes {
            after: std::mem::take(&mut self.dropped),
        }
    }

    /// Lines dropped and not told of yet; they count as told.
    pub const fn settle(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }
}

/// Reads lines until the pipe ends and makes each an event.
pub async fn pump(mut pipe: impl AsyncRead + Unpin, source: LogSource) {
    let begin = Instant::now();
    let mut limiter = Limiter::of(source);
    let mut buffer = vec![0_u8; 4096];
    let mut line = Vec::new();
    loop {
        let quiet = limiter.as_ref().is_none_or(|l| l.dropped == 0);
        let read = if quiet {
            pipe.read(&mut buffer).await
        } else {
            // A flood that has ended is told of as well.
            match tokio::time::timeout(Duration::from_secs(5), pipe.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    tell_dropped(source, limiter.as_mut().map_or(0, Limiter::settle));
                    continue;
                }
            }
        };
        let Ok(n @ 1..) = read else { break };
        for &byte in &buffer[..n] {
            if byte == b'\n' {
                emit(source, &mut line, &mut limiter, begin);
            } else if line.len() < LONGEST {
                line.push(byte);
            }
        }
    }
    emit(source, &mut line, &mut limiter, begin);
    tell_dropped(source, limiter.as_mut().map_or(0, Limiter::settle));
}

fn emit(source: LogSource, line: &mut Vec<u8>, limiter: &mut Option<Limiter>, begin: Instant) {
    if !line.is_empty() {
        let parsed = understand(source, &String::from_utf8_lossy(line));
        line.clear();
        match limiter.as_mut().map(|l| l.admit(begin.elapsed())) {
            Some(Admit::No) => {}
            Some(Admit::Yes { after }) => {
                tell_dropped(source, after);
                write(source, &parsed);
            }
            None => write(source, &parsed),
        }
    }
}

fn tell_dropped(source: LogSource, dropped: u64) {
    if dropped > 0 {
        tracing::warn!(
            source = source.name(),
            dropped,
            "{dropped} lines were dropped: a flood"
        );
    }
}

/// One event. The fields' names are fixed at compile time, so the few that matter are named here.
pub fn write(source: LogSource, line: &LogLine) {
    let field = |name: &str| {
        line.fields
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    };
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                $level,
                source = source.name(),
                at = line.at.as_deref(),
                code = field("code"),
                detail = field("detail"),
                hint = field("hint"),
                statement = field("statement"),
                user = field("user"),
                db = field("db"),
                client = field("client"),
                backend = field("backend"),
                pid = field("pid"),
                module = field("module"),
                program = field("program"),
                "{}",
                line.message
            )
        };
    }
    match line.level {
        Level::ERROR => event!(Level::ERROR),
        Level::WARN => event!(Level::WARN),
        Level::DEBUG | Level::TRACE => event!(Level::DEBUG),
        _ => event!(Level::INFO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut limiter = Limiter::new(3.0, 1.0);
        let at = |ms| Duration::from_millis(ms);
        let mut written = 0;
        for i in 0..150 {
            // 15 lines a second for 10 s.
            if limiter.admit(at(i * 66)) != Admit::No {
                written += 1;
            }
        }
        assert!((12..=13).contains(&written), "{written}");
        assert!(limiter.settle() > 0);
        assert_eq!(limiter.settle(), 0);
        assert_eq!(limiter.admit(at(60_000)), Admit::Yes { after: 0 });
    }

    #[test]
    fn the_count_comes_with_the_next_line() {
        let mut limiter = Limiter::new(1.0, 1.0);
        assert_eq!(limiter.admit(Duration::ZERO), Admit::Yes { after: 0 });
        assert_eq!(limiter.admit(Duration::ZERO), Admit::No);
        assert_eq!(limiter.admit(Duration::ZERO), Admit::No);
        assert_eq!(
            limiter.admit(Duration::from_secs(1)),
            Admit::Yes { after: 2 }
        );
        // A clock that goes back gives nothing away.
        assert_eq!(limiter.admit(Duration::ZERO), Admit::No);
    }
}
