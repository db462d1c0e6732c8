//! `pgnode rejoin`: a person asks for it, or wants to know what would happen.

use super::super::world::{Message, World};
use super::case::{Case, Trouble, examine};
use crate::domain::{Fault, Health, human_bytes};
use crate::fsm::{Event, Kind, Timer};
use crate::pg;
use crate::plan::rejoin::{Course, Lost};

/// Answers a person.
pub(in crate::runtime) async fn by_hand(world: &World, state: Kind, dry_run: bool) -> Health {
    let (ok, why) = match (state, dry_run) {
        (Kind::Fenced | Kind::Rejoin, true) => told(world).await,
        (Kind::Fenced, false) => {
            world.tell(Message::Event(Event::Timer(Timer::Ask)));
            (
                true,
                "the peers are asked now; the log says what came of it".into(),
            )
        }
        (Kind::Rejoin, false) => {
            world.tell(Message::Event(Event::Timer(Timer::Retry)));
            (
                true,
                "the node is at it; the log says what comes of it".into(),
            )
        }
        (Kind::Open, _) => (false, "the node is open: there is nothing to rejoin".into()),
        (other, _) => {
            let why = format!(
                "the node is in state {} ({}): only a fenced one can rejoin",
                other.name(),
                other.sentence()
            );
            (false, why)
        }
    };
    Health { ok, why }
}

async fn told(world: &World) -> (bool, String) {
    match examine(world).await {
        Ok(case) => foretell(world, &case).await,
        Err(Trouble::Source(why)) => (false, format!("there is no primary to rejoin from: {why}")),
        Err(Trouble::Here(fault)) => (false, fault.why().to_owned()),
    }
}

/// What would happen, as far as it can be tried.
async fn foretell(world: &World, case: &Case) -> (bool, String) {
    let from = &case.source;
    let slot = match (case.slot.exists, case.slot.lost) {
        (true, false) => "its slot is there",
        (true, true) => "its slot is lost and would be made again",
        (false, _) => "its slot would be made",
    };
    let text = match &case.course {
        Course::Refuse(why) => return (false, format!("{from} is not to be followed: {why}")),
        Course::Follow => {
            format!("would follow {from}, which has all of this node's WAL; {slot}")
        }
        Course::Finish(_) => format!("would finish the rewind from {from}; {slot}"),
        Course::Clone(why, lost) => {
            format!("would be cloned anew from {from}: {why}{}", gone(*lost))
        }
        Course::Rewind(lost) => {
            let tried = tried(world, case).await;
            format!(
                "would be rewound from {from}, where the histories part at {} on timeline {}{}; \
                 {slot}; {tried}",
                lost.fork.lsn,
                lost.fork.timeline,
                gone(Some(*lost))
            )
        }
    };
    (true, text)
}

fn gone(lost: Option<Lost>) -> String {
    match lost.map(|l| (l.end, l.bytes())) {
        Some((Some(end), Some(bytes))) => format!(
            "; {} of WAL up to {end}, which only this node has, would be given up",
            human_bytes(bytes)
        ),
        Some(_) => "; WAL that only this node has would be given up, how much is not known".into(),
        None => String::new(),
    }
}

/// pg_rewind's own dry run recovers nothing, so it fails on a crashed cluster that a real one would take.
async fn tried(world: &World, case: &Case) -> String {
    let clean = case.control.as_ref().is_some_and(|c| c.state.is_clean());
    if !clean || case.unfinished.is_some() {
        return "pg_rewind cannot be tried before the crash is recovered".into();
    }
    let config = world.config();
    let (children, account) = (&world.children, &world.accounts.postgres);
    match pg::rewind(children, &config, account, &case.source, true, drop).await {
        Ok(_) => "pg_rewind's dry run passed".into(),
        Err(error) => format!(
            "pg_rewind's dry run failed ({}): after some tries the node would be cloned anew",
            Fault::chain(&error)
        ),
    }
}
