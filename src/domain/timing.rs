//! Time as data: moments, and the few durations that safety rests on.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Milliseconds on a clock that never goes back and goes on while the machine is suspended
/// (`CLOCK_BOOTTIME`). Only differences on one node mean anything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

impl Moment {
    /// So much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long until then; zero when it has passed.
    #[must_use]
    pub const fn until(self, then: Self) -> Duration {
        Duration::from_millis(then.0.saturating_sub(self.0))
    }
}

/// Whole milliseconds of a duration.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How quickly a failure is acted upon (`PGNODE_FAILOVER_PROFILE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A failed primary is replaced within 3 s; a node that gets no CPU for a second is fenced.
    Fast,
    /// Within 8 s.
    Default,
    /// Within 20 s: for machines or networks that stall.
    Cautious,
}

/// The durations. Safe when [`Timing::check`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two rounds of beats.
    pub beat: Duration,
    /// How long the primary may stay open after it sent a round that enough voters answered.
    pub lease: Duration,
    /// How long closing may take: QUIT, and KILL after half of it.
    pub close: Duration,
    /// How long a voter that answered a beat grants nothing to anybody else.
    pub promise: Duration,
    /// How long a voter that has heard no primary since it started leaves the old one time to come
    /// up: after a power cut the nodes start in any order.
    pub cold_wait: Duration,
    /// How long the others leave a named successor to itself.
    pub yield_for: Duration,
    /// The deadline of a question.
    pub patience: Duration,
}

/// What clocks of two machines may differ by within one promise, and a scheduler's delay: at least
/// so much, and a twentieth of what they measure. In the profiles the voter's clock may be faster
/// than the primary's by 5.5 % (`Fast`), 9 % (`Default`) and 6.6 % (`Cautious`); the kernel slews one
/// by 0.05 % at most, and the simulation lets each be wrong by 1 %.
const SLACK: Duration = Duration::from_millis(100);

impl Timing {
    /// The durations of a profile.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        let (beat, lease, close, promise, cold_wait) = match profile {
            Profile::Fast => (300, 1200, 600, 1900, 15_000),
            Profile::Default => (1000, 4000, 1500, 6000, 30_000),
            Profile::Cautious => (2000, 12_000, 3000, 16_000, 60_000),
        };
        Self {
            beat: Duration::from_millis(beat),
            lease: Duration::from_millis(lease),
            close: Duration::from_millis(close),
            promise: Duration::from_millis(promise),
            cold_wait: Duration::from_millis(cold_wait),
            yield_for: Duration::from_secs(5),
            patience: Duration::from_millis(1500),
        }
    }

    /// The most that passes between the last beat that was heard and a closed port.
    #[must_use]
    pub fn fences_within(&self) -> Duration {
        self.lease + self.close
    }

    /// The shortest promise that outlasts an open port.
    #[must_use]
    pub fn least_promise(&self) -> Duration {
        self.fences_within() + SLACK.max(self.fences_within() / 20)
    }

    /// Whether they fit together.
    ///
    /// # Errors
    /// The inequality that does not hold.
    pub fn check(&self) -> Result<(), TimingFault> {
        if self.beat.is_zero() || self.lease < self.beat * 3 {
            return Err(TimingFault::Beat {
                beat: self.beat,
                lease: self.lease,
            });
        }
        if self.close < Duration::from_millis(200) {
            return Err(TimingFault::Close(self.close));
        }
        if self.promise < self.least_promise() {
            return Err(TimingFault::Promise {
                promise: self.promise,
                least: self.least_promise(),
            });
        }
        Ok(())
    }
}

/// Why the durations are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimingFault {
    /// One lost beat would end the lease.
    Beat {
        /// The beat.
        beat: Duration,
        /// The lease.
        lease: Duration,
    },
    /// No server ends in that time.
    Close(Duration),
    /// A voter could grant before the old primary is closed.
    Promise {
        /// The promise.
        promise: Duration,
        /// The least that is safe.
        least: Duration,
    },
}

impl fmt::Display for TimingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat { beat, lease } => write!(
                f,
                "the lease of {lease:?} is shorter than three beats of {beat:?}: one lost message \
                 would close the primary"
            ),
            Self::Close(close) => write!(f, "{close:?} is too short for closing a server"),
            Self::Promise { promise, least } => write!(
                f,
                "a voter that promises {promise:?} could elect another primary before the old one \
                 is closed, which takes up to {least:?} (lease, closing, and a margin)"
            ),
        }
    }
}
