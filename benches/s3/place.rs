//! The containers: Garage, a front with TLS, and the clients' with a bare PostgreSQL whose WAL is archived.

use crate::lab::{Container, Lab, Volume, docker};
use pgnode::config::Secret;
use pgnode::config::{Addressing, Codec, Credentials, Encryption, Format, Kept, KeptHost, S3};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const KEY: &str = "GKbench0000000000000000001";
const SECRET: &str = "bench-0123456789";
const BUCKET: &str = "bench";
const REGION: &str = "garage";

/// Where a client reaches the server.
pub(crate) const PLAIN: &str = "http://s3:3900";
pub(crate) const TLS: &str = "https://s3tls";

// An authority and a server's certificate: rustls takes no certificate for both.
const CERTIFICATE: &str = "umask 077; cd /srv/s3ca; exec 2>/dev/null; key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'; \
    openssl req -x509 $key -days 2 -subj /CN=bench -keyout ca.key -out ca.pem && \
    openssl req -new $key -subj /CN=s3tls -addext subjectAltName=DNS:s3tls -keyout s3.key -out s3.csr && \
    openssl x509 -req -in s3.csr -CA ca.pem -CAkey ca.key -days 2 -copy_extensions copyall -out s3.crt && \
    cat s3.crt s3.key >s3.pem && chmod 755 . && chmod 644 ca.pem && chown 0 s3.pem";

const FRONT: &str = "printf '%s\\n' 'defaults' ' mode http' ' timeout connect 5s' ' timeout client 5m' ' timeout server 5m' \
    'listen s3' ' bind :443 ssl crt /srv/s3ca/s3.pem' ' server s3 s3:3900' >/tmp/s3.cfg; exec haproxy -db -f /tmp/s3.cfg";

/// All of it; removed when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) client: Container,
    pub(crate) garage: Container,
    _front: Container,
    _volumes: [Volume; 3],
}

/// What a measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    /// Of the whole container of the clients.
    pub(crate) cpu: f64,
}

impl Took {
    /// What `lab` says at its end.
    pub(crate) fn read(said: &str) -> Self {
        let line = said.lines().last().unwrap();
        let (seconds, cpu) = line.split_once(' ').unwrap();
        Self {
            seconds: seconds.parse().unwrap(),
            cpu: cpu.parse().unwrap(),
        }
    }
}

impl Place {
    pub(crate) fn new(lab: &Lab) -> Self {
        let volumes = [lab.volume(), lab.volume(), lab.volume()];
        let [data, stored, ca] = &volumes;
        let alias = |name: &'static str| ["--network-alias", name];
        let [bucket, key, secret] = [
            ("BUCKET", BUCKET),
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(name, value)| format!("S3_{name}={value}"));
        let stored = format!("{}:/var/lib/garage", stored.0);
        let mut options = vec![
            "-v",
            &stored,
            "-e",
            "RUST_LOG=garage=warn",
            "-e",
            &bucket,
            "-e",
            &key,
            "-e",
            &secret,
        ];
        options.extend(alias("s3"));
        let garage = lab.create_from("pgnode-garage:local", 20, &options, &[]);
        docker(&["start", &garage.name]);

        let env = [
            format!("S3_BUCKET={BUCKET}"),
            format!("AWS_DEFAULT_REGION={REGION}"),
            format!("AWS_ACCESS_KEY_ID={KEY}"),
            format!("AWS_SECRET_ACCESS_KEY={SECRET}"),
            "RCLONE_CONFIG_S3_TYPE=s3".into(),
            "RCLONE_CONFIG_S3_PROVIDER=Other".into(),
            "RCLONE_CONFIG_S3_ENV_AUTH=true".into(),
            format!("RCLONE_CONFIG_S3_REGION={REGION}"),
            format!("RCLONE_CONFIG_S3_ENDPOINT={PLAIN}"),
        ];
        let ca = format!("{}:/srv/s3ca", ca.0);
        let mut options: Vec<&str> = env.iter().flat_map(|e| ["-e", e.as_str()]).collect();
        options.extend([
            "-v",
            &ca,
            // pgBackRest leaves orphans, whose end would be a crash to a postmaster that is PID 1.
            "--init",
            "--user",
            "postgres",
            "--entrypoint",
            "lab",
            "--no-healthcheck",
        ]);
        let client = lab.create(10, data, &options, &["serve"]);
        client.start_to_accepting();
        client.exec(CERTIFICATE);

        let mut options = vec![
            "-v",
            &ca,
            "--user",
            "0",
            "--entrypoint",
            "bash",
            "--no-healthcheck",
        ];
        options.extend(alias("s3tls"));
        let front = lab.create_from("pgnode-haproxy:trixie", 21, &options, &["-c", FRONT]);
        docker(&["start", &front.name]);
        client.exec("for i in $(seq 100); do exec 3<>/dev/tcp/s3tls/443 && exec 3<>/dev/tcp/s3/3900 && exit; sleep 0.1; done; exit 1");
        Self {
            client,
            garage,
            _front: front,
            _volumes: volumes,
        }
    }

    /// `lab …` in the clients' container, as postgres.
    pub(crate) fn lab(&self, words: &[&str]) -> String {
        docker(&[&["exec", &self.client.name, "lab"], words].concat())
    }

    /// The same as barman.
    pub(crate) fn as_barman(&self, words: &[&str]) -> String {
        docker(&[&["exec", "-u", "barman", &self.client.name, "lab"], words].concat())
    }

    /// A measurement of it.
    pub(crate) fn measure(&self, words: &[&str]) -> Took {
        Took::read(&self.lab(words))
    }

    /// Starts a worker of ours for the archive of that name.
    pub(crate) fn ours(&self, name: &str, endpoint: &str, format: Format, level: Option<i32>) {
        self.hand(
            "postgres",
            "ours",
            name,
            &kept(name, endpoint, format, level),
        );
    }

    /// Leaves settings for `pgnode s3 wal-sync` of that catalogue.
    pub(crate) fn shipper(&self, name: &str) {
        let mut kept = kept(name, PLAIN, Format::None, None);
        // /tmp/ours is postgres'.
        kept.run_dir = format!("/tmp/shipper/{name}").into();
        kept.host = Some(KeptHost {
            home: "/tmp/barman".into(),
            servers: vec![name.into()],
            queue: "/tmp/barman/.queue".into(),
            keep: Duration::from_secs(3600),
        });
        self.hand("barman", "shipper", name, &kept);
    }

    fn hand(&self, user: &str, verb: &str, name: &str, kept: &Kept) {
        let mut child = Command::new("docker")
            .args([
                "exec",
                "-i",
                "-u",
                user,
                &self.client.name,
                "lab",
                verb,
                name,
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&kept.to_json().unwrap())
            .unwrap();
        assert!(child.wait().unwrap().success(), "lab {verb} {name}");
    }

    /// One of the segments that are archived.
    pub(crate) fn segment(&self, name: &str) -> Vec<u8> {
        let path = format!("/var/lib/postgresql/data/pg_wal/{name}");
        let words = ["exec", &self.client.name, "cat", &path];
        let output = Command::new("docker").args(words).output().unwrap();
        assert!(output.status.success(), "{name}");
        output.stdout
    }

    /// CPU seconds and most resident bytes of our worker.
    pub(crate) fn worker(&self, name: &str) -> (f64, f64) {
        let said = self.lab(&["worker", name]);
        let (cpu, bytes) = said.split_once(' ').unwrap();
        (cpu.parse().unwrap(), bytes.parse().unwrap())
    }
}

fn kept(name: &str, endpoint: &str, format: Format, level: Option<i32>) -> Kept {
    Kept {
        s3: S3 {
            endpoint: Some(endpoint.into()),
            bucket: BUCKET.into(),
            prefix: "ours".into(),
            region: REGION.into(),
            config_file: None,
            credentials: Credentials::Keys {
                id: KEY.into(),
                secret: Secret::new(SECRET.into()),
                token: None,
            },
            addressing: Addressing::Path,
            ca_bundle: (endpoint == TLS).then(|| PathBuf::from("/srv/s3ca/ca.pem")),
            encryption: Encryption::Bucket,
            tags: Vec::new(),
            history_tags: None,
            max_parallel: 4,
            part_size: 16 << 20,
            wal_codec: Codec { format, level },
            base_codec: Codec {
                format: Format::Gzip,
                level: None,
            },
            bandwidth: None,
            retry: Duration::from_secs(60),
        },
        server: name.into(),
        node: "bench".into(),
        data_dir: "/var/lib/postgresql".into(),
        pgdata: "/var/lib/postgresql/data".into(),
        run_dir: format!("/tmp/ours/{name}").into(),
        socket_dir: "/run/postgresql".into(),
        port: 5432,
        superuser: "postgres".into(),
        fast_checkpoint: true,
        retention: "RECOVERY WINDOW OF 5 DAYS".into(),
        redundancy: 1,
        closing: Duration::from_secs(20),
        host: None,
    }
}
