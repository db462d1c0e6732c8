//! The HTTP client below `object_store`: an answer that is no success becomes a [`Refusal`] in the error's chain, so
//! that nobody has to read a message to know what the server said.

use crate::s3::Refusal;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So much of an error's body is read.
const LONGEST: usize = 64 << 10;

/// Makes [`Wire`]s, and remembers the last one: whoever reads the machine's certificates twice waits twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Connector {
    last: Arc<Mutex<Option<HttpClient>>>,
}

impl Connector {
    /// The client that was made last: the library makes those for its credentials before the bucket's own.
    pub(super) fn last(&self) -> Option<HttpClient> {
        self.made().clone()
    }

    fn made(&self) -> MutexGuard<'_, Option<HttpClient>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let client = HttpClient::new(Wire { inner });
        *self.made() = Some(client.clone());
        Ok(client)
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
}

/// The server says that the object is encrypted with a key (`aws:kms`, or one of the client's).
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed;

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.inner.execute(request).await?;
        if response.status().is_success() {
            if is_keyed(response.headers()) {
                response.extensions_mut().insert(Keyed);
            }
            return Ok(response);
        }
        Err(HttpError::new(
            HttpErrorKind::Unknown,
            refusal(response).await,
        ))
    }
}

fn is_keyed(headers: &http::HeaderMap) -> bool {
    let how = headers.get("x-amz-server-side-encryption");
    how.is_some_and(|how| how.as_bytes().starts_with(b"aws:"))
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

async fn refusal(response: HttpResponse) -> Refusal {
    let (head, body) = response.into_parts();
    let ahead = head
        .headers
        .get("date")
        .and_then(|date| chrono::DateTime::parse_from_rfc2822(date.to_str().ok()?).ok())
        .map(|theirs| (theirs.to_utc() - chrono::Utc::now()).num_seconds());
    let text = beginning(body).await;
    let (code, message) = said(&String::from_utf8_lossy(&text));
    Refusal {
        status: head.status.as_u16(),
        code,
        message,
        ahead,
    }
}

/// What the server has to say fits into a page. What is more is left out, as is what does not come: whoever answers with an
/// error need not be an S3 server, nor come to an end.
async fn beginning(mut body: HttpResponseBody) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < LONGEST
        && let Some(Ok(frame)) = body.frame().await
    {
        let chunk = frame.into_data().unwrap_or_default();
        let room = LONGEST - text.len();
        text.extend(chunk.iter().take(room));
    }
    text
}

/// S3's error document.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Said {
    code: String,
    message: String,
}

/// Code and message of an error document; of any other text its beginning, as the message.
fn said(text: &str) -> (String, String) {
    match quick_xml::de::from_str::<Said>(text) {
        Ok(said) if !said.code.is_empty() => (said.code, said.message),
        Ok(_) | Err(_) => {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            (
                String::new(),
                plain.take(200).collect::<String>().trim().to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, is_keyed, refusal, said};
    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use http_body_util::StreamBody;
    use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_long_error_is_not_read_to_its_end_and_a_broken_one_counts_as_far_as_it_came() {
        let answer = |body| {
            let mut answer = http::Response::new(body);
            *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
            answer
        };
        let frame = |bytes: Bytes| Ok(hyper::body::Frame::data(bytes));
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let pages = futures_util::stream::iter(0..1000).map(move |_| {
            count.fetch_add(4096, Ordering::Relaxed);
            frame(Bytes::from_static(&[b'x'; 4096]))
        });
        let body = HttpResponseBody::new(StreamBody::new(pages));
        let said = refusal(answer(body)).await;
        assert_eq!(
            (said.status, said.message.as_str()),
            (502, &*"x".repeat(200))
        );
        assert_eq!(taken.load(Ordering::Relaxed), LONGEST);

        let broken = HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("cut"));
        let frames = [frame(Bytes::from_static(b"Bad Gateway")), Err(broken)];
        let body = HttpResponseBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        assert_eq!(refusal(answer(body)).await.message, "Bad Gateway");
    }

    #[test]
    fn a_key_of_whoever_is_seen() {
        let headers = |name: &'static str, value: &'static str| {
            let value = http::HeaderValue::from_static(value);
            http::HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
        };
        let how = "x-amz-server-side-encryption";
        let own = "x-amz-server-side-encryption-customer-algorithm";
        assert!(is_keyed(&headers(how, "aws:kms")) && is_keyed(&headers(how, "aws:kms:dsse")));
        assert!(is_keyed(&headers(own, "AES256")));
        assert!(!is_keyed(&headers(how, "AES256")) && !is_keyed(&headers("etag", "aws:")));
    }

    #[test]
    fn the_servers_words_are_found() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchBucket</Code><Message>Bucket not found: x</Message><Resource>/x</Resource></Error>";
        assert_eq!(
            said(text),
            ("NoSuchBucket".into(), "Bucket not found: x".into())
        );
        assert_eq!(
            said("Bad\r\nGateway"),
            (String::new(), "Bad  Gateway".into())
        );
        assert_eq!(said(""), (String::new(), String::new()));
    }
}
