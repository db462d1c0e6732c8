//! What the operator asks for over the control socket.

use super::world::{Message, World};
use crate::domain::Health;
use crate::fsm::Event;
use crate::http::control::Command;

/// Passes it on as an event; the machine decides.
pub(super) fn obey(world: &World, command: Command) {
    match command {
        Command::Reload { reply } => {
            world.tell(Message::Event(Event::ReloadSignal));
            let why = "the settings are being read again; the log says what came of it";
            drop(reply.send(Health {
                ok: true,
                why: why.to_owned(),
            }));
        }
    }
}
