//! The loop that performs what the machine asks for and tells it what happened. It owns the
//! timers, the children and the published status; it takes no decision of its own.

mod archive;
mod archiver;
mod board;
mod chores;
mod configure;
mod control;
mod conversion;
mod daemons;
mod elector;
mod host;
mod machine;
mod operator;
mod ops;
mod postmaster;
mod preflight;
mod promote;
mod proof;
mod provision;
mod rejoin;
mod restore;
mod sample;
mod ssh;
mod start;
mod survey;
mod switchover;
mod synchronous;
mod witness;
mod world;

pub use restore::check as check_restore;
pub use start::{StartError, run};
