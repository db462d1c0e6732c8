//! The cluster in real containers: issue 2 §2 to §7. `PGNODE_IMAGE` names the image; `make test` builds it.
//! Best run with `--test-threads=3`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

#[path = "../common/docker.rs"]
mod docker;
#[path = "../common/s3/mod.rs"]
mod s3;

mod backups;
mod barman_host;
mod clients;
mod confined;
mod conventions;
mod doctor;
mod drills;
mod first_start;
mod hooks;
mod interface;
mod interop_s3;
mod mending;
mod over_ssh;
mod planned;
mod promotions;
mod refusals;
mod rejoin;
mod restarts;
mod restore;
mod s3_away;
mod s3_base;
mod s3_claim;
mod s3_edges;
mod s3_faults;
mod s3_kills;
mod s3_places;
mod s3_restore;
mod s3_rig;
mod s3_rivals;
mod s3_ship;
mod s3_tablespaces;
mod s3_traps;
mod s3_wal;
mod secrets;
mod synchronous;
mod verbs;
mod witness;
