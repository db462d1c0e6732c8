//! The HTTP client below `object_store`: an answer that is no success becomes a [`Refusal`] in the error's chain, so
//! that nobody has to read a message to know what the server said.

use crate::s3::Refusal;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// Makes [`Wire`]s.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Wire { inner }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.inner.execute(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(HttpError::new(
            HttpErrorKind::Unknown,
            refusal(response).await,
        ))
    }
}

async fn refusal(response: HttpResponse) -> Refusal {
    let (head, body) = response.into_parts();
    let ahead = head
        .headers
        .get("date")
        .and_then(|date| chrono::DateTime::parse_from_rfc2822(date.to_str().ok()?).ok())
        .map(|theirs| (theirs.to_utc() - chrono::Utc::now()).num_seconds());
    // What the server has to say fits into a page; what does not come is left out.
    let text = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => bytes::Bytes::new(),
    };
    let (code, message) = said(&String::from_utf8_lossy(&text));
    Refusal {
        status: head.status.as_u16(),
        code,
        message,
        ahead,
    }
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
    use super::said;

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
