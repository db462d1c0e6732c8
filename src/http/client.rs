//! A small HTTP client: one GET over a connection of its own, with a deadline and a limit.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// No answer of ours is longer.
const LARGEST: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Not HTTP, or it broke off.
    #[error("the answer broke off")]
    Broken(#[source] hyper::Error),
    /// Too large, or it broke off in the body.
    #[error("the body cannot be read: {0}")]
    Body(String),
    /// The request cannot be made.
    #[error("the request cannot be made")]
    Request(#[source] hyper::http::Error),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Name or address, and port.
    Tcp(&'a str, u16),
    /// A Unix socket.
    Socket(&'a Path),
}

/// Asks.
///
/// # Errors
/// [`HttpError`]; a status code other than 200 is an answer.
pub async fn get(
    target: Target<'_>,
    method: &str,
    path: &str,
    patience: Duration,
) -> Result<Answer, HttpError> {
    let work = async {
        match target {
            Target::Tcp(host, port) => {
                let stream = TcpStream::connect((host, port))
                    .await
                    .map_err(HttpError::Connect)?;
                exchange(stream, host, method, path).await
            }
            Target::Socket(socket) => {
                let stream = UnixStream::connect(socket)
                    .await
                    .map_err(HttpError::Connect)?;
                exchange(stream, "localhost", method, path).await
            }
        }
    };
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or(Err(HttpError::Timeout(patience)))
}

async fn exchange<S>(stream: S, host: &str, method: &str, path: &str) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(HttpError::Broken)?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(HttpError::Request)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(HttpError::Broken)?;
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let body = Limited::new(response.into_body(), LARGEST)
        .collect()
        .await
        .map_err(|e| HttpError::Body(e.to_string()))?
        .to_bytes();
    connection.abort();
    Ok(Answer {
        code,
        headers,
        body,
    })
}
