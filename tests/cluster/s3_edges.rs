//! Edges of archiving into a bucket (issue 5 §1, §2): settings that are wrong, one file stored twice, a byte that was changed
//! on the way ahead, two clusters at one place.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, plain, switch, wal_key};

/// Names and values.
type Words<'a> = &'a [(&'a str, &'a str)];

/// What a node with these settings says of them: its log, `pgnode status` and `pgnode doctor` each hold all words.
#[track_caller]
fn names(what: &str, node: &Node, words: &[&str]) {
    let all = |said: &str| words.iter().all(|word| said.contains(word));
    let status = || plain(&node.sh("pgnode status 2>&1").out);
    let says: [(&str, &dyn Fn() -> String); 3] = [
        ("the log", &|| node.logs_since_start()),
        ("pgnode status", &status),
        ("pgnode doctor", &|| {
            plain(&node.sh("pgnode doctor --step 9 2>&1").out)
        }),
    ];
    for (who, say) in says {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&format!("{what}: {who} names {words:?}"), LONG, || {
                last = say();
                all(&last).then_some(())
            });
        }));
        assert!(
            found.is_ok(),
            "{what}: {who} does not name {words:?}: {last}"
        );
    }
}

/// Whatever is wrong with the way to the bucket, the server serves, and everybody who is asked says which setting it is.
#[test]
fn a_wrong_setting_is_named_by_all_who_are_asked_and_postgres_serves() {
    let c = Cluster::new("s3wrong");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let url = proxy.url();
    let keys = c.volume("keys");
    let keys = ["-v".to_owned(), format!("{keys}:/keys")];
    let file = |names: [&str; 2]| {
        let env = bucket.env();
        let value = |name| &env.iter().find(|(n, _)| *n == name).unwrap().1;
        let (id, secret) = (value("S3_ACCESS_KEY_ID"), value("S3_SECRET_ACCESS_KEY"));
        let [one, two] = names;
        let text = format!("[default]\\n{one} = {id}\\n{two} = {secret}\\n");
        c.on_volume(
            "keys",
            &format!("printf '{text}' > /v/file && chmod 644 /v/file"),
        )
        .ok();
    };
    file(["access_key", "secret_key"]);
    let skewed = Fault::Answer(403, "RequestTimeTooSkewed");
    let id = "S3_ACCESS_KEY_ID";
    let cases: &[(&str, Words<'_>, Option<Fault>, &[&str])] = &[
        (
            "a key that is none",
            &[(id, "GK0000000000000000000000ff")],
            None,
            &[id, "No such key"],
        ),
        (
            "a secret of another key",
            &[("S3_SECRET_ACCESS_KEY", "another")],
            None,
            &["S3_SECRET_ACCESS_KEY", "nvalid signature"],
        ),
        (
            "a bucket that is none",
            &[("S3_BUCKET_URI", "s3://other/prod")],
            None,
            &["S3_BUCKET_URI", "NoSuchBucket"],
        ),
        (
            "nobody listens",
            &[("S3_ENDPOINT_URL", "http://s3:1")],
            None,
            &["S3_ENDPOINT_URL", "onnection refused"],
        ),
        (
            "a name that nobody has",
            &[("S3_ENDPOINT_URL", "http://nowhere.invalid:3900")],
            None,
            &["S3_ENDPOINT_URL", "failed to lookup address"],
        ),
        (
            "a wrong clock",
            &[("S3_ENDPOINT_URL", &url)],
            Some(skewed),
            &["the clock", "RequestTimeTooSkewed"],
        ),
        (
            "a file with other names",
            &[
                (id, ""),
                ("S3_SECRET_ACCESS_KEY", ""),
                ("S3_CREDENTIALS_FILE", "/keys/file"),
            ],
            None,
            &[
                "S3_CREDENTIALS_FILE",
                "aws_access_key_id",
                "access_key, secret_key",
            ],
        ),
    ];
    for (n, (what, env, fault, words)) in cases.iter().enumerate() {
        proxy.clear();
        if let Some(fault) = fault {
            proxy.fail(Rule::new(*fault));
        }
        let plan = bucket.cloud(None, "main", c.master());
        let plan = env
            .iter()
            .fold(plan, |plan, (name, value)| plan.env(name, value));
        let node = plan.flags(&keys.each_ref().map(String::as_str)).open();
        names(what, &node, words);
        let ran = node.try_psql("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)");
        assert_eq!(ran.code, 0, "{what}: {ran:?}");
        switch(&node);
        assert!(bucket.keys("").is_empty(), "{what}: {:?}", bucket.keys(""));
        if n + 1 < cases.len() {
            node.stop();
            assert_eq!(node.ended(), 0, "{what}: {}", node.logs_since_start());
            c.remove(node);
            continue;
        }
        // A file that is mended counts at once, and what has waited since the first of them arrives.
        file(["aws_access_key_id", "aws_secret_access_key"]);
        bucket.wait_keys(&wal_key("main", "000000010000000000000001"));
        node.wait_status("all is archived", |s| {
            s["archiving"]["waiting"] == 0 && s["archiving"]["failing_since_ms"].is_null()
        });
        assert_eq!(node.psql("SELECT count(*) FROM t"), cases.len().to_string());
    }
}

/// What cannot be meant is refused before anything is started, each by its own name and none for another's fault.
#[test]
fn a_key_that_cannot_be_read_is_a_fault_of_the_settings() {
    let c = Cluster::new("s3names");
    let (id, secret) = ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY");
    let other = "is not set; MINIO_ROOT_USER is, which is not read";
    let cases: [(Words<'_>, &[&str]); 2] = [
        (
            &[
                ("MINIO_ROOT_USER", "somebody"),
                ("MINIO_ROOT_PASSWORD", "something"),
            ],
            &[id, other, secret],
        ),
        (
            &[
                (id, "somebody"),
                ("S3_SECRET_ACCESS_KEY_FILE", "/no/such/file"),
            ],
            &[secret, "the file /no/such/file cannot be read"],
        ),
    ];
    for (env, words) in cases {
        let plan = c
            .node("pg1")
            .env("BARMAN_MODE", "cloud")
            .env("S3_ENDPOINT_URL", "http://s3:3900")
            .env("S3_BUCKET_URI", &format!("s3://pgnode/{PATH}"));
        let node = env.iter().fold(plan, |plan, (n, v)| plan.env(n, v)).start();
        assert_eq!(node.ended(), 64, "{}", node.logs());
        for word in words {
            assert!(node.logged(word), "{word}: {}", node.logs());
        }
        for word in ["somebody", "something", "S3_BUCKET_URI: is not set"] {
            assert!(!node.logged(word), "{word}: {}", node.logs());
        }
    }
}
