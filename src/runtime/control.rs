//! What the operator asks for over the control socket.

use super::world::{Message, World};
use crate::fsm::Event;
use crate::http::Command;

/// Passes it on as an event; the machine decides.
pub(super) fn obey(world: &World, command: Command) {
    match command {
        Command::Reload(reply) => {
            world.tell(Message::Event(Event::ReloadSignal));
            drop(reply.send(Ok(
                "the settings are being read again; see the log\n".to_owned(),
            )));
        }
    }
}
