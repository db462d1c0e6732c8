//! Two clusters that claim one empty place at the same moment (src/s3/wal/claim.rs). The proxies hold their requests, so that
//! they meet where the test wants them to.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, PATH, Proxy, Rule, Seen, switch, wal_key};

/// Two clusters, each with its own way to the bucket, before they have claimed anything under that name.
struct Rivals<'a> {
    c: &'a Cluster,
    bucket: &'a Bucket,
    server: &'static str,
    ways: [Proxy; 2],
}

impl Rivals<'_> {
    fn new<'a>(c: &'a Cluster, bucket: &'a Bucket, server: &'static str) -> Rivals<'a> {
        let ways = [bucket.proxy(), bucket.proxy()];
        Rivals {
            c,
            bucket,
            server,
            ways,
        }
    }

    fn start(&self, n: usize) -> Node {
        let plan = self.c.node(["pg1", "pg9"][n]);
        self.bucket
            .cloud(Some(&self.ways[n]), self.server, plan)
            .start()
    }

    fn note(&self, method: &str) -> Rule {
        Rule::new(Fault::Held)
            .method(method)
            .key(&format!("/{}/pgnode.claim.", self.server))
    }

    fn marker(&self) -> Option<String> {
        self.bucket
            .text(&format!("{PATH}/{}/pgnode.json", self.server))
    }

    #[track_caller]
    fn seen(&self, n: usize, what: &str, look: impl Fn(&Seen) -> bool) {
        eventually(what, LONG, || {
            self.ways[n].seen().iter().any(&look).then_some(())
        });
    }

    /// One of them goes on, the other one says so; and whatever is archived is of the one that the marker names.
    #[track_caller]
    fn settled(&self, nodes: &[Node; 2], winner: Option<usize>) {
        let foreign = |node: &Node| {
            let status = node.status()?;
            let why = status["archiving"]["why"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            Some(why.contains("expected an empty archive"))
        };
        let marker = eventually("somebody claims the archive", LONG, || self.marker());
        let systems = nodes.each_ref().map(|node| {
            node.wait_open();
            node.psql("SELECT system_identifier FROM pg_control_system()")
        });
        let is = |n: usize| marker.contains(&format!("\"{}\"", systems[n]));
        let won = (0..2).find(|n| is(*n)).unwrap();
        assert!(winner.is_none_or(|want| want == won), "{marker}");
        // Whoever asks for them, a worker or a backup: the other cluster has written no marker at any time.
        let written = format!("/{}/pgnode.json", self.server);
        assert_eq!(self.ways[1 - won].count("PUT", &written), 0, "{marker}");
        let (first, second) = (&nodes[won], &nodes[1 - won]);
        eventually("the other one says whose it is not", LONG, || {
            foreign(second)?.then_some(())
        });
        switch(second);
        let name = switch(first);
        let key = wal_key(self.server, &name);
        self.bucket.wait_keys(&format!("{key}.zst"));
        assert_eq!(foreign(first), Some(false));
        eventually("its WAL is refused", LONG, || {
            let failed = second.psql("SELECT failed_count FROM pg_stat_archiver");
            (failed != "0").then_some(())
        });
        for key in self.bucket.keys(&format!("{PATH}/{}/wals/", self.server)) {
            let stored = self.bucket.read(&key);
            let Some(packed) = stored.filter(|_| !key.contains(".backup")) else {
                continue;
            };
            let plain = zstd::decode_all(&*packed).unwrap();
            // `xlp_sysid` of the first page.
            let system = u64::from_le_bytes(plain[24..32].try_into().unwrap());
            assert_eq!(system.to_string(), systems[won], "{key}");
        }
        assert_eq!(self.marker(), Some(marker));
        let notes = format!("{PATH}/{}/pgnode.claim.", self.server);
        eventually("no note is left", LONG, || {
            self.bucket.keys(&notes).is_empty().then_some(())
        });
    }
}

/// Wherever two clusters meet that claim one empty place, one goes on at most, and the other's WAL waits with it.
#[test]
fn two_clusters_that_claim_one_place_at_the_same_moment() {
    let c = Cluster::new("s3rivals");
    let bucket = Bucket::start(&c);
    let is_note_list = |s: &Seen| s.method == "GET" && s.query.contains("pgnode.claim");
    let over = |nodes: [Node; 2]| {
        for node in nodes {
            node.stop();
            c.remove(node);
        }
    };

    // Both have seen an empty place before either has put its note; then both have put it before either looks for others'.
    let both = Rivals::new(&c, &bucket, "both");
    for way in &both.ways {
        way.fail(both.note("PUT"));
    }
    let nodes = [both.start(0), both.start(1)];
    for n in 0..2 {
        both.seen(n, "a note is on its way", |s| s.is("PUT", "pgnode.claim."));
    }
    for way in &both.ways {
        way.release([Rule::new(Fault::Held).list().query("pgnode.claim")]);
    }
    for n in 0..2 {
        both.seen(n, "it looks for others' notes", is_note_list);
    }
    assert_eq!(both.marker(), None);
    for way in &both.ways {
        way.clear();
    }
    both.settled(&nodes, None);
    over(nodes);

    // One has looked, and is about to write the marker, when the other one puts its note.
    let late = Rivals::new(&c, &bucket, "late");
    let marker = "/late/pgnode.json";
    late.ways[0].fail(Rule::new(Fault::Held).method("PUT").key(marker));
    let first = late.start(0);
    late.seen(0, "the marker is on its way", |s| s.is("PUT", marker));
    let second = late.start(1);
    second.wait_status("it sees the other one's note", |s| {
        let why = s["archiving"]["why"].as_str();
        why.is_some_and(|why| why.contains("another cluster claims"))
    });
    assert_eq!(late.ways[1].count("PUT", marker), 0);
    assert_eq!(late.marker(), None);
    late.ways[0].clear();
    let nodes = [first, second];
    late.settled(&nodes, Some(0));
    over(nodes);

    // One has seen an empty place, and then the other one comes and is done, note and all, before the first has put its own.
    let slow = Rivals::new(&c, &bucket, "slow");
    slow.ways[0].fail(slow.note("PUT"));
    let first = slow.start(0);
    slow.seen(0, "a note is on its way", |s| s.is("PUT", "pgnode.claim."));
    let second = slow.start(1);
    eventually("the other one is done", LONG, || slow.marker());
    let notes = format!("{PATH}/slow/pgnode.claim.");
    eventually("its note is gone", LONG, || {
        bucket.keys(&notes).is_empty().then_some(())
    });
    slow.ways[0].clear();
    slow.settled(&[first, second], Some(1));
}
