//! The object store: a client of one bucket, barman-cloud's layout in it, and what is kept there.

pub mod base;
mod error;
pub mod layout;
mod mark;
mod pages;
mod pipe;
pub mod ship;
pub mod source;
pub mod store;
pub mod verify;
pub mod wal;

pub use crate::barman::codec;
pub use error::{Refusal, S3Error};
pub use layout::Layout;
pub use store::{Body, Object, Probe, Store, Unfinished};
