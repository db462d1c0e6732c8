//! From the raw environment to one validated [`Config`]: every fault at once, no side effects.
//!
//! [`table`] declares every variable; the check of names, the README and `pgnode config` follow
//! from it. [`Config::from_vars`] is pure. The one exception in this room is [`load`] (`edge.rs`),
//! which reads the environment, the hostname and the files that `NAME_FILE` names.

mod address;
mod argv;
mod backups;
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
mod s3;
mod schedule;
mod secret;
pub mod show;
mod source;
pub mod table;
#[cfg(test)]
mod tests;
mod types;

pub use backups::{
    Barman, BarmanServer, Choice, Compression, Drill, Habits, Method, Restore, RestoreFrom, Ssh,
    Target, TargetAction, TargetTimeline, incoming_wals,
};
pub use edge::{inherited, load, load_over, ssh_request};
pub use fault::{Faults, Problem, Wrong};
pub use given::{ReadFile, Surroundings};
pub use s3::{
    Addressing, BadKept, Codec, Credentials, Encryption, Format, Kept, KeptHost, LARGEST_PART,
    LEAST_PART, MOST_PARTS, Profile, S3, Shipping, Tags,
};
pub use secret::Secret;
pub use source::{Source, Sources};
pub use types::{
    Address, BarmanMode, Config, Environment, FOR_EVER, Identity, Limits, LogFormat, NodeKind,
    Paths, Peers, Postgres, Quorum, Repmgr, StartAs, Synchronous, TestHold,
};
