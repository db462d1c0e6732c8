//! A small HTTP/1.1 client: one request on one stream, with a limit on the answer.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no complete answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not HTTP, or cut off.
    #[error("no proper HTTP answer")]
    Http(#[from] hyper::Error),
    /// The request cannot be expressed: a host name that is none.
    #[error("cannot ask `{host}`")]
    Request {
        /// The host.
        host: String,
        /// What is wrong.
        source: hyper::http::Error,
    },
    /// The body is longer than we read, or broke off.
    #[error("the answer's body breaks off or is longer than {limit} bytes")]
    Body {
        /// The limit in bytes.
        limit: usize,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Sends one request and reads the whole answer, at most `limit` bytes of body. No deadline of its
/// own: dropping the future drops the connection.
///
/// # Errors
/// [`ClientError`].
pub async fn exchange<S>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
    limit: usize,
) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder().method(method).uri(path);
    send(stream, host, request, Bytes::new(), limit).await
}

/// As [`exchange`], a POST with headers and a body.
///
/// # Errors
/// [`ClientError`].
pub async fn post<S>(
    stream: S,
    host: &str,
    path: &str,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
    limit: usize,
) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    send(stream, host, request, body.into(), limit).await
}

async fn send<S>(
    stream: S,
    host: &str,
    request: hyper::http::request::Builder,
    body: Bytes,
    limit: usize,
) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|source| ClientError::Request {
            host: host.to_owned(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limit)
            .collect()
            .await
            .map_err(|source| ClientError::Body { limit, source })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    });
    // The connection only moves while it is polled. It may end before the body has been read.
    tokio::select! {
        answer = &mut talk => answer,
        ended = &mut connection => {
            let answer = talk.await;
            match (answer, ended) {
                (Err(_), Err(why)) => Err(why.into()),
                (answer, _) => answer,
            }
        }
    }
}

/// Where a verb finds the running node.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Name or address, and port.
    Tcp(&'a str, u16),
    /// The control socket.
    Socket(&'a std::path::Path),
}

/// Why a verb got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    /// No proper answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// None in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

/// No answer of ours is longer, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Connects and asks, within `patience`.
///
/// # Errors
/// [`AskError`].
pub async fn ask_node(
    target: Target<'_>,
    method: Method,
    path: &str,
    patience: std::time::Duration,
) -> Result<Answer, AskError> {
    let work = async {
        let answer = match target {
            Target::Tcp(host, port) => {
                let stream = tokio::net::TcpStream::connect((host, port)).await?;
                exchange(stream, host, method, path, LARGEST).await?
            }
            Target::Socket(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                exchange(stream, "localhost", method, path, LARGEST).await?
            }
        };
        Ok(answer)
    };
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or(Err(AskError::Timeout(patience)))
}
