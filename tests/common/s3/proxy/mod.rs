//! What goes wrong between a node and an S3 server, on demand: an HTTP proxy in the test's own process, at
//! the host's address in the test's network. Requests pass as they are (they are signed, the Host header
//! included) unless a [`Rule`] fits; what passed is remembered.

mod body;
mod rules;

pub(crate) use rules::{Fault, Rule, Seen};

use crate::docker::docker;
use body::{Shaped, shapes};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    connections: usize,
    upstream: Option<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    /// The server's container: its address changes with a restart.
    container: String,
    state: Mutex<State>,
    /// Counts up: what is stalled is cut.
    cleared: watch::Sender<u64>,
    /// Whether connections are accepted.
    open: watch::Sender<bool>,
    /// Whether they are: lags behind `open` by a moment.
    listening: watch::Sender<bool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(super) fn start(at: IpAddr, container: &str) -> Self {
        let listener = StdListener::bind((at, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            container: container.to_owned(),
            state: Mutex::default(),
            cleared: watch::Sender::new(0),
            open: watch::Sender::new(true),
            listening: watch::Sender::new(true),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(listener, address, of_thread));
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// `S3_ENDPOINT_URL` of those who are to go through it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; the rule that was given first counts where several fit.
    pub(crate) fn fail(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// No rule counts any more, what is stalled is cut, connections are accepted.
    pub(crate) fn clear(&self) {
        self.release([]);
        self.listen(true);
    }

    /// What is held passes, what is stalled is cut; from now on these rules count, and no others.
    pub(crate) fn release(&self, then: impl IntoIterator<Item = Rule>) {
        self.shared.state().rules = then.into_iter().collect();
        self.shared.cleared.send_modify(|n| *n += 1);
    }

    /// Cuts all connections and refuses new ones, until [`Proxy::clear`].
    pub(crate) fn refuse(&self) {
        self.listen(false);
    }

    /// Waits until it is so.
    fn listen(&self, wanted: bool) {
        self.shared.open.send_replace(wanted);
        while *self.shared.listening.borrow() != wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// All requests that came, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    pub(crate) fn forget_seen(&self) {
        self.shared.state().seen.clear();
    }

    /// How many requests of that kind came.
    pub(crate) fn count(&self, method: &str, key: &str) -> usize {
        self.shared
            .state()
            .seen
            .iter()
            .filter(|s| s.is(method, key))
            .count()
    }

    /// How many requests were hit by a rule.
    pub(crate) fn faults(&self) -> usize {
        self.shared
            .state()
            .seen
            .iter()
            .filter(|s| s.fault.is_some())
            .count()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // No receiver sees the end of `open`: its sender is shared. Refusing and a lost `listening` do.
        self.shared.state().rules.clear();
        self.shared.cleared.send_replace(u64::MAX);
        self.shared.open.send_replace(false);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Accepts until the proxy is dropped.
async fn serve(first: StdListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut open = shared.open.subscribe();
    let mut listener = Some(TcpListener::from_std(first).unwrap());
    let mut connections = JoinSet::new();
    loop {
        let wanted = *open.borrow_and_update();
        if *shared.cleared.borrow() == u64::MAX {
            return;
        }
        if wanted && listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        if !wanted {
            listener = None;
            connections.shutdown().await;
        }
        shared.listening.send_replace(wanted);
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = open.changed() => {}
            accepted = accept => {
                let Ok((client, _)) = accepted else { continue };
                shared.state().connections += 1;
                connections.spawn(connection(client, Arc::clone(&shared)));
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    client.set_nodelay(true).ok();
    let service = service_fn(|request| pass(request, Arc::clone(&shared)));
    // An error is a fault that was asked for, or the client's own end.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service)
        .await
        .ok();
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by the proxy")
}

/// One request. An error ends the connection.
async fn pass(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, io::Error> {
    // Before anything is awaited: a clear that comes meanwhile is for this request too.
    let cleared = shared.cleared.subscribe();
    let (path, query) = (
        request.uri().path().to_owned(),
        request.uri().query().unwrap_or("").to_owned(),
    );
    let (fault, at) = {
        let mut state = shared.state();
        let method = request.method();
        let fault = state
            .rules
            .iter_mut()
            .find_map(|r| (r.fits(method, &path, &query) && r.hits()).then_some(r.fault));
        state.seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            query,
            headers: request.headers().clone(),
            fault,
            status: None,
        });
        (fault, state.seen.len() - 1)
    };
    let note = |status: StatusCode| {
        // Not there when the test forgot what was seen.
        if let Some(seen) = shared.state().seen.get_mut(at).filter(|s| s.path == path) {
            seen.status = Some(status.as_u16());
        }
    };
    answered(request, fault, &path, cleared, &shared, note).await
}

async fn answered(
    request: Request<Incoming>,
    fault: Option<Fault>,
    path: &str,
    mut cleared: watch::Receiver<u64>,
    shared: &Shared,
    note: impl Fn(StatusCode),
) -> Result<Answer, io::Error> {
    match fault {
        Some(Fault::Answer(status, code)) => {
            let head = request.method() == Method::HEAD;
            // Taken first, else the client sees a connection that ended while it wrote.
            request
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?;
            let refusal = refusal(status, code, path, head);
            note(refusal.status());
            return Ok(refusal);
        }
        Some(Fault::Deaf) => {
            request
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?;
            cleared.changed().await.ok();
            return Err(cut());
        }
        Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Held) => {
            cleared.changed().await.ok();
        }
        _ => {}
    }
    let (of_request, of_answer) = shapes(fault);
    let stalled = cleared.clone();
    let request = request.map(|body| Shaped::new(body, of_request, stalled));
    let mut answer = sent(request, shared).await?;
    note(answer.status());
    if let Some(Fault::Unanswered | Fault::Unheard) = fault {
        answer
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?;
        if fault == Some(Fault::Unheard) {
            cleared.changed().await.ok();
        }
        return Err(cut());
    }
    if let Some(Fault::ShortAnswer(length)) = fault {
        answer
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(answer.map(|body| Shaped::new(body, of_answer, cleared).boxed()))
}

/// To the server and back, on a connection of its own.
async fn sent(request: Request<Shaped>, shared: &Shared) -> Result<Response<Incoming>, io::Error> {
    let known = shared.state().upstream;
    let stream = match known {
        Some(address) => TcpStream::connect(address).await,
        None => Err(io::ErrorKind::NotConnected.into()),
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(_) => {
            let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let ip = docker(["inspect", "-f", format, &shared.container]).out;
            let ip: IpAddr = ip.trim().parse().map_err(|_| cut())?;
            let address = SocketAddr::new(ip, 3900);
            shared.state().upstream = Some(address);
            TcpStream::connect(address).await?
        }
    };
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends with the answer, or when nobody wants it any more.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

fn refusal(status: u16, code: &str, path: &str, head: bool) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>Made up by the test.</Message>\
         <Resource>{path}</Resource><RequestId>0</RequestId></Error>"
    );
    let body = Full::new(Bytes::from(if head { String::new() } else { text }));
    let mut answer = Response::new(body.map_err(|never: Infallible| match never {}).boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/xml"));
    // What such a server's clock says: Amazon's, and Garage's.
    let behind = match code {
        "RequestTimeTooSkewed" => Some(chrono::TimeDelta::hours(2)),
        "InvalidRequest" => Some(chrono::TimeDelta::minutes(26 * 60 + 30)),
        _ => None,
    };
    if let Some(behind) = behind {
        let theirs = chrono::Utc::now() - behind;
        let date = theirs.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer.headers_mut().insert("date", date.parse().unwrap());
    }
    answer
}
