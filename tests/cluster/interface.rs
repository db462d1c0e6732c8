//! HTTP, metrics, `pgnode health`; PID 1's orphans (§7, §2).

use crate::docker::{Cluster, LONG, Node, eventually};

fn code(node: &Node, path: &str) -> u16 {
    node.get(path)
        .unwrap_or_else(|| panic!("{path}: no answer"))
        .code
}

/// Prometheus' text: every sample has a number, every family a type; the family's names.
fn metrics(node: &Node) -> Vec<(String, f64)> {
    let page = node.get("/metrics").unwrap();
    assert_eq!(page.code, 200);
    assert!(
        page.head.to_lowercase().contains("content-type:"),
        "{}",
        page.head
    );
    let mut typed = Vec::new();
    let mut samples = Vec::new();
    for line in page.body.lines().filter(|l| !l.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().unwrap().to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        let family = name.split('{').next().unwrap();
        assert!(
            typed.iter().any(|t| family.starts_with(t.as_str())),
            "{family} has no type"
        );
        samples.push((name.to_owned(), value));
    }
    samples
}

/// §7: what load balancers and people ask, on both roles.
#[test]
fn endpoints_and_metrics() {
    let c = Cluster::new("http");
    let master = c.master().start();
    let slave = c.slave().start();
    master.wait_open();
    slave.wait_streaming();
    let paths = [
        "/liveness",
        "/readiness",
        "/primary",
        "/replica",
        "/health",
        "/status",
        "/metrics",
    ];
    let codes = |node: &Node| paths.map(|p| code(node, p));
    assert_eq!(codes(&master), [200, 200, 200, 503, 200, 200, 200]);
    assert_eq!(codes(&slave), [200, 200, 503, 200, 200, 200, 200]);
    assert_eq!(code(&master, "/nothing"), 404);
    let health = |node: &Node, what: &str| node.sh(&format!("pgnode health {what}")).code;
    assert_eq!(
        [
            health(&master, ""),
            health(&master, "primary"),
            health(&master, "replica")
        ],
        [0, 0, 1]
    );
    assert_eq!(
        [
            health(&slave, ""),
            health(&slave, "primary"),
            health(&slave, "replica")
        ],
        [0, 1, 0]
    );
    assert_eq!(health(&master, "nonsense"), 64);
    for node in [&master, &slave] {
        let samples = metrics(node);
        for word in [
            "state",
            "role",
            "lag",
            "wal",
            "restarts",
            "orphans_reaped",
            "child",
            "boot",
            "backup",
        ] {
            if word == "lag" && node.name == "pg1" {
                continue;
            }
            if word == "backup" && node.name == "pg2" {
                continue;
            }
            assert!(
                samples.iter().any(|(name, _)| name.contains(word)),
                "no metric about {word} on {}: {samples:?}",
                node.name
            );
        }
    }
    // A master that went away: the slave stays up for reads and says that it does not stream.
    master.stop();
    slave.wait_status("does not stream", |s| s["streaming"] == false);
    assert_eq!(code(&slave, "/liveness"), 200);
    assert_eq!(code(&slave, "/replica"), 200);
    let streaming = "/replica?replication_state=streaming";
    assert_eq!(code(&slave, streaming), 503);
    assert!(
        master.get("/health").is_none(),
        "nobody answers for a node that is down"
    );
}

/// §2: barman's and cron's orphans, and any others, are reaped and counted.
#[test]
fn orphans_are_reaped_and_counted() {
    let c = Cluster::new("orphans");
    let node = c.master().open();
    node.wait_status("the first backup is over", |s| {
        s["backup"]["last_id"].is_string()
    });
    let before = node.status().unwrap()["orphans_reaped"].as_u64().unwrap();
    for _ in 0..3 {
        node.sh_as("barman", "barman -q cron").ok();
    }
    node.sh("for i in $(seq 50); do (setsid true &) ; done")
        .ok();
    eventually("the orphans are counted", LONG, || {
        let now = node.status()?["orphans_reaped"].as_u64()?;
        (now >= before + 50).then_some(())
    });
    eventually("no zombie is left", LONG, || {
        let zombies = node
            .sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
            .ok();
        (zombies == "0").then_some(())
    });
    let samples = metrics(&node);
    let reaped = samples
        .iter()
        .find(|(n, _)| n.contains("orphans_reaped"))
        .unwrap()
        .1;
    assert!(reaped >= 50.0, "{reaped}");
    assert_eq!(node.state(), "open");
}
