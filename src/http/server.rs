//! The server: pages that read, over TCP and over the Unix socket.

use super::health::{Ask, Check, decide, liveness};
use super::mac::{self, Nonce, PeerKey};
use super::metrics::{self, Scrape};
use crate::domain::{Fault, Health, Status};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where the pages get the time from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since some moment before the start; never goes back.
    fn monotonic_ms(&self) -> u64;
    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock whose monotonic milliseconds begin now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| u64::try_from(d.as_millis()).ok())
            .unwrap_or(0)
    }
}

/// When the runtime's loop turned last. Clones share it: the loop writes, the pages read.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The loop turned, at this many monotonic milliseconds.
    pub fn turn(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    /// How long ago the last turn was.
    #[must_use]
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.0.load(Ordering::Relaxed)))
    }
}

/// Everything that the pages read.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The node's status.
    pub status: watch::Receiver<Arc<Status>>,
    /// The loop's last turn.
    pub beat: Beat,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What answers are signed with.
    pub key: PeerKey,
    /// `/liveness` fails when the last turn is older.
    pub liveness_limit: Duration,
    /// Every name that `Status::state` can have, for `/metrics`.
    pub states: &'static [&'static str],
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, not ours, or privileged.
    #[error("cannot listen on PGNODE_HTTP_ADDR={addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// Its path.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl HttpError {
    /// What can be done about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = Fault::chain(self);
        match self {
            Self::Bind { .. } => Fault::Config(why),
            Self::Socket { .. } => Fault::NeedsPerson(why),
        }
    }
}

/// Takes the address; a fault of it shows at once, not when the server is first asked.
///
/// # Errors
/// [`HttpError::Bind`].
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| HttpError::Bind { addr, source })
}

#[derive(Clone, Copy, Debug)]
enum Page {
    Check(Check),
    Liveness,
    Status,
    Metrics,
}

const PAGES: &[(&str, Page)] = &[
    ("/", Page::Check(Check::Primary)),
    ("/primary", Page::Check(Check::Primary)),
    ("/read-write", Page::Check(Check::Primary)),
    ("/master", Page::Check(Check::Primary)),
    ("/leader", Page::Check(Check::Primary)),
    ("/standby-leader", Page::Check(Check::StandbyLeader)),
    ("/replica", Page::Check(Check::Replica)),
    ("/read-only", Page::Check(Check::ReadOnly)),
    ("/readiness", Page::Check(Check::Readiness)),
    ("/health", Page::Check(Check::Health)),
    ("/liveness", Page::Liveness),
    ("/status", Page::Status),
    ("/metrics", Page::Metrics),
];

/// The pages: GET, HEAD and OPTIONS. As with Patroni the last two answer with the same code and
/// nothing else, for load balancers. Any other method is 405.
pub fn router(shown: Shown) -> Router {
    let methods = MethodFilter::GET
        .or(MethodFilter::HEAD)
        .or(MethodFilter::OPTIONS);
    let mut router = Router::new();
    for &(path, page) in PAGES {
        let answer = move |State(shown): State<Shown>, method: Method, uri: Uri| async move {
            let full = shown.answer(page, &uri);
            if method == Method::GET {
                full
            } else {
                full.status().into_response()
            }
        };
        router = router.route(path, on(methods, answer));
    }
    router
        .fallback(|| async { reply(StatusCode::NOT_FOUND, &no("there is no such page")) })
        .layer(DefaultBodyLimit::max(4096))
        .with_state(shown)
}

impl Shown {
    fn answer(&self, page: Page, uri: &Uri) -> Response {
        let status = Arc::clone(&self.status.borrow());
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs);
        match page {
            Page::Check(check) => {
                let ask = match &pairs {
                    Ok(pairs) => Ask::from_pairs(pairs),
                    Err(why) => Ask {
                        cannot: Some(why.to_string()),
                        ..Ask::default()
                    },
                };
                healthy(&decide(check, &status, &ask))
            }
            Page::Liveness => {
                let age = self.beat.age(self.clock.monotonic_ms());
                healthy(&liveness(age, self.liveness_limit))
            }
            Page::Status => {
                let nonce = pairs
                    .ok()
                    .and_then(|all| all.into_iter().find(|(name, _)| name == "nonce"));
                self.signed(&status, nonce.map(|(_, hex)| hex))
            }
            Page::Metrics => {
                let text = metrics::render(Scrape {
                    status,
                    now_ms: self.clock.wall_ms(),
                    loop_age: self.beat.age(self.clock.monotonic_ms()),
                    states: self.states,
                });
                ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
            }
        }
    }

    fn signed(&self, status: &Status, nonce: Option<String>) -> Response {
        let nonce = match nonce.map(|hex| Nonce::parse(&hex)) {
            Some(None) => {
                let why = "a nonce is 16 to 64 bytes in hexadecimal";
                return reply(StatusCode::BAD_REQUEST, &no(why));
            }
            Some(nonce) => nonce,
            None => None,
        };
        let Ok(body) = serde_json::to_vec(status) else {
            let why = "the status cannot be written as JSON";
            return reply(StatusCode::INTERNAL_SERVER_ERROR, &no(why));
        };
        let signature = nonce.map(|nonce| self.key.sign(mac::STATUS, &nonce, &body));
        let mut response = json(StatusCode::OK, body);
        if let Some(value) = signature.and_then(|hex| HeaderValue::from_str(&hex).ok()) {
            let name = HeaderName::from_static(mac::HEADER);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn no(why: &str) -> Health {
    Health {
        ok: false,
        why: why.to_owned(),
    }
}

fn healthy(health: &Health) -> Response {
    let code = if health.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(code, health)
}

/// `{"ok":…,"why":…}` with a status code.
pub(super) fn reply(code: StatusCode, health: &Health) -> Response {
    // Two plain fields: writing them cannot fail, and an empty body would still carry the code.
    json(code, serde_json::to_vec(health).unwrap_or_default())
}

pub(super) fn json(code: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Connections at a time; more wait in the kernel's backlog.
const MOST: usize = 128;
/// How long a client may take to send its headers, also between two requests.
const HEADERS: Duration = Duration::from_secs(15);
/// How long a connection may live at all: a scraper just connects again.
const LIFETIME: Duration = Duration::from_secs(600);
/// How long the last answers may take after the server was told to stop.
const LINGER: Duration = Duration::from_millis(500);

/// Serves until `stop` is ready, then lets the answers under way finish for a moment.
pub async fn serve<L>(mut listener: L, router: Router, stop: impl Future<Output = ()>)
where
    L: Listener,
{
    let mut stop = std::pin::pin!(stop);
    let (end, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (io, _) = listener.accept(), if connections.len() < MOST => {
                connections.spawn(connection(io, router.clone(), ended.clone()));
            }
        }
    }
    drop(listener);
    drop(end);
    let rest = async { while connections.join_next().await.is_some() {} };
    // What does not end in time is cut off when the set is dropped.
    drop(tokio::time::timeout(LINGER, rest).await);
}

async fn connection<I>(io: I, router: Router, mut ended: watch::Receiver<()>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        // Only ever an error: the sender was dropped.
        _ = ended.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = tokio::time::sleep(LIFETIME) => {
            served.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(HEADERS, served).await);
            Ok(())
        }
    };
    if let Err(why) = result {
        tracing::trace!(error = %Fault::chain(&why), "an HTTP connection ended early");
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(super) mod tests;
