//! Edges of archiving into a bucket (issue 5 §1, §2): settings that are wrong, one file stored twice, a byte that was changed
//! on the way ahead.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, gzip, plain, switch, wal_key};

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
            &["the clock", "RequestTimeTooSkewed", "2 h 00 m behind"],
        ),
        (
            "a clock that is a day wrong, as Garage says it",
            &[("S3_ENDPOINT_URL", &url)],
            Some(Fault::Answer(400, "InvalidRequest")),
            &[
                "the clock",
                "1 d 02 h behind",
                "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are not to blame",
            ],
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

/// Where files are fetched to: on the volume, so that what was fetched ahead can be moved there.
const GOT: &str = "/var/lib/postgresql/got";

/// `pgnode wal-fetch`, as a recovery calls it: its code, the digest of what it has put there, and what it said.
fn fetch(node: &Node, words: &str) -> (i32, String, String) {
    let ran = node.sh_as(
        "postgres",
        &format!(
            "rm -f {GOT}; pgnode wal-fetch {words} {GOT}; code=$?; sha256sum < {GOT}; exit $code"
        ),
    );
    let digest = ran.out.split_whitespace().next().unwrap_or_default();
    (ran.code, digest.to_owned(), ran.err)
}

fn digest(node: &Node, name: &str) -> String {
    let ran = node.sh(&format!(
        "sha256sum < /var/lib/postgresql/data/pg_wal/{name}"
    ));
    ran.ok().split_whitespace().next().unwrap().to_owned()
}

/// How often a file that comes damaged is read (`READS` in `src/s3/wal/look.rs`).
const READS: u64 = 3;

/// What was changed on its way is found also where nobody had asked for it yet; what is handed out is right.
#[test]
fn a_byte_that_is_wrong_in_what_was_fetched_ahead_is_never_handed_out() {
    let c = Cluster::new("s3flip");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    for codec in ["zstd", "none"] {
        let node = bucket
            .cloud(Some(&proxy), "main", c.master())
            .env("S3_COMPRESSION", codec)
            .open();
        first_backup(&node);
        let names: Vec<String> = (0..12).map(|_| switch(&node)).collect();
        let right: Vec<String> = names.iter().map(|name| digest(&node, name)).collect();
        for name in &names {
            bucket.wait_keys(&wal_key("main", name));
        }
        proxy.forget_seen();
        // Once; and each time otherwise, so often that no reading ahead helps. Every third one is as it should be.
        for (n, name) in names.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
            for time in 0..if n % 3 == 1 { 1 } else { READS } {
                // The last one is wrong in the same way each time, as from a cache. Of a packed one there are a few kB, and its
                // last byte is meant.
                let place = match n {
                    11 => 16 << 20,
                    n => [30, 700, 5000, 16 << 19][n % 4] + time,
                };
                let rule = Rule::new(Fault::FlipAnswer(place));
                proxy.fail(rule.method("GET").key(name).times(1));
            }
        }
        for (n, (name, right)) in names.iter().zip(&right).enumerate() {
            // Not before it was fetched ahead: asked for at once, it would be the first to be read.
            if n > 0 {
                eventually("it was fetched ahead", LONG, || {
                    (proxy.count("GET", name) > 0).then_some(())
                });
            }
            let (code, got, said) = fetch(&node, name);
            assert_eq!(
                (code, got.as_str()),
                (0, right.as_str()),
                "{codec} {name}: {said}"
            );
            let asked = proxy.count("GET", name);
            match n % 3 {
                // It came from the shelf.
                0 => assert_eq!(asked, 1, "{codec} {name}"),
                1 => assert_eq!(asked, 2, "{codec} {name}"),
                _ => assert_eq!(asked, 1 + usize::try_from(READS).unwrap(), "{codec} {name}"),
            }
        }
        proxy.clear();
        node.stop();
        c.remove(node);
    }
}

/// One file stored under several names: the same content is one file, and of different ones nobody knows which is right.
#[test]
fn a_file_that_is_stored_twice_is_the_same_or_refused() {
    let c = Cluster::new("s3twice");
    let bucket = Bucket::start(&c);
    let node = bucket.cloud(None, "main", c.master()).open();
    first_backup(&node);
    let name = switch(&node);
    let key = wal_key("main", &name);
    let [gz, zst] = ["gz", "zst"].map(|format| format!("{key}.{format}"));
    eventually("it is archived", LONG, || bucket.read(&zst).map(drop));
    let right = digest(&node, &name);
    let packed = bucket.read(&zst).unwrap();
    let whole = zstd::decode_all(&*packed).unwrap();
    // Sound by all that can be seen of it, and not the same.
    let mut other = whole.clone();
    other[9000] ^= 1;
    let (whole_gz, other_gz) = (gzip(&whole), gzip(&other));
    let other_zst = zstd::encode_all(&*other, 3).unwrap();
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let store = |objects: &[(&str, &[u8])]| {
        bucket.delete_all(&key);
        for (key, bytes) in objects {
            bucket.write(key, bytes);
        }
    };
    // Without a worker too.
    let alone = "--run-dir /tmp/run";
    node.sh("mkdir -p /tmp/run && cp -p /run/pgnode/s3.json /tmp/run && chown postgres /tmp/run")
        .ok();
    let good: [&[(&str, &[u8])]; 6] = [
        &[(&key, &whole), (&gz, &whole_gz)],
        &[(&key, &whole), (&gz, &whole_gz), (&zst, &packed)],
        &[(&key, &whole), (&gz, &cut(&whole_gz))],
        &[(&key, &cut(&whole)), (&gz, &whole_gz)],
        &[(&gz, &whole_gz), (&zst, &cut(&packed))],
        &[(&gz, &cut(&whole_gz)), (&zst, &packed)],
    ];
    for (n, objects) in good.iter().enumerate() {
        store(objects);
        for how in ["", alone, "--standby"] {
            let (code, got, said) = fetch(&node, &format!("{how} {name}"));
            assert_eq!((code, &got), (0, &right), "{n} {how}: {said}");
        }
    }
    let bad: [&[(&str, &[u8])]; 3] = [
        &[(&key, &whole), (&gz, &other_gz)],
        &[(&gz, &whole_gz), (&zst, &other_zst)],
        &[(&key, &other), (&gz, &whole_gz), (&zst, &packed)],
    ];
    for (n, objects) in bad.iter().enumerate() {
        store(objects);
        for (how, want) in [("", 255), (alone, 255), ("--standby", 75)] {
            let (code, got, said) = fetch(&node, &format!("{how} {name}"));
            assert_eq!(code, want, "{n} {how}: {said}");
            assert!(
                said.contains("differ, and either could be right"),
                "{n} {how}: {said}"
            );
            assert_eq!(got, "", "{n} {how}: something was written");
        }
        node.sh(&format!("! ls {GOT}*")).ok();
    }

    // What is there under whatever name is there; another content is not replaced, nor put beside it.
    let push = |how: &str| {
        let path = format!("/var/lib/postgresql/data/pg_wal/{name}");
        let ran = node.sh_as("postgres", &format!("pgnode wal-push {how} {path}"));
        (ran.code, ran.err)
    };
    for how in ["", alone] {
        for (key, same, differs) in [(&gz, &whole_gz, &other_gz), (&key, &whole, &other)] {
            store(&[(key, same)]);
            assert_eq!(push(how), (0, String::new()));
            assert_eq!(
                bucket.keys(&wal_key("main", &name)),
                std::slice::from_ref(key)
            );
            store(&[(key, differs)]);
            let (code, said) = push(how);
            assert_eq!(code, 78, "{said}");
            assert!(said.contains("is there with other contents"), "{said}");
            assert_eq!(
                bucket.keys(&wal_key("main", &name)),
                std::slice::from_ref(key)
            );
            assert_eq!(bucket.read(key).as_ref(), Some(differs));
        }
    }
}

/// A byte that was changed on the way is no other server's file and no damage: what is there is read again before a person is
/// told to choose between two servers, or to delete what is good.
#[test]
fn a_byte_that_is_wrong_on_the_way_blames_nobody_for_a_file_that_is_there() {
    let c = Cluster::new("s3blame");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket.cloud(Some(&proxy), "main", c.master()).open();
    first_backup(&node);
    let name = switch(&node);
    let key = wal_key("main", &name);
    let [gz, zst] = ["gz", "zst"].map(|format| format!("{key}.{format}"));
    eventually("it is archived", LONG, || bucket.read(&zst).map(drop));
    let packed = bucket.read(&zst).unwrap();
    let whole = zstd::decode_all(&*packed).unwrap();
    let mut other = whole.clone();
    other[9000] ^= 1;
    let pack = |plain: &[u8]| zstd::encode_all(plain, 3).unwrap();
    // The last one has no checksum, as barman-cloud's have none.
    let cases = [
        ("plain", &key, whole.clone(), other.clone(), 9000),
        ("gzip", &gz, gzip(&whole), gzip(&other), 700),
        ("ours", &zst, packed, pack(&other), 700),
        ("bare", &zst, pack(&whole), pack(&other), 700),
    ];
    node.sh("mkdir -p /tmp/run && cp -p /run/pgnode/s3.json /tmp/run && chown postgres /tmp/run")
        .ok();
    let push = |how: &str, path: &str| {
        proxy.forget_seen();
        let ran = node.sh_as("postgres", &format!("pgnode wal-push {how} {path}"));
        (ran.code, ran.err)
    };
    let path = format!("/var/lib/postgresql/data/pg_wal/{name}");
    let alone = "--run-dir /tmp/run";
    let flip = |key: &str, place: u64| {
        let rule = Rule::new(Fault::FlipAnswer(place));
        proxy.fail(rule.method("GET").key(key).times(1));
    };
    let blames = ["two servers", "delete it"];
    for (what, key, same, differs, place) in &cases {
        for how in ["", alone] {
            bucket.delete_all(&wal_key("main", &name));
            bucket.write(key, same);
            flip(&name, *place);
            assert_eq!(push(how, &path), (0, String::new()), "{what} {how}");
            assert_eq!(proxy.count("GET", &name), 2, "{what} {how}");
            // Otherwise each time.
            for time in 0..READS {
                flip(&name, place + time);
            }
            let (code, said) = push(how, &path);
            let found = said.contains("something on the way changes bytes");
            assert!(code == 78 && found, "{what} {how}: {code} {said}");
            assert!(!blames.iter().any(|b| said.contains(b)), "{what}: {said}");
            proxy.clear();
            // What is so is found at the first look.
            bucket.write(key, differs);
            let (code, said) = push(how, &path);
            assert!(code == 78 && said.contains(blames[0]), "{what}: {said}");
            assert_eq!(proxy.count("GET", &name), 1, "{what} {how}");
        }
    }
    bucket.delete_all(&wal_key("main", &name));
    bucket.write(&gz, &gzip(&whole)[..900]);
    let (code, said) = push("", &path);
    assert!(code == 78 && said.contains(blames[1]), "{said}");
    assert_eq!(proxy.count("GET", &name), 1);

    // A history, of which the packed one is a few bytes: the last of them is meant.
    let history = "/tmp/run/00000002.history";
    let text = "1\\t0/3000000\\tno recovery target specified\\n";
    node.sh(&format!("printf '{text}' > {history}")).ok();
    assert_eq!(push(alone, history), (0, String::new()));
    flip("00000002.history", 1 << 20);
    assert_eq!(push(alone, history), (0, String::new()));
    assert_eq!(proxy.count("GET", "00000002.history"), 2);
}
