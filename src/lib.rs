//! pgnode: PID 1 of a container that is a node of a PostgreSQL cluster.
//!
//! Data flows one way: environment → [`config`] → plan → state machine → runtime, which performs
//! actions and turns their results into events. The map of the rooms, and which may import which,
//! is in `docs/architecture.md`; a test holds the code to it.

pub mod barman;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod fsm;
pub mod http;
pub mod pg;
pub mod plan;
pub mod render;
pub mod repmgr;
pub mod runtime;
pub mod s3;
pub mod sys;
