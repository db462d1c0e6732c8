//! HTTP: health, status and metrics for whoever asks, signed answers for peers. It reads a watch
//! channel and changes nothing; changes come over the control socket, which only its owner can open.

mod client;
mod health;
mod mac;
mod metrics;
mod peers;
mod server;

pub use client::{Answer, HttpError, Target, get};
pub use health::{Endpoint, Health, Limits, judge};
pub use mac::PeerKey;
pub use peers::{PeerAnswer, PeerError, ask};
pub use server::{Beat, BindError, Command, Reply, serve_control, serve_tcp};
