//! Whose an archive is (docs/s3-wal.md): a wrong place shows before there is any WAL, and of two clusters that claim one
//! place at the same moment at most one goes on.

use crate::docker::{Cluster, LONG, Node, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, switch, wal_key};
use std::thread::JoinHandle;

#[test]
fn a_place_of_another_cluster_shows_before_there_is_any_wal() {
    let c = Cluster::new("s3whose");
    let bucket = Bucket::start(&c);
    let pg1 = bucket.cloud(None, "main", c.master()).open();
    first_backup(&pg1);
    let doctor = |node: &Node| node.sh("pgnode doctor --step 9 2>&1").out;
    assert!(
        doctor(&pg1).contains("it is this cluster's"),
        "{}",
        doctor(&pg1)
    );
    let before = bucket.keys("");

    let other = bucket.cloud(None, "main", c.node("pg9")).open();
    let refused = "expected an empty archive at s3://pgnode/prod/main/";
    other.wait_status("it says that the place is another's", |s| {
        s["archiving"]["why"]
            .as_str()
            .is_some_and(|why| why.contains(refused))
    });
    other.wait_log(refused);
    let said = other.sh("pgnode status").out;
    assert!(said.contains("expected an empty archive"), "{said}");
    let said = doctor(&other);
    assert!(
        said.contains("it is the archive of cluster") && said.contains("BARMAN_CLOUD_SERVER_NAME"),
        "{said}"
    );
    // The archiver was never asked for anything, and nothing was written.
    let asked = other.psql("SELECT archived_count + failed_count FROM pg_stat_archiver");
    assert_eq!(asked, "0");
    assert_eq!(bucket.keys(""), before);
    // It serves all the same.
    assert_eq!(other.psql("SELECT pg_is_in_recovery()"), "f");

    // Where the other one is gone for good: its things are moved away, and the next file takes the place.
    pg1.stop();
    bucket.delete_all(&format!("{PATH}/main/"));
    let name = switch(&other);
    bucket.wait_keys(&wal_key("main", &name));
    other.wait_status("it archives", |s| {
        s["archiving"]["failing_since_ms"].is_null()
    });
}

/// A segment that is complete, as this node has it, and settings for another place: no worker knows them.
struct Claimant {
    container: String,
    system: String,
    segment: String,
}

impl Claimant {
    fn of(node: &Node) -> Self {
        let segment = switch(node);
        let keep = format!(
            "mkdir -p /tmp/kept && cp /var/lib/postgresql/data/pg_wal/{segment} /tmp/kept/"
        );
        node.sh_as("postgres", &keep).ok();
        Self {
            container: node.container.clone(),
            system: node.psql("SELECT system_identifier FROM pg_control_system()"),
            segment,
        }
    }

    fn prepare(&self, server: &str) {
        let program = format!(
            "import json, os\nos.umask(0o077)\nos.makedirs('/tmp/{server}')\n\
             kept = json.load(open('/run/pgnode/s3.json'))\nkept['server'] = '{server}'\n\
             kept['run_dir'] = '/tmp/{server}'\njson.dump(kept, open('/tmp/{server}/s3.json', 'w'))"
        );
        self.sh(&format!("python3 -c \"{program}\"")).ok();
    }

    /// Begins a push, as the archiver does without a worker: its code, and what it says.
    fn push(&self, server: &str) -> JoinHandle<(i32, String)> {
        let segment = &self.segment;
        let shell =
            format!("pgnode wal-push --run-dir /tmp/{server} /tmp/kept/{segment} 2>&1; echo =$?");
        let container = self.container.clone();
        std::thread::spawn(move || {
            let words = ["exec", "-u", "postgres", &container, "bash", "-c", &shell];
            let said = docker(words).ok();
            let (text, code) = said.rsplit_once('=').unwrap();
            (code.parse().unwrap(), text.to_owned())
        })
    }

    fn sh(&self, shell: &str) -> crate::docker::Ran {
        let words = ["exec", "-u", "postgres", &self.container, "bash", "-c"];
        docker(words.into_iter().chain([shell]))
    }
}

#[test]
fn of_two_clusters_that_claim_at_the_same_moment_at_most_one_goes_on() {
    let c = Cluster::new("s3race");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = |name: &str| {
        let plan = bucket.cloud(Some(&proxy), name, c.node(name));
        let node = plan.env("S3_COMPRESSION", "none").open();
        first_backup(&node);
        node
    };
    let nodes = [node("pg5"), node("pg6")];
    let both = [Claimant::of(&nodes[0]), Claimant::of(&nodes[1])];
    let held = || Rule::new(Fault::Held);
    let looks = || held().method("GET").key("/pgnode.json");
    // After the first look, each request of a claim is where the two may meet.
    let meetings = [
        ("the notes", held().method("PUT").key("/pgnode.claim.")),
        ("the list of notes", held().list().query("pgnode.claim")),
        ("the second look", looks()),
        ("the marker", held().method("PUT").key("/pgnode.json")),
    ];
    for (n, (meeting, rule)) in meetings.into_iter().enumerate() {
        let server = format!("race{n}");
        both.iter().for_each(|one| one.prepare(&server));
        proxy.fail(looks());
        let held = |since: usize| proxy.faults().saturating_sub(since);
        let before = proxy.faults();
        let [a, b] = [both[0].push(&server), both[1].push(&server)];
        eventually("both are at it", LONG, || (held(before) >= 2).then_some(()));
        let before = proxy.faults();
        proxy.release([rule]);
        // Both are there, or one is and the other has given way by then.
        eventually(meeting, LONG, || {
            let ended = usize::from(a.is_finished()) + usize::from(b.is_finished());
            (held(before) > 0 && held(before) + ended >= 2).then_some(())
        });
        proxy.clear();
        let mut ends = [a.join().unwrap(), b.join().unwrap()];
        // Who has withdrawn comes again, as the archiver does.
        let winner = eventually(&format!("{meeting}: one has the place"), LONG, || {
            let codes = [ends[0].0, ends[1].0];
            assert!(codes != [0, 0], "{meeting}: both went on: {ends:?}");
            let winner = codes.iter().position(|code| *code == 0);
            if winner.is_none() {
                let [a, b] = [both[0].push(&server), both[1].push(&server)];
                ends = [a.join().unwrap(), b.join().unwrap()];
            }
            winner
        });
        let (won, lost) = (&both[winner], &both[1 - winner]);
        let (code, said) = lost.push(&server).join().unwrap();
        assert_eq!(code, 78, "{meeting}: {said}");
        assert!(
            said.contains("expected an empty archive"),
            "{meeting}: {said}"
        );
        assert_eq!(won.push(&server).join().unwrap().0, 0, "{meeting}");

        // Nothing of the loser is there, and no note.
        let segment = wal_key(&server, &won.segment);
        let marker = format!("{PATH}/{server}/pgnode.json");
        let keys = bucket.keys(&format!("{PATH}/{server}/"));
        assert_eq!(keys, [marker.clone(), segment.clone()], "{meeting}");
        assert!(bucket.text(&marker).unwrap().contains(&won.system));
        let stored = bucket.read(&segment).unwrap();
        let system = u64::from_le_bytes(stored[24..32].try_into().unwrap());
        assert_eq!(system.to_string(), won.system, "{meeting}");
    }
}
