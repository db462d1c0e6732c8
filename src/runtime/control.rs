//! What the operator asks for over the control socket.

use super::world::{Message, World};
use super::{operator, rejoin, switchover};
use crate::domain::Health;
use crate::fsm::{Event, State};
use crate::http::control::Command;
use crate::plan::authority::Reason;
use std::sync::Arc;

/// Passes it on as an event; the machine decides.
pub(super) fn obey(world: &Arc<World>, state: &State, command: Command) {
    let (world, state) = (world.clone(), state.clone());
    tokio::spawn(async move {
        let (reply, answer) = match command {
            Command::Reload { reply } => {
                world.tell(Message::Event(Event::ReloadSignal));
                let why = "the settings are being read again; the log says what came of it";
                let answer = Health {
                    ok: true,
                    why: why.to_owned(),
                };
                (reply, answer)
            }
            Command::Rejoin {
                dry_run: false,
                reply,
            } if world.is_fenced() => {
                let why = Reason::Operator.to_string();
                (reply, Health { ok: false, why })
            }
            Command::Rejoin { dry_run, reply } => {
                let answer = rejoin::by_hand(&world, state.kind(), dry_run).await;
                (reply, answer)
            }
            Command::Switchover { to, dry_run, reply } => {
                (reply, switchover::by_hand(&world, to, dry_run).await)
            }
            Command::ResumeRestore { reply } => (reply, operator::resume_restore(&world)),
            Command::Pause { paused, reply } => (reply, operator::pause(&world, paused).await),
            Command::Fence {
                closed: true,
                reply,
            } => (reply, operator::fence(&world, &state).await),
            Command::Fence {
                closed: false,
                reply,
            } => (reply, operator::unfence(&world, &state).await),
            Command::Promote { force, reply } => {
                (reply, operator::promote(&world, &state, force).await)
            }
        };
        drop(reply.send(answer));
    });
}
