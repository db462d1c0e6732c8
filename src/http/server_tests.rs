//! The pages over real sockets.

use super::*;
use crate::config::Secret;
use crate::domain::{Exposure, Role};
use crate::http::client::{Answer, exchange};
use crate::http::samples;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time stands still.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Clock for Stopped {
    fn monotonic_ms(&self) -> u64 {
        50_000
    }
    fn wall_ms(&self) -> u64 {
        1_000_000
    }
}

pub(crate) fn shown(status: Status) -> (watch::Sender<Arc<Status>>, Shown) {
    let (tell, status) = watch::channel(Arc::new(status));
    let shown = Shown {
        status,
        beat: Beat::default(),
        clock: Arc::new(Stopped),
        key: PeerKey::derive(&Secret::new("iamrepmgr".into())),
        liveness_limit: Duration::from_secs(30),
        states: &["waiting", "open"],
    };
    shown.beat.turn(49_000);
    (tell, shown)
}

struct Running {
    addr: SocketAddr,
    tell: watch::Sender<Arc<Status>>,
    shown: Shown,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn run(status: Status) -> Running {
    let (tell, shown) = shown(status);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let pages = router(shown.clone());
    let task = tokio::spawn(async move {
        serve(listener, pages, async { drop(stopped.await) }).await;
    });
    Running {
        addr,
        tell,
        shown,
        stop,
        task,
    }
}

impl Running {
    async fn ask(&self, method: Method, path: &str) -> Answer {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        exchange(stream, "localhost", method, path, 1 << 20)
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask(Method::GET, path).await;
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        (answer.status.as_u16(), body)
    }
}

#[tokio::test]
async fn each_page_answers_as_patroni_documents() {
    let server = run(samples::standby()).await;
    let mut primary = samples::standby();
    primary.role = Some(Role::Primary);
    let mut closed = samples::standby();
    closed.exposure = Exposure::Technical;
    let table = [
        // page, primary, standby, closed
        ("/", 200, 503, 503),
        ("/primary", 200, 503, 503),
        ("/read-write", 200, 503, 503),
        ("/master", 200, 503, 503),
        ("/leader", 200, 503, 503),
        ("/standby-leader", 503, 503, 503),
        ("/replica", 503, 200, 503),
        ("/replica?lag=0", 503, 200, 503),
        ("/replica?lag=10MB", 503, 200, 503),
        ("/replica?lag=x", 503, 503, 503),
        ("/replica?tag_a=b", 503, 503, 503),
        ("/replica?replication_state=streaming", 503, 200, 503),
        (
            "/replica?replication_state=in%20archive+recovery",
            503,
            503,
            503,
        ),
        ("/read-only", 200, 200, 503),
        ("/read-only?lag=x", 200, 503, 503),
        ("/readiness", 200, 200, 503),
        ("/readiness?lag=1MB&mode=apply", 200, 200, 503),
        ("/health", 200, 200, 503),
        ("/liveness", 200, 200, 200),
        ("/status", 200, 200, 200),
        ("/metrics", 200, 200, 200),
        ("/nowhere", 404, 404, 404),
    ];
    for (column, status) in [primary, samples::standby(), closed]
        .into_iter()
        .enumerate()
    {
        server.tell.send(Arc::new(status)).unwrap();
        for (path, p, s, c) in table {
            let want = [p, s, c][column];
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                let answer = server.ask(method.clone(), path).await;
                if want == 404 && method == Method::OPTIONS {
                    continue;
                }
                assert_eq!(answer.status, want, "{method} {path} column {column}");
                assert_eq!(answer.body.is_empty(), method != Method::GET, "{path}");
            }
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let answer = server.ask(method.clone(), path).await;
                let want = if want == 404 { 404 } else { 405 };
                assert_eq!(answer.status, want, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_check_says_why_in_json() {
    let server = run(samples::standby()).await;
    let (code, body) = server.get("/primary").await;
    assert_eq!(code, 503);
    assert_eq!(body, r#"{"ok":false,"why":"open, but a standby"}"#);
    let (_, body) = server.get("/liveness").await;
    assert_eq!(body, r#"{"ok":true,"why":"the loop turned 1.0 s ago"}"#);
    // The loop hangs: nothing is asked of it, and the answer changes.
    server.shown.beat.turn(10_000);
    assert_eq!(server.get("/liveness").await.0, 503);
}

#[tokio::test]
async fn the_status_is_the_status_and_signed_when_asked() {
    let server = run(samples::standby()).await;
    let plain = server.ask(Method::GET, "/status").await;
    assert!(plain.headers.get(mac::HEADER).is_none());
    let read: Status = serde_json::from_slice(&plain.body).unwrap();
    assert_eq!(read, samples::standby());

    let nonce = Nonce::random().unwrap();
    let path = format!("/status?nonce={}", nonce.hex());
    let signed = server.ask(Method::GET, &path).await;
    let signature = signed.headers[mac::HEADER].to_str().unwrap();
    assert!(
        server
            .shown
            .key
            .verify(mac::STATUS, &nonce, &signed.body, signature)
    );
    for bad in ["", "00", "zz", &"0".repeat(130)] {
        let (code, body) = server.get(&format!("/status?nonce={bad}")).await;
        assert_eq!(code, 400, "{bad}");
        assert!(body.contains("16 to 64 bytes"), "{body}");
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let server = run(samples::standby()).await;
    let answer = server.ask(Method::GET, "/metrics").await;
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("pgnode_role{role=\"standby\"} 1\n"), "{text}");
}

#[tokio::test]
async fn tcp_takes_no_commands() {
    let server = run(samples::standby()).await;
    for path in ["/reload", "/backup"] {
        let answer = server.ask(Method::POST, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_taken_address_is_a_clear_fault() {
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = first.local_addr().unwrap();
    let fault = bind(addr).await.unwrap_err().fault();
    let Fault::Config(why) = fault else {
        panic!("{fault:?}")
    };
    assert!(
        why.starts_with(&format!("cannot listen on PGNODE_HTTP_ADDR={addr}: ")),
        "{why}"
    );
}

#[tokio::test]
async fn stopping_ends_idle_and_half_open_connections() {
    let server = run(samples::standby()).await;
    // One that said nothing, one that began a request, one idle after an answer.
    let silent = TcpStream::connect(server.addr).await.unwrap();
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    half.write_all(b"GET /health HT").await.unwrap();
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0_u8; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    for mut stream in [silent, half, idle] {
        let mut rest = Vec::new();
        // End of file or a reset; not an open connection.
        drop(stream.read_to_end(&mut rest).await);
    }
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn an_oversized_request_is_refused() {
    let server = run(samples::standby()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "GET /{} HTTP/1.1\r\nhost: x\r\n\r\n",
        "a".repeat(100 * 1024)
    );
    // The server may stop reading in the middle.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    assert_eq!(server.get("/liveness").await.0, 200);
}
