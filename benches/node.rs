//! The benchmarks: real containers against the same image without pgnode, in turn, so that what else
//! the machine does hits both. `make bench`; `PGNODE_BENCH=master,restart make bench` runs parts.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program of its own that drives docker; a failed step ends it"
)]
#![allow(
    dead_code,
    reason = "the lab and the report are shared with other benchmarks"
)]

#[path = "node/lab.rs"]
mod lab;
#[path = "node/report.rs"]
mod report;

use lab::{Container, Lab, Volume, docker, eventually, run};
use report::{Report, Series, Starts};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Host bytes of the addresses.
const NODE: u8 = 10;
const UPSTREAM: u8 = 11;
const BARE: u8 = 12;

/// What pgnode rendered for a node, so that the bare server runs with the same settings.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn of(node: &Container) -> Self {
        let text = |name: &str| node.exec(&format!("cat /run/pgnode/{name}"));
        let files = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"];
        Self(
            files
                .iter()
                .map(|name| ((*name).to_owned(), text(name)))
                .collect(),
        )
    }

    /// A bare container: writes the settings, runs `script`, ends as postgres.
    fn bare(&self, lab: &Lab, volume: &Volume, script: &str) -> Container {
        let script = format!(
            "set -e; D=/var/lib/postgresql/data; mkdir -p /run/pgnode/log\n\
             printf '%s\\n' \"$F0\" >/run/pgnode/postgresql.conf; printf '%s\\n' \"$F1\" >/run/pgnode/pg_hba.conf\n\
             printf '%s\\n' \"$F2\" >/run/pgnode/pg_ident.conf\n{script}\n\
             exec postgres -D $D -c port=5432 -c 'listen_addresses=*'"
        );
        let vars: Vec<String> = self
            .0
            .iter()
            .enumerate()
            .map(|(n, (_, text))| format!("F{n}={text}"))
            .collect();
        let mut options = vec![
            "--entrypoint",
            "bash",
            "--user",
            "postgres",
            "--no-healthcheck",
        ];
        options.extend(["-e", "PGPASSWORD=repmgr_streaming_bench"]);
        for var in &vars {
            options.extend(["-e", var]);
        }
        lab.create(BARE, volume, &options, &["-c", &script])
    }
}

const COMMON: [&str; 6] = [
    "-e",
    "POSTGRES_PASSWORD=bench",
    "-e",
    "REPMGR_PASSWORD=repmgr_bench",
    "-e",
    "REPMGR_STREAMING_PASSWORD=repmgr_streaming_bench",
];

fn master(lab: &Lab, host: u8, volume: &Volume, more: &[&str]) -> Container {
    let name = [
        "-e",
        "REPMGR_NODE_NAME=pg1",
        "-e",
        "REPMGR_NODE_NETWORK_NAME=pg1",
        "--hostname",
        "pg1",
    ];
    let options = [&COMMON[..], &name[..], more].concat();
    lab.create(host, volume, &options, &[])
}

/// What the previous round left to write must not slow down the next.
fn settle() {
    run("sync", &[]);
}

/// Milliseconds that the steps of a boot took, collected over rounds; then what the wall time has
/// beyond them.
#[derive(Default)]
struct Steps(BTreeMap<usize, (String, Series)>, Series);

impl Steps {
    fn add(&mut self, status: &serde_json::Value, wall: f64) {
        for (at, step) in status["boot"].as_array().unwrap().iter().enumerate() {
            let name = step["state"].as_str().unwrap().to_owned();
            let entry = self
                .0
                .entry(at)
                .or_insert_with(|| (name, Series::default()));
            entry.1.0.push(step["took_ms"].as_f64().unwrap());
        }
        self.1
            .0
            .push(wall - status["boot_total_ms"].as_f64().unwrap());
    }

    /// The steps that took anything, and what is outside of them.
    fn shown(&self) -> String {
        let steps = self.0.values().filter(|(_, took)| took.median() >= 1.0);
        let mut words: Vec<String> = steps
            .map(|(name, took)| format!("{name} {:.0}", took.median()))
            .collect();
        words.push(format!(
            "accepting was seen {:.0} after the steps' sum",
            self.1.median()
        ));
        words.join(", ")
    }
}

/// Wall time decides; the fastest and the CPU time say how much of it was other load.
fn compare(report: &mut Report, what: &str, ours: &Starts, bare: &Starts, factor: f64, plus: f64) {
    let (a, b) = (ours.wall.median(), bare.wall.median());
    let aim = if plus > 0.0 {
        format!("≤ {factor} × + {plus:.0} ms")
    } else {
        format!("≤ {factor} ×")
    };
    let ms = |series: &Series| format!("{} ms", series.shown());
    report.row(
        what,
        &ms(&ours.wall),
        &ms(&bare.wall),
        &format!("{:.2}", a / b),
        &aim,
        Some(a <= b * factor + plus),
    );
    let (a, b) = (ours.wall.min(), bare.wall.min());
    report.row(
        "… the fastest of each",
        &format!("{a:.0} ms"),
        &format!("{b:.0} ms"),
        &format!("{:.2}", a / b),
        "",
        None,
    );
    let (a, b) = (&ours.cpu, &bare.cpu);
    report.row(
        "… CPU time",
        &ms(a),
        &ms(b),
        &format!("{:.2}", a.median() / b.median()),
        "",
        None,
    );
}

fn first_start_of_a_master(lab: &Lab, report: &mut Report, settings: &Settings, runs: usize) {
    let (mut ours, mut bare, mut loose, mut steps) = (
        Starts::default(),
        Starts::default(),
        Starts::default(),
        Steps::default(),
    );
    let init = |more: &str| {
        format!(
            "printf 'bench\\n' >/tmp/pw; initdb -D $D -k -E UTF8 -A scram-sha-256 --no-instructions --pwfile=/tmp/pw -U postgres {more} >/dev/null\n\
             echo \"include_if_exists = '/run/pgnode/postgresql.conf'\" >>$D/postgresql.conf"
        )
    };
    for round in 0..runs {
        // Whoever comes first finds the machine in another state: the order changes.
        for turn in 0..3 {
            settle();
            let volume = lab.volume();
            match (round + turn) % 3 {
                0 => {
                    let node = master(lab, NODE, &volume, &[]);
                    let start = node.start_to_accepting();
                    ours.add(start);
                    steps.add(&node.await_open(), start.wall);
                }
                1 => bare.add(settings.bare(lab, &volume, &init("")).start_to_accepting()),
                _ => loose.add(
                    settings
                        .bare(lab, &volume, &init("--no-sync"))
                        .start_to_accepting(),
                ),
            }
        }
    }
    compare(
        report,
        "first start of a master; bare: `initdb` + `postgres`",
        &ours,
        &bare,
        1.25,
        0.0,
    );
    compare(
        report,
        "the same; bare without any sync (`initdb --no-sync`)",
        &ours,
        &loose,
        1.25,
        0.0,
    );
    report.note(&format!(
        "A master's first start by steps (ms): {}.",
        steps.shown()
    ));
}

fn first_start_of_a_slave(lab: &Lab, report: &mut Report, settings: &Settings, runs: usize) {
    let primary_volume = lab.volume();
    let primary = master(
        lab,
        UPSTREAM,
        &primary_volume,
        &["--network-alias", "pg1", "-e", "BARMAN_MODE=off"],
    );
    primary.start_to_accepting();
    primary.await_open();
    let (mut ours, mut bare, mut steps) = (Starts::default(), Starts::default(), Steps::default());
    let flags = [
        "-e",
        "REPMGR_MASTER=false",
        "-e",
        "REPMGR_PRIMARY_HOST=pg1",
        "-e",
        "REPMGR_NODE_NAME=pg2",
        "-e",
        "REPMGR_NODE_NETWORK_NAME=pg2",
        "--hostname",
        "pg2",
    ];
    let script = "pg_basebackup -d 'host=pg1 user=repmgr_streaming' -D $D -c fast -X stream -R";
    for round in 0..runs {
        for turn in 0..2 {
            settle();
            let volume = lab.volume();
            if (round + turn) % 2 == 0 {
                let node = lab.create(NODE, &volume, &[&COMMON[..], &flags[..]].concat(), &[]);
                let start = node.start_to_accepting();
                ours.add(start);
                steps.add(&node.await_open(), start.wall);
            } else {
                bare.add(settings.bare(lab, &volume, script).start_to_accepting());
            }
        }
    }
    compare(
        report,
        "first start of a slave; bare: `pg_basebackup -R` + `postgres`",
        &ours,
        &bare,
        1.3,
        0.0,
    );
    report.note(&format!(
        "A slave's first start by steps (ms): {}.",
        steps.shown()
    ));
}

/// Both containers own the same volume in turn, so both start and stop the same data.
fn restart_and_stop(lab: &Lab, report: &mut Report, settings: &Settings, runs: usize) {
    let volume = lab.volume();
    let node = master(lab, NODE, &volume, &[]);
    node.start_to_accepting();
    // The first backup would go on in the restarted node and is not what is measured.
    node.await_status("the first backup", |s| {
        s["backup"]["count"].as_u64() > Some(0)
    });
    node.stop();
    let bare = settings.bare(lab, &volume, "");
    let mut starts = [Starts::default(), Starts::default()];
    let mut stops = [Series::default(), Series::default()];
    let mut steps = Steps::default();
    for round in 0..runs + 1 {
        for turn in 0..2 {
            let side = (round + turn) % 2;
            settle();
            let started = if side == 0 {
                node.start_to_accepting()
            } else {
                bare.start_to_accepting()
            };
            let status = (side == 0).then(|| {
                node.await_status("open with its daemons", |s| {
                    s["state"] == "open" && s["children"].as_array().is_some_and(|c| c.len() == 3)
                })
            });
            // Idle: what a start leaves behind has ended.
            std::thread::sleep(Duration::from_secs(3));
            settle();
            let stopped = if side == 0 { node.stop() } else { bare.stop() };
            // The first round warms both up.
            if round > 0 {
                starts[side].add(started);
                stops[side].0.push(stopped);
                if let Some(status) = status {
                    steps.add(&status, started.wall);
                }
            }
        }
    }
    let clean = docker(&["inspect", "-f", "{{.State.ExitCode}}", &node.name]);
    assert_eq!(clean, "0", "the last stop was clean");
    compare(
        report,
        "restart of a stopped master; bare: `postgres` on the same volume",
        &starts[0],
        &starts[1],
        1.2,
        100.0,
    );
    report.row(
        "`docker stop` of an idle master",
        &format!("{} ms", stops[0].shown()),
        &format!("{} ms", stops[1].shown()),
        &format!("{:.2}", stops[0].median() / stops[1].median()),
        "≤ 1000 ms",
        Some(stops[0].median() <= 1000.0),
    );
    report.note(&format!("A restart by steps (ms): {}.", steps.shown()));
}

/// A line `name: <n> kB` of a file in /proc.
fn kib(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// utime + stime of PID 1 in seconds.
fn cpu(node: &Container) -> f64 {
    let stat = node.exec("cat /proc/1/stat; getconf CLK_TCK");
    let words: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let number = |at: usize| words[at].parse::<f64>().unwrap();
    (number(11) + number(12)) / number(words.len() - 1)
}

fn pid_1(lab: &Lab, report: &mut Report) {
    let volume = lab.volume();
    let node = master(lab, NODE, &volume, &[]);
    node.start_to_accepting();
    node.await_open();
    // Idle as a node is: crond, barman and repmgrd at work, the health check every 5 s.
    std::thread::sleep(Duration::from_secs(60));
    let (began, before) = (Instant::now(), cpu(&node));
    std::thread::sleep(Duration::from_secs(120));
    let (used, window) = (cpu(&node) - before, began.elapsed().as_secs_f64());
    let text = node.exec("cat /proc/1/status /proc/1/smaps_rollup");
    let size = node
        .exec("stat -c %s /usr/local/bin/pgnode")
        .parse::<f64>()
        .unwrap()
        / 1024.0
        / 1024.0;
    let (rss, percent) = (kib(&text, "VmRSS:") / 1024.0, used / window * 100.0);
    report.row(
        "PID 1, RSS",
        &format!("{rss:.1} MiB"),
        "",
        "",
        "≤ 10 MiB",
        Some(rss <= 10.0),
    );
    report.row(
        "PID 1, idle CPU of one core",
        &format!("{percent:.3} %"),
        "",
        "",
        "≤ 0.1 %",
        Some(percent <= 0.1),
    );
    report.row(
        "binary, stripped",
        &format!("{size:.1} MiB"),
        "",
        "",
        "≤ 12 MiB",
        Some(size <= 12.0),
    );
    report.note(&format!(
        "PID 1 after 180 s open: VmRSS {:.0} KiB, of which {:.0} KiB anonymous and {:.0} KiB pages of the binary and libc; highest ever {:.0} KiB, Pss {:.0} KiB. \
         {used:.2} s of CPU in {window:.0} s with crond, barman's receive-wal and cron, repmgrd and the 5 s health check at work.",
        kib(&text, "VmRSS:"), kib(&text, "RssAnon:"), kib(&text, "RssFile:"), kib(&text, "VmHWM:"), kib(&text, "Pss:"),
    ));
}

/// Parents that end without waiting for their children, so that all of those become PID 1's.
const THROWER: &str = "for my $p (1..500) { my $a = fork; if (!$a) { for (1..200) { my $b = fork; defined $b or die; exit 0 if !$b } exit 0 } waitpid($a, 0); $? and die }";

fn orphans(lab: &Lab, report: &mut Report) {
    const THROWN: u64 = 100_000;
    let volume = lab.volume();
    let node = master(lab, NODE, &volume, &[]);
    node.start_to_accepting();
    let first = node.await_status("repmgrd", |s| repmgrd(s).is_some());
    let reaped = |s: &serde_json::Value| s["orphans_reaped"].as_u64().unwrap();
    let (before, spent) = (reaped(&first), cpu(&node));
    let began = Instant::now();
    let mut thrower = std::process::Command::new("docker")
        .args(["exec", &node.name, "perl", "-e", THROWER])
        .spawn()
        .unwrap();
    // While they fall, our own child is killed again and again: each end must be heard of.
    let mut kills = 0;
    let (mut pid, _) = repmgrd(&first).unwrap();
    while thrower.try_wait().unwrap().is_none() {
        if let Some((now, _)) = node.status().as_ref().and_then(repmgrd)
            && (kills == 0 || now != pid)
        {
            pid = now;
            node.exec(&format!("kill -9 {pid}"));
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(thrower.wait().unwrap().success(), "the thrower");
    let thrown_in = began.elapsed().as_secs_f64();
    let last = node.await_status("all reaped", |s| reaped(s) - before >= THROWN);
    let took = began.elapsed().as_secs_f64();
    let used = cpu(&node) - spent;
    let last_kill = node.await_status("repmgrd again", |s| {
        repmgrd(s).is_some_and(|(now, restarts)| now != pid && restarts == kills)
    });
    let end = node.await_status("the first backup", |s| {
        s["backup"]["count"].as_u64() > Some(0)
    });
    let zombies = eventually("no zombies", Duration::from_millis(500), || {
        (node.exec("cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || :") == "0").then_some(0)
    });
    let health = docker(&["inspect", "-f", "{{.State.Health.Status}}", &node.name]);
    let others = reaped(&last) - before - THROWN;
    let whole = last_kill["restarts"] == 0 && end["state"] == "open";
    report.row(
        "100,000 orphans thrown at PID 1",
        &format!("{} reaped", reaped(&last) - before),
        "",
        "",
        "all, no status lost",
        Some(zombies == 0 && whole && health == "healthy"),
    );
    report.note(&format!(
        "Orphans: {THROWN} thrown in {thrown_in:.1} s and reaped after {took:.1} s ({:.0} per second, limited by fork; {:.0} µs of PID 1's CPU each), \
         {others} more came from the container's own daemons; {zombies} zombies left. Meanwhile repmgrd was killed {kills} times and each end was heard of ({kills} restarts), \
         barman's first backup (cron, archive-wal, backup, each a child of PID 1 whose exit status counts) ended well, postgres was never restarted, docker's health check says {health}.",
        THROWN as f64 / took, used / THROWN as f64 * 1e6,
    ));
}

/// Its pid and restarts, while it runs.
fn repmgrd(status: &serde_json::Value) -> Option<(u64, u64)> {
    let child = status["children"]
        .as_array()?
        .iter()
        .find(|c| c["name"] == "repmgrd")?;
    Some((child["pid"].as_u64()?, child["restarts"].as_u64()?))
}

/// A name and what it measures.
type Part<'a> = (&'a str, &'a dyn Fn(&mut Report));

fn main() {
    // `cargo test --all-targets` runs this as well.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let var = |name: &str| std::env::var(name).ok();
    let runs = var("PGNODE_BENCH_RUNS").map_or(5, |n| n.parse().unwrap());
    let only = var("PGNODE_BENCH");
    let lab = Lab::new(var("PGNODE_IMAGE").unwrap_or_else(|| "pgnode:local".into()));
    report::machine();
    // Also warms the page cache: the first container of an image reads it from disk.
    let settings = {
        let volume = lab.volume();
        let node = master(&lab, NODE, &volume, &[]);
        node.start_to_accepting();
        node.await_open();
        Settings::of(&node)
    };
    let parts: [Part<'_>; 5] = [
        ("master", &|r| {
            first_start_of_a_master(&lab, r, &settings, runs)
        }),
        ("slave", &|r| {
            first_start_of_a_slave(&lab, r, &settings, runs)
        }),
        ("restart", &|r| restart_and_stop(&lab, r, &settings, runs)),
        ("pid1", &|r| pid_1(&lab, r)),
        ("orphans", &|r| orphans(&lab, r)),
    ];
    for (part, measure) in parts {
        if only
            .as_ref()
            .is_none_or(|o| o.split(',').any(|p| p == part))
        {
            let mut report = Report::new(part, runs);
            measure(&mut report);
            report.write(part);
        }
    }
}
