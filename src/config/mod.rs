//! From the raw environment to one validated [`Config`]: every fault at once, no side effects.

mod secret;
mod types;

pub use secret::Secret;
pub use types::{
    Address, Barman, BarmanMode, Config, Environment, Identity, Limits, LogFormat, NodeKind, Paths,
    Peers, Postgres, Repmgr, StartAs, TestHold,
};
