//! Asks the peers who they are: all at once, each with its own deadline, so ten silent ones cost no
//! more time than one.

use super::client::{Answer, exchange};
use super::dial::Dialer;
use super::mac::{self, Nonce, PeerKey};
use crate::config::Address;
use crate::domain::{Fault, PeerAnswer, PeerError, PeerReport, Unreachable};
use hyper::{Method, StatusCode};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longest answer that is read, in bytes.
const LIMIT: usize = 256 * 1024;

/// Asks every peer's `/status` on `http_port`; the answers come in the order of `peers`. `nonce`
/// gives a fresh one for each question ([`Nonce::random`]); without one the peer is not asked, since
/// its answer could not be believed. Takes at most `deadline`.
pub async fn ask(
    dialer: &Dialer,
    peers: &[Address],
    http_port: u16,
    key: &PeerKey,
    mut nonce: impl FnMut() -> Option<Nonce>,
    deadline: Duration,
) -> Vec<PeerAnswer> {
    let mut asked = JoinSet::new();
    for (index, peer) in peers.iter().enumerate() {
        let (address, host) = (peer.to_string(), peer.host.clone());
        let Some(nonce) = nonce() else { continue };
        let (key, dialer) = (key.clone(), dialer.clone());
        asked.spawn(async move {
            let began = Instant::now();
            let question = ask_one(&dialer, &host, http_port, &key, &nonce);
            let result = tokio::time::timeout(deadline, question)
                .await
                .unwrap_or_else(|_elapsed| {
                    Err(PeerError::Unreachable {
                        how: Unreachable::Timeout,
                        why: format!("no answer within {deadline:?}"),
                    })
                });
            let took = began.elapsed();
            let answer = PeerAnswer {
                address,
                result,
                took,
            };
            (index, answer)
        });
    }
    let mut answers: Vec<Option<PeerAnswer>> = peers.iter().map(|_| None).collect();
    while let Some(done) = asked.join_next().await {
        if let Ok((index, answer)) = done
            && let Some(place) = answers.get_mut(index)
        {
            *place = Some(answer);
        }
    }
    let lost = |peer: &Address| PeerAnswer {
        address: peer.to_string(),
        result: Err(PeerError::NotAPgnode {
            why: "it was not asked: no random numbers from the system".to_owned(),
        }),
        took: deadline,
    };
    let each = answers.into_iter().zip(peers);
    each.map(|(answer, peer)| answer.unwrap_or_else(|| lost(peer)))
        .collect()
}

async fn ask_one(
    dialer: &Dialer,
    host: &str,
    port: u16,
    key: &PeerKey,
    nonce: &Nonce,
) -> Result<PeerReport, PeerError> {
    let stream = dialer.connect(host, port).await?;
    let path = format!("/status?nonce={}", nonce.hex());
    let host = Address {
        host: host.to_owned(),
        port,
    };
    let answer = exchange(stream, &host.to_string(), Method::GET, &path, LIMIT)
        .await
        .map_err(|why| not(Fault::chain(&why)))?;
    believe(&answer, key, nonce)
}

fn not(why: impl Into<String>) -> PeerError {
    PeerError::NotAPgnode { why: why.into() }
}

/// Nothing in an answer is looked at before its signature.
fn believe(answer: &Answer, key: &PeerKey, nonce: &Nonce) -> Result<PeerReport, PeerError> {
    if answer.status != StatusCode::OK {
        return Err(not(format!("HTTP status {}", answer.status)));
    }
    let signature = answer
        .headers
        .get(mac::HEADER)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| not(format!("no {} header", mac::HEADER)))?;
    if !key.verify(mac::STATUS, nonce, &answer.body, signature) {
        return Err(PeerError::WrongKey);
    }
    serde_json::from_slice(&answer.body).map_err(|why| not(why.to_string()))
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
