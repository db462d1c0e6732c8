//! Restore from a bucket (issue 5 §3): what barman-cloud-backup and barman-cloud-wal-archive of Debian stored.

use crate::docker::{BACKUP, Cluster, Node, Plan, docker, eventually, image};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup};

/// A cluster without pgnode, beside barman-cli-cloud; `src` is its name in the bucket.
pub(crate) struct Source {
    pub(crate) bucket: Bucket,
    pub(crate) c: Cluster,
}

const BIN: &str = "/usr/lib/postgresql/17/bin";
const ENDPOINT: &str = "--endpoint-url http://s3:3900";

impl Source {
    /// Running, archiving, without a backup.
    pub(crate) fn new(test: &str, codec: &str) -> Self {
        let c = Cluster::new(test);
        let bucket = Bucket::start(&c);
        let uri = bucket.uri();
        let archive = format!("barman-cloud-wal-archive {ENDPOINT} {codec} {uri} src %%p");
        let script = format!(
            "{BIN}/initdb -D /tmp/src -k -U postgres >/dev/null && \
             printf \"archive_mode = on\\narchive_command = '{archive}'\\nunix_socket_directories = '/tmp'\\n\
             work_mem = '7MB'\\nprimary_conninfo = 'host=nowhere'\\n\" >> /tmp/src/postgresql.conf && \
             {BIN}/pg_ctl -D /tmp/src -l /tmp/src.log -w start >/dev/null"
        );
        bucket.tools().sh_as("postgres", &script).ok();
        Self { bucket, c }
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        let sql = sql.replace('\'', "'\\''");
        let psql = format!("psql -XAtq -h /tmp -U postgres -d postgres -c '{sql}'");
        self.bucket.tools().sh_as("postgres", &psql).ok()
    }

    /// A backup by barman-cloud-backup; its id.
    #[track_caller]
    pub(crate) fn backup(&self, more: &str) -> String {
        let uri = self.bucket.uri();
        let command = format!(
            "barman-cloud-backup {ENDPOINT} --immediate-checkpoint -h /tmp -U postgres {more} {uri} src"
        );
        self.bucket.tools().sh_as("postgres", &command).ok();
        self.archived();
        let ids = self.ids();
        ids.last().unwrap().clone()
    }

    /// Backups that have a backup.info.
    fn ids(&self) -> Vec<String> {
        let keys = self.bucket.keys(&format!("{PATH}/src/base/"));
        let ids = keys
            .iter()
            .filter(|key| key.ends_with("/backup.info"))
            .map(|key| key.rsplit('/').nth(1).unwrap().to_owned());
        ids.collect()
    }

    /// All WAL so far is in the bucket.
    #[track_caller]
    pub(crate) fn archived(&self) {
        self.sql("SELECT pg_create_restore_point('x') IS NULL OR NULL");
        let name = self.sql("SELECT pg_walfile_name(pg_switch_wal())");
        let prefix = format!("{PATH}/src/wals/{}/{name}", &name[..16]);
        self.bucket.wait_keys(&prefix);
    }

    /// A new node on an empty volume that restores from the bucket.
    pub(crate) fn target(&self, name: &str) -> Plan<'_> {
        let plan = self
            .c
            .node(name)
            .env("REPMGR_NODE_ID", "7")
            .env("BARMAN_MODE", "off")
            .env("PGNODE_RESTORE", "latest")
            .env("PGNODE_RESTORE_FROM", "s3");
        self.bucket.give(plan)
    }

    fn key(&self, id: &str, name: &str) -> String {
        format!("{PATH}/src/base/{id}/{name}")
    }

    /// Every key with its size and mark.
    fn everything(&self) -> Vec<(String, u64, String)> {
        let objects = self.bucket.objects(PATH);
        objects
            .into_iter()
            .map(|o| (o.key, o.size, o.etag))
            .collect()
    }
}

/// The key of a segment, not of its label.
#[track_caller]
fn segment_of(bucket: &Bucket, server: &str, name: &str) -> String {
    let keys = bucket.keys(&format!("{PATH}/{server}/wals/{}/{name}", &name[..16]));
    let segment = keys.into_iter().find(|key| !key.contains(".backup"));
    segment.unwrap()
}

#[track_caller]
fn restored(plan: Plan<'_>, want: &str) -> Node {
    let node = plan.start();
    node.wait_open();
    let rows = node.psql("SELECT count(*), min(n), max(n) FROM t");
    assert_eq!(rows, want, "{}", node.logs());
    node
}

/// Ends with this code and these words, and leaves no data directory.
#[track_caller]
fn refused(c: &Cluster, plan: Plan<'_>, code: i32, parts: &[&str]) {
    let node = plan.start();
    assert_eq!(node.ended(), code, "{}", node.logs());
    for part in parts {
        assert!(node.logged(part), "{part}: {}", node.logs());
    }
    let left = c.on_volume(&node.name, "ls /v/data/PG_VERSION 2>/dev/null");
    assert_eq!(left.out.trim(), "", "{} opened something", node.name);
    c.remove(node);
}

/// `pgnode restore latest --check` with these settings.
fn check(bucket: &Bucket, c: &Cluster, vars: &[(&str, &str)]) -> (i32, String) {
    let mut words: Vec<String> = ["run", "--rm", "--network", c.network()]
        .map(String::from)
        .into();
    let env = bucket.env();
    let base = [
        ("REPMGR_NODE_NAME", "pg9"),
        ("BARMAN_MODE", "off"),
        ("PGNODE_RESTORE_FROM", "s3"),
    ];
    // The last one of a name counts.
    let all = env
        .iter()
        .map(|(n, v)| (*n, v.as_str()))
        .chain(base)
        .chain(vars.iter().copied());
    for (name, value) in all {
        words.extend(["-e".to_owned(), format!("{name}={value}")]);
    }
    words.push(image());
    words.extend(["restore", "latest", "--check"].map(String::from));
    let ran = docker(words);
    (ran.code, format!("{}{}", ran.out, ran.err))
}

#[test]
fn a_backup_of_barman_cloud_is_restored_to_each_target() {
    let s = Source::new("s3targets", "--gzip");
    s.sql("CREATE TABLE t (n int)");
    let first = s.backup("--gzip");
    s.sql("INSERT INTO t SELECT generate_series(1, 100)");
    let xid = s.sql("BEGIN; INSERT INTO t VALUES (101); SELECT txid_current(); COMMIT");
    let lsn = s.sql("SELECT pg_current_wal_insert_lsn()");
    s.sql("SELECT pg_create_restore_point('here') IS NULL OR NULL");
    s.sql("INSERT INTO t VALUES (102)");
    let time = s.sql("SELECT clock_timestamp()");
    s.sql("INSERT INTO t VALUES (103)");
    // Some segments, so that there is something to fetch ahead.
    for _ in 0..4 {
        s.sql("INSERT INTO t SELECT 103 FROM generate_series(1, 0); SELECT pg_create_restore_point('z')");
        s.archived();
    }
    let before = s.everything();
    let exclusive = ("PGNODE_RESTORE_TARGET_INCLUSIVE", "false");
    let by_xid = ("PGNODE_RESTORE_TARGET_XID", xid.as_str());
    for (name, vars, want) in [
        ("end", vec![], "103|1|103"),
        (
            "bytime",
            vec![("PGNODE_RESTORE_TARGET_TIME", time.as_str())],
            "102|1|102",
        ),
        (
            "bylsn",
            vec![("PGNODE_RESTORE_TARGET_LSN", lsn.as_str())],
            "101|1|101",
        ),
        ("byxid", vec![by_xid], "101|1|101"),
        ("before", vec![by_xid, exclusive], "100|1|100"),
        (
            "byname",
            vec![("PGNODE_RESTORE_TARGET_NAME", "here")],
            "101|1|101",
        ),
        (
            "immediate",
            vec![
                ("PGNODE_RESTORE_TARGET_IMMEDIATE", "true"),
                ("PGNODE_RESTORE", &first),
                ("PGNODE_RESTORE_FROM", "s3/src"),
            ],
            "0||",
        ),
    ] {
        let plan = vars
            .iter()
            .fold(s.target(name), |plan, (n, v)| plan.env(n, v));
        let node = restored(plan, want);
        let asked = node.psql(
            "SELECT pg_is_in_recovery(), current_setting('work_mem'), current_setting('primary_conninfo'), \
             (SELECT timeline_id > 1 FROM pg_control_checkpoint())",
        );
        assert_eq!(asked, "f|7MB||t");
        s.c.remove(node);
    }
    assert_eq!(s.everything(), before, "the source was touched");

    // Outside of what there is: the valid range.
    let range = ["the valid range is from 0/", "the last commit at 20"];
    let beyond = ("PGNODE_RESTORE_TARGET_LSN", "FF/0");
    let late = ("PGNODE_RESTORE_TARGET_TIME", "2099-01-01 00:00:00");
    let early = ("PGNODE_RESTORE_TARGET_TIME", "2020-01-01 00:00:00");
    for (var, parts) in [
        (beyond, range.as_slice()),
        (late, &range),
        (early, &["lies before the end of backup"]),
    ] {
        let (code, said) = check(&s.bucket, &s.c, &[var]);
        assert_eq!(code, 64, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let (code, said) = check(&s.bucket, &s.c, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!("backup      {first} of s3://pgnode/prod/src")),
        "{said}"
    );
}

/// Whatever is missing, cut off or not finished is refused before anything is opened; `verify` says the same.
#[test]
fn a_piece_that_is_not_whole_is_refused() {
    let s = Source::new("s3pieces", "--gzip");
    s.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    let id = s.backup("--gzip");
    let (bucket, c) = (&s.bucket, &s.c);
    let data = s.key(&id, "data.tar.gz");
    let info = s.key(&id, "backup.info");
    let whole = bucket.read(&data).unwrap();
    let said = bucket.text(&info).unwrap();
    let python = |program: &str| {
        bucket.write("scratch/in", &whole);
        let script = format!(
            "import boto3, gzip, os, io, tarfile\n\
             s3 = boto3.client('s3', endpoint_url='http://s3:3900'); B = os.environ['S3_BUCKET']\n\
             whole = s3.get_object(Bucket=B, Key='scratch/in')['Body'].read()\n\
             def put(name, body): s3.put_object(Bucket=B, Key='{PATH}/src/base/{id}/' + name, Body=body)\n\
             {program}"
        );
        bucket
            .tools()
            .sh(&format!("python3 - <<'END'\n{script}\nEND"))
            .ok();
        bucket.delete("scratch/in");
    };
    let verify = |deep: &str| {
        let mut words: Vec<String> = ["run", "--rm", "--network", c.network()]
            .map(String::from)
            .into();
        for (name, value) in bucket.env() {
            words.extend(["-e".to_owned(), format!("{name}={value}")]);
        }
        words.extend([
            "-e".into(),
            "REPMGR_NODE_NAME=pg9".into(),
            image(),
            "s3".into(),
            "verify".into(),
            "src".into(),
        ]);
        words.extend(deep.split_whitespace().map(String::from));
        let ran = docker(words);
        (ran.code, format!("{}{}", ran.out, ran.err))
    };
    let (code, text) = verify("--deep");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("1 of 1 backups can be restored"), "{text}");
    assert!(text.contains("read: 1 backups"), "{text}");

    // Trap: two gzip members, cut where a member of the tar ends: barman-cloud restores the first one and says nothing.
    python(
        "plain = gzip.decompress(whole)\nt = tarfile.open(fileobj=io.BytesIO(plain)); ms = t.getmembers()\n\
         at = ms[len(ms)//2].offset\nput('data.tar.gz', gzip.compress(plain[:at]) + gzip.compress(plain[at:]))",
    );
    let node = restored(s.target("members"), "1|1|1");
    c.remove(node);
    bucket.write(&data, &whole);

    let refuses = |name: &str, parts: &[&str], deep: bool| {
        refused(c, s.target(name), 78, parts);
        let (code, text) = verify(if deep { "--deep" } else { "" });
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.contains("cannot be restored"), "{name}: {text}");
    };
    // Trap: a tar that ends at a member's end.
    python(
        "plain = gzip.decompress(whole)\nt = tarfile.open(fileobj=io.BytesIO(plain)); ms = t.getmembers()\n\
         put('data.tar.gz', gzip.compress(plain[:ms[len(ms)//2].offset]))",
    );
    refuses("boundary", &["without the blocks that end a tar"], true);
    bucket.write(&data, &whole[..whole.len() / 2]);
    refuses("cut", &["is cut off"], true);
    bucket.write(&data, &whole);
    // Trap: a part that is missing in the middle.
    bucket.write(&s.key(&id, "data_0002.tar.gz"), &whole);
    refuses("hole", &["data_0001.tar.gz is missing"], false);
    bucket.delete(&s.key(&id, "data_0002.tar.gz"));
    bucket.delete(&data);
    refuses("gone", &["data.tar is missing"], false);
    bucket.write(&data, &whole);
    // Trap: FAILED is never looked at.
    bucket.write(
        &info,
        said.replace("status=DONE", "status=FAILED").as_bytes(),
    );
    let vars = |name: &str| s.target(name).env("PGNODE_RESTORE", &id);
    refused(c, vars("failed"), 78, &["is FAILED, not DONE"]);
    assert_eq!(verify("").0, 1);
    bucket.delete(&info);
    refused(
        c,
        vars("blank"),
        64,
        &["there is no backup", "it holds none"],
    );
    bucket.write(
        &info,
        said.replace(
            "tablespaces=None",
            "tablespaces=[('fast', 16400, '/mnt/fast')]",
        )
        .as_bytes(),
    );
    bucket.write(&s.key(&id, "16400.tar.gz"), &whole);
    refused(
        c,
        vars("spaces"),
        78,
        &["16400.tar.gz", "does not belong in a tablespace"],
    );
    bucket.delete(&s.key(&id, "16400.tar.gz"));
    bucket.write(&info, said.as_bytes());

    // WAL that is missing, and WAL that is damaged.
    let begin = said
        .lines()
        .find_map(|l| l.strip_prefix("begin_wal="))
        .unwrap();
    let first = segment_of(bucket, "src", begin);
    let segment = bucket.read(&first).unwrap();
    bucket.delete(&first);
    refuses(
        "nowal",
        &["is not in the archive of s3://pgnode/prod/src"],
        false,
    );
    bucket.write(&first, &segment[..segment.len() - 100]);
    refused(c, s.target("badwal"), 78, &["cannot be unpacked as gzip"]);
    let (code, text) = verify("--deep");
    assert!(code == 1 && text.contains("cannot be used"), "{text}");
    bucket.write(&first, &segment);

    // Whose place it is.
    let cloud = |name: &str, own: &str| {
        s.target(name)
            .env("BARMAN_MODE", "cloud")
            .env("BARMAN_CLOUD_SERVER_NAME", own)
    };
    let another = "set BARMAN_CLOUD_SERVER_NAME to another name";
    refused(
        c,
        cloud("same", "src"),
        64,
        &["where its own backup is", another],
    );
    let named = cloud("named", "src").env("PGNODE_RESTORE_FROM", "s3/src");
    refused(c, named, 64, &["where its own backup is", another]);
    bucket.write(
        &format!("{PATH}/used/base/20260101T000000/backup.info"),
        b"status=FAILED\n",
    );
    refused(
        c,
        cloud("used", "used").env("PGNODE_RESTORE_FROM", "s3/src"),
        64,
        &["expected an empty archive", another],
    );
    refused(
        c,
        s.target("several"),
        64,
        &["several clusters (src, used)", "s3/<cluster>"],
    );
    bucket.delete_all(&format!("{PATH}/used/"));
    let place = s
        .target("place")
        .env("PGNODE_RESTORE_FROM", "s3://pgnode/prod/src")
        .env("S3_BUCKET_URI", "s3://pgnode/elsewhere");
    restored(place, "1|1|1");
}

/// A bucket that is away is never the end of the archive; one that refuses says which setting is wrong.
#[test]
fn a_bucket_that_is_away_is_waited_for() {
    let s = Source::new("s3away", "--gzip");
    s.sql("CREATE TABLE t (n int)");
    s.backup("--gzip");
    for n in 1..=3 {
        s.sql(&format!("INSERT INTO t VALUES ({n})"));
        s.archived();
    }
    let (bucket, c) = (&s.bucket, &s.c);
    let proxy = bucket.proxy();
    let through = |name: &str| {
        let plan = c
            .node(name)
            .env("REPMGR_NODE_ID", "7")
            .env("BARMAN_MODE", "off")
            .env("PGNODE_RESTORE", "latest")
            .env("PGNODE_RESTORE_FROM", "s3");
        bucket.give_through(&proxy, plan)
    };
    // Gone in the middle of recovery, and back.
    proxy.fail(
        Rule::new(Fault::Answer(503, "SlowDown"))
            .key("/wals/")
            .after(2),
    );
    let node = through("waits").start();
    node.wait_status("waits for the bucket", |s| {
        s["sentence"]
            .as_str()
            .unwrap_or_default()
            .contains("the source is lost")
    });
    assert_eq!(node.state(), "replay");
    proxy.clear();
    node.wait_open();
    assert_eq!(node.psql("SELECT count(*) FROM t"), "3");
    c.remove(node);
    // The copy goes on where it broke, and an answer that is wrong in the middle is not believed.
    proxy.fail(
        Rule::new(Fault::CutAnswer(100_000))
            .method("GET")
            .key("data.tar")
            .times(3),
    );
    let node = through("cuts").open();
    assert_eq!(node.psql("SELECT count(*) FROM t"), "3");
    c.remove(node);
    proxy.clear();
    proxy.fail(
        Rule::new(Fault::FlipAnswer(200_000))
            .method("GET")
            .key("data.tar"),
    );
    refused(c, through("flips"), 78, &["cut off or damaged"]);
    proxy.clear();
    // For ever: given up, nothing opened, begun again by the next start.
    proxy.refuse();
    let node = through("never")
        .env("PGNODE_RESTORE_RETRY", "3s")
        .env("S3_RETRY", "1s")
        .start();
    assert_eq!(node.ended(), 75, "{}", node.logs());
    assert!(node.logged("PGNODE_RESTORE_RETRY"), "{}", node.logs());
    c.remove(node);
    proxy.clear();

    // What the server says, and the variable.
    for (name, vars, parts) in [
        (
            "key",
            ("S3_ACCESS_KEY_ID", "GK0000000000000000000000ff"),
            ["No such key", "S3_ACCESS_KEY_ID"],
        ),
        (
            "secret",
            ("S3_SECRET_ACCESS_KEY", "wrong"),
            ["AccessDenied", "S3_SECRET_ACCESS_KEY"],
        ),
        (
            "bucket",
            ("S3_BUCKET_URI", "s3://nowhere/prod"),
            ["NoSuchBucket", "S3_BUCKET_URI"],
        ),
        (
            "region",
            ("S3_REGION", "moon-1"),
            ["Authorization", "S3_REGION"],
        ),
    ] {
        let (code, said) = check(bucket, c, &[vars]);
        assert_eq!(code, 78, "{name}: {said}");
        for part in parts {
            assert!(said.contains(part), "{name}, {part}: {said}");
        }
    }
    proxy.fail(Rule::new(Fault::Answer(403, "RequestTimeTooSkewed")));
    let url = proxy.url();
    let (code, said) = check(bucket, c, &[("S3_ENDPOINT_URL", url.as_str())]);
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("RequestTimeTooSkewed") && said.contains("the clock"),
        "{said}"
    );
    proxy.clear();
    let route = ("S3_ENDPOINT_URL", "http://s3:3999");
    let (code, said) = check(
        bucket,
        c,
        &[route, ("S3_RETRY", "2s"), ("PGNODE_RESTORE_RETRY", "2s")],
    );
    assert_eq!(code, 75, "{said}");
    assert!(
        said.contains("does not answer") && said.contains("S3_ENDPOINT_URL"),
        "{said}"
    );
}

/// The doctor walks the bucket: archiving, a backup, its contents, a drill of it; and says which setting is wrong.
#[test]
fn the_doctor_looks_at_the_bucket() {
    let c = Cluster::new("s3doctor");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let plan = c
        .node("pg1")
        .env("BARMAN_MODE", "cloud")
        .env("BARMAN_CLOUD_SERVER_NAME", "main")
        .env("S3_RETRY", "5s");
    let node = bucket.give_through(&proxy, plan).open();
    let doctor = |words: &str| {
        let ran = node.sh(&format!("pgnode doctor --json {words}"));
        let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        (ran.code, said["servers"][0]["findings"].clone())
    };
    let of = |found: &serde_json::Value, check: &str| {
        let all = found.as_array().unwrap();
        let one = all.iter().find(|f| f["check"] == check);
        one.unwrap_or_else(|| panic!("no {check} in {found:#}"))
            .clone()
    };
    // The node makes its first one by itself; two are never made at once.
    first_backup(&node);
    let (code, found) = doctor("--full");
    assert_eq!(code, 0, "{found:#}\n{}", node.logs());
    for check in [
        "the bucket",
        "archiver",
        "round trip",
        "a new backup",
        "last backup",
        "verify",
        "contents",
        "base copy",
        "recovery",
        "checksums",
    ] {
        assert_eq!(of(&found, check)["verdict"], "PASS", "{check}: {found:#}");
    }
    assert_eq!(doctor("").0, 0);

    proxy.fail(Rule::new(Fault::Answer(403, "InvalidAccessKeyId")));
    let (code, found) = doctor("--step 9");
    let refused = of(&found, "the bucket");
    assert_eq!((code, &refused["ailment"]), (1, &"bucket-refuses".into()));
    assert!(
        refused["remedy"]
            .as_str()
            .unwrap()
            .contains("S3_ACCESS_KEY_ID")
    );
    proxy.clear();
    let info = bucket
        .keys(&format!("{PATH}/main/base/"))
        .into_iter()
        .find(|key| key.ends_with("backup.info"))
        .unwrap();
    let info = bucket.text(&info).unwrap();
    let begin = info
        .lines()
        .find_map(|l| l.strip_prefix("begin_wal="))
        .unwrap();
    bucket.delete(&segment_of(&bucket, "main", begin));
    let (code, found) = doctor("");
    let wrong = of(&found, "verify");
    assert_eq!((code, &wrong["ailment"]), (1, &"bucket-wrong".into()));
    assert!(wrong["why"].as_str().unwrap().contains(begin), "{wrong:#}");
}

/// `kill -9` while a piece of the bucket is on its way: the next start begins again, and nothing of the first is left.
#[test]
fn a_restore_that_is_killed_in_the_midst_of_a_piece_begins_again() {
    let s = Source::new("s3killed", "--gzip");
    s.sql("CREATE TABLE t (n int)");
    s.backup("--gzip");
    for n in 1..=3 {
        s.sql(&format!("INSERT INTO t VALUES ({n})"));
        s.archived();
    }
    let proxy = s.bucket.proxy();
    let stalled = |bytes| Rule::new(Fault::StallAnswer(bytes)).method("GET");
    let copied = "/var/lib/postgresql/.pgnode/staging";
    for (name, rule, state) in [
        ("copies", stalled(1_500_000).key("data.tar"), "restore"),
        ("replays", stalled(1_000).key("/wals/").after(2), "replay"),
    ] {
        let before = proxy.faults();
        proxy.fail(rule);
        let plan = s.target(name).env("S3_ENDPOINT_URL", &proxy.url());
        let node = plan.start();
        eventually("half of it is there", BACKUP, || {
            let half = node.sh(&format!("find {copied} -name PG_VERSION")).out;
            let there = node.state() == state && half.contains("PG_VERSION");
            (there && proxy.faults() > before).then_some(())
        });
        node.kill("KILL");
        node.ended();
        let open = s.c.on_volume(name, "find /v/data -name PG_VERSION");
        assert_eq!(open.out, "", "half of it is in its place");
        proxy.clear();
        node.start();
        node.wait_open();
        let rows = node.psql("SELECT count(*), min(n), max(n) FROM t");
        assert_eq!(rows, "3|1|3", "{}", node.logs());
        let left = node.sh(&format!("ls -A {copied} 2>/dev/null"));
        assert_eq!(left.out, "", "something of the first is left");
        // Every page is whole.
        node.stop();
        let checked = s.c.on_volume(name, "pg_checksums --check -D /v/data");
        assert!(checked.ok().contains("Bad checksums:  0"));
        s.c.remove(node);
    }
}
