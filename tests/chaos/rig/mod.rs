//! Three database nodes in containers, what is done to them, and what was seen meanwhile. Used by the
//! chaos test and by the failover benchmark.

#![allow(
    dead_code,
    unused_imports,
    reason = "shared by two binaries that each use a part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a harness that drives docker, not the product"
)]

pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod docker;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod links;
pub(crate) mod nodes;
pub(crate) mod patroni;
pub(crate) mod prober;
pub(crate) mod report;
pub(crate) mod sql;
pub(crate) mod strike;
pub(crate) mod volumes;
pub(crate) mod writers;

/// What went wrong, for a person.
pub(crate) type Outcome<T> = Result<T, String>;

/// The clock of one run: all instants are counted from its begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(self) -> std::time::Duration {
        self.0.elapsed()
    }

    pub(crate) fn at(self, instant: std::time::Instant) -> std::time::Duration {
        instant.duration_since(self.0)
    }
}
