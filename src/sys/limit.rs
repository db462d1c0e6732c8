//! Rate limits for log lines, as data: the clock is passed in.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// How much may pass: `burst` at once, then one each `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Lines that pass at once after a quiet time.
    pub burst: u32,
    /// One more line in this time.
    pub every: Duration,
}

impl Rate {
    /// For repmgrd, which says some 15 lines a second while its database is down.
    pub const REPMGRD: Self = Self {
        burst: 20,
        every: Duration::from_secs(1),
    };
}

/// Whether a line passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It does.
    Yes,
    /// It does, and this many before it did not.
    YesAfterDropping(u64),
    /// It does not.
    No,
}

/// A token bucket. Times are durations since any fixed moment.
#[derive(Clone, Debug)]
pub struct Limiter {
    rate: Rate,
    /// Time saved up: a line costs `rate.every`.
    credit: Duration,
    last: Duration,
    dropped: u64,
}

impl Limiter {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            credit: Self::full(rate),
            last: Duration::ZERO,
            dropped: 0,
        }
    }

    fn full(rate: Rate) -> Duration {
        rate.every.saturating_mul(rate.burst.max(1))
    }

    fn refill(&mut self, now: Duration) {
        // A clock that goes back gives nothing and takes nothing.
        let passed = now.saturating_sub(self.last);
        self.credit = self
            .credit
            .saturating_add(passed)
            .min(Self::full(self.rate));
        self.last = self.last.max(now);
    }

    /// Decides about one line.
    pub fn admit(&mut self, now: Duration) -> Admit {
        self.refill(now);
        match self.credit.checked_sub(self.rate.every) {
            None => {
                self.dropped = self.dropped.saturating_add(1);
                Admit::No
            }
            Some(rest) => {
                self.credit = rest;
                match std::mem::take(&mut self.dropped) {
                    0 => Admit::Yes,
                    n => Admit::YesAfterDropping(n),
                }
            }
        }
    }

    /// When the flood may be called over: nothing came for two of its intervals. `None` when there
    /// is nothing to report.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        (self.dropped > 0).then(|| self.last.saturating_add(self.rate.every.saturating_mul(2)))
    }

    /// What was dropped at the end of a flood that is over by `now`.
    pub fn settle(&mut self, now: Duration) -> Option<u64> {
        (self.due()? <= now).then(|| std::mem::take(&mut self.dropped))
    }
}

/// Different shapes that one source is limited by separately.
const SHAPES: usize = 64;

/// Limits of one source: one bucket for all of its lines, or one for each shape of message (its
/// text without numbers and quoted names), so that a flood of one does not swallow another.
#[derive(Clone, Debug)]
pub struct Flood {
    rate: Rate,
    by_shape: bool,
    buckets: HashMap<u64, Bucket>,
}

#[derive(Clone, Debug)]
struct Bucket {
    limiter: Limiter,
    /// The last line that did not pass.
    example: String,
}

impl Flood {
    /// One bucket for all lines.
    #[must_use]
    pub fn of_all(rate: Rate) -> Self {
        Self {
            rate,
            by_shape: false,
            buckets: HashMap::new(),
        }
    }

    /// One bucket for each shape.
    #[must_use]
    pub fn of_each_shape(rate: Rate) -> Self {
        Self {
            by_shape: true,
            ..Self::of_all(rate)
        }
    }

    /// Decides about one line.
    pub fn admit(&mut self, now: Duration, message: &str) -> Admit {
        let mut key = if self.by_shape { shape(message) } else { 0 };
        if self.buckets.len() >= SHAPES && !self.buckets.contains_key(&key) {
            self.buckets
                .retain(|_, b| b.limiter.dropped > 0 || !b.limiter.is_full(now));
            if self.buckets.len() >= SHAPES {
                key = 0; // A flood of ever new shapes shares one bucket.
            }
        }
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket {
            limiter: Limiter::new(self.rate),
            example: String::new(),
        });
        let admit = bucket.limiter.admit(now);
        if admit == Admit::No {
            bucket.example.clear();
            bucket.example.extend(message.chars().take(200));
        }
        admit
    }

    /// When [`Flood::settle`] has something to say, if nothing more comes.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.buckets.values().filter_map(|b| b.limiter.due()).min()
    }

    /// Floods that are over by `now`: an example of what was dropped, and how many.
    pub fn settle(&mut self, now: Duration) -> Vec<(String, u64)> {
        self.buckets
            .values_mut()
            .filter_map(|b| {
                let dropped = b.limiter.settle(now)?;
                Some((std::mem::take(&mut b.example), dropped))
            })
            .collect()
    }

    /// As [`Flood::settle`] for all floods, over or not: the source has ended.
    pub fn finish(&mut self) -> Vec<(String, u64)> {
        self.settle(Duration::MAX)
    }
}

impl Limiter {
    fn is_full(&self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last);
        self.credit.saturating_add(passed) >= Self::full(self.rate)
    }
}

/// The text without what varies: digits and quoted parts.
fn shape(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut quoted = false;
    let mut digits = false;
    for c in message.chars() {
        if c == '"' {
            quoted = !quoted;
        } else if quoted {
            continue;
        }
        let digit = c.is_ascii_digit();
        if digit && digits {
            continue;
        }
        digits = digit;
        (if digit { '0' } else { c }).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: Duration::from_secs(1),
    };

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        use Admit::{No, Yes, YesAfterDropping};
        let mut limiter = Limiter::new(RATE);
        for (at, want) in [
            (0, Yes),
            (0, Yes),
            (0, Yes),
            (0, No),
            (999, No),
            (1000, YesAfterDropping(2)),
            (1001, No),
            (1999, No),
            (2000, YesAfterDropping(2)),
            // A long pause fills it again, and not more than full.
            (60_000, Yes),
            (60_000, Yes),
            (60_000, Yes),
            (60_000, No),
        ] {
            assert_eq!(limiter.admit(ms(at)), want, "at {at}");
        }
    }

    #[test]
    fn the_end_of_a_flood_is_reported_once_it_is_quiet() {
        let mut limiter = Limiter::new(RATE);
        for _ in 0..10 {
            limiter.admit(ms(500));
        }
        assert_eq!(limiter.due(), Some(ms(2500)));
        assert_eq!(limiter.settle(ms(2499)), None);
        assert_eq!(limiter.settle(ms(2500)), Some(7));
        assert_eq!(limiter.settle(ms(9999)), None);
        assert_eq!(limiter.due(), None);
    }

    #[test]
    fn nothing_is_lost_or_made_up_by_any_clock() {
        // Whatever the times, also backwards: every line passes or is counted exactly once.
        let mut seed = 1_u64;
        for _ in 0..50 {
            let mut limiter = Limiter::new(RATE);
            let (mut passed, mut counted) = (0, 0);
            for _ in 0..400 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match limiter.admit(ms(seed >> 48)) {
                    Admit::Yes => passed += 1,
                    Admit::YesAfterDropping(n) => {
                        assert!(n > 0);
                        passed += 1;
                        counted += n;
                    }
                    Admit::No => {}
                }
            }
            counted += limiter.settle(Duration::MAX).unwrap_or(0);
            assert_eq!(passed + counted, 400);
        }
    }

    #[test]
    fn extreme_rates_neither_panic_nor_block_for_ever() {
        for (burst, every) in [(0, 1), (u32::MAX, u64::MAX), (0, 0), (5, 0)] {
            let mut limiter = Limiter::new(Rate {
                burst,
                every: ms(every),
            });
            assert_eq!(limiter.admit(Duration::ZERO), Admit::Yes);
            limiter.admit(Duration::MAX);
        }
    }

    #[test]
    fn a_shape_is_the_text_without_numbers_and_names() {
        assert_eq!(
            shape("checking state of node 1, 2 of 6 attempts"),
            shape("checking state of node 12, 3 of 60 attempts")
        );
        assert_eq!(
            shape(r#"unable to ping "host=a user=b""#),
            shape(r#"unable to ping "host=c""#)
        );
        assert_ne!(shape("unable to ping"), shape("unable to pong"));
        assert_ne!(shape("node"), shape("node 1"));
    }

    #[test]
    fn one_flood_does_not_swallow_another_line() {
        let mut flood = Flood::of_each_shape(RATE);
        for i in 0..100 {
            flood.admit(ms(0), &format!("sleeping {i} seconds"));
        }
        assert_eq!(flood.admit(ms(0), "promoted"), Admit::Yes);
        assert_eq!(flood.settle(ms(2000)), [("sleeping 99 seconds".into(), 97)]);
        let mut whole = Flood::of_all(RATE);
        for i in 0..100 {
            whole.admit(ms(0), &format!("sleeping {i} seconds"));
        }
        assert_eq!(whole.admit(ms(0), "promoted"), Admit::No);
        assert_eq!(whole.finish(), [("promoted".into(), 98)]);
    }

    #[test]
    fn ever_new_shapes_do_not_eat_memory_and_are_limited_too() {
        let mut flood = Flood::of_each_shape(RATE);
        let word = |i: u64| -> String {
            let letter = |n: u64| char::from(b'a' + u8::try_from(n % 26).unwrap());
            [i, i / 26, i / 676].map(letter).iter().collect()
        };
        let passed = (0..5000)
            .filter(|&i| flood.admit(ms(0), &word(i)) != Admit::No)
            .count();
        assert!(flood.buckets.len() <= SHAPES + 1);
        assert!(passed <= SHAPES + 3, "{passed}");
        let dropped: u64 = flood.finish().iter().map(|(_, n)| n).sum();
        assert_eq!(u64::try_from(passed).unwrap() + dropped, 5000);
        // Once it is quiet, there is room again.
        assert_eq!(flood.admit(ms(60_000), "promoted"), Admit::Yes);
    }
}
