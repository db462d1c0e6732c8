//! The machine: `step(Node, Event) -> (Node, Vec<Action>)`, total and pure.
//!
//! Time is data: an action arms a timer, an event says that it fired. Every operation and every
//! launch of a process has a number; a result with a number that the node no longer waits for is
//! ignored here, so the runtime needs no judgement of its own.

mod alarm;
mod cluster;
mod event;
pub mod host;
mod ladder;
mod mend;
mod node;
mod rejoin;
mod restore;
mod state;
mod step;
mod witness;

pub use event::{
    Action, Daemon, Door, Event, Finding, Note, Op, OpId, Outcome, Rejoined, Site, Stop, Timer,
};
pub use node::{Node, Policy, Postmaster};
pub use state::{End, Kind, Resume, Rung, State};
pub use step::step;

#[cfg(test)]
mod explore;
#[cfg(test)]
mod tests;
