//! WAL: archived by PostgreSQL's own archiver, fetched as recovery would.

use crate::place::{PLAIN, Place, TLS, Took};
use crate::report::{Report, Series};
use pgnode::barman::codec;
use pgnode::config::{Codec, Format};
use std::collections::BTreeMap;

/// Who archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Ours,
    /// Ours by TLS: pgBackRest knows nothing else.
    OursTls,
    Barman,
    /// Two `barman-cloud-wal-archive` at once, which the archiver cannot do.
    BarmanTwice,
    PgBackRest,
}

use Who::{Barman, BarmanTwice, Ours, OursTls, PgBackRest};

const CODECS: [Format; 3] = [Format::Zstd, Format::Lz4, Format::None];

/// Rounds of one side: segments a second, CPU seconds a segment.
#[derive(Debug, Default)]
struct Side {
    rate: Series,
    cpu: Series,
    /// Of our worker alone, CPU seconds a segment and most memory in MiB.
    worker: Series,
    memory: Series,
}

impl Side {
    fn add(&mut self, took: Took, segments: usize) {
        let segments = segments as f64;
        self.rate.0.push(segments / took.seconds);
        self.cpu.0.push(took.cpu / segments);
    }
}

type Sides = BTreeMap<(Who, Format), Side>;

fn name(who: Who, format: Format, round: usize) -> String {
    format!("{who:?}-{format:?}-{round}").to_lowercase()
}

/// barman-cloud is slow: a part of the segments says as much.
fn share(who: Who, segments: usize) -> usize {
    match who {
        Barman | BarmanTwice => (segments / 4).max(4),
        _ => segments,
    }
}

/// The levels of both sides: zstd's is pgBackRest's own, lz4 has one here.
fn ours_codec(format: Format) -> Codec {
    Codec {
        format,
        level: (format == Format::Zstd).then_some(3),
    }
}

/// CPU seconds that packing takes a segment: our library, from memory to memory. Two at once, as the worker packs them: what
/// the other core does shows in the CPU time of both.
fn alone(segments: &[Vec<u8>], format: Format) -> f64 {
    let pack = |segments: &[Vec<u8>]| {
        let before = thread_cpu();
        for segment in segments {
            let mut encoder = codec::Encoder::sized(
                ours_codec(format),
                Some(segment.len() as u64),
                Vec::with_capacity(segment.len()),
            )
            .unwrap();
            std::io::Write::write_all(&mut encoder, segment).unwrap();
            assert!(!encoder.finish().unwrap().is_empty());
        }
        thread_cpu() - before
    };
    let (left, right) = segments.split_at(segments.len() / 2);
    let cpu = std::thread::scope(|scope| {
        let beside = scope.spawn(|| pack(right));
        pack(left) + beside.join().unwrap()
    });
    cpu / segments.len() as f64
}

/// proc(5), schedstat: nanoseconds on a CPU.
fn thread_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn archive(
    place: &Place,
    who: Who,
    format: Format,
    round: usize,
    segments: usize,
    side: &mut Side,
) {
    let name = name(who, format, round);
    let n = share(who, segments).to_string();
    let barman_codec = match format {
        Format::None => String::new(),
        format => format!("--{format:?}").to_lowercase(),
    };
    let barman = |path: &str| {
        format!(
            "barman-cloud-wal-archive --endpoint-url {PLAIN} {barman_codec} s3://bench/barman {name} {path}"
        )
    };
    let took = match who {
        Ours | OursTls => {
            let endpoint = if who == Ours { PLAIN } else { TLS };
            place.ours(&name, endpoint, format, ours_codec(format).level);
            let command = format!("pgnode wal-push --run-dir /tmp/ours/{name} %p");
            let took = place.measure(&["archive", &n, &command]);
            let (cpu, bytes) = place.worker(&name);
            place.lab(&["end", &name]);
            side.worker.0.push(cpu / share(who, segments) as f64);
            side.memory.0.push(bytes / f64::from(1 << 20));
            took
        }
        Barman => place.measure(&["archive", &n, &barman("%p")]),
        BarmanTwice => place.measure(&["parallel", &n, "2", &barman("pg_wal/{}")]),
        PgBackRest => {
            let (codec, level) = match format {
                Format::Zstd => ("zst", "3"),
                Format::Lz4 => ("lz4", "1"),
                _ => ("none", "1"),
            };
            place.lab(&["pgbackrest", &name, codec, level]);
            let conf = format!("/tmp/pgbackrest/{name}.conf");
            place.measure(&[
                "archive",
                &n,
                &format!("pgbackrest --config={conf} --stanza=main archive-push %p"),
            ])
        }
    };
    println!("  archived: {took:?}");
    side.add(took, share(who, segments));
}

fn fetch(place: &Place, who: Who, format: Format, round: usize, segments: usize, side: &mut Side) {
    let name = name(who, format, round);
    let n = share(who, segments);
    let command = match who {
        Ours | OursTls => {
            let endpoint = if who == Ours { PLAIN } else { TLS };
            place.ours(&name, endpoint, format, None);
            format!("pgnode wal-fetch --run-dir /tmp/ours/{name} %f %p")
        }
        Barman | BarmanTwice => {
            format!(
                "barman-cloud-wal-restore --endpoint-url {PLAIN} s3://bench/barman {name} %f %p"
            )
        }
        PgBackRest => format!(
            "pgbackrest --config=/tmp/pgbackrest/{name}.conf --stanza=main archive-get %f %p"
        ),
    };
    let took = place.measure(&["fetch", &n.to_string(), &command]);
    if matches!(who, Ours | OursTls) {
        place.lab(&["end", &name]);
    }
    println!("  fetched: {took:?}");
    side.add(took, n);
}

/// Each codec of each side once a round, in changing order; what a round archived is fetched in it.
pub(crate) fn measure(place: &Place, report: &mut Report, runs: usize, segments: usize) {
    place.lab(&["fill", &segments.to_string()]);
    let only = std::env::var("S3_BENCH_ONLY").unwrap_or_default();
    let wanted = |who: Who, format: Format| {
        only.is_empty()
            || only
                .split(',')
                .any(|word| name(who, format, 0).contains(word))
    };
    let mut sides: Vec<(Who, Format)> = Vec::new();
    for format in CODECS {
        let all = [Ours, OursTls, Barman, BarmanTwice, PgBackRest];
        sides.extend(
            all.map(|who| (who, format))
                .iter()
                .filter(|(w, f)| wanted(*w, *f)),
        );
    }
    let (mut archived, mut fetched) = (Sides::new(), Sides::new());
    let names = place.lab(&["segments", &segments.to_string()]);
    let samples: Vec<Vec<u8>> = names.lines().map(|n| place.segment(n)).collect();
    let mut codecs: BTreeMap<Format, Series> = BTreeMap::new();
    let mut bare = Side::default();
    for round in 0..runs {
        sides.rotate_left(round % 5);
        for format in CODECS {
            codecs
                .entry(format)
                .or_default()
                .0
                .push(alone(&samples, format));
        }
        bare.add(place.measure(&["put", &segments.to_string()]), segments);
        for (who, format) in &sides {
            println!("{}", name(*who, *format, round));
            archive(
                place,
                *who,
                *format,
                round,
                segments,
                archived.entry((*who, *format)).or_default(),
            );
            if *who != BarmanTwice {
                fetch(
                    place,
                    *who,
                    *format,
                    round,
                    segments,
                    fetched.entry((*who, *format)).or_default(),
                );
            }
        }
    }
    for format in CODECS {
        compare(
            report,
            "archiving",
            &archived,
            Ours,
            Barman,
            format,
            archive_aim(format),
        );
        compare(
            report,
            "archiving",
            &archived,
            Ours,
            BarmanTwice,
            format,
            None,
        );
        compare(
            report,
            "archiving",
            &archived,
            OursTls,
            PgBackRest,
            format,
            Some(1.1),
        );
        compare(
            report,
            "restore",
            &fetched,
            Ours,
            Barman,
            format,
            Some(12.0),
        );
        compare(
            report,
            "restore",
            &fetched,
            OursTls,
            PgBackRest,
            format,
            Some(1.0),
        );
        weigh(report, &archived, format, &codecs[&format]);
    }
    if let Some(ours) = archived.get(&(Ours, Format::None)) {
        report.row(
            "archiving, none; curl over one connection, without postgres",
            &format!("{}/s", ours.rate.shown_to(1)),
            &format!("{}/s", bare.rate.shown_to(1)),
            &format!("{:.1}", ours.rate.median() / bare.rate.median()),
            "",
            None,
        );
        report.row(
            "… CPU of the clients, a segment",
            &format!("{} s", ours.cpu.shown_to(3)),
            &format!("{} s", bare.cpu.shown_to(3)),
            &format!("{:.2}", ours.cpu.median() / bare.cpu.median()),
            "",
            None,
        );
    }
}

/// What a segment costs beside the codec: of everything in the clients' container, postgres' archiver and the shell that
/// it starts for each segment included; and of our worker alone, whose memory stands here too.
fn weigh(report: &mut Report, sides: &Sides, format: Format, codec: &Series) {
    let Some(ours) = sides.get(&(Ours, format)) else {
        return;
    };
    let name = format!("{format:?}").to_lowercase();
    for (what, cpu) in [("all of it", &ours.cpu), ("our worker", &ours.worker)] {
        let more = cpu.median() - codec.median();
        report.row(
            &format!("CPU a segment, {name}, {what}; the codec alone"),
            &format!("{} s", cpu.shown_to(3)),
            &format!("{} s", codec.shown_to(3)),
            &format!("+ {more:.3} s"),
            "≤ + 0.025 s",
            Some(more <= 0.025),
        );
    }
    let most = ours.memory.0.iter().copied().fold(0.0, f64::max);
    report.row(
        &format!("most resident memory of the worker, {name}, 4 in flight"),
        &format!("{} MiB", ours.memory.shown_to(1)),
        "",
        "",
        "≤ 64 MiB",
        Some(most <= 64.0),
    );
}

fn archive_aim(format: Format) -> Option<f64> {
    match format {
        Format::Zstd => Some(8.0),
        Format::Lz4 => Some(10.0),
        _ => None,
    }
}

fn compare(
    report: &mut Report,
    what: &str,
    sides: &Sides,
    who: Who,
    other: Who,
    format: Format,
    aim: Option<f64>,
) {
    let (Some(ours), Some(theirs)) = (sides.get(&(who, format)), sides.get(&(other, format)))
    else {
        return;
    };
    let ratio = ours.rate.median() / theirs.rate.median();
    let format = format!("{format:?}").to_lowercase();
    let other = match other {
        Barman => "barman-cloud",
        BarmanTwice => "barman-cloud, two at once",
        _ => "pgBackRest, by TLS",
    };
    report.row(
        &format!("{what}, {format}; {other}"),
        &format!("{}/s", ours.rate.shown_to(1)),
        &format!("{}/s", theirs.rate.shown_to(1)),
        &format!("{ratio:.1}"),
        &aim.map_or(String::new(), |aim| format!("≥ {aim} ×")),
        aim.map(|aim| ratio >= aim),
    );
    report.row(
        "… CPU of the clients, a segment",
        &format!("{} s", ours.cpu.shown_to(3)),
        &format!("{} s", theirs.cpu.shown_to(3)),
        &format!("{:.2}", ours.cpu.median() / theirs.cpu.median()),
        "",
        None,
    );
}
