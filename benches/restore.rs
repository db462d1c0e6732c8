//! Restore of a database of gigabytes, end to end until 5432 accepts, against a bare copy of the same
//! bytes and a bare recovery, in turn within one run: `make bench-restore` (`RESTORE_SCALE`,
//! `RESTORE_RUNS`).

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

use lab::{Container, Lab, Volume, docker, run};
use report::{Report, Series, Starts};

/// Host bytes of the addresses.
const SOURCE: u8 = 10;
const NODE: u8 = 11;
const BARE: u8 = 12;

/// A scale of pgbench is about 15 MB.
const SCALE: u32 = 135;
/// Transactions after the backup: what recovery has to replay.
const TRANSACTIONS: u32 = 20_000;

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A primary with barman in it, filled, backed up, written to, and stopped.
fn source(lab: &Lab, volume: &Volume, backups: &str, scale: u32) -> Facts {
    let mount = format!("{backups}:/home/barman/data");
    let options = [
        "--hostname",
        "pg1",
        "-v",
        &mount,
        "-e",
        "REPMGR_NODE_NAME=pg1",
        "-e",
        "BARMAN_SERVER_NAME=main",
        "-e",
        "POSTGRES_PASSWORD=bench",
        "-e",
        "REPMGR_PASSWORD=bench",
    ];
    let node = lab.create(SOURCE, volume, &options, &["run", "-c", "max_wal_size=8GB"]);
    node.start_to_accepting();
    node.await_open();
    node.await_status("the first backup", |s| {
        s["backup"]["count"].as_u64() > Some(0)
    });
    let psql = |sql: &str| node.exec(&format!("psql -XAtq -U postgres -c \"{sql}\""));
    node.exec(&format!(
        "pgbench -U postgres -i -q -s {scale} postgres >/dev/null 2>&1"
    ));
    node.exec("pgnode backup --wait >/dev/null");
    let id = node.exec("pgnode backup list --json | grep -oE '[0-9]{8}T[0-9]{6}' | head -n 1");
    node.exec(&format!(
        "pgbench -U postgres -n -c 4 -t {} postgres >/dev/null 2>&1",
        TRANSACTIONS / 4
    ));
    let rows = psql(ROWS);
    // Everything that was written is in the archive.
    let last = psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    psql(
        "SELECT pg_switch_wal(); SELECT pg_create_restore_point('bench'); SELECT pg_switch_wal(); SELECT pg_create_restore_point('bench')",
    );
    let dir = "/home/barman/data/main";
    node.exec(&format!(
        "for i in $(seq 120); do runuser -u barman -- barman -q archive-wal main; \
         [ -e {dir}/wals/{}/{last} ] && exit; sleep 1; done; exit 1",
        &last[..16]
    ));
    let began = std::time::Instant::now();
    node.exec("pgnode doctor >/dev/null");
    let doctor = began.elapsed();
    let drill = node.exec("pgnode drill --json 2>/dev/null");
    let drill: serde_json::Value = serde_json::from_str(&drill).unwrap();
    let drill = drill["drills"][0].clone();
    assert!(
        drill["error"].is_null() && drill["backup"].is_string(),
        "{drill}"
    );
    let bytes = node.exec(&format!("du -sb {dir}/base/{id}/data | cut -f1"));
    let segments = node.exec(&format!("find {dir}/wals -type f | wc -l"));
    // The bare server reads barman's files as postgres.
    node.exec("chmod -R a+rX /home/barman/data");
    node.stop();
    Facts {
        id,
        bytes: bytes.parse().unwrap(),
        segments: segments.parse().unwrap(),
        rows,
        doctor: doctor.as_secs_f64(),
        drill,
    }
}

struct Facts {
    id: String,
    bytes: u64,
    segments: u64,
    rows: String,
    /// Seconds, with `docker exec`.
    doctor: f64,
    drill: serde_json::Value,
}

const ROWS: &str = "SELECT count(*), max(mtime) FROM pgbench_history";

fn ours(lab: &Lab, volume: &Volume, mount: &str) -> Container {
    let options = [
        "--hostname",
        "pg4",
        "-v",
        mount,
        "-e",
        "REPMGR_NODE_NAME=pg4",
        "-e",
        "POSTGRES_PASSWORD=bench",
        "-e",
        "REPMGR_PASSWORD=bench",
        "-e",
        "BARMAN_MODE=off",
        "-e",
        "PGNODE_RESTORE=latest",
        "-e",
        "PGNODE_RESTORE_FROM=/srv/backups/main",
    ];
    lab.create(NODE, volume, &options, &[])
}

/// `cp -a`, a restore_command of gunzip, and postgres; it accepts once it is promoted.
fn bare(lab: &Lab, volume: &Volume, mount: &str, facts: &Facts, sync: bool) -> Container {
    let script = format!(
        "set -e; D=/var/lib/postgresql/data; S=/srv/backups/main\n\
         cp -a $S/base/{}/data $D; chown -R postgres: $D; chmod 700 $D; rm -f $D/postgresql.auto.conf\n\
         cat >$D/postgresql.conf <<'CONF'\n\
         restore_command = 'f=%f; s=/srv/backups/main/wals; gunzip -c $s/$(printf %%.16s $f)/$f >%p 2>/dev/null'\n\
         hot_standby = off\nlisten_addresses = '*'\nmax_wal_size = 8GB\nshared_buffers = 512MB\nmax_connections = 100\n\
         max_wal_senders = 16\nwal_log_hints = on\nrecovery_init_sync_method = syncfs\n\
         CONF\n\
         printf 'local all all trust\\nhost all all all scram-sha-256\\n' >$D/pg_hba.conf\n\
         touch $D/recovery.signal; chown postgres: $D/*\n\
         {}exec setpriv --reuid=999 --regid=999 --clear-groups postgres -D $D",
        facts.id,
        if sync { "sync -f $D; " } else { "" }
    );
    let options = [
        "--entrypoint",
        "bash",
        "--user",
        "root",
        "--no-healthcheck",
        "-v",
        mount,
    ];
    lab.create(BARE, volume, &options, &["-c", &script])
}

fn check(node: &Container, facts: &Facts) {
    let sql = format!(
        "psql -XAtq -h /run/postgresql -U postgres -c '{ROWS}' || psql -XAtq -h /tmp -U postgres -c '{ROWS}'"
    );
    assert_eq!(
        node.exec(&format!("({sql}) 2>/dev/null")),
        facts.rows,
        "the rows"
    );
}

fn main() {
    // `cargo test --all-targets` runs this as well.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let image = std::env::var("PGNODE_IMAGE").unwrap_or_else(|_| "pgnode:local".into());
    let (scale, runs) = (
        setting("RESTORE_SCALE", SCALE),
        setting("RESTORE_RUNS", 5) as usize,
    );
    let lab = Lab::new(image);
    let mut report = Report::named(&format!(
        "RESTORE_SCALE={scale} RESTORE_RUNS={runs} make bench-restore"
    ));
    report::machine();
    let (volume, backups) = (lab.volume(), lab.volume());
    let facts = source(&lab, &volume, &backups.0, scale);
    let mount = format!("{}:/srv/backups:ro", &backups.0);
    let [mut a, mut b, mut c] = [const { Vec::new() }; 3];
    for round in 0..runs {
        for turn in 0..3 {
            run("sync", &[]);
            let volume = lab.volume();
            let (node, series) = match (round + turn) % 3 {
                0 => (ours(&lab, &volume, &mount), &mut a),
                1 => (bare(&lab, &volume, &mount, &facts, true), &mut b),
                _ => (bare(&lab, &volume, &mount, &facts, false), &mut c),
            };
            series.push(node.start_to_accepting());
            check(&node, &facts);
            docker(&["kill", &node.name]);
        }
    }
    let starts = |list: Vec<lab::Start>| {
        let mut starts = Starts::default();
        list.into_iter().for_each(|s| starts.add(s));
        starts
    };
    let (a, b, c) = (starts(a), starts(b), starts(c));
    let seconds = |s: &Series| format!("{} ms", s.shown());
    for (what, bare, aim) in [
        (
            "restore until 5432 accepts; bare: `cp -a`, `sync -f`, `postgres`",
            &b,
            Some(1.3),
        ),
        ("the same; bare without the sync", &c, Some(1.3)),
    ] {
        let ratio = a.wall.median() / bare.wall.median();
        report.row(
            what,
            &seconds(&a.wall),
            &seconds(&bare.wall),
            &format!("{ratio:.2}"),
            "≤ 1.3 ×",
            aim.map(|aim| ratio <= aim),
        );
        report.row(
            "… CPU time",
            &seconds(&a.cpu),
            &seconds(&bare.cpu),
            &format!("{:.2}", a.cpu.median() / bare.cpu.median()),
            "",
            None,
        );
    }
    report.note(&format!(
        "The backup has {:.2} GB; {} segments of 16 MiB are archived, of which recovery reads those since the backup ({} transactions of \
         pgbench). Both sides read barman's directory from a volume; the rows are compared after each restore.",
        facts.bytes as f64 / 1e9,
        facts.segments,
        TRANSACTIONS
    ));
    let number = |name: &str| facts.drill[name].as_f64().unwrap_or_default();
    report.note(&format!(
        "On the source, once: `pgnode doctor` {:.1} s; `pgnode drill` {:.1} s, of which {:.1} s until the copy was up and recovered (the rest: \
         every file against the manifest, every page's checksum), {:.0} MiB at the peak in its largest process.",
        facts.doctor,
        number("took_ms") / 1e3,
        number("restore_ms") / 1e3,
        number("peak_memory") / f64::from(1 << 20),
    ));
    report.write("restore");
}
