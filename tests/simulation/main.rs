//! The elections of `plan::vote` under everything that a seed can think of: 2 to 7 nodes run the pure
//! code as the runtime does, on a network that loses, delays and doubles, through crashes, freezes and
//! lost disks. See `docs/testing.md`.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test tells what it found"
)]
#![expect(clippy::disallowed_methods, reason = "a test reads its own variables")]

mod faults;
mod node;
mod rng;
mod stream;
mod wal;
mod world;

use std::time::Duration;
use world::{Flaw, Stats, World};

/// After the faults there has to be one primary within this and the cold wait.
const HEALS_WITHIN: Duration = Duration::from_secs(40);

/// So many schedules may be needed to find a broken rule.
const BUDGET: u64 = 4000;

fn run(seed: u64, flaw: Flaw, traced: bool) -> World {
    let mut world = World::build(seed, flaw, traced);
    while world.violation.is_none() && world.healed.is_none() && world.step(u64::MAX) {}
    let healed = world.now;
    let cold = world.nodes[0].timing.cold_wait + world.nodes[0].timing.promise;
    let within = u64::try_from((HEALS_WITHIN + cold).as_micros()).unwrap();
    let mut since = None;
    while world.violation.is_none() {
        if !world.step(healed + within) {
            if world.wiped {
                world.stats.unhealed_wiped += 1;
            } else {
                world.violate(format!(
                    "no single primary {within} µs after the end of the faults"
                ));
            }
            break;
        }
        since = since
            .filter(|_| world.converged())
            .or_else(|| world.converged().then_some(world.now));
        if let Some(at) = since.filter(|at| world.now > at + 1_000_000) {
            world.stats.longest_heal = world.stats.longest_heal.max(at - healed);
            break;
        }
    }
    world.stats.schedules = 1;
    world.stats.simulated_s = world.now / 1_000_000;
    world
}

fn add(all: &mut Stats, one: Stats) {
    all.schedules += one.schedules;
    all.events += one.events;
    all.elections += one.elections;
    all.openings += one.openings;
    all.fences += one.fences;
    all.rows += one.rows;
    all.simulated_s += one.simulated_s;
    all.windows += one.windows;
    all.unhealed_wiped += one.unhealed_wiped;
    all.longest_window = all.longest_window.max(one.longest_window);
    all.longest_heal = all.longest_heal.max(one.longest_heal);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|v| v.replace('_', "").parse().unwrap())
}

/// The first seed that breaks something, with its story.
fn search(flaw: Flaw, seeds: std::ops::Range<u64>) -> (Stats, Option<(u64, String, Vec<String>)>) {
    let mut stats = Stats::default();
    for seed in seeds {
        let world = run(seed, flaw, false);
        add(&mut stats, world.stats);
        if let Some(what) = world.violation {
            let told = run(seed, flaw, true);
            return (stats, Some((seed, what, told.trace.unwrap_or_default())));
        }
    }
    (stats, None)
}

#[test]
fn no_schedule_breaks_the_rules() {
    let schedules = number("SIM_SCHEDULES").unwrap_or(4000);
    let (first, count) = number("SIM_SEED").map_or((1, schedules), |s| {
        (s, number("SIM_SCHEDULES").unwrap_or(1))
    });
    let (stats, found) = search(Flaw::None, first..first + count);
    println!("{stats:#?}");
    if let Some((seed, what, trace)) = found {
        let told = trace.join("\n");
        panic!(
            "{told}\nseed {seed}: {what}\nreplay: SIM_SEED={seed} cargo test --test simulation no_schedule"
        );
    }
}

/// Each rule that is broken on purpose is noticed: else the simulation would prove nothing. The search
/// begins a little before a seed that showed it, to save time.
fn is_found(flaw: Flaw, first: u64) {
    let budget = number("SIM_BUDGET").unwrap_or(BUDGET);
    let (stats, found) = search(flaw, first..first + budget);
    let (seed, what, _) = found.unwrap_or_else(|| panic!("{flaw:?} was not found: {stats:?}"));
    println!("{flaw:?}: seed {seed}: {what}");
}

#[test]
fn an_answer_before_the_sync_is_found() {
    is_found(Flaw::Unsynced, 32_000);
}

#[test]
fn a_granted_term_that_is_forgotten_is_found() {
    is_found(Flaw::TermIgnored, 1);
}

#[test]
fn promises_right_after_a_start_are_found() {
    is_found(Flaw::NoQuarantine, 4900);
}

#[test]
fn a_lease_longer_than_the_promises_is_found() {
    is_found(Flaw::LongLease, 1);
}

#[test]
fn a_walreceiver_that_runs_on_is_found() {
    is_found(Flaw::ReceiverKept, 35_900);
}
