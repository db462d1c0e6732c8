//! The failover benchmark: how long no node takes writes after a fault, seen by the chaos test's prober,
//! with pgnode and with Patroni in the same call. `make bench-failover`; benches/README.md has the settings.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program of its own that drives docker; a failed step ends it"
)]

#[path = "../tests/chaos/rig/mod.rs"]
mod rig;

use rig::cluster::{Cluster, Setup, image, settings};
use rig::docker::eventually;
use rig::faults::{Way, What};
use rig::history::{self, Ack, Key, Write};
use rig::patroni::Timing;
use rig::prober::Prober;
use rig::report::{median_worst, seconds};
use rig::sql::ask;
use rig::writers::Writers;
use rig::{Clock, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Nothing that anybody waits for takes longer; a system that has not failed over by then does not.
const LONGEST: Duration = Duration::from_secs(180);

/// The rows of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Postmaster,
    Container,
    Rejoin,
    Cut,
    Freeze,
    Switchover,
}

impl Row {
    /// `Rejoin` is measured by `Container`'s runs.
    const MEASURED: [Self; 5] = [
        Self::Postmaster,
        Self::Container,
        Self::Cut,
        Self::Freeze,
        Self::Switchover,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Container => "container",
            Self::Rejoin => "rejoin",
            Self::Cut => "cut",
            Self::Freeze => "freeze",
            Self::Switchover => "switchover",
        }
    }

    fn title(self, freeze: Duration) -> String {
        match self {
            Self::Postmaster => "postmaster killed".into(),
            Self::Container => "container killed".into(),
            Self::Rejoin => "… the old primary, started again, streams from the new one".into(),
            Self::Cut => "primary cut off from the other nodes".into(),
            Self::Freeze => format!("primary frozen for {} s", freeze.as_secs()),
            Self::Switchover => "switchover under load".into(),
        }
    }

    fn what(self) -> What {
        match self {
            Self::Postmaster => What::Postmaster,
            Self::Container | Self::Rejoin => What::Container,
            Self::Cut => What::Cut(Way::Both),
            Self::Freeze => What::Freeze,
            Self::Switchover => What::Switchover,
        }
    }
}

/// Everything measured of one system.
#[derive(Debug, Default)]
struct Figures {
    outages: BTreeMap<Row, Vec<Duration>>,
    notes: BTreeMap<Row, Notes>,
    lost: BTreeMap<Row, usize>,
}

/// What else a row shows.
#[derive(Clone, Debug, Default)]
struct Notes {
    /// Acknowledged writes that prove two primaries.
    doubles: usize,
    /// Runs in which the old primary's last answer came before the new one's first.
    in_order: usize,
    runs: usize,
    /// Answers of the old primary after waking, and how long after it the last one came.
    stale: Vec<(usize, Duration)>,
    /// Runs in which nobody took over.
    stayed: usize,
}

/// Starts a system; `None` where the image does not know it.
type Make<'a> = &'a dyn Fn() -> Outcome<Option<Cluster>>;

struct Bench {
    /// Of the first system, and of each of the others.
    runs: [usize; 2],
    freeze: Duration,
    only: Option<String>,
    systems: Option<String>,
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
    })
}

fn times(name: &str, default: usize) -> usize {
    usize::try_from(number(name, u64::try_from(default).unwrap())).unwrap()
}

fn main() {
    let runs = times("FAILOVER_RUNS", 10);
    let bench = Bench {
        runs: [runs, times("FAILOVER_OTHERS", runs)],
        freeze: Duration::from_secs(number("FAILOVER_FREEZE", 60)),
        only: var("FAILOVER_ONLY"),
        systems: var("FAILOVER_SYSTEMS"),
    };
    let mut all: Vec<(&str, Figures)> = Vec::new();
    let patroni = || var("PATRONI_IMAGE").unwrap_or_else(|| "pgnode-patroni".into());
    let systems: [(&str, Make<'_>); 4] = [
        ("pgnode", &|| pgnode("off")),
        ("pgnode synchronous", &|| pgnode("on")),
        ("Patroni 20/1/3", &|| {
            Cluster::patroni("pgnode-fail-floor", &patroni(), Timing(20, 1, 3)).map(Some)
        }),
        ("Patroni 30/10/10", &|| {
            Cluster::patroni("pgnode-fail-patroni", &patroni(), Timing(30, 10, 10)).map(Some)
        }),
    ];
    for (at, (name, make)) in systems.into_iter().enumerate() {
        if !bench.wants(bench.systems.as_ref(), name) {
            continue;
        }
        match make() {
            Ok(Some(cluster)) => {
                all.push((name, bench.measure(name, bench.runs[at.min(1)], &cluster)))
            }
            Ok(None) => println!("{name}: LEFT OUT, the image does not know it"),
            Err(why) => panic!("{name}: {why}"),
        }
        // After each system: a later one that fails takes nothing away.
        bench.publish(&all);
    }
}

fn pgnode(synchronous: &str) -> Outcome<Option<Cluster>> {
    let image = image();
    if synchronous != "off" && !settings(&image)?.contains("PGNODE_SYNCHRONOUS") {
        return Ok(None);
    }
    let profile = var("FAILOVER_PROFILE").unwrap_or_else(|| "fast".into());
    let setup = Setup {
        image,
        barman: "off".into(),
        vars: vec![
            ("PGNODE_FAILOVER_PROFILE".into(), profile),
            ("PGNODE_SYNCHRONOUS".into(), synchronous.into()),
        ],
        dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("failover"),
        small: false,
    };
    Cluster::pgnode(&format!("pgnode-fail-{synchronous}"), &setup).map(Some)
}

impl Bench {
    fn wants(&self, list: Option<&String>, word: &str) -> bool {
        list.is_none_or(|list| {
            list.split(',')
                .any(|w| word.to_lowercase().contains(&w.to_lowercase()))
        })
    }

    /// Every row `runs` times; the rows in turn, so that what else the machine does hits all of them.
    fn measure(&self, name: &str, runs: usize, cluster: &Cluster) -> Figures {
        let clock = Clock::start();
        let doors = cluster.doors();
        let prober = Prober::start(clock, doors.clone());
        let writers = Writers::start(clock, &doors, 4);
        let mut figures = Figures::default();
        let mut blamed = BTreeSet::new();
        for run in 1..=runs {
            for row in Row::MEASURED {
                if !self.wants(self.only.as_ref(), row.word())
                    || cluster.lacks(row.what()).is_some()
                {
                    continue;
                }
                let one = One {
                    cluster,
                    clock,
                    prober: &prober,
                    row,
                    freeze: self.freeze,
                };
                match one.run(&mut figures) {
                    Ok(outage) => println!("{name} {run}: {} {} s", row.word(), seconds(outage)),
                    // A cluster that does not come back measures nothing any more.
                    Err(why) => {
                        println!("{name} {run}: {}: GIVEN UP: {why}", row.word());
                        cluster.dump(
                            &Path::new(env!("CARGO_TARGET_TMPDIR"))
                                .join("failover")
                                .join(name),
                        );
                        return figures;
                    }
                }
                match lost(cluster, &writers, &mut blamed) {
                    Ok(count) => *figures.lost.entry(row).or_default() += count,
                    Err(why) => println!("{name} {run}: {}: rows not compared: {why}", row.word()),
                }
            }
        }
        figures
    }
}

/// Acknowledged rows that this run lost.
fn lost(cluster: &Cluster, writers: &Writers, blamed: &mut BTreeSet<Key>) -> Outcome<usize> {
    let idle = writers.pause(Duration::from_secs(30));
    let rows = cluster.converged().and_then(|primary| {
        ask(
            &cluster.nodes[primary].door,
            "postgres",
            "SELECT writer || ' ' || seq FROM chaos_rows",
        )
    });
    let writes: Vec<Write> = writers.writes();
    writers.go_on();
    if !idle {
        return Err("an insert is not answered".into());
    }
    let key = |row: &String| {
        let (writer, seq) = row.split_once(' ')?;
        Some((writer.parse().ok()?, seq.parse().ok()?))
    };
    let present: BTreeSet<Key> = rows?.iter().filter_map(key).collect();
    let gone = history::lost(&writes, &present);
    Ok(gone.iter().filter(|w| blamed.insert(w.key())).count())
}

/// One fault.
struct One<'a> {
    cluster: &'a Cluster,
    clock: Clock,
    prober: &'a Prober,
    row: Row,
    freeze: Duration,
}

impl One<'_> {
    fn run(&self, figures: &mut Figures) -> Outcome<Duration> {
        let (cluster, row, what) = (self.cluster, self.row, self.row.what());
        let old = eventually(LONGEST, || cluster.converged())?;
        let before = self.prober.latest().ok_or("nobody takes writes")?;
        let begin = self.clock.now();
        cluster.inject(what, old)?;
        let stays = matches!(row, Row::Postmaster | Row::Switchover);
        // Healed when another node took over; a frozen one after its time as well.
        let over = || {
            let acks = self.prober.acks();
            let new = acks
                .iter()
                .rev()
                .find(|a| a.span.start > begin && a.timeline > before.timeline);
            new.map(|a| a.node)
                .ok_or_else(|| "nobody took over".to_owned())
        };
        let mut wake = None;
        if !stays {
            let taken = eventually(LONGEST, over);
            if row == Row::Freeze {
                std::thread::sleep((begin + self.freeze).saturating_sub(self.clock.now()));
            }
            let healed = self.clock.now();
            if row == Row::Freeze {
                wake = Some(self.clock.at(cluster.nodes[old].thaw()?));
            } else {
                cluster.heal(what, old)?;
            }
            let notes = figures.notes.entry(row).or_default();
            match taken {
                Ok(new) if row == Row::Container => {
                    eventually(LONGEST, || streams(cluster, new, old))?;
                    figures
                        .outages
                        .entry(Row::Rejoin)
                        .or_default()
                        .push(self.clock.now() - healed);
                }
                Ok(_) => {}
                Err(_) => notes.stayed += 1,
            }
        }
        let after = eventually(LONGEST, || cluster.converged())?;
        let settled = self.clock.now();
        eventually(LONGEST, || {
            self.prober
                .first_after(settled, Some(after))
                .ok_or("no write after convergence")?;
            Ok(())
        })?;
        self.note(figures.notes.entry(row).or_default(), begin, wake, before);
        let outage = history::outage(&self.prober.acks(), begin, settled);
        figures.outages.entry(row).or_default().push(outage);
        Ok(outage)
    }

    fn note(&self, notes: &mut Notes, begin: Duration, wake: Option<Duration>, before: Ack) {
        let mut acks = self.prober.acks();
        acks.retain(|a| a.span.end >= begin);
        notes.runs += 1;
        notes.doubles += history::doubles(&acks).len();
        let overlaps = history::handovers(&acks)
            .iter()
            .any(|h| h.old.span.end > h.new.span.end);
        notes.in_order += usize::from(!overlaps);
        if let Some(wake) = wake {
            notes.stale.push(history::accepted_after(
                &acks,
                before.node,
                before.timeline,
                wake,
            ));
        }
    }
}

/// Whether `old` streams from `new`.
fn streams(cluster: &Cluster, new: usize, old: usize) -> Outcome<()> {
    let sql = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
    let names = ask(&cluster.nodes[new].door, "postgres", sql)?;
    let name = cluster.nodes[old].name();
    match names.iter().any(|n| n == name) {
        true => Ok(()),
        false => Err(format!("{name} does not stream")),
    }
}

impl Bench {
    fn publish(&self, all: &[(&str, Figures)]) {
        let text = self.table(all);
        println!("{text}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");
        let old = std::fs::read_to_string(path).unwrap();
        let (begin, end) = (
            "<!-- failover: written by make bench-failover -->\n",
            "<!-- end of failover -->",
        );
        let (before, rest) = old.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        std::fs::write(path, format!("{before}{begin}\n{text}\n{end}{after}")).unwrap();
    }

    fn table(&self, all: &[(&str, Figures)]) -> String {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let mut lines = vec![
            format!(
                "`FAILOVER_RUNS={} FAILOVER_OTHERS={} FAILOVER_FREEZE={} make bench-failover` on {}; load average at its end {}.\n",
                self.runs[0],
                self.runs[1],
                self.freeze.as_secs(),
                chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
                load.split(' ').next().unwrap(),
            ),
            format!("| median (worst), s | {} |", names(all)),
            format!("|---{}|", "|---".repeat(all.len())),
        ];
        let rows = [
            Row::Postmaster,
            Row::Container,
            Row::Rejoin,
            Row::Cut,
            Row::Freeze,
            Row::Switchover,
        ];
        for row in rows {
            let cell = |figures: &Figures| {
                figures
                    .outages
                    .get(&row)
                    .map_or_else(|| "–".to_owned(), |v| median_worst(v))
            };
            let cells: Vec<String> = all.iter().map(|(_, f)| cell(f)).collect();
            lines.push(format!(
                "| {} | {} |",
                row.title(self.freeze),
                cells.join(" | ")
            ));
        }
        lines.push(String::new());
        for (name, figures) in all {
            for (row, notes) in &figures.notes {
                let lost = figures.lost.get(row).copied().unwrap_or_default();
                lines.push(format!(
                    "- {name}, {}: {}",
                    row.title(self.freeze),
                    notes.shown(lost)
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

fn names(all: &[(&str, Figures)]) -> String {
    all.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(" | ")
}

impl Notes {
    fn shown(&self, lost: usize) -> String {
        let mut text = format!(
            "{} runs, {lost} acknowledged rows lost, {} double writes; the old primary's last answer came before the new one's first in {}",
            self.runs, self.doubles, self.in_order
        );
        if self.stayed > 0 {
            text += &format!("; nobody took over in {}", self.stayed);
        }
        if !self.stale.is_empty() {
            let most = self.stale.iter().map(|s| s.0).max().unwrap_or_default();
            let last: Vec<Duration> = self.stale.iter().map(|s| s.1).collect();
            text += &format!(
                "; after waking the old one acknowledged {most} writes at most, the last one {} s after it, median (worst)",
                median_worst(&last)
            );
        }
        text + "."
    }
}
