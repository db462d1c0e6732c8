//! The clocks that safety rests on (clock_gettime(2)).

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

fn read(clock: ClockId) -> Duration {
    // Neither clock can fail on Linux; zero would only make a lease look older than it is.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// Time since the machine started, suspended time included. Never goes back.
#[must_use]
pub fn boot_time() -> Duration {
    read(ClockId::CLOCK_BOOTTIME)
}

/// The time of day, since 1970.
#[must_use]
pub fn wall_time() -> Duration {
    read(ClockId::CLOCK_REALTIME)
}

/// The time of day, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    crate::domain::millis(wall_time())
}
