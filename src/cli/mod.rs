//! The verbs: what a person at a terminal, or the container runtime, asks for.

pub mod health;
pub mod status;
