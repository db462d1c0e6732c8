//! pgnode and barman-cloud at one bucket (issue 5 §4): each reads what the other wrote. Debian's barman-cli-cloud, 3.13 of trixie
//! and 3.4 of bookworm.

use crate::docker::{BACKUP, Cluster, LONG, Node, Ran, eventually};
use crate::s3::{Bucket, PATH};
use serde_json::Value;

/// Codecs of WAL: our name, barman's option, whether 3.4 knows it. Without snappy: Debian's python3-snappy (0.5.3, in both releases) does
/// not work with their Python; barman-cloud ends by a segmentation fault or an exception on what it packed itself.
const CODECS: [(&str, &str, bool); 6] = [
    ("none", "", true),
    ("gzip", "--gzip", true),
    ("bzip2", "--bzip2", true),
    ("xz", "--xz", false),
    ("zstd", "--zstd", false),
    ("lz4", "--lz4", false),
];

/// A node that archives into the bucket, and both versions of barman-cli-cloud with the node's volumes.
struct Both {
    pg1: Node,
    tools: [Node; 2],
    bucket: Bucket,
    _c: Cluster,
}

impl Both {
    fn start(test: &str, settings: &[(&str, &str)]) -> Self {
        let c = Cluster::new(test);
        let bucket = Bucket::start(&c);
        let run = format!("{}:/run/pgnode", c.volume("run"));
        let plan = bucket
            .give(c.node("pg1"))
            .env("REPMGR_MASTER", "true")
            .env("BARMAN_MODE", "cloud")
            .env("BARMAN_CLOUD_SERVER_NAME", "main")
            .flags(&["-v", &run]);
        let pg1 = settings
            .iter()
            .fold(plan, |plan, (n, v)| plan.env(n, v))
            .open();
        let more = ["--volumes-from", &pg1.container];
        let tools = [("trixie", "new"), ("bookworm", "old")].map(|(suite, name)| {
            Bucket::tools_from(&c, &format!("pgnode-s3tools:{suite}"), name, &more)
        });
        Self {
            pg1,
            tools,
            bucket,
            _c: c,
        }
    }

    fn new_and_old(&self) -> [(&str, &Node); 2] {
        [("3.13", &self.tools[0]), ("3.4", &self.tools[1])]
    }

    /// A command of barman-cli-cloud in that container, as the account that the data belong to.
    #[track_caller]
    fn barman(&self, tools: &Node, command: &str, words: &str) -> Ran {
        let uri = self.bucket.uri();
        tools.sh_as(
            "999",
            &format!("cd /tmp && {command} --endpoint-url http://s3:3900 {uri} {words}"),
        )
    }

    /// Segments that are complete, and stay where they are.
    fn segments(&self, count: usize) -> Vec<String> {
        self.pg1
            .psql("CREATE TABLE IF NOT EXISTS filler AS SELECT 1 AS n");
        let mut names = Vec::new();
        for n in 0..count {
            self.pg1.psql(&format!(
                "INSERT INTO filler SELECT generate_series(1, 20000 + {n})"
            ));
            names.push(self.pg1.psql("SELECT pg_walfile_name(pg_switch_wal())"));
        }
        // Copies: postgres recycles its own.
        let list = names.join(" ");
        self.pg1
            .sh_as("postgres", &format!("mkdir -p /var/lib/postgresql/kept && cd /var/lib/postgresql/data/pg_wal && cp {list} ../../kept"))
            .ok();
        names
    }

    /// A run directory of its own, with another codec and another name of the cluster.
    fn settings(&self, server: &str, codec: &str) -> String {
        let dir = format!("/var/lib/postgresql/run-{server}");
        let program = "import json, os, sys\nto, server, codec = sys.argv[1:]\nos.umask(0o077)\nos.makedirs(to, exist_ok=True)\n\
            kept = json.load(open('/run/pgnode/s3.json'))\nkept['server'] = server\nkept['run_dir'] = to\n\
            kept['s3']['wal_codec'] = dict(format=codec, level=None)\njson.dump(kept, open(to + '/s3.json', 'w'))";
        self.pg1
            .sh_as(
                "postgres",
                &format!("python3 -c \"{program}\" {dir} {server} {codec}"),
            )
            .ok();
        dir
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.pg1.sh("pgnode backup list --json").ok()).unwrap()
    }

    /// The id of the first backup, which the node makes by itself.
    fn first_backup(&self) -> String {
        eventually("the first backup", BACKUP, || {
            let done = |b: &Value| b["status"] == "DONE";
            let list = self.list();
            Some(list.iter().find(|b| done(b))?["id"].as_str()?.to_owned())
        })
    }

    /// The last segment is in the bucket.
    fn archived(&self) {
        self.pg1
            .psql("SELECT pg_logical_emit_message(true, 'x', 'x')");
        let name = self.pg1.psql("SELECT pg_walfile_name(pg_switch_wal())");
        self.bucket
            .wait_keys(&format!("{PATH}/main/wals/{}/{name}", &name[..16]));
    }
}

#[test]
fn wal_of_every_codec_is_read_by_the_other() {
    let both = Both::start("s3wal2", &[]);
    let names = both.segments(2);
    let (first, second) = (&names[0], &names[1]);
    let kept = "/var/lib/postgresql/kept";
    for (codec, option, old_knows) in CODECS {
        // Ours, read by them.
        let server = format!("ours-{codec}");
        let dir = both.settings(&server, codec);
        let push = format!("cd {kept} && pgnode wal-push --run-dir {dir} {first}");
        both.pg1.sh_as("postgres", &push).ok();
        for (version, tools) in both.new_and_old() {
            if version == "3.4" && !old_knows {
                continue;
            }
            let got = format!("/tmp/{server}");
            let ran = both.barman(
                tools,
                "barman-cloud-wal-restore",
                &format!("{server} {first} {got}"),
            );
            assert_eq!(ran.code, 0, "{codec} by {version}: {ran:?}");
            tools.sh(&format!("cmp {got} {kept}/{first}")).ok();
        }

        // Theirs, read by us; the archive has no mark of ours.
        for (version, tools) in both.new_and_old() {
            if version == "3.4" && !old_knows {
                continue;
            }
            let server = format!("theirs-{codec}-{}", &version[2..]);
            let dir = both.settings(&server, "lz4");
            let archive = format!("barman-cloud-wal-archive {option}");
            let ran = both.barman(tools, &archive, &format!("{server} {kept}/{first}"));
            assert_eq!(ran.code, 0, "{codec} by {version}: {ran:?}");
            let ran = fetch(&both, &dir, first);
            assert_eq!(ran.code, 0, "{codec} of {version}: {ran:?}");
            both.pg1
                .sh(&format!("cmp {kept}/got {kept}/{first} && rm {kept}/got"))
                .ok();
        }
    }

    // In an archive of theirs: the same again is well, whatever the codec, and what comes next goes in as ours.
    let dir = both.settings("theirs-gzip-13", "lz4");
    assert_eq!(fetch(&both, &dir, second).code, 1);
    for name in [first, second] {
        let push = format!("cd {kept} && pgnode wal-push --run-dir {dir} {name}");
        both.pg1.sh_as("postgres", &push).ok();
    }
    let keys = both.bucket.keys(&format!("{PATH}/theirs-gzip-13/wals/"));
    let ends: Vec<_> = keys.iter().map(|key| key.rsplit('.').next()).collect();
    assert_eq!(ends, [Some("gz"), Some("lz4")], "{keys:?}");
    let [(_, new), _] = both.new_and_old();
    let restore = |name: &str| {
        let words = format!("theirs-gzip-13 {name} /tmp/next");
        both.barman(new, "barman-cloud-wal-restore", &words).code
    };
    assert_eq!(
        (restore(second), restore("0000000100000000000000FF")),
        (0, 1)
    );

    // Used archives are no place for another cluster, by their own check too; an unused one is.
    for (_, tools) in both.new_and_old() {
        let check = |server: &str| both.barman(tools, "barman-cloud-check-wal-archive", server);
        let used = check("ours-gzip");
        assert!(
            used.code == 1 && used.err.contains("Expected empty archive"),
            "{used:?}"
        );
        check("unused").ok();
    }
}

/// One file out of the bucket, to `kept/got`.
fn fetch(both: &Both, dir: &str, name: &str) -> Ran {
    let to = "/var/lib/postgresql/kept/got";
    let words = format!("pgnode wal-fetch --run-dir {dir} {name} {to}");
    both.pg1.sh_as("postgres", &words)
}

/// The rows of a data directory, by a postgres of its own that gets its WAL by barman-cloud-wal-restore.
fn recovered(both: &Both, tools: &Node, dir: &str) -> String {
    let uri = both.bucket.uri();
    let restore =
        format!("barman-cloud-wal-restore --endpoint-url http://s3:3900 {uri} main %%f %%p");
    let script = format!(
        "set -e; chmod 700 {dir}; rm -f {dir}/postgresql.auto.conf; cd {dir}; touch recovery.signal
         printf 'local all all trust\\n' >pg_hba.conf
         printf \"restore_command = '{restore}'\\nunix_socket_directories = '/tmp'\\nlisten_addresses = ''\\nmax_wal_senders = 64\\n\
         wal_log_hints = on\\nmax_connections = 500\\nmax_worker_processes = 64\\nmax_prepared_transactions = 64\\n\
         max_locks_per_transaction = 256\\n\" >postgresql.conf
         pg_ctl -D {dir} -l /tmp/log -w -t 120 start >/dev/null || {{ cat /tmp/log >&2; exit 1; }}
         for i in $(seq 600); do [ $(psql -XAtq -h /tmp -U postgres -c 'SELECT pg_is_in_recovery()') = f ] && break; sleep 0.1; done
         psql -XAtq -h /tmp -U postgres -c 'SELECT count(*), sum(n) FROM t'
         pg_ctl -D {dir} -m immediate stop >/dev/null"
    );
    tools.sh_as("postgres", &script).ok()
}

#[test]
fn a_backup_of_ours_is_listed_restored_kept_and_deleted_by_barman_cloud() {
    let both = Both::start("s3base2", &[("S3_BASE_COMPRESSION", "bzip2")]);
    both.pg1
        .psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let id = both.first_backup();
    both.pg1
        .psql("INSERT INTO t SELECT generate_series(1001, 1500)");
    both.archived();

    for (version, tools) in both.new_and_old() {
        let listed = both
            .barman(tools, "barman-cloud-backup-list --format json", "main")
            .ok();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let backup = &listed["backups_list"][0];
        assert_eq!(backup["backup_id"], id.as_str(), "{version}: {listed}");
        assert_eq!(backup["status"], "DONE", "{version}: {listed}");
        let dir = format!("/tmp/restored-{version}");
        let ran = both.barman(tools, "barman-cloud-restore", &format!("main {id} {dir}"));
        assert_eq!(ran.code, 0, "{version}: {ran:?}");
    }
    // Both versions unpack the same, and it is a cluster with all rows.
    let sums = |tools: &Node, dir: &str| {
        tools
            .sh(&format!(
                "cd {dir} && find . -type f | sort | xargs sha256sum"
            ))
            .ok()
    };
    let [(_, new), (_, old)] = both.new_and_old();
    assert_eq!(
        sums(new, "/tmp/restored-3.13"),
        sums(old, "/tmp/restored-3.4")
    );
    assert_eq!(recovered(&both, new, "/tmp/restored-3.13"), "1500|1125750");

    // Kept by one, released by the other.
    let shown = || {
        both.list()
            .into_iter()
            .find(|b| b["id"] == id.as_str())
            .unwrap()["kept"]
            .clone()
    };
    for (version, tools) in both.new_and_old() {
        let keep = |option: &str| {
            both.barman(
                tools,
                &format!("barman-cloud-backup-keep {option}"),
                &format!("main {id}"),
            )
        };
        keep("--target full").ok();
        assert_eq!(shown(), "full", "{version}");
        both.pg1
            .sh(&format!("pgnode backup keep {id} --release"))
            .ok();
        assert!(keep("--status").ok().contains("nokeep"), "{version}");
        both.pg1
            .sh(&format!("pgnode backup keep {id} --target standalone"))
            .ok();
        assert!(keep("--status").ok().contains("standalone"), "{version}");
        keep("--release").ok();
        assert_eq!(shown(), Value::Null, "{version}");
    }

    // One of theirs beside it: made by the older, listed by all, restorable by us (verify), deleted by either side.
    let env = "PGPASSWORD=mysecretpassword PGHOST=pg1 PGUSER=postgres";
    let ran = both.barman(
        old,
        &format!("{env} barman-cloud-backup --immediate-checkpoint --gzip"),
        "main",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    both.archived();
    let theirs = both
        .list()
        .into_iter()
        .find(|b| b["id"] != id.as_str())
        .unwrap();
    let theirs = theirs["id"].as_str().unwrap().to_owned();
    let verified = both.pg1.sh(&format!("pgnode backup verify {theirs}"));
    assert_eq!(verified.code, 0, "{verified:?}");

    let ran = both.barman(
        new,
        &format!("barman-cloud-backup-delete --backup-id {id}"),
        "main",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    eventually("only theirs is listed", LONG, || {
        let list = both.list();
        (list.len() == 1 && list[0]["id"] == theirs.as_str()).then_some(())
    });
    // What is left under its name is nothing that hinders anybody.
    both.bucket.delete_all(&format!("{PATH}/main/base/{id}/"));
    let verified = both.pg1.sh(&format!("pgnode backup verify {theirs}"));
    assert_eq!(verified.code, 0, "{verified:?}");
}
