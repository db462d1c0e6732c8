//! Carries what children print into the log: lines, rate limits, back-pressure.

use super::limit::{Admit, Flood, Rate};
use super::log;
use super::parse::{Assembler, Format};
use super::said::Said;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// Longest line that is kept, in bytes; of a longer one the beginning.
pub const LONGEST: usize = 64 * 1024;

/// How long to wait for lines that may belong to the last event.
const QUIET: Duration = Duration::from_millis(30);

/// A FIFO to read log lines from. Opened for both directions (fifo(7): Linux allows it), so it has
/// no end of file when one writer leaves, and a writer never blocks on opening it.
///
/// # Errors
/// There is no FIFO, or it is not ours.
pub fn open_fifo(path: &Path) -> std::io::Result<pipe::Receiver> {
    pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(path)
}

/// After [`log::end`], a stream that gave nothing for so long has been read to its end.
pub(super) const DRAINED: Duration = Duration::from_millis(20);

/// Reads to the end of the stream and logs every line. A FIFO has no end: [`log::end`] makes one.
/// Waits while the log is written slower than the child writes, so that the child waits too.
pub async fn pump(reader: impl AsyncRead + Unpin, format: Format) {
    pump_until(reader, format, std::future::pending()).await;
}

/// As [`pump`], until `stop`: then what is still in the pipe is read, and that is the end.
pub(super) async fn pump_until(
    reader: impl AsyncRead + Unpin,
    format: Format,
    stop: impl Future<Output = ()>,
) {
    let mut pass = log::pump_pass();
    let stop = async {
        tokio::select! {
            () = log::told_to_end(&mut pass) => {}
            () = stop => {}
        }
    };
    let gate = Gate {
        flood: format.flood(),
        source: format.source(),
    };
    carry(reader, format, gate, stop, |said| said.log()).await;
}

async fn carry(
    mut reader: impl AsyncRead + Unpin,
    format: Format,
    mut gate: Gate,
    stop: impl Future<Output = ()>,
    mut out: impl FnMut(Said),
) {
    let mut stop = std::pin::pin!(stop);
    let mut stopping = false;
    let began = Instant::now();
    let mut lines = Lines::default();
    let mut assembler = Assembler::new(format);
    let mut buffer = vec![0_u8; 8 * 1024];
    let mut quiet_at = began;
    loop {
        let due = gate.flood.as_ref().and_then(Flood::due).map(|d| began + d);
        tokio::select! {
            biased;
            read = reader.read(&mut buffer) => {
                // An error ends a stream as its end does: nothing more can come.
                let Ok(n @ 1..) = read else { break };
                let now = began.elapsed();
                let mut through = |said| gate.pass(said, now, &mut out);
                let some = buffer.get(..n).unwrap_or_default();
                lines.push(some, |line, cut| assembler.feed(line, cut, &mut through));
                quiet_at = Instant::now() + QUIET;
            }
            () = &mut stop, if !stopping => stopping = true,
            () = tokio::time::sleep(DRAINED), if stopping => break,
            () = tokio::time::sleep_until(quiet_at), if assembler.is_open() => {
                let now = began.elapsed();
                assembler.flush(&mut |said| gate.pass(said, now, &mut out));
            }
            () = tokio::time::sleep_until(due.unwrap_or(began)), if due.is_some() => {
                gate.settle(began.elapsed(), &mut out);
            }
        }
        log::room().await;
    }
    let now = began.elapsed();
    let mut through = |said| gate.pass(said, now, &mut out);
    lines.end(|line, cut| assembler.feed(line, cut, &mut through));
    assembler.flush(&mut through);
    gate.finish(&mut out);
}

/// The rate limit of one source.
#[derive(Debug)]
pub(super) struct Gate {
    /// The limit, if there is one.
    pub(super) flood: Option<Flood>,
    /// Whose lines they are.
    pub(super) source: std::borrow::Cow<'static, str>,
}

impl Gate {
    /// Lets an event through, or not.
    pub(super) fn pass(&mut self, mut said: Said, now: Duration, out: &mut impl FnMut(Said)) {
        if let Some(flood) = &mut self.flood {
            match flood.admit(now, &said.message) {
                Admit::Yes => {}
                Admit::YesAfterDropping(n) => said.dropped = Some(n),
                Admit::No => return,
            }
        }
        out(said);
    }

    /// Reports floods that are over.
    pub(super) fn settle(&mut self, now: Duration, out: &mut impl FnMut(Said)) {
        let over = self.flood.as_mut().map(|flood| flood.settle(now));
        self.report(over.unwrap_or_default(), out);
    }

    /// Reports all floods: nothing more will come.
    fn finish(&mut self, out: &mut impl FnMut(Said)) {
        let over = self.flood.as_mut().map(Flood::finish);
        self.report(over.unwrap_or_default(), out);
    }

    fn report(&self, over: Vec<(String, u64)>, out: &mut impl FnMut(Said)) {
        for (example, dropped) in over {
            let message = format!("more lines like this were left out: {example}");
            let mut said = Said::new(self.source.clone(), tracing::Level::INFO, message);
            said.dropped = Some(dropped);
            out(said);
        }
    }
}

impl Format {
    /// The limit for a flood of them. Only repmgrd has one: dropping lines of PostgreSQL's log,
    /// which may be an audit trail, is not ours to decide.
    fn flood(&self) -> Option<Flood> {
        match self {
            Self::Repmgr { .. } => Some(Flood::of_each_shape(Rate::REPMGRD)),
            Self::PostgresJson
            | Self::PostgresText
            | Self::PostgresRest
            | Self::Barman
            | Self::Plain { .. } => None,
        }
    }

    /// repmgrd's lines.
    #[must_use]
    pub const fn repmgrd() -> Self {
        Self::Repmgr {
            source: std::borrow::Cow::Borrowed("repmgrd"),
        }
    }

    /// Lines that are what they are.
    #[must_use]
    pub const fn plain(source: &'static str) -> Self {
        Self::Plain {
            source: std::borrow::Cow::Borrowed(source),
            level: tracing::Level::INFO,
        }
    }

    /// Whose lines these are.
    #[must_use]
    pub fn source(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::PostgresJson | Self::PostgresText | Self::PostgresRest => "postgres".into(),
            Self::Barman => "barman".into(),
            Self::Repmgr { source } | Self::Plain { source, .. } => source.clone(),
        }
    }
}

/// Cuts a stream of bytes into lines. Bytes that are not UTF-8 become U+FFFD.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    /// Bytes of this line that were not kept.
    cut: u64,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&str, Option<u64>)) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(at);
            self.extend(line);
            self.end(&mut each);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.begun.len();
        let (keep, lose) = bytes.split_at(room.min(bytes.len()));
        self.begun.extend_from_slice(keep);
        self.cut += u64::try_from(lose.len()).unwrap_or(0);
    }

    /// The line is complete: its newline came, or the end of the stream.
    fn end(&mut self, mut each: impl FnMut(&str, Option<u64>)) {
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            // Not in the middle of a character.
            let whole = self.begun.utf8_chunks().map(|c| c.valid().len()).next();
            let tail = self.begun.len() - whole.unwrap_or(0);
            if tail < 4 {
                self.begun.truncate(self.begun.len() - tail);
            }
        }
        each(
            &String::from_utf8_lossy(&self.begun),
            (cut > 0).then_some(cut),
        );
        self.begun.clear();
        // A long line's buffer is given back.
        self.begun.shrink_to(4096);
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
