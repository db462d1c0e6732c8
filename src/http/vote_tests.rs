//! Letters over real sockets.

use super::*;
use crate::config::Secret;
use crate::http::{bind, serve};

const LONG: Duration = Duration::from_secs(60);

fn key(password: &str) -> PeerKey {
    PeerKey::derive(&Secret::new(password.into()))
}

/// A voter that answers each letter with the letter backwards, and counts them.
async fn voter(key: PeerKey) -> (Address, mpsc::Receiver<usize>) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to, mut letters) = mpsc::channel::<Incoming>(4);
    tokio::spawn(serve(listener, voting(key, to), std::future::pending()));
    let (count, counted) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(incoming) = letters.recv().await {
            count.send(incoming.letter.len()).await.unwrap();
            if incoming.letter != b"silence" {
                let back = incoming.letter.into_iter().rev().collect();
                incoming.answer.send(back).unwrap();
            }
        }
    });
    let host = "127.0.0.1".to_owned();
    (Address { host, port }, counted)
}

#[tokio::test]
async fn a_letter_and_its_answer_are_signed() {
    let (address, mut heard) = voter(key("p")).await;
    let dialer = Dialer::default();
    let said = ask(&dialer, &address, &key("p"), b"abc".to_vec(), LONG).await;
    assert_eq!(said.unwrap(), b"cba");
    assert_eq!(heard.recv().await, Some(3));

    let error = ask(&dialer, &address, &key("q"), b"abc".to_vec(), LONG)
        .await
        .unwrap_err();
    assert_eq!(error, PeerError::WrongKey);
    let error = ask(&dialer, &address, &key("p"), b"silence".to_vec(), LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, PeerError::NotAPgnode { .. }), "{error}");
    assert_eq!(
        heard.recv().await,
        Some(7),
        "the badly signed one reached nobody"
    );
}

#[tokio::test]
async fn an_unsigned_or_oversized_letter_is_refused() {
    let (address, mut heard) = voter(key("p")).await;
    let dialer = Dialer::default();
    for (path, headers) in [
        ("/vote".to_owned(), vec![]),
        (format!("/vote?nonce={}", "ab".repeat(32)), vec![]),
        (
            format!("/vote?nonce={}", "ab".repeat(32)),
            vec![(mac::HEADER, "00".repeat(32))],
        ),
        (
            "/vote?nonce=1".to_owned(),
            vec![(mac::HEADER, "00".repeat(32))],
        ),
    ] {
        let stream = dialer.connect(&address.host, address.port).await.unwrap();
        let answer = post(stream, "x", &path, &headers, b"abc".to_vec(), 4096)
            .await
            .unwrap();
        assert_eq!(answer.status, 403, "{path}");
    }
    let big = ask(&dialer, &address, &key("p"), vec![b'x'; LARGEST + 1], LONG).await;
    assert!(big.is_err());
    assert!(heard.try_recv().is_err(), "nothing got through");
}
