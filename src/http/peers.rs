//! Asking the other nodes: all at once, each with its own deadline, each answer signed over a nonce
//! of ours. A closed node answers no SQL, and a whole cluster that starts cold would otherwise wait
//! for itself.

use super::client::{HttpError, Target, get};
use super::mac::{PeerKey, to_hex};
use crate::config::Address;
use crate::domain::{Fault, PeerReport};
use std::time::Duration;
use tokio::task::JoinSet;

/// A peer's answer.
#[derive(Debug)]
pub struct PeerAnswer {
    /// Whom.
    pub address: Address,
    /// What it said.
    pub result: Result<PeerReport, PeerError>,
}

/// Why a peer said nothing that counts.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] HttpError),
    /// Somebody else listens there.
    #[error("whoever listens on port {port} is no pgnode")]
    NotAPgnode {
        /// The port.
        port: u16,
    },
    /// The signature is wrong.
    #[error("its signature is wrong: REPMGR_PASSWORD differs, or somebody else answers")]
    WrongKey,
    /// No random numbers.
    #[error("no random numbers from the system")]
    NoNonce,
}

impl PeerError {
    /// The whole reason in one line.
    #[must_use]
    pub fn why(&self) -> String {
        Fault::chain(self)
    }
}

/// Asks all of them; ten cost no more time than two.
pub async fn ask(
    peers: &[Address],
    http_port: u16,
    key: &PeerKey,
    patience: Duration,
) -> Vec<PeerAnswer> {
    let mut questions = JoinSet::new();
    for address in peers.iter().cloned() {
        let key = key.clone();
        questions.spawn(async move {
            let result = ask_one(&address.host, http_port, &key, patience).await;
            PeerAnswer { address, result }
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = questions.join_next().await {
        // A task that panicked is a peer that did not answer; it is missing, so it is not counted.
        answers.extend(answer);
    }
    answers.sort_by(|a, b| a.address.cmp(&b.address));
    answers
}

async fn ask_one(
    host: &str,
    port: u16,
    key: &PeerKey,
    patience: Duration,
) -> Result<PeerReport, PeerError> {
    let mut nonce = [0_u8; 16];
    getrandom::fill(&mut nonce).map_err(|_| PeerError::NoNonce)?;
    let nonce = to_hex(&nonce);
    let path = format!("/status?nonce={nonce}");
    let answer = get(Target::Tcp(host, port), "GET", &path, patience).await?;
    let mac = answer
        .headers
        .get("x-pgnode-mac")
        .and_then(|v| v.to_str().ok());
    let Some(mac) = mac.filter(|_| answer.code == 200) else {
        return Err(PeerError::NotAPgnode { port });
    };
    if !key.verify(&nonce, &answer.body, mac) {
        return Err(PeerError::WrongKey);
    }
    serde_json::from_slice(&answer.body).map_err(|_| PeerError::NotAPgnode { port })
}
