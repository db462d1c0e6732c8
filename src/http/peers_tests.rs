//! Peers of every kind, on real sockets.

use super::*;
use crate::config::Secret;
use crate::domain::NodeName;
use crate::http::server::tests::shown;
use crate::http::{bind, router, samples, serve};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Far more than any answer on loopback takes, so that only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

fn key(password: &str) -> PeerKey {
    PeerKey::derive(&Secret::new(password.into()))
}

fn nonce() -> Nonce {
    Nonce::random().unwrap()
}

fn localhost() -> Vec<Address> {
    vec![Address {
        host: "127.0.0.1".into(),
        port: 5432,
    }]
}

async fn real() -> u16 {
    let (tell, shown) = shown(samples::standby());
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        serve(listener, router(shown), std::future::pending()).await;
        drop(tell);
    });
    port
}

/// Answers every connection with these bytes once it has read a request, and remembers it.
async fn canned(answer: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            log.lock()
                .unwrap()
                .push(String::from_utf8(request).unwrap());
            drop(stream.write_all(&answer).await);
        }
    });
    (port, seen)
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn one(port: u16, key: &PeerKey, deadline: Duration) -> Result<PeerReport, PeerError> {
    ask(
        &Dialer::default(),
        &localhost(),
        port,
        key,
        || Some(nonce()),
        deadline,
    )
    .await
    .remove(0)
    .result
}

#[tokio::test]
async fn a_peer_with_our_key_is_believed() {
    let port = real().await;
    let answers = ask(
        &Dialer::default(),
        &localhost(),
        port,
        &key("iamrepmgr"),
        || Some(nonce()),
        LONG,
    )
    .await;
    assert_eq!(answers[0].address, "127.0.0.1:5432");
    let report = answers[0].result.as_ref().unwrap();
    assert_eq!(report.node, NodeName("pg2".into()));
    assert_eq!(report.lsn, samples::standby().lsn);
    assert_eq!(report.system_id, samples::standby().system_id);
}

#[tokio::test]
async fn names_are_resolved_for_both_families() {
    let port = real().await;
    // localhost is ::1 first on most systems, where nobody listens.
    let peers = [Address {
        host: "localhost".into(),
        port: 5432,
    }];
    let answers = ask(
        &Dialer::default(),
        &peers,
        port,
        &key("iamrepmgr"),
        || Some(nonce()),
        LONG,
    )
    .await;
    assert!(answers[0].result.is_ok(), "{answers:?}");
}

#[tokio::test]
async fn a_peer_with_another_key_is_told_apart() {
    let port = real().await;
    let error = one(port, &key("other"), LONG).await.unwrap_err();
    assert_eq!(error, PeerError::WrongKey);
    assert!(error.to_string().contains("REPMGR_PASSWORD"));
}

#[tokio::test]
async fn a_replayed_answer_is_not_believed() {
    let ours = key("p");
    let old = nonce();
    let body = serde_json::to_vec(&samples::standby()).unwrap();
    let header = format!("x-pgnode-mac: {}\r\n", ours.sign(mac::STATUS, &old, &body));
    let (port, seen) = canned(http("200 OK", &header, &body)).await;
    assert_eq!(one(port, &ours, LONG).await, Err(PeerError::WrongKey));
    // The same bytes are right for the nonce they were made for: only freshness was missing.
    let fresh = ask(
        &Dialer::default(),
        &localhost(),
        port,
        &ours,
        || Some(old.clone()),
        LONG,
    )
    .await;
    assert!(fresh[0].result.is_ok());
    let seen = seen.lock().unwrap();
    assert_ne!(seen[0], seen[1], "each question has its own nonce");
}

#[tokio::test]
async fn strangers_and_garbage_are_not_pgnodes() {
    let ours = key("p");
    let big = vec![b' '; LIMIT + 1];
    for (what, answer) in [
        ("no signature", http("200 OK", "", b"{}")),
        (
            "another server",
            http("404 Not Found", "", b"<html>nginx</html>"),
        ),
        ("too big", http("200 OK", "x-pgnode-mac: 00\r\n", &big)),
        ("not HTTP", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("nothing", Vec::new()),
        (
            "cut off",
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_vec(),
        ),
        (
            "endless header",
            format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20)).into(),
        ),
    ] {
        let (port, _) = canned(answer).await;
        let error = one(port, &ours, LONG).await.unwrap_err();
        assert!(
            matches!(error, PeerError::NotAPgnode { .. }),
            "{what}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_signed_answer_that_is_no_report_is_not_a_pgnodes() {
    let (ours, n) = (key("p"), nonce());
    let header = format!("x-pgnode-mac: {}\r\n", ours.sign(mac::STATUS, &n, b"[]"));
    let (port, _) = canned(http("200 OK", &header, b"[]")).await;
    let answers = ask(
        &Dialer::default(),
        &localhost(),
        port,
        &ours,
        || Some(n.clone()),
        LONG,
    )
    .await;
    let error = answers[0].result.clone().unwrap_err();
    assert!(matches!(error, PeerError::NotAPgnode { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_how() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let how = |result: Result<PeerReport, PeerError>| match result {
        Err(PeerError::Unreachable { how, .. }) => how,
        other => panic!("{other:?}"),
    };
    let ours = key("p");
    assert_eq!(how(one(port, &ours, LONG).await), Unreachable::Connect);
    let nowhere = [Address {
        host: "no-such-host.invalid".into(),
        port: 1,
    }];
    let answers = ask(
        &Dialer::default(),
        &nowhere,
        port,
        &ours,
        || Some(nonce()),
        LONG,
    )
    .await;
    assert_eq!(how(answers[0].result.clone()), Unreachable::Resolve);
    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let late = one(port, &ours, Duration::from_millis(50)).await;
    assert_eq!(how(late), Unreachable::Timeout);
}

#[tokio::test]
async fn all_are_asked_at_once_and_answer_in_order() {
    // Nobody gets an answer before all ten have asked: one after the other would never end.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let n = nonce();
    let ours = key("p");
    let (signer, theirs) = (ours.clone(), n.clone());
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(listener.accept().await.unwrap().0);
        }
        for mut stream in waiting {
            let mut status = samples::standby();
            status.node = NodeName(stream.local_addr().unwrap().ip().to_string());
            let body = serde_json::to_vec(&status).unwrap();
            let header = signer.sign(mac::STATUS, &theirs, &body);
            let header = format!("x-pgnode-mac: {header}\r\n");
            stream
                .write_all(&http("200 OK", &header, &body))
                .await
                .unwrap();
        }
    });
    let peers: Vec<Address> = (1..=10)
        .map(|i| Address {
            host: format!("127.0.0.{i}"),
            port: 5432,
        })
        .collect();
    let answers = ask(
        &Dialer::default(),
        &peers,
        port,
        &ours,
        || Some(n.clone()),
        LONG,
    )
    .await;
    for (peer, answer) in peers.iter().zip(answers) {
        assert_eq!(answer.address, peer.to_string());
        assert_eq!(answer.result.unwrap().node.0, peer.host);
    }
}

#[tokio::test]
async fn no_peers_no_answers() {
    assert!(
        ask(
            &Dialer::default(),
            &[],
            8008,
            &key("p"),
            || Some(nonce()),
            LONG
        )
        .await
        .is_empty()
    );
}
