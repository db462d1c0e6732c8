//! Requests that the library has none for, and the first one of all: does the bucket answer us?

use super::patience::within;
use super::{Store, Walk};
use crate::config::Addressing;
use crate::s3::{Refusal, S3Error};
use http_body_util::BodyExt as _;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use serde::de::DeserializeOwned;

/// What the bucket said to a first request.
#[derive(Debug)]
pub enum Probe {
    /// It may be listed.
    Answers,
    /// It refuses.
    Refuses(Refusal),
    /// No answer, or a setting that cannot be used.
    Silent(S3Error),
}

impl Store {
    /// Lists one object, once: no patience.
    pub async fn probe(&self) -> Probe {
        match self.reach().await {
            Ok(()) => Probe::Answers,
            Err(S3Error::Refused { refusal, .. }) => Probe::Refuses(refusal),
            Err(error) => Probe::Silent(error),
        }
    }

    /// The same, for whoever only passes on what was wrong.
    ///
    /// # Errors
    /// The server refuses or does not answer; a setting cannot be used.
    pub async fn reach(&self) -> Result<(), S3Error> {
        let what = format!("cannot list {}", self.uri(""));
        let prefix = self.full("");
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let list = self.inner.client.list_paginated(Some(&prefix), options);
        within(&what, 0, list).await.map(drop)
    }

    /// Whether there is any object below a prefix.
    ///
    /// # Errors
    /// As [`Store::page`].
    pub async fn is_empty(&self, prefix: &str) -> Result<bool, S3Error> {
        let page = self.page(&Walk::below(prefix), None, Some(1)).await?;
        Ok(page.objects.is_empty())
    }

    /// A signed GET with a query that is S3's own, and its answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        key: Option<&str>,
        query: &[(&str, String)],
    ) -> Result<T, S3Error> {
        let mut patience = self.patience();
        loop {
            let request = http::Request::get("/");
            let sent = self.send(request, key, query, HttpRequestBody::empty());
            match within(what, 0, sent).await {
                Ok(text) => {
                    return quick_xml::de::from_str(&text).map_err(|e| S3Error::Damaged {
                        key: what.to_owned(),
                        why: format!("the server's answer is not readable: {e}"),
                    });
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// A signed request with a query that is S3's own; the text of its answer.
    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        key: Option<&str>,
        query: &[(&str, String)],
        body: HttpRequestBody,
    ) -> object_store::Result<String> {
        let settings = self.settings();
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
                store: "S3",
                source,
            };
        let amazon = || format!("https://s3.{}.amazonaws.com", settings.region);
        let endpoint = settings.endpoint.clone().unwrap_or_else(amazon);
        let base = match settings.addressing {
            Addressing::Path => format!("{endpoint}/{}", settings.bucket),
            Addressing::Virtual => super::with_bucket(&endpoint, &settings.bucket),
        };
        let mut url = url::Url::parse(&base).map_err(|e| failed(Box::new(e)))?;
        if let (Some(key), Ok(mut path)) = (key, url.path_segments_mut()) {
            path.extend(self.full(key).split('/'));
        }
        url.query_pairs_mut().extend_pairs(query);
        let request = request.uri(url.as_str()).body(body);
        let mut request: HttpRequest = request.map_err(|e| failed(Box::new(e)))?;
        let credential = self.inner.client.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &settings.region)
            .try_authorize(&mut request, None)?;
        let response = self
            .inner
            .wire
            .execute(request)
            .await
            .map_err(|e| failed(Box::new(e)))?;
        let body = response.into_body().collect().await;
        let body = body.map_err(|e| failed(Box::new(e)))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
