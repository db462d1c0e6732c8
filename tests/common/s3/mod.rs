//! A real S3 server in a test's network: [`Bucket`]. Tests look into it with boto3 (docker/s3tools/gate), so
//! that what pgnode wrote is read by somebody else's client. Faults are put between by [`Proxy`].

#![allow(dead_code, reason = "shared by test binaries that each use a part")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment; the rule is for the product"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness for tests, which fails them"
)]

mod proxy;
mod tls;

pub(crate) use proxy::{Fault, Proxy, Rule, Seen};
pub(crate) use tls::Tls;

use crate::docker::{BACKUP, Cluster, LONG, Node, Plan, Ran, docker, eventually};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The bucket, and the path in it that nodes are given: every key of theirs begins with it.
pub(crate) const BUCKET: &str = "pgnode";
pub(crate) const PATH: &str = "prod";

const REGION: &str = "garage";
const KEY: &str = "GK000000000000000000000001";
const SECRET: &str = "not-a-secret/0123456789+abcdef==";

/// Garage in the test's network, named `s3`, with an empty bucket; and beside it `s3tools`, which has
/// barman-cli-cloud.
#[derive(Debug)]
pub(crate) struct Bucket {
    server: Node,
    tools: Node,
}

/// An object, as LIST tells it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    /// The whole key, path included.
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// ISO 8601.
    pub(crate) modified: String,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) parts: usize,
}

impl Bucket {
    /// `PGNODE_GARAGE_IMAGE` and `PGNODE_S3TOOLS_IMAGE` name other images.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let image =
            |name: &str, otherwise: &str| std::env::var(name).unwrap_or(otherwise.to_owned());
        let garage = image("PGNODE_GARAGE_IMAGE", "pgnode-garage:local");
        let tools = image("PGNODE_S3TOOLS_IMAGE", "pgnode-s3tools:trixie");
        let [bucket, key, secret] = [
            ("BUCKET", BUCKET),
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(name, value)| format!("S3_{name}={value}"));
        // A second name, for requests in the style of virtual hosts.
        let host = format!("{BUCKET}.s3");
        let flags = [
            "-e",
            &bucket,
            "-e",
            &key,
            "-e",
            &secret,
            "--network-alias",
            &host,
        ];
        let server = cluster.container("s3", &garage, &flags, &[]);
        let tools = Self::tools_from(cluster, &tools, "s3tools", &[]);
        let this = Self { server, tools };
        this.wait_answers();
        this
    }

    /// Another container with barman-cli-cloud and the key, of an image of docker/s3tools: `more` are words
    /// for `docker run`.
    pub(crate) fn tools_from(cluster: &Cluster, image: &str, name: &str, more: &[&str]) -> Node {
        let env = [
            ("S3_BUCKET", BUCKET),
            ("AWS_ENDPOINT_URL", "http://s3:3900"),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(name, value)| format!("{name}={value}"));
        let mut flags: Vec<&str> = env.iter().flat_map(|e| ["-e", e.as_str()]).collect();
        flags.extend(more);
        cluster.container(name, image, &flags, &[])
    }

    /// The settings of a node that uses the bucket.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        self.env_at("http://s3:3900")
    }

    /// The same through another address, such as [`Proxy::url`].
    pub(crate) fn env_at(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("S3_ENDPOINT_URL", endpoint.to_owned()),
            ("S3_BUCKET_URI", self.uri()),
            ("S3_REGION", REGION.to_owned()),
            ("S3_ACCESS_KEY_ID", KEY.to_owned()),
            ("S3_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// A node that is given [`Bucket::env`].
    pub(crate) fn give<'a>(&self, plan: Plan<'a>) -> Plan<'a> {
        self.env()
            .iter()
            .fold(plan, |plan, (name, value)| plan.env(name, value))
    }

    /// A node that reaches the bucket through the proxy only.
    pub(crate) fn give_through<'a>(&self, proxy: &Proxy, plan: Plan<'a>) -> Plan<'a> {
        let env = self.env_at(&proxy.url());
        env.iter()
            .fold(plan, |plan, (name, value)| plan.env(name, value))
    }

    /// A node that archives into the bucket under that name; through the proxy only, where there is one.
    pub(crate) fn cloud<'a>(
        &self,
        proxy: Option<&Proxy>,
        server: &str,
        plan: Plan<'a>,
    ) -> Plan<'a> {
        let plan = match proxy {
            Some(proxy) => self.give_through(proxy, plan),
            None => self.give(plan),
        };
        plan.env("BARMAN_MODE", "cloud")
            .env("BARMAN_CLOUD_SERVER_NAME", server)
    }

    /// `S3_BUCKET_URI`.
    pub(crate) fn uri(&self) -> String {
        format!("s3://{BUCKET}/{PATH}")
    }

    /// A proxy in front of the server, at the host's address in the test's network.
    pub(crate) fn proxy(&self) -> Proxy {
        let network = self
            .server
            .inspect("{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}");
        let gateway = docker([
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Gateway}}",
            &network,
        ])
        .ok();
        Proxy::start(gateway.parse().unwrap(), &self.server.container)
    }

    /// A front with TLS, named `s3tls`.
    pub(crate) fn tls(&self, cluster: &Cluster) -> Tls {
        Tls::start(cluster, self)
    }

    /// Garage's container, to be stopped, killed, started again (it keeps what it has).
    pub(crate) fn server(&self) -> &Node {
        &self.server
    }

    /// The container with barman-cli-cloud; its environment has the endpoint, the region and the key.
    pub(crate) fn tools(&self) -> &Node {
        &self.tools
    }

    /// The server keeps its connections open and answers nobody.
    pub(crate) fn pause(&self) {
        self.server.pause();
    }

    pub(crate) fn unpause(&self) {
        self.server.unpause();
    }

    /// Waits until the server answers, after a start.
    #[track_caller]
    pub(crate) fn wait_answers(&self) {
        eventually("the S3 server answers", LONG, || {
            assert!(
                self.server.is_running(),
                "the S3 server ended: {}",
                self.server.logs()
            );
            assert!(
                self.tools.is_running(),
                "s3tools ended: {}",
                self.tools.logs()
            );
            let answer = self.ask("GET", "/objects?prefix=", &[])?;
            (answer.0 == 200).then_some(())
        });
    }

    /// A command of barman-cli-cloud, as user postgres: `barman-cloud-wal-archive -z`, then `s3://bucket/path`
    /// and the rest of the words.
    pub(crate) fn barman(&self, command: &str, words: &str) -> Ran {
        let uri = self.uri();
        self.tools.sh_as(
            "postgres",
            &format!("{command} --endpoint-url http://s3:3900 {uri} {words}"),
        )
    }

    /// All keys that begin with this, sorted. Whole keys: they begin with [`PATH`].
    #[track_caller]
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects(prefix).into_iter().map(|o| o.key).collect()
    }

    #[track_caller]
    pub(crate) fn objects(&self, prefix: &str) -> Vec<Object> {
        let list = self.must("GET", &format!("/objects?prefix={}", quoted(prefix)), &[]);
        let mut objects: Vec<Object> = serde_json::from_slice(&list.unwrap()).unwrap();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        objects
    }

    /// An object's bytes, `None` when it is not there.
    #[track_caller]
    pub(crate) fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.must("GET", &object(key), &[])
    }

    #[track_caller]
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.read(key)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[track_caller]
    pub(crate) fn write(&self, key: &str, bytes: &[u8]) {
        self.must("PUT", &object(key), bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn delete(&self, key: &str) {
        self.must("DELETE", &object(key), &[]).unwrap();
    }

    /// Removes all that begins with this.
    #[track_caller]
    pub(crate) fn delete_all(&self, prefix: &str) {
        self.must(
            "DELETE",
            &format!("/objects?prefix={}", quoted(prefix)),
            &[],
        )
        .unwrap();
    }

    /// Writes an object back after something was done to its bytes.
    #[track_caller]
    pub(crate) fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(key).unwrap_or_else(|| panic!("no {key}"));
        change(&mut bytes);
        self.write(key, &bytes);
    }

    /// Size, ETag and the headers (`headers.content-type`, …) of an object.
    #[track_caller]
    pub(crate) fn head(&self, key: &str) -> Option<Value> {
        let answer = self.must("GET", &format!("/head?key={}", quoted(key)), &[])?;
        Some(serde_json::from_slice(&answer).unwrap())
    }

    #[track_caller]
    pub(crate) fn uploads(&self) -> Vec<Upload> {
        serde_json::from_slice(&self.must("GET", "/uploads", &[]).unwrap()).unwrap()
    }

    /// One more bucket for the same key; [`Bucket::keys`] and the like do not see it.
    #[track_caller]
    pub(crate) fn make_another(&self, name: &str) {
        self.must("POST", &format!("/bucket?name={name}"), &[])
            .unwrap();
    }

    /// Waits until there is a key that begins so; the keys.
    #[track_caller]
    pub(crate) fn wait_keys(&self, prefix: &str) -> Vec<String> {
        eventually(&format!("{prefix}… is in the bucket"), LONG, || {
            Some(self.keys(prefix)).filter(|keys| !keys.is_empty())
        })
    }

    /// The gate's answer; `None` for "not there".
    #[track_caller]
    fn must(&self, method: &str, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        match self.ask(method, path, body) {
            Some((200, body)) => Some(body),
            Some((404, _)) => None,
            Some((code, body)) => {
                panic!("{method} {path}: {code} {}", String::from_utf8_lossy(&body))
            }
            None => panic!(
                "{method} {path}: s3tools does not answer: {}",
                self.tools.logs()
            ),
        }
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let gate = SocketAddr::new(self.tools.ip()?, 8080);
        let mut stream = TcpStream::connect_timeout(&gate, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"
        )
        .ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
        let body = answer.split_off(end + 4);
        let code = std::str::from_utf8(&answer)
            .ok()?
            .split(' ')
            .nth(1)?
            .parse()
            .ok()?;
        Some((code, body))
    }
}

/// A table's text without the breaks of its lines.
pub(crate) fn plain(table: &str) -> String {
    table.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `S3_AWAY_MINUTES`: how long the bucket is away in a long run.
pub(crate) fn minutes_away() -> Option<u64> {
    let minutes = std::env::var("S3_AWAY_MINUTES").ok()?;
    Some(minutes.parse().unwrap())
}

/// Waits until the first backup is complete, which a node makes by itself.
#[track_caller]
pub(crate) fn first_backup(node: &Node) {
    eventually("the first backup", BACKUP, || {
        let done = node.sh("pgnode backup list --json 2>/dev/null").out;
        done.contains("\"DONE\"").then_some(())
    });
    backups_rest(node);
}

/// Waits until no backup holds the lock: what is DONE already is followed by the retention.
#[track_caller]
pub(crate) fn backups_rest(node: &Node) {
    node.wait_row(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "0",
    );
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(plain).unwrap();
    packed.finish().unwrap()
}

/// Switches to a new segment, and says which one is complete now.
#[track_caller]
pub(crate) fn switch(node: &Node) -> String {
    node.psql("CREATE TABLE IF NOT EXISTS filler(t text)");
    node.psql("INSERT INTO filler SELECT md5(i::text) FROM generate_series(1, 1000) i");
    node.psql("SELECT pg_walfile_name(pg_switch_wal())")
}

/// Where a file of the archive is in the bucket, without what its codec adds.
pub(crate) fn wal_key(server: &str, name: &str) -> String {
    match name.ends_with(".history") {
        true => format!("{PATH}/{server}/wals/{name}"),
        false => format!("{PATH}/{server}/wals/{}/{name}", &name[..16]),
    }
}

fn object(key: &str) -> String {
    format!("/object?key={}", quoted(key))
}

/// For a query: everything but letters and digits as `%XX`.
fn quoted(text: &str) -> String {
    text.bytes().fold(String::new(), |mut quoted, byte| {
        if byte.is_ascii_alphanumeric() {
            quoted.push(char::from(byte));
        } else {
            write!(quoted, "%{byte:02X}").unwrap();
        }
        quoted
    })
}
