//! The witness's way through the machine: its own little database instead of a copy, and no question
//! to the authority, because opening it makes nobody primary.

use super::Op;
use super::node::Turn;
use super::state::State;
use super::step;
use crate::domain::Role;
use crate::plan::{BootPlan, Provision};

/// Whether the boot is a witness's.
pub(super) fn is(turn: &Turn) -> bool {
    turn.node.plan.is_some_and(|p| p.role == Role::Witness)
}

/// The configuration is written.
pub(super) fn configured(turn: &mut Turn, plan: BootPlan) {
    match plan {
        BootPlan {
            provision: Provision::Init | Provision::Clone | Provision::Restore | Provision::Rejoin,
            ..
        } => step::wait_for_primary(turn, "the disk is empty and this node is a witness", None),
        BootPlan {
            provision: Provision::Adopt,
            bootstrap: true,
            ..
        } => step::launch_technical(
            turn,
            "a witness's database is there, and settings have changed",
        ),
        BootPlan {
            provision: Provision::Adopt,
            bootstrap: false,
            ..
        } => step::opening(turn, "a witness's database is on the disk"),
    }
}

/// There is a cluster to vote in.
pub(super) fn init(turn: &mut Turn) {
    let why = "the primary is open, and the witness can be registered there";
    turn.go(State::Init, why, None);
    turn.run(Op::Init);
}
