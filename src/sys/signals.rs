//! Signals, registered before the first child starts: PID 1 has no default actions, so a TERM that
//! nobody registered would be dropped by the kernel without a word. Registering also replaces an
//! inherited "ignored" disposition, which children would otherwise inherit.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a person or the engine can tell us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// TERM, INT or QUIT, by number.
    Stop(u8),
    /// HUP.
    Reload,
    /// CHLD: a sweep is due.
    Child,
}

/// The registered signals.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    child: Signal,
    // Nothing listens to these; registering them keeps them from ending us when we are not PID 1.
    _usr1: Signal,
    _pipe: Signal,
}

impl Signals {
    /// Registers them all.
    ///
    /// # Errors
    /// What the system said.
    pub fn register() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
            _usr1: signal(SignalKind::user_defined1())?,
            _pipe: signal(SignalKind::pipe())?,
        })
    }

    /// The next one. Cancel-safe. A burst of the same signal may arrive as one.
    pub async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.child.recv() => Received::Child,
            _ = self.term.recv() => Received::Stop(15),
            _ = self.int.recv() => Received::Stop(2),
            _ = self.quit.recv() => Received::Stop(3),
            _ = self.hup.recv() => Received::Reload,
        }
    }
}
