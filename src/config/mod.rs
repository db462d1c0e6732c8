//! From the raw environment to one validated [`Config`]: every fault at once, no side effects.
//!
//! [`table`] declares every variable; the check of names, the README and `pgnode config` follow
//! from it. [`Config::from_vars`] is pure. The one exception in this room is [`load`] (`edge.rs`),
//! which reads the environment, the hostname and the files that `NAME_FILE` names.

mod address;
mod argv;
mod build;
mod edge;
mod environment;
mod failover;
mod fault;
mod given;
mod names;
mod naming;
mod paths;
mod peers;
mod reader;
mod rules;
mod schedule;
mod secret;
pub mod show;
mod source;
pub mod table;
#[cfg(test)]
mod tests;
mod types;

pub use edge::load;
pub use fault::{Faults, Problem, Wrong};
pub use given::{ReadFile, Surroundings};
pub use secret::Secret;
pub use source::{Source, Sources};
pub use types::{
    Address, Barman, BarmanMode, Config, Environment, FOR_EVER, Identity, Limits, LogFormat,
    NodeKind, Paths, Peers, Postgres, Quorum, Repmgr, StartAs, Synchronous, TestHold,
};
