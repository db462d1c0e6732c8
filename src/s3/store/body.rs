//! An object that is being read. A connection that breaks is taken up again where it broke, of the same version.

use super::Store;
use super::patience::{judge, within};
use super::wire::Keyed;
use crate::s3::S3Error;
use crate::s3::mark::Mark;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore as _};

/// An object that is being read.
pub struct Body {
    store: Store,
    key: String,
    size: u64,
    etag: Option<String>,
    keyed: bool,
    at: u64,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("key", &self.key)
            .field("size", &self.size)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(super) async fn open(store: &Store, key: &str) -> Result<Option<Self>, S3Error> {
        let mut patience = store.patience();
        loop {
            match request(store, key, GetOptions::default()).await {
                Ok(found) => {
                    return Ok(Some(Self {
                        store: store.clone(),
                        key: key.to_owned(),
                        size: found.meta.size,
                        etag: found.meta.e_tag.clone(),
                        keyed: found.extensions.get::<Keyed>().is_some(),
                        at: 0,
                        stream: Some(found.into_stream()),
                    }));
                }
                Err(S3Error::Refused { refusal, .. }) if refusal.is_missing() => {
                    // Some servers, and proxies more so, give a bare 404 for anything.
                    if refusal.code.is_empty() {
                        let walk = super::Walk::below(key);
                        let page = store.page(&walk, None, Some(1)).await?;
                        if page.objects.first().is_some_and(|o| o.key == key) {
                            let what = format!("cannot read {key}");
                            patience.again(S3Error::Refused { what, refusal }).await?;
                            continue;
                        }
                    }
                    return Ok(None);
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// The object's size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The server's mark of this version.
    pub(in crate::s3) fn mark(&self) -> Mark {
        let text = self.etag.as_deref().unwrap_or_default();
        Mark {
            text: text.trim_matches('"').to_owned(),
            keyed: self.keyed,
        }
    }

    /// The next bytes; `None` at the end, which is where the server said it would be.
    ///
    /// # Errors
    /// It broke, and could not be taken up again within `S3_RETRY`; the object is another one meanwhile.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, S3Error> {
        let what = format!("cannot read {}", self.key);
        let mut patience = self.store.patience();
        while self.at < self.size {
            let error = match &mut self.stream {
                Some(stream) => {
                    let next = async {
                        match stream.next().await {
                            Some(Ok(bytes)) => Ok(Some(bytes)),
                            Some(Err(error)) => Err(error),
                            None => Ok(None),
                        }
                    };
                    match within(&what, 0, next).await {
                        Ok(Some(bytes)) if bytes.is_empty() => continue,
                        Ok(Some(bytes)) => {
                            self.at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                            return Ok(Some(bytes));
                        }
                        Ok(None) => judge(&what, cut(self.at, self.size)),
                        Err(error) => error,
                    }
                }
                None => {
                    let options = GetOptions {
                        if_match: self.etag.clone(),
                        range: Some(GetRange::Bounded(self.at..self.size)),
                        ..GetOptions::default()
                    };
                    match request(&self.store, &self.key, options).await {
                        Ok(found) => {
                            self.stream = Some(found.into_stream());
                            continue;
                        }
                        Err(S3Error::Refused { refusal, .. })
                            if matches!(refusal.status, 404 | 412 | 416) =>
                        {
                            return Err(S3Error::Damaged {
                                key: self.store.uri(&self.key),
                                why: "was replaced or deleted while it was read".to_owned(),
                            });
                        }
                        Err(error) => error,
                    }
                }
            };
            self.stream = None;
            patience.again(error).await?;
        }
        if self.at > self.size {
            return Err(S3Error::Damaged {
                key: self.store.uri(&self.key),
                why: format!("gave more than its {} bytes", self.size),
            });
        }
        Ok(None)
    }
}

async fn request(store: &Store, key: &str, options: GetOptions) -> Result<GetResult, S3Error> {
    let path = store.path(key)?;
    let what = format!("cannot read {key}");
    within(&what, 0, store.inner.client.get_opts(&path, options)).await
}

/// It ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended after {at} of {size} bytes")]
struct Cut {
    at: u64,
    size: u64,
}

fn cut(at: u64, size: u64) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: Box::new(Cut { at, size }),
    }
}
