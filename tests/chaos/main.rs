//! The chaos test: three voting nodes, writers that remember every acknowledged row, probers that try to
//! write on every node all the time, and faults from a seed. After each fault the cluster must converge;
//! over the whole history no acknowledged row may be lost with synchronous replication, and no two nodes
//! may have accepted writes at once. Needs Docker, root, nft and tc, and the image (`PGNODE_IMAGE`, else
//! `pgnode:local`). `make chaos`; docs/testing.md has the settings.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that drives docker, not the product"
)]

mod drive;
mod rig;
mod settings;

use settings::Settings;
use std::sync::{Mutex, PoisonError};

/// One run at a time: outages are measured.
static TURN: Mutex<()> = Mutex::new(());

/// What was acknowledged before the primary's last moments survives, and nobody else writes meanwhile.
#[test]
fn asynchronous() {
    run("async", "off");
}

/// No acknowledged row is ever lost.
#[test]
fn synchronous() {
    run("sync", "on");
}

fn run(variant: &str, synchronous: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = Settings::read(variant, synchronous);
    if !settings.wanted() {
        println!("{variant}: not asked for (CHAOS_VARIANT)");
        return;
    }
    if let Err(why) = drive::drive(&settings) {
        panic!("{why}\nagain: {}", settings.replay());
    }
}
