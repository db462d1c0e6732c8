//! The catalogue's benchmark: made-up catalogues of growing size, and what looking at them costs in time
//! and memory. `make bench-catalogue`; no docker. benches/README.md has the figures.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program of its own; a failed step ends it"
)]

#[path = "catalogue/bucket.rs"]
mod bucket;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Backups and WAL files.
const SIZES: [(u64, u64); 3] = [(10, 10_000), (100, 100_000), (1000, 1_000_000)];
const RUNS: usize = 5;
const SEGMENT: u64 = 16 << 20;
const PER_DIR: u64 = 0x1_0000_0000 / SEGMENT;

fn main() {
    // Called by ourselves, so that each look has a process, and so a peak of memory, of its own.
    let args: Vec<String> = std::env::args().collect();
    if let [_, what, of, ..] = args.as_slice() {
        match what.as_str() {
            "serve-bucket" => return bucket::serve(),
            "look-bucket" => {
                let (objects, address) = of.split_once('@').unwrap();
                bucket::look(objects.parse().unwrap(), address);
                return println!("{}", peak_kib());
            }
            look if look.starts_with("look-") => return look_at(look, Path::new(of)),
            _ => {}
        }
    }
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("catalogue");
    let mut table = String::from(
        "| backups | WAL files | `backup list` | its peak memory | ranges and gaps (`verify`) | peak memory |\n\
         |---|---|---|---|---|---|\n",
    );
    for (backups, files) in SIZES {
        drop(std::fs::remove_dir_all(&home));
        make(&home, backups, files);
        let list = measure("look-list", &home);
        let ranges = measure("look-ranges", &home);
        writeln!(
            table,
            "| {backups} | {files} | {} | {} | {} | {} |",
            list.0, list.1, ranges.0, ranges.1
        )
        .unwrap();
        println!("{}", table.lines().last().unwrap());
    }
    std::fs::remove_dir_all(&home).unwrap();
    table.push_str(
        "\n| WAL objects in a bucket | pages | `s3 verify` | its peak memory |\n|---|---|---|---|\n",
    );
    let served = bucket::Bucket::start();
    for (_, objects) in SIZES {
        let of = format!("{objects}@{}", served.address);
        let (time, peak) = measure("look-bucket", Path::new(&of));
        writeln!(
            table,
            "| {objects} | {} | {time} | {peak} |",
            objects / bucket::PAGE
        )
        .unwrap();
        println!("{}", table.lines().last().unwrap());
    }
    write(&table);
}

/// One look in this process: what the verbs do, without their printing.
fn look_at(look: &str, dir: &Path) {
    let server = pgnode::barman::Server::at(dir.to_owned());
    let backups = server.backups().unwrap();
    if look == "look-list" {
        for b in &backups {
            let (first, last) = (b.begin_wal.unwrap(), b.end_wal.unwrap());
            let found = server.archived_between(first, last).unwrap();
            assert_eq!(Some(found), b.segments_needed());
        }
    } else {
        let archive = server
            .archive(pgnode::barman::Server::segment_size(&backups))
            .unwrap();
        assert_eq!((archive.ranges.len(), archive.gaps().count()), (3, 2));
    }
    println!("{}", peak_kib());
}

/// `VmHWM` of this process.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Median and range of the wall time, and the greatest peak.
fn measure(look: &str, home: &Path) -> (String, String) {
    let mut millis = Vec::new();
    let mut peak = 0;
    for _ in 0..RUNS {
        let began = Instant::now();
        let out = Command::new(std::env::current_exe().unwrap())
            .arg(look)
            .arg(home)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        millis.push(began.elapsed().as_millis());
        assert!(out.status.success(), "{look}");
        let said = String::from_utf8(out.stdout).unwrap();
        peak = peak.max(said.trim().parse::<u64>().unwrap());
    }
    millis.sort_unstable();
    let time = format!(
        "{} ({} to {}) ms",
        millis[RUNS / 2],
        millis[0],
        millis[RUNS - 1]
    );
    (
        time,
        format!("{}.{} MiB", peak / 1024, peak % 1024 * 10 / 1024),
    )
}

/// Backups at equal distances along WAL with two gaps. Hard links of one small file, a fresh one where a
/// file system allows no more links.
fn make(home: &Path, backups: u64, files: u64) {
    let wals = home.join("wals");
    std::fs::create_dir_all(home.join("meta")).unwrap();
    let (mut dir, mut number, mut original) = (PathBuf::new(), 0, None::<PathBuf>);
    for n in 0..files {
        // A gap after a third and after two thirds.
        if n == files / 3 || n == files * 2 / 3 {
            number += 1;
        }
        let (log, segment) = (number / PER_DIR, number % PER_DIR);
        if segment == 0 || n == 0 || !dir.ends_with(format!("00000001{log:08X}")) {
            dir = wals.join(format!("00000001{log:08X}"));
            std::fs::create_dir_all(&dir).unwrap();
        }
        let path = dir.join(format!("00000001{log:08X}{segment:08X}"));
        let linked = original
            .as_ref()
            .is_some_and(|o| std::fs::hard_link(o, &path).is_ok());
        if !linked {
            std::fs::write(&path, "made up").unwrap();
            original = Some(path);
        }
        number += 1;
    }
    for n in 0..backups {
        // Clear of the gaps.
        let first = n * (files / backups) + 3;
        let first = first + u64::from(first > files / 3) + u64::from(first > files * 2 / 3);
        std::fs::write(
            home.join(format!("meta/{}-backup.info", id(n))),
            info(first, first + 2),
        )
        .unwrap();
    }
}

fn id(n: u64) -> String {
    let (day, hour) = (n / 24, n % 24);
    format!("2026{:02}{:02}T{hour:02}0000", 1 + day / 28, 1 + day % 28)
}

/// As long as barman's own (`src/barman/catalogue/samples/full.info`).
fn info(first: u64, last: u64) -> String {
    let name = |n: u64| format!("00000001{:08X}{:08X}", n / PER_DIR, n % PER_DIR);
    let lsn = |n: u64| {
        format!(
            "{:X}/{:X}",
            (n * SEGMENT) >> 32,
            (n * SEGMENT) & 0xFFFF_FFFF
        )
    };
    let real = include_str!("../src/barman/catalogue/samples/full.info");
    let mut text: String = real
        .lines()
        .filter(|l| {
            !["begin_", "end_wal", "end_xlog", "children"]
                .iter()
                .any(|k| l.starts_with(k))
        })
        .fold(String::new(), |all, l| all + l + "\n");
    write!(
        text,
        "begin_time=2026-11-21 19:58:10.086556+00:00\nbegin_wal={}\nbegin_xlog={}\nend_wal={}\nend_xlog={}\n",
        name(first),
        lsn(first),
        name(last),
        lsn(last + 1)
    )
    .unwrap();
    text
}

/// Between the markers of benches/README.md.
fn write(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        "<!-- catalogue: written by make bench-catalogue -->\n",
        "<!-- end of catalogue -->",
    );
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let new = format!("{head}{begin}\n{table}\n{end}{tail}");
    std::fs::write(path, new).unwrap();
}
