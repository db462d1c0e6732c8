//! What is there.

use super::Store;
use super::patience::within;
use crate::s3::S3Error;
use chrono::{DateTime, Utc};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};

/// One object, as LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Below the store's path.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The server's mark of this version; the MD5 of the body for most single uploads, quotes included.
    pub etag: Option<String>,
    /// When it was stored, by the server's clock.
    pub modified: DateTime<Utc>,
}

/// One answer to LIST: at most a thousand objects, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects directly here, or all below.
    pub objects: Vec<Object>,
    /// With a delimiter: what lies one level deeper, each with `/` at its end.
    pub folders: Vec<String>,
    /// What to ask the next page with.
    pub more: Option<String>,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Keys that begin with this, not only whole path segments.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// Only down to the next `/`.
    pub shallow: bool,
}

impl Walk {
    /// All objects whose key begins with `prefix`.
    #[must_use]
    pub fn below(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// Objects and folders directly below `prefix`, which ends with `/`.
    #[must_use]
    pub fn level(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            shallow: true,
            ..Self::default()
        }
    }
}

impl Store {
    /// One page; `more` from the page before, `most` objects at most (a thousand unless given).
    ///
    /// # Errors
    /// The server refuses it (also: no such bucket), or does not answer for `S3_RETRY`.
    pub async fn page(
        &self,
        walk: &Walk,
        more: Option<String>,
        most: Option<usize>,
    ) -> Result<Page, S3Error> {
        let prefix = self.full(&walk.prefix);
        let what = format!("cannot list {}", self.uri(&walk.prefix));
        let mut patience = self.patience();
        let found = loop {
            let options = PaginatedListOptions {
                // A page's token knows where it was.
                offset: match more {
                    None => walk.after.as_ref().map(|key| self.full(key)),
                    Some(_) => None,
                },
                delimiter: walk.shallow.then(|| "/".into()),
                max_keys: most,
                page_token: more.clone(),
                ..PaginatedListOptions::default()
            };
            let list = self.inner.client.list_paginated(Some(&prefix), options);
            match within(&what, 0, list).await {
                Ok(found) => break found,
                Err(error) => patience.again(error).await?,
            }
        };
        let objects = found.result.objects.into_iter().filter_map(|meta| {
            Some(Object {
                key: self.own(meta.location.as_ref())?.to_owned(),
                size: meta.size,
                etag: meta.e_tag,
                modified: meta.last_modified,
            })
        });
        let folders = found.result.common_prefixes.iter().filter_map(|path| {
            let key = self.own(path.as_ref())?;
            Some(format!("{key}/"))
        });
        Ok(Page {
            objects: objects.collect(),
            folders: folders.collect(),
            more: found.page_token,
        })
    }

    /// Every page in turn, so that memory stays flat; `visit` may end it with an error of its own.
    ///
    /// # Errors
    /// As [`Store::page`], or what `visit` says.
    pub async fn walk<E: From<S3Error>>(
        &self,
        walk: &Walk,
        mut visit: impl FnMut(Page) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut more = None;
        loop {
            let mut page = self.page(walk, more, None).await?;
            more = page.more.take();
            visit(page)?;
            if more.is_none() {
                return Ok(());
            }
        }
    }

    /// All pages in one: for what is known to be small.
    ///
    /// # Errors
    /// As [`Store::page`].
    pub async fn list(&self, walk: &Walk) -> Result<Page, S3Error> {
        let mut all = Page::default();
        self.walk(walk, |page| -> Result<(), S3Error> {
            all.objects.extend(page.objects);
            all.folders.extend(page.folders);
            Ok(())
        })
        .await?;
        Ok(all)
    }
}
