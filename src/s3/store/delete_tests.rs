use super::super::Store;
use crate::config::S3;
use crate::domain::Fault;
use crate::s3::S3Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A status and a document.
type Answer = (u16, &'static str);

/// A server that gives these answers, one to each request and the last one to all that follow; and what came.
async fn server(answers: &'static [Answer]) -> (Store, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store(listener.local_addr().unwrap().port());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let came = request(&mut stream).await;
            log.lock().unwrap().push(came);
            let (status, body) = answers.get(n).or(answers.last()).unwrap();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (store, seen)
}

/// Head and body.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(text.clone()).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.map_or(0, |l| l.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    text.extend(body);
    String::from_utf8(text).unwrap()
}

fn store(port: u16) -> Store {
    Store::open(&S3 {
        // Longer than any test may take: what is tried again in vain shows.
        retry: Duration::from_secs(3600),
        ..S3::at(&format!("http://127.0.0.1:{port}"))
    })
    .unwrap()
}

async fn said(store: &Store, names: &[&str]) -> String {
    let keys: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    match tokio::time::timeout(Duration::from_secs(60), store.delete(&keys)).await {
        Ok(Ok(())) => "deleted".to_owned(),
        Ok(Err(error)) => {
            assert!(!matches!(error, S3Error::Lost { .. }), "{error}");
            assert!(matches!(error.fault(), Fault::NeedsPerson(_)), "{error}");
            error.fault().why().to_owned()
        }
        Err(_) => "tried again and again".to_owned(),
    }
}

#[tokio::test]
async fn what_is_refused_of_many_is_said_of_its_key_at_once() {
    // Interleaved, as servers answer in the order of the keys.
    let (store, seen) = server(&[(
        200,
        "<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Error><Key>p/a</Key><Code>NoSuchKey</Code><Message>no</Message></Error>\
         <Deleted><Key>p/b</Key></Deleted>\
         <Error><Key>p/c</Key><Code>SlowDown</Code><Message>later</Message></Error>\
         <Deleted><Key>p/d &amp; e</Key></Deleted>\
         <Error><Key>p/f</Key><Code>AccessDenied</Code><Message>not yours</Message></Error></DeleteResult>",
    )])
    .await;
    let said = said(&store, &["a", "b", "c", "d & e", "f"]).await;
    assert_eq!(
        said,
        "cannot delete s3://b/p/f: the S3 server says AccessDenied: not yours (S3_ACCESS_KEY_ID: the key may not do that \
         in this bucket, or it is another's (S3_SECRET_ACCESS_KEY))"
    );
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 1 && seen[0].starts_with("POST /b?delete"),
        "{seen:?}"
    );
    assert!(seen[0].contains("<Key>p/d &amp; e</Key>"), "{seen:?}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nothing_else_with_it() {
    let (store, seen) = server(&[
        (200, "<Error><Code>InternalError</Code><Message>x</Message></Error>"),
        (
            200,
            "<DeleteResult><Deleted><Key>p/a</Key></Deleted><Error><Key>p/b</Key><Code>SlowDown</Code></Error>\
             </DeleteResult>",
        ),
        (200, "<DeleteResult/>"),
    ])
    .await;
    assert_eq!(said(&store, &["a", "b"]).await, "deleted");
    let seen = seen.lock().unwrap();
    let of = |n: usize| ["p/a", "p/b"].map(|key| seen[n].contains(key));
    assert_eq!([of(0), of(1), of(2)], [[true; 2], [true; 2], [false, true]]);
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn only_the_servers_word_for_a_key_says_that_it_is_gone() {
    const NO_KEY: &str = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>";
    const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
    const THERE: &str = "<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size>\
        <LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>x</ETag></Contents></ListBucketResult>";
    const EMPTY: &str = "<ListBucketResult></ListBucketResult>";
    let table: [(&[&str], &[Answer], &str); 9] = [
        (&["a", "b"], &[(404, NO_BUCKET)], "NoSuchBucket"),
        (&["a", "b"], &[(404, "")], "HTTP status 404"),
        // Not said of a key.
        (&["a", "b"], &[(404, NO_KEY)], "NoSuchKey"),
        (&["a", "b"], &[(200, "<html></html>")], "not readable"),
        (&["a"], &[(404, NO_KEY)], "deleted"),
        (&["a"], &[(404, NO_BUCKET)], "NoSuchBucket"),
        (&["a"], &[(404, ""), (200, EMPTY)], "deleted"),
        (
            &["a"],
            &[(404, ""), (200, THERE)],
            "cannot delete s3://b/p/a",
        ),
        (&["a"], &[(404, ""), (404, NO_BUCKET)], "NoSuchBucket"),
    ];
    for (names, answers, want) in table {
        let (store, _) = server(answers).await;
        let said = said(&store, names).await;
        assert!(said.contains(want), "{names:?} {answers:?}: {said}");
    }
}
