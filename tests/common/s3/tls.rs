//! The same server behind TLS: HAProxy with a certificate of an authority that only the test knows.

use super::Bucket;
use crate::docker::{Cluster, Node, Plan};

/// The name of the front in the network; `<bucket>.s3tls` is one of it too.
const NAME: &str = "s3tls";

/// Where nodes find the authority's certificate: `S3_CA_BUNDLE`.
const BUNDLE: &str = "/srv/s3ca/ca.pem";

const CERTIFICATES: &str = "set -e; cd /tmp; umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-authority \
    -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=s3tls -keyout s3.key -out s3.csr
printf 'subjectAltName=DNS:s3tls,DNS:pgnode.s3tls\nextendedKeyUsage=serverAuth\n' >ext
openssl x509 -req -in s3.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out s3.pem
cat s3.key >>s3.pem";

const HAPROXY: &str = "defaults
    mode http
    timeout connect 5s
    timeout client 5m
    timeout server 5m
listen s3
    bind :443 ssl crt /tmp/s3.pem
    server s3 s3:3900";

/// A front in front of the server.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) front: Node,
    volume: String,
}

impl Tls {
    pub(super) fn start(cluster: &Cluster, bucket: &Bucket) -> Self {
        let made = bucket.tools().sh(CERTIFICATES);
        assert_eq!(made.code, 0, "{made:?}");
        let read = |file: &str| bucket.tools().sh(&format!("cat /tmp/{file}")).ok();
        let (pem, ca) = (format!("PEM={}", read("s3.pem")), read("ca.pem"));
        let config = format!("CONFIG={HAPROXY}\n");
        let alias = format!("{}.{NAME}", super::BUCKET);
        let more = [
            "--entrypoint",
            "bash",
            "--user",
            "0",
            "--network-alias",
            &alias,
            "-e",
            &pem,
            "-e",
            &config,
        ];
        let run = "printf '%s\n' \"$PEM\" >/tmp/s3.pem; printf '%s' \"$CONFIG\" >/tmp/s3.cfg; exec haproxy -W -db -f /tmp/s3.cfg";
        let image = std::env::var("PGNODE_HAPROXY_IMAGE")
            .unwrap_or_else(|_| "pgnode-haproxy:trixie".into());
        let front = cluster.container(NAME, &image, &more, &["-c", run]);
        cluster
            .on_volume(
                "s3ca",
                &format!("printf '%s\n' '{ca}' >/v/ca.pem; chmod 644 /v/ca.pem"),
            )
            .ok();
        Self {
            front,
            volume: cluster.volume("s3ca"),
        }
    }

    /// A node that reaches the bucket by TLS, and trusts the authority; without `trusting` it was not told of it.
    pub(crate) fn give<'a>(&self, bucket: &Bucket, plan: Plan<'a>, trusting: bool) -> Plan<'a> {
        let plan = plan.flags(&["-v", &format!("{}:/srv/s3ca:ro", self.volume)]);
        let env = bucket.env_at(&format!("https://{NAME}"));
        let plan = env
            .iter()
            .fold(plan, |plan, (name, value)| plan.env(name, value));
        if trusting {
            plan.env("S3_CA_BUNDLE", BUNDLE)
        } else {
            plan
        }
    }
}
