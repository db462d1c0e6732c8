//! A made-up bucket in a process of its own: it answers what `pgnode s3 verify` asks as an S3 server does, by XML over
//! HTTP, out of no memory but the page that it is writing. The bucket's name says how many WAL objects it has.

use super::{PER_DIR, SEGMENT, info};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pgnode::config::{Addressing, Codec, Credentials, Encryption, Format, S3, Secret};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use tokio::net::TcpListener;

const SERVER: &str = "main";
const BACKUP: &str = "20260101T000000";
const CLUSTER: &str = "7710716249646309413";
const DATE: &str = "2026-11-21T19:58:11.000Z";
/// As Amazon S3 and most others.
pub(crate) const PAGE: u64 = 1000;

/// The process that serves, until it is dropped.
pub(crate) struct Bucket {
    child: Child,
    /// Its address.
    pub(crate) address: String,
}

impl Bucket {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve-bucket", ""])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let said = child.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Self { child, address }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The serving process: says where it listens, and ends when its input does.
pub(crate) fn serve() {
    let (end, mut ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        drop(end);
    });
    runtime().block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (client, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                _ = &mut ended => return,
            };
            client.set_nodelay(true).unwrap();
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(client), service_fn(answer));
            // A client that has gone is no error of ours.
            tokio::spawn(async move { serving.await.ok() });
        }
    });
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.method(), Method::GET, "{}", request.uri());
    let path = request.uri().path().trim_matches('/').to_owned();
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    let objects: u64 = bucket.strip_prefix("wal-").unwrap().parse().unwrap();
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes())
            .into_owned()
            .collect();
    let of = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| &**v);
    let found = if of("uploads").is_some() {
        Some("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>".to_owned())
    } else if of("list-type") == Some("2") {
        // Nothing of it is asked for.
        assert_eq!((of("delimiter"), of("start-after")), (None, None));
        let from = of("continuation-token").map_or(0, |token| token.parse().unwrap());
        Some(page(objects, of("prefix").unwrap(), from))
    } else {
        small(objects)
            .into_iter()
            .find(|(known, _)| known == key)
            .map(|(_, text)| text)
    };
    let Some(text) = found else {
        let text = "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>";
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return Ok(answer);
    };
    Ok(Response::builder()
        .header("etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")
        .header("last-modified", "Sat, 21 Nov 2026 19:58:11 GMT")
        .body(Full::new(Bytes::from(text)))
        .unwrap())
}

/// What is no WAL, in order: one backup, and whose archive it is.
fn small(objects: u64) -> [(String, String); 3] {
    // Beyond the gaps: all WAL after it is reached.
    let begin = number(objects, objects - 4);
    let info: String = info(begin, begin + 2)
        .lines()
        .filter(|line| !line.starts_with("tablespaces="))
        .fold(String::new(), |all, line| all + line + "\n");
    let claim = format!("{{\"system_id\":\"{CLUSTER}\",\"segment_size\":{SEGMENT}}}");
    [
        (format!("{SERVER}/base/{BACKUP}/backup.info"), info),
        (format!("{SERVER}/base/{BACKUP}/data.tar"), "made up".into()),
        (format!("{SERVER}/pgnode.json"), claim),
    ]
}

/// The number of the n-th segment: a gap after a third and after two thirds.
fn number(objects: u64, n: u64) -> u64 {
    1 + n + u64::from(n >= objects / 3) + u64::from(n >= objects * 2 / 3)
}

fn page(objects: u64, prefix: &str, from: u64) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    let mut contents = |key: &str, size: u64| {
        write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>{DATE}</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>{size}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>"
        )
        .unwrap();
    };
    let mut more = None;
    if prefix == format!("{SERVER}/wals/") {
        let end = objects.min(from + PAGE);
        for n in from..end {
            let number = number(objects, n);
            let (log, segment) = (number / PER_DIR, number % PER_DIR);
            let dir = format!("00000001{log:08X}");
            contents(&format!("{prefix}{dir}/{dir}{segment:08X}.zst"), 3 << 20);
        }
        more = (end < objects).then_some(end);
    } else {
        // Elsewhere there is little.
        for (key, body) in small(objects) {
            if key.starts_with(prefix) {
                contents(&key, body.len() as u64);
            }
        }
    }
    write!(text, "<Prefix>{prefix}</Prefix><MaxKeys>{PAGE}</MaxKeys>").unwrap();
    if let Some(more) = more {
        write!(
            text,
            "<NextContinuationToken>{more}</NextContinuationToken>"
        )
        .unwrap();
    }
    write!(
        text,
        "<IsTruncated>{}</IsTruncated></ListBucketResult>",
        more.is_some()
    )
    .unwrap();
    text
}

/// The looking process: what `pgnode s3 verify` does, without its printing.
pub(crate) fn look(objects: u64, address: &str) {
    let store = pgnode::s3::Store::open(&settings(objects, address)).unwrap();
    let bucket = pgnode::s3::source::Bucket::new(store, SERVER);
    let seen = runtime()
        .block_on(pgnode::s3::verify::look(&bucket))
        .unwrap();
    let report = pgnode::s3::verify::judge(&seen);
    assert_eq!(report.wal_objects, objects);
    assert_eq!(report.system_id.as_deref(), Some(CLUSTER));
    assert_eq!(report.timelines[0].segments, objects);
    assert_eq!(report.timelines[0].gaps.len(), 2);
    assert_eq!(
        (report.restorable().count(), &report.wrong),
        (1, &Vec::new())
    );
}

fn settings(objects: u64, address: &str) -> S3 {
    let as_is = Codec {
        format: Format::None,
        level: None,
    };
    S3 {
        endpoint: Some(format!("http://{address}")),
        bucket: format!("wal-{objects}"),
        prefix: String::new(),
        region: "us-east-1".to_owned(),
        config_file: None,
        credentials: Credentials::Keys {
            id: "made".to_owned(),
            secret: Secret::new("up".to_owned()),
            token: None,
        },
        addressing: Addressing::Path,
        ca_bundle: None,
        encryption: Encryption::Bucket,
        tags: Vec::new(),
        history_tags: None,
        max_parallel: 4,
        part_size: 16 << 20,
        wal_codec: as_is,
        base_codec: as_is,
        bandwidth: None,
        retry: std::time::Duration::from_secs(10),
    }
}
