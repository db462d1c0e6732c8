//! `POST /vote`: the one exception to read-only. Signed both ways: whoever does not know
//! `REPMGR_PASSWORD` can neither ask for a vote nor answer for a voter. What is in the letters is
//! none of this room's business.

use super::client::post;
use super::dial::Dialer;
use super::mac::{self, Nonce, PeerKey};
use super::server::{json, reply};
use crate::config::Address;
use crate::domain::{Health, PeerError, Unreachable};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What a question is signed as.
const ASK: &str = "pgnode/vote/1";
/// What an answer is signed as.
const ANSWER: &str = "pgnode/voted/1";
/// Most bytes of a letter or an answer: a roster of hundreds of nodes.
const LARGEST: usize = 64 * 1024;

/// A letter that was signed with our key, and where its answer goes.
#[derive(Debug)]
pub struct Incoming {
    /// JSON.
    pub letter: Vec<u8>,
    /// JSON; dropped when there is none.
    pub answer: oneshot::Sender<Vec<u8>>,
}

/// The route. An unsigned or badly signed letter is 403 and reaches nobody.
pub fn voting(key: PeerKey, to: mpsc::Sender<Incoming>) -> Router {
    let handle =
        move |Query(query): Query<Vec<(String, String)>>, headers: HeaderMap, body: Bytes| {
            let (key, to) = (key.clone(), to.clone());
            async move { hear(&key, &to, &query, &headers, &body).await }
        };
    Router::new()
        .route("/vote", axum::routing::post(handle))
        .layer(DefaultBodyLimit::max(LARGEST))
}

async fn hear(
    key: &PeerKey,
    to: &mpsc::Sender<Incoming>,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let no = |code, why: &str| {
        let why = why.to_owned();
        reply(code, &Health { ok: false, why })
    };
    let nonce = query
        .iter()
        .find(|(name, _)| name == "nonce")
        .and_then(|(_, hex)| Nonce::parse(hex));
    let signature = headers.get(mac::HEADER).and_then(|v| v.to_str().ok());
    let (Some(nonce), Some(signature)) = (nonce, signature) else {
        return no(StatusCode::FORBIDDEN, "the letter is not signed");
    };
    if !key.verify(ASK, &nonce, body, signature) {
        let why = "the letter is not signed with our key";
        return no(StatusCode::FORBIDDEN, why);
    }
    let (answer, answered) = oneshot::channel();
    let incoming = Incoming {
        letter: body.to_vec(),
        answer,
    };
    if to.send(incoming).await.is_err() {
        return no(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping");
    }
    let Ok(body) = answered.await else {
        let why = "this node takes no part in votes now";
        return no(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let signature = key.sign(ANSWER, &nonce, &body);
    let mut response = json(StatusCode::OK, body);
    if let Ok(value) = HeaderValue::from_str(&signature) {
        let name = HeaderName::from_static(mac::HEADER);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Asks one voter, within `deadline`.
///
/// # Errors
/// [`PeerError`].
pub async fn ask(
    dialer: &Dialer,
    address: &Address,
    key: &PeerKey,
    letter: Vec<u8>,
    deadline: Duration,
) -> Result<Vec<u8>, PeerError> {
    let not = |why: String| PeerError::NotAPgnode { why };
    let work = async {
        let nonce = Nonce::random().map_err(|e| not(e.to_string()))?;
        let signature = key.sign(ASK, &nonce, &letter);
        let stream = dialer.connect(&address.host, address.port).await?;
        let path = format!("/vote?nonce={}", nonce.hex());
        let headers = [(mac::HEADER, signature)];
        let host = address.to_string();
        let answer = post(stream, &host, &path, &headers, letter, LARGEST)
            .await
            .map_err(|why| not(crate::domain::Fault::chain(&why)))?;
        if answer.status == StatusCode::FORBIDDEN {
            return Err(PeerError::WrongKey);
        }
        if answer.status != StatusCode::OK {
            return Err(not(format!("HTTP status {}", answer.status)));
        }
        let signature = answer
            .headers
            .get(mac::HEADER)
            .and_then(|v| v.to_str().ok());
        if !signature.is_some_and(|s| key.verify(ANSWER, &nonce, &answer.body, s)) {
            return Err(PeerError::WrongKey);
        }
        Ok(answer.body.to_vec())
    };
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(PeerError::Unreachable {
                how: Unreachable::Timeout,
                why: format!("no answer within {deadline:?}"),
            })
        })
}

#[cfg(test)]
#[path = "vote_tests.rs"]
mod tests;
