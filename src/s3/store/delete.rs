//! Deleting, one or a thousand at a time. The library makes sentences of what the server says of single keys among a
//! thousand, so this request is ours.

use super::Store;
use super::patience::within;
use crate::s3::{Refusal, S3Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use object_store::ObjectStoreExt as _;

/// The server takes so many keys in one request.
const MOST: usize = 1000;

impl Store {
    /// Deletes objects, in the order given a thousand at a time; those that are not there count as deleted.
    ///
    /// # Errors
    /// The server refuses one, or does not answer for `S3_RETRY`: some may be gone then.
    pub async fn delete(&self, keys: &[String]) -> Result<(), S3Error> {
        for batch in keys.chunks(MOST) {
            match batch {
                [one] => self.delete_one(one).await?,
                many => self.delete_many(many).await?,
            }
        }
        Ok(())
    }

    async fn delete_one(&self, key: &str) -> Result<(), S3Error> {
        let path = self.path(key)?;
        let what = format!("cannot delete {}", self.uri(key));
        let mut patience = self.patience();
        loop {
            match within(&what, 0, self.inner.client.delete(&path)).await {
                Ok(()) => return Ok(()),
                Err(S3Error::Refused { what, refusal }) if refusal.is_missing() => {
                    // A bare 404 may mean anything, as in `get`.
                    return match !is_gone(&refusal.code) && self.find(key).await?.is_some() {
                        true => Err(S3Error::Refused { what, refusal }),
                        false => Ok(()),
                    };
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), S3Error> {
        let mut left = Vec::new();
        for key in keys {
            // What cannot be a key is our mistake, and not the server's to tell.
            left.push(self.path(key)?.to_string());
        }
        let mut patience = self.patience();
        while !left.is_empty() {
            let still = match self.delete_all(&left).await {
                Ok(still) => still,
                // Here no 404 means that something is gone: that is said of each key.
                Err(error) => {
                    patience.again(error).await?;
                    continue;
                }
            };
            // What it says of another key than was asked for must not end it.
            if still.iter().all(|s| left.contains(&s.key)) {
                left.retain(|key| still.iter().any(|s| s.key == *key));
            }
            let mut errors = still.into_iter().map(|one| S3Error::Refused {
                what: format!("cannot delete {}", self.uri_of(&one.key)),
                refusal: one.refusal(),
            });
            let Some(first) = errors.next() else {
                break;
            };
            let error = match first.is_transient() {
                true => errors.find(|e| !e.is_transient()).unwrap_or(first),
                false => first,
            };
            patience.again(error).await?;
        }
        Ok(())
    }

    /// One request for all of them; those that are still there by the server's answer, and why.
    async fn delete_all(&self, full: &[String]) -> Result<Vec<Failed>, S3Error> {
        let what = format!("cannot delete {} objects", full.len());
        let body = Bytes::from(order(full));
        let request = http::Request::post("/")
            .header("content-type", "application/xml")
            // Amazon asks for it, and so do others.
            .header("content-md5", STANDARD.encode(Md5::digest(&body)));
        let query = [("delete", String::new())];
        let sent = self.send(request, None, &query, body.into());
        let text = within(&what, 0, sent).await?;
        match quick_xml::de::from_str(&text) {
            Ok(Answer::DeleteResult { said }) => Ok(said
                .into_iter()
                .filter_map(|said| match said {
                    Said::Error(one) => Some(one),
                    Said::Other => None,
                })
                .filter(|one| !is_gone(&one.code))
                .collect()),
            // Amazon has begun its answer before it fails.
            Ok(Answer::Error { code, message }) => Err(S3Error::Refused {
                what,
                refusal: within_answer(code, message),
            }),
            Err(e) => Err(S3Error::Damaged {
                key: what,
                why: format!("the server's answer is not readable: {e}"),
            }),
        }
    }

    /// For messages, of a key as the server has it.
    fn uri_of(&self, full: &str) -> String {
        match self.own(full) {
            Some(key) => self.uri(key),
            None => format!("s3://{}/{full}", self.settings().bucket),
        }
    }
}

/// The server knows the bucket, and has no object of that key in it.
fn is_gone(code: &str) -> bool {
    code == "NoSuchKey"
}

/// The body of the request.
fn order(keys: &[String]) -> String {
    let mut text = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for key in keys {
        text.push_str("<Object><Key>");
        text.push_str(&quick_xml::escape::escape(key));
        text.push_str("</Key></Object>");
    }
    text.push_str("</Delete>");
    text
}

/// By its outermost element, so that no other document is taken for one without errors.
#[derive(Debug, serde::Deserialize)]
enum Answer {
    DeleteResult {
        #[serde(rename = "$value", default)]
        said: Vec<Said>,
    },
    #[serde(rename_all = "PascalCase")]
    Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    },
}

#[derive(Debug, serde::Deserialize)]
enum Said {
    Error(Failed),
    /// `Deleted`.
    #[serde(other)]
    Other,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    key: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failed {
    fn refusal(self) -> Refusal {
        within_answer(self.code, self.message)
    }
}

/// What is refused within an answer that is a success as such.
fn within_answer(code: String, message: String) -> Refusal {
    Refusal {
        status: 200,
        code,
        message,
        ahead: None,
    }
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
