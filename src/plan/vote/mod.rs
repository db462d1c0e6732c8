//! Terms, grants and leases (`docs/adr/0008-terms-and-leases.md`): who may be primary, decided among
//! the nodes themselves. Pure: time is an argument, messages are values, what has to be on the disk
//! before a message leaves is said by [`Voter::ballot`] having changed. The runtime and the
//! simulation in the tests run the same code.

mod ballot;
mod candidate;
mod leader;
mod letter;
mod roster;
mod voter;

pub use crate::domain::{Moment, Profile, Timing, TimingFault};
pub use ballot::{Ballot, Term};
pub use candidate::{Count, Wait};
pub use leader::Lease;
pub use letter::{Answer, Candidacy, Letter, Position, Question, Refusal, Reply};
pub use roster::{Roster, Version};
pub use voter::{Heard, Holds, Standing, Voter};

#[cfg(test)]
mod tests;
