//! Which faults there are, and which requests they hit.

use hyper::Method;
use hyper::header::HeaderMap;
use std::time::Duration;

/// What is done to a request or its answer. Stalled ones stay so until [`Proxy::clear`], which cuts them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// An answer of the proxy's own with S3's XML: `Answer(503, "SlowDown")`, `(403, "ExpiredToken")`,
    /// `(403, "RequestTimeTooSkewed")` with a clock two hours behind, `(400, "InvalidRequest")` with one that is a day behind,
    /// `(500, "InternalError")`. The server never hears of the request.
    Answer(u16, &'static str),
    /// The request is taken, body and all, and never answered; the server never hears of it.
    Deaf,
    /// The server does what it was asked, and the connection ends before the answer.
    Unanswered,
    /// The server does what it was asked, and the answer waits for [`Proxy::clear`], which cuts it off.
    Unheard,
    /// The request waits so long before the server hears of it.
    Late(Duration),
    /// The request waits until [`Proxy::clear`], and passes then.
    Held,
    /// The connection ends, on both sides, after so many bytes of the request's body.
    CutRequest(u64),
    /// The rest of the request's body is not taken.
    StallRequest(u64),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(u64),
    /// The rest of the answer's body does not come.
    StallAnswer(u64),
    /// The answer says that it has only so many bytes, and has.
    ShortAnswer(u64),
    /// One bit of this byte of the answer's body is wrong (of the last one, when it has fewer).
    FlipAnswer(u64),
    /// One bit of this byte of the request's body is wrong when the server gets it.
    FlipRequest(u64),
}

/// For which requests a fault is meant, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(super) fault: Fault,
    method: Option<Method>,
    key: String,
    query: String,
    kind: Option<String>,
    writes: bool,
    skip: usize,
    times: usize,
}

impl Rule {
    /// All requests, always.
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            key: String::new(),
            query: String::new(),
            kind: None,
            writes: false,
            skip: 0,
            times: usize::MAX,
        }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = Some(method.parse().unwrap());
        self
    }

    /// Only where the path of the request, `/bucket/key`, holds this.
    pub(crate) fn key(mut self, part: &str) -> Self {
        part.clone_into(&mut self.key);
        self
    }

    /// Only where the query holds this: `partNumber`, `uploads`, …
    pub(crate) fn query(mut self, part: &str) -> Self {
        part.clone_into(&mut self.query);
        self
    }

    /// Only requests of a [`kind`].
    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// Only what changes something in the bucket.
    pub(crate) fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Only listings of objects.
    pub(crate) fn list(self) -> Self {
        self.method("GET").query("list-type=2")
    }

    /// The first so many that fit are let through.
    pub(crate) fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Then so many are hit, and no more.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    pub(super) fn fits(&self, method: &Method, path: &str, query: &str) -> bool {
        self.method.as_ref().is_none_or(|m| m == method)
            && path.contains(&self.key)
            && query.contains(&self.query)
            && (!self.writes || writes(method))
            && (self.kind.as_ref()).is_none_or(|k| *k == kind(method, path, query))
    }

    /// Whether this one is hit; counts.
    pub(super) fn hits(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let hit = self.times > 0;
        self.times = self.times.saturating_sub(1);
        hit
    }
}

/// What a request is for, without the names that differ from one run to the next: `PUT main/base/#/data.tar.gz partNumber`.
/// Below `data/`, where the files of a cluster are, all are alike.
pub(crate) fn kind(method: &Method, path: &str, query: &str) -> String {
    let mut kind = method.to_string();
    let mut between = ' ';
    for name in path.split('/').skip(2) {
        kind.push(between);
        between = '/';
        if name == "data" {
            kind.push_str("data/…");
            break;
        }
        // Ids of backups, segments and what is begun with them; a codec's suffix stays.
        let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
        let number =
            |word: &str| word.len() > 7 && word.chars().all(|c| c.is_ascii_hexdigit() || c == 'T');
        let words: Vec<&str> = std::iter::once(stem)
            .chain(suffix.split('.').filter(|word| !word.is_empty()))
            .map(|word| {
                if number(word) || word.parse::<u64>().is_ok() {
                    "#"
                } else {
                    word
                }
            })
            .collect();
        kind.push_str(&words.join("."));
    }
    let mut names: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .collect();
    names.retain(|name| !name.is_empty() && *name != "x-id");
    if !names.is_empty() {
        kind.push(' ');
        kind.push_str(&names.join("&"));
    }
    kind
}

fn writes(method: &Method) -> bool {
    method != Method::GET && method != Method::HEAD
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) fault: Option<Fault>,
    /// Of the answer, once it began.
    pub(crate) status: Option<u16>,
}

impl Seen {
    /// Its [`kind`].
    pub(crate) fn kind(&self) -> String {
        kind(&self.method, &self.path, &self.query)
    }

    /// Whether it changes something in the bucket.
    pub(crate) fn writes(&self) -> bool {
        writes(&self.method)
    }

    /// Whether it is that method and its path holds this.
    pub(crate) fn is(&self, method: &str, key: &str) -> bool {
        self.method == method && self.path.contains(key)
    }
}
