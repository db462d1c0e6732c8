//! Here and there side by side: the local walk against the pages of LIST, both in the order of their keys, so that
//! memory stays flat however much there is.

use super::walk::{self, Flow, Found};
use crate::s3::store::Walk;
use crate::s3::{Object, S3Error, Store};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What one key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Only here.
    Here(Found),
    /// Here and there.
    Both(Found, Object),
    /// Only there; its key is below the prefix.
    There(Object),
}

/// Which names are meant; given a key below the root, of a directory with `/` at its end.
pub(super) type Want = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What is compared.
#[derive(Clone)]
pub(super) struct Range {
    /// The directory.
    pub root: PathBuf,
    /// What its keys begin with in the bucket, `/` at the end.
    pub prefix: String,
    /// Which names.
    pub want: Want,
    /// Keys below the prefix come after this one.
    pub after: Option<String>,
    /// And not after this one.
    pub until: Option<String>,
}

/// The two lists on their way.
pub(super) struct Merge {
    store: Store,
    list: Walk,
    want: Want,
    until: Option<String>,
    local: mpsc::Receiver<Result<Found, S3Error>>,
    page: VecDeque<Object>,
    more: More,
    here: Option<Found>,
    there: Option<Object>,
    last: String,
}

enum More {
    Token(Option<String>),
    End,
}

/// Entries that the local walk is ahead.
const AHEAD: usize = 256;

impl Merge {
    pub(super) fn begin(store: &Store, range: &Range) -> Self {
        let (give, local) = mpsc::channel(AHEAD);
        let (root, want) = (range.root.clone(), range.want.clone());
        tokio::task::spawn_blocking(move || {
            let mut pass = |found| match give.blocking_send(Ok(found)) {
                Ok(()) => Flow::On,
                Err(_) => Flow::Enough,
            };
            if let Err((path, source)) = walk::walk(&root, &*want, &mut pass) {
                let what = "read";
                // Nobody listens: then nobody needs it.
                drop(give.blocking_send(Err(S3Error::File { what, path, source })));
            }
        });
        Self {
            store: store.clone(),
            list: Walk {
                prefix: range.prefix.clone(),
                after: range.after.as_ref().map(|a| format!("{}{a}", range.prefix)),
                shallow: false,
            },
            want: range.want.clone(),
            until: range.until.clone(),
            local,
            page: VecDeque::new(),
            more: More::Token(None),
            here: None,
            there: None,
            last: String::new(),
        }
    }

    /// The next key; `None` at the end of both.
    ///
    /// # Errors
    /// Either list breaks off: what is only on one side is not known then.
    pub(super) async fn next(&mut self) -> Result<Option<Side>, S3Error> {
        if self.here.is_none() {
            self.here = self.local.recv().await.transpose()?;
        }
        if self.there.is_none() {
            self.there = self.object().await?;
        }
        let prefix = self.list.prefix.len();
        Ok(match (self.here.take(), self.there.take()) {
            (None, None) => None,
            (Some(here), None) => Some(Side::Here(here)),
            (None, Some(there)) => Some(Side::There(there)),
            (Some(here), Some(there)) => {
                let key = there.key.get(prefix..).unwrap_or_default();
                match here.key.as_str().cmp(key) {
                    std::cmp::Ordering::Equal => Some(Side::Both(here, there)),
                    std::cmp::Ordering::Less => {
                        self.there = Some(there);
                        Some(Side::Here(here))
                    }
                    std::cmp::Ordering::Greater => {
                        self.here = Some(here);
                        Some(Side::There(there))
                    }
                }
            }
        })
    }

    async fn object(&mut self) -> Result<Option<Object>, S3Error> {
        loop {
            while let Some(object) = self.page.pop_front() {
                let Some(key) = object.key.strip_prefix(&self.list.prefix) else {
                    continue;
                };
                if self.until.as_deref().is_some_and(|until| key > until) {
                    self.page.clear();
                    self.more = More::End;
                    return Ok(None);
                }
                // A folder's marker, which some tools make, or a name that is not asked for.
                if key.is_empty() || !(self.want)(key) {
                    continue;
                }
                if key <= self.last.as_str() {
                    return Err(S3Error::Unfit(format!(
                        "the server does not list in the order of the keys: {} after {}",
                        object.key, self.last
                    )));
                }
                key.clone_into(&mut self.last);
                return Ok(Some(object));
            }
            let More::Token(token) = &mut self.more else {
                return Ok(None);
            };
            let token = token.take();
            let page = self.store.page(&self.list, token, None).await?;
            self.page.extend(page.objects);
            self.more = match page.more {
                Some(token) => More::Token(Some(token)),
                None => More::End,
            };
        }
    }
}
