//! WAL into a bucket and back, and directories into it, beside barman-cloud, pgBackRest, rclone and the AWS command line: at the same
//! server, in turn within one run. `make bench-s3` (`S3_BENCH=wal,sync`, `S3_BENCH_RUNS`, `S3_BENCH_SEGMENTS`,
//! `S3_BENCH_ONLY=zstd,pgbackrest`: sides by a part of their name).

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
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
#[path = "s3/place.rs"]
mod place;
#[path = "node/report.rs"]
mod report;
#[path = "s3/sync.rs"]
mod sync;
#[path = "s3/wal.rs"]
mod wal;

use lab::Lab;
use place::Place;
use report::Report;

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn main() {
    // `cargo test --all-targets` runs this as well.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let parts = std::env::var("S3_BENCH").unwrap_or_else(|_| "wal,sync".into());
    let runs = setting("S3_BENCH_RUNS", 3);
    let segments = setting("S3_BENCH_SEGMENTS", 32);
    let command =
        format!("S3_BENCH={parts} S3_BENCH_RUNS={runs} S3_BENCH_SEGMENTS={segments} make bench-s3");
    let lab = Lab::new("pgnode-bench-s3".into());
    let place = Place::new(&lab);
    report::machine();
    for part in parts.split(',') {
        let mut report = Report::named(&command).against("other");
        match part {
            "wal" => wal::measure(&place, &mut report, runs, segments),
            "sync" => sync::measure(&place, &mut report, runs),
            other => panic!("no part {other}: wal, sync"),
        }
        report.write(&format!("s3-{part}"));
    }
}
