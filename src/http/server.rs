//! The two doors: TCP for everybody, read-only; the control socket for the operator.

use super::health::{Endpoint, Limits, judge, parse_lag};
use super::mac::{PeerKey, is_nonce};
use super::metrics;
use crate::domain::Status;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};

/// The loop's sign of life.
#[derive(Clone, Debug)]
pub struct Beat {
    begin: Instant,
    last: Arc<AtomicU64>,
}

impl Default for Beat {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Beat {
    /// The loop turns.
    pub fn beat(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How long ago it turned.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// What came of a command: a sentence either way.
pub type Reply = oneshot::Sender<Result<String, String>>;

/// What the operator can ask for over the control socket.
#[derive(Debug)]
pub enum Command {
    /// Settings are read again, as on HUP.
    Reload(Reply),
}

/// A door that does not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {where_} ({variable})")]
pub struct BindError {
    where_: String,
    variable: &'static str,
    source: std::io::Error,
}

#[derive(Clone)]
struct Shared {
    status: watch::Receiver<Arc<Status>>,
    beat: Beat,
    key: PeerKey,
    commands: Option<mpsc::Sender<Command>>,
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    lag: Option<String>,
    nonce: Option<String>,
}

/// Serves TCP until the future is dropped.
///
/// # Errors
/// [`BindError`] names `PGNODE_HTTP_ADDR`.
pub async fn serve_tcp(
    address: SocketAddr,
    status: watch::Receiver<Arc<Status>>,
    beat: Beat,
    key: PeerKey,
) -> Result<impl Future<Output = ()>, BindError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| BindError {
            where_: address.to_string(),
            variable: "PGNODE_HTTP_ADDR",
            source,
        })?;
    let app = reading().with_state(Shared {
        status,
        beat,
        key,
        commands: None,
    });
    Ok(async move { drop(axum::serve(listener, app).await) })
}

/// Serves the control socket, 0600, until the future is dropped.
///
/// # Errors
/// [`BindError`] names `PGNODE_RUN_DIR`.
pub fn serve_control(
    path: &Path,
    status: watch::Receiver<Arc<Status>>,
    beat: Beat,
    key: PeerKey,
    commands: mpsc::Sender<Command>,
) -> Result<impl Future<Output = ()> + use<>, BindError> {
    let listener = bind(path).map_err(|source| BindError {
        where_: path.display().to_string(),
        variable: "PGNODE_RUN_DIR",
        source,
    })?;
    let app = reading().route("/reload", post(reload)).with_state(Shared {
        status,
        beat,
        key,
        commands: Some(commands),
    });
    Ok(async move { drop(axum::serve(listener, app).await) })
}

/// Made under another name, closed to others, then renamed: it is never open to anybody else.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut new = PathBuf::from(path);
    new.set_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn reading() -> Router<Shared> {
    let health = |endpoint: Endpoint| {
        get(
            move |State(shared): State<Shared>, Query(asked): Query<Asked>| async move {
                answer(endpoint, &shared, &asked)
            },
        )
        .options(
            move |State(shared): State<Shared>, Query(asked): Query<Asked>| async move {
                let answered = answer(endpoint, &shared, &asked);
                answered.status()
            },
        )
    };
    let mut router = Router::new()
        .route("/liveness", health(Endpoint::Liveness))
        .route("/readiness", health(Endpoint::Readiness))
        .route("/health", health(Endpoint::Health))
        .route("/status", get(status))
        .route("/metrics", get(page));
    for path in ["/", "/primary", "/master", "/leader", "/read-write"] {
        router = router.route(path, health(Endpoint::Primary));
    }
    for path in ["/replica", "/standby", "/secondary"] {
        router = router.route(path, health(Endpoint::Replica));
    }
    router
}

fn answer(endpoint: Endpoint, shared: &Shared, asked: &Asked) -> Response {
    let lag = match asked.lag.as_deref().map(|text| (text, parse_lag(text))) {
        Some((text, None)) => {
            let why = format!("lag={text} is no size such as 16MB");
            let bad = crate::domain::Health { ok: false, why };
            return (StatusCode::BAD_REQUEST, Json(bad)).into_response();
        }
        Some((_, lag)) => lag,
        None => None,
    };
    let limits = Limits {
        lag,
        loop_age: shared.beat.age(),
    };
    let health = judge(endpoint, &shared.status.borrow(), &limits);
    let code = if health.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(health)).into_response()
}

async fn status(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let mut status = Status::clone(&shared.status.borrow());
    status.uptime.now_ms = status.uptime.now_ms.max(now_ms());
    let Ok(body) = serde_json::to_vec(&status) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match asked.nonce {
        None => (json, body).into_response(),
        Some(nonce) if is_nonce(&nonce) => {
            let mac = shared.key.sign(&nonce, &body);
            let mut response = (json, body).into_response();
            if let Ok(value) = HeaderValue::from_str(&mac) {
                response.headers_mut().insert("x-pgnode-mac", value);
            }
            response
        }
        Some(_) => (
            StatusCode::BAD_REQUEST,
            "nonce: 16 to 64 bytes, hexadecimal\n",
        )
            .into_response(),
    }
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

async fn page(State(shared): State<Shared>) -> Response {
    let page = metrics::page(&shared.status.borrow());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}

async fn reload(State(shared): State<Shared>) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = match &shared.commands {
        Some(commands) => commands.send(Command::Reload(reply)).await.is_ok(),
        None => false,
    };
    if !sent {
        return (StatusCode::SERVICE_UNAVAILABLE, "the node is ending\n").into_response();
    }
    match answer.await {
        Ok(Ok(text)) => (StatusCode::OK, text).into_response(),
        Ok(Err(text)) => (StatusCode::CONFLICT, text).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the node is ending\n").into_response(),
    }
}
