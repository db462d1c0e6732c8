//! Health, status and metrics over HTTP. It reads a watch channel and changes nothing, except
//! for the votes of the cluster's own nodes ([`vote`]); commands come only over the Unix socket
//! ([`control`]).

mod archiving;
pub mod client;
pub mod control;
mod dial;
mod drills;
pub mod health;
mod kept;
pub mod mac;
mod metrics;
pub mod peers;
#[cfg(test)]
pub(crate) mod samples;
mod server;
pub mod vote;

pub use dial::Dialer;
pub use mac::{Nonce, PeerKey};
pub use server::{Beat, Clock, HttpError, Shown, SystemClock, bind, router, serve};
