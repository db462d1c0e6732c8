//! The cluster in real containers: issue 2 §2 to §7. `PGNODE_IMAGE` names the image; `make test` builds it.
//! Best run with `--test-threads=2`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

#[path = "../common/docker.rs"]
mod docker;

mod clients;
mod confined;
mod conventions;
mod first_start;
mod hooks;
mod interface;
mod mending;
mod planned;
mod refusals;
mod rejoin;
mod restarts;
mod secrets;
mod synchronous;
mod verbs;
mod witness;
