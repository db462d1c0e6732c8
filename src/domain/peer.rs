//! What a peer said when it was asked, or why it said nothing: data for decisions.

use super::PeerReport;
use std::time::Duration;

/// One peer's answer, or its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// Whom we asked: `host:port` of its consumer port, as configured.
    pub address: String,
    /// What came of it.
    pub result: Result<PeerReport, PeerError>,
    /// How long that took.
    pub took: Duration,
}

/// Why there is no report from a peer. The difference matters: an unreachable node may be anything,
/// one with another key is there, and is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody answered: unknown name, refused, no route, or too late.
    #[error("not reachable: {why}")]
    Unreachable {
        /// Where it ended.
        how: Unreachable,
        /// For a person.
        why: String,
    },
    /// Something answered, and not as a pgnode does.
    #[error("answers, but not as a pgnode: {why}")]
    NotAPgnode {
        /// For a person.
        why: String,
    },
    /// The answer is not signed with our key over our nonce.
    #[error("its answer is not signed with our key; is REPMGR_PASSWORD the same on both nodes?")]
    WrongKey,
}

/// Where an attempt to reach a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Its name has no address.
    Resolve,
    /// Its address refused us, or there is no way to it.
    Connect,
    /// No complete answer before the deadline.
    Timeout,
}
