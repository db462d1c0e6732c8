//! Progress of long work: a bar on a terminal, a line now and then elsewhere. On standard error, so that
//! standard output stays what was asked for.

use super::note;
use crate::domain::{human_bytes, human_duration};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// How far something is.
#[derive(Debug)]
pub(super) struct Progress {
    what: String,
    total: Option<u64>,
    began: Instant,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    /// Of `total` bytes, when that can be guessed. `quiet`: nothing is shown.
    pub(super) fn begin(what: impl Into<String>, total: Option<u64>, quiet: bool) -> Self {
        let what = what.into();
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::no_length(),
            };
            bar.set_draw_target(ProgressDrawTarget::stderr());
            let shape = match total {
                Some(_) => "{msg}: [{bar:30}] {bytes} of about {total_bytes}, {binary_bytes_per_sec}, {eta} left",
                None => "{msg}: {bytes}, {binary_bytes_per_sec}, for {elapsed}",
            };
            style(&bar, shape);
            bar.set_message(what.clone());
            bar
        });
        let now = Instant::now();
        Self {
            what,
            total,
            began: now,
            bar,
            // A quiet one never has a line due.
            told: if quiet { now + FOR_EVER } else { now },
        }
    }

    /// So many bytes by now.
    pub(super) fn at(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            // The total is a guess, and what follows the copy (fsync, archiving) takes its time.
            if self.total.is_some_and(|total| bytes >= total) {
                style(bar, "{msg}: {bytes}, finishing, for {elapsed}");
            }
            return;
        }
        if self.told.elapsed() < LINES || self.told > Instant::now() {
            return;
        }
        self.told = Instant::now();
        note(&line(&self.what, bytes, self.total, self.began.elapsed()));
    }

    /// It is over; the bar goes away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(bar: &ProgressBar, shape: &str) {
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style.progress_chars("=> "));
    }
}

const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// `copying: 1.2 GiB of about 2.0 GiB, 120.0 MiB/s, 7.0 s left`.
fn line(what: &str, bytes: u64, total: Option<u64>, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = bytes.saturating_mul(1000) / millis;
    let done = human_bytes(bytes);
    let rate_text = format!("{}/s", human_bytes(rate));
    match total.filter(|t| *t >= bytes && rate > 0) {
        Some(total) => {
            let left = Duration::from_secs((total - bytes) / rate);
            let total = human_bytes(total);
            let left = human_duration(left.max(Duration::from_secs(1)));
            format!("{what}: {done} of about {total}, {rate_text}, {left} left")
        }
        None => format!("{what}: {done}, {rate_text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_remaining_time_where_they_are_known() {
        let (mib, second) = (1 << 20, Duration::from_secs(1));
        let said = line("copying", 100 * mib, Some(300 * mib), 2 * second);
        assert_eq!(
            said,
            "copying: 100.0 MiB of about 300.0 MiB, 50.0 MiB/s, 4.0 s left"
        );
        let said = line("copying", 400 * mib, Some(300 * mib), 2 * second);
        assert_eq!(said, "copying: 400.0 MiB, 200.0 MiB/s");
        let said = line("copying", 0, Some(mib), Duration::ZERO);
        assert_eq!(said, "copying: 0 B, 0 B/s");
    }
}
