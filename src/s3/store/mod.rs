//! A client of one bucket and a path in it. Keys are below that path.
//!
//! What may pass (no route, 5xx, a stall, half an answer) is tried again here for `S3_RETRY`, and nowhere else: the
//! library's own retries are off. Nothing is taken for "not there" but the server's own word for the key.

mod body;
mod credentials;
mod delete;
mod list;
mod pace;
mod patience;
mod probe;
mod upload;
mod wire;

pub use body::Body;
pub use list::{Object, Page, Walk};
pub use probe::Probe;
pub use upload::{Part, Unfinished, Upload};

use super::S3Error;
use super::mark::{self, Mark};
use super::pages::{LARGE, Pages};
use crate::config::{Addressing, Credentials, Encryption, S3, Tags};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::HttpClient;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore as _, PutOptions, PutPayload, RetryConfig, TagSet};
use pace::Pace;
use patience::{Patience, judge, within};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A body of at most so many bytes waits for its answer rather than for the line.
const SMALL: usize = 256 << 10;

/// So many of them take one place among `S3_MAX_PARALLEL`.
const SMALL_ONES: u32 = 4;

/// What an object is, for its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `S3_TAGS`.
    Plain,
    /// A history file: `S3_HISTORY_TAGS` where they are given.
    History,
}

/// One bucket and a path in it. Cheap to clone; clones share connections and limits.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: AmazonS3,
    /// For what the library has no request for.
    wire: HttpClient,
    settings: S3,
    /// `S3_MAX_PARALLEL`, in small ones.
    slots: Semaphore,
    pace: Pace,
    /// Whether a mark was seen that is the digest of its object: those of this server are.
    digests: AtomicBool,
}

impl Inner {
    fn new(client: AmazonS3, wire: HttpClient, settings: S3) -> Self {
        Self {
            client,
            wire,
            slots: Semaphore::new(settings.max_parallel.max(1) * SMALL_ONES as usize),
            pace: Pace::new(settings.bandwidth),
            digests: AtomicBool::new(false),
            settings,
        }
    }
}

impl Store {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// A setting cannot be used: the CA bundle or the credentials file is unreadable.
    pub fn open(settings: &S3) -> Result<Self, S3Error> {
        // Once a process; a second time it only says that there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        // By a plain line nobody looks at the machine's certificates; reading them takes a tenth of a second.
        let plain = settings.endpoint.as_deref();
        let plain = plain.is_some_and(|endpoint| endpoint.starts_with("http://"))
            && !matches!(settings.credentials, Credentials::Machine);
        let mut client = ClientOptions::new()
            .with_no_system_certificates(plain)
            .with_allow_http(true)
            .with_http1_only()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(5))
            .with_pool_idle_timeout(Duration::from_secs(60));
        if let Some(path) = &settings.ca_bundle {
            for certificate in bundle(path)? {
                client = client.with_root_certificate(certificate);
            }
        }
        let connector = wire::Connector::default();
        let virtual_host = settings.addressing == Addressing::Virtual;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_virtual_hosted_style_request(virtual_host)
            .with_client_options(client)
            .with_http_connector(connector.clone())
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(match virtual_host {
                // The library takes it as it is then.
                true => with_bucket(endpoint, &settings.bucket),
                false => endpoint.clone(),
            });
        }
        match &settings.credentials {
            Credentials::Keys { id, secret, token } => {
                builder = builder
                    .with_access_key_id(id)
                    .with_secret_access_key(secret.reveal());
                if let Some(token) = token {
                    builder = builder.with_token(token.reveal());
                }
            }
            Credentials::File { path, profile } => {
                credentials::read(path, profile)?;
                builder = builder.with_credentials(Arc::new(credentials::FromFile {
                    path: path.clone(),
                    profile: profile.clone(),
                }));
            }
            Credentials::Machine => {}
        }
        for (name, value) in encryption(&settings.encryption) {
            let key: AmazonS3ConfigKey = name
                .parse()
                .map_err(|_| S3Error::Bug(format!("the S3 library has no setting {name}")))?;
            builder = builder.with_config(key, value);
        }
        let unfit = |e: object_store::Error| S3Error::Setting {
            variable: "S3_ENDPOINT_URL",
            why: e.to_string(),
        };
        let client = builder.build().map_err(unfit)?;
        let wire = connector
            .last()
            .ok_or_else(|| S3Error::Bug("the S3 library has made no client".to_owned()))?;
        Ok(Self {
            inner: Arc::new(Inner::new(client, wire, settings.clone())),
        })
    }

    /// The same bucket by the same connections, with another patience (`S3_RETRY`), and limits of its own.
    #[must_use]
    pub fn with_retry(&self, retry: Duration) -> Self {
        let settings = S3 {
            retry,
            ..self.inner.settings.clone()
        };
        Self {
            inner: Arc::new(Inner::new(
                self.inner.client.clone(),
                self.inner.wire.clone(),
                settings,
            )),
        }
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &S3 {
        &self.inner.settings
    }

    /// For messages: `s3://bucket/path/key`.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        format!("{}/{key}", self.inner.settings.uri())
    }

    /// Stores one object, whole or not at all; on the way back it is durable, and LIST shows it.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn put(&self, key: &str, body: Bytes, label: Label) -> Result<(), S3Error> {
        let path = self.path(key)?;
        let what = format!("cannot store {key}");
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut patience = self.patience();
        loop {
            let slot = self.slot(body.len()).await;
            self.inner.pace.let_out(body.len()).await;
            let options = PutOptions {
                tags: self.tags(label),
                ..PutOptions::default()
            };
            let payload = PutPayload::from_bytes(body.clone());
            let put = self.inner.client.put_opts(&path, payload, options);
            let ended = within(&what, bytes, put).await;
            drop(slot);
            match ended {
                Ok(_) => return Ok(()),
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// Opens an object for reading; `None` only when the server says that there is none of this key.
    ///
    /// # Errors
    /// The server refuses it (also: no such bucket), or does not answer for `S3_RETRY`.
    pub async fn get(&self, key: &str) -> Result<Option<Body>, S3Error> {
        Body::open(self, key).await
    }

    /// A whole object of at most `most` bytes.
    ///
    /// # Errors
    /// As [`Store::get`]; it is larger.
    pub async fn read(&self, key: &str, most: u64) -> Result<Option<Bytes>, S3Error> {
        let read = self.read_marked(key, most).await?;
        Ok(read.map(|(bytes, _)| bytes))
    }

    /// Whether a mark is surely the digest of its object: other servers have other marks, or none.
    pub(super) fn is_digest(&self, mark: &Mark) -> bool {
        mark.may_be_digest() && self.inner.digests.load(Ordering::Relaxed)
    }

    /// Whether it is a mark's digest; remembers that this server has such marks.
    pub(super) fn matches(&self, mark: &Mark, digest: &str) -> bool {
        let matches = mark.is(digest);
        if matches {
            self.inner.digests.store(true, Ordering::Relaxed);
        }
        matches
    }

    /// As [`Store::read`], with the server's mark (ETag).
    ///
    /// # Errors
    /// As [`Store::read`].
    pub(super) async fn read_marked(
        &self,
        key: &str,
        most: u64,
    ) -> Result<Option<(Bytes, Mark)>, S3Error> {
        let Some(mut body) = self.get(key).await? else {
            return Ok(None);
        };
        if body.size() > most {
            return Err(S3Error::Damaged {
                key: self.uri(key),
                why: format!("has {} bytes, more than {most}", body.size()),
            });
        }
        let mark = body.mark();
        let size = usize::try_from(body.size()).unwrap_or(usize::MAX);
        if size < LARGE {
            let mut whole = Vec::with_capacity(size);
            self.fill(&mut body, &mut whole).await?;
            // What is small tells it for nothing.
            if mark.may_be_digest() && !self.is_digest(&mark) {
                self.matches(&mark, &mark::of(&whole));
            }
            return Ok(Some((Bytes::from(whole), mark)));
        }
        let mut whole = Pages::new(body.size())
            .map_err(|e| S3Error::Bug(format!("no {size} bytes of memory: {e}")))?;
        self.fill(&mut body, &mut whole).await?;
        Ok(Some((Bytes::from_owner(whole), mark)))
    }

    async fn fill(&self, body: &mut Body, into: &mut impl io::Write) -> Result<(), S3Error> {
        while let Some(chunk) = body.chunk().await? {
            into.write_all(&chunk)
                .map_err(|e| S3Error::Bug(format!("keeping what was read: {e}")))?;
        }
        Ok(())
    }

    /// A place among `S3_MAX_PARALLEL` for a body of so many bytes.
    async fn slot(&self, bytes: usize) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let weight = if bytes <= SMALL { 1 } else { SMALL_ONES };
        // It is never closed.
        self.inner.slots.acquire_many(weight).await.ok()
    }

    fn patience(&self) -> Patience {
        Patience::new(self.inner.settings.retry)
    }

    fn tags(&self, label: Label) -> TagSet {
        let settings = &self.inner.settings;
        let history = settings.history_tags.as_ref();
        let tags: &Tags = match label {
            Label::History => history.unwrap_or(&settings.tags),
            Label::Plain => &settings.tags,
        };
        let mut set = TagSet::default();
        for (key, value) in tags {
            set.push(key, value);
        }
        set
    }

    /// Where a key is in the bucket.
    fn full(&self, key: &str) -> String {
        match self.inner.settings.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    fn located(&self, key: &str) -> object_store::Result<Path> {
        Ok(Path::parse(self.full(key))?)
    }

    fn path(&self, key: &str) -> Result<Path, S3Error> {
        self.located(key).map_err(|e| judge(key, e))
    }

    /// A key in the bucket as a key of ours; `None`: outside our path.
    fn own<'a>(&self, full: &'a str) -> Option<&'a str> {
        match self.inner.settings.prefix.as_str() {
            "" => Some(full),
            prefix => full.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

/// The library's settings for it: it has types for their names, and does not export them.
fn encryption(how: &Encryption) -> Vec<(&'static str, String)> {
    const HOW: &str = "aws_server_side_encryption";
    match how {
        Encryption::Bucket => Vec::new(),
        Encryption::Aes256 => vec![(HOW, "AES256".to_owned())],
        Encryption::Kms { key } => {
            let key = key.clone().map(|key| ("aws_sse_kms_key_id", key));
            [(HOW, "aws:kms".to_owned())]
                .into_iter()
                .chain(key)
                .collect()
        }
    }
}

/// `https://host` with the bucket before the host.
fn with_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}

fn bundle(path: &std::path::Path) -> Result<Vec<object_store::Certificate>, S3Error> {
    let wrong = |why: String| S3Error::Setting {
        variable: "S3_CA_BUNDLE",
        why: format!("{} {why}", path.display()),
    };
    let pem = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let found = object_store::Certificate::from_pem_bundle(&pem)
        .map_err(|e| wrong(format!("is no bundle of PEM certificates: {e}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(found)
}
