//! One run: faults in a row, convergence after each, the verdict at the end.

use crate::rig::cluster::{Cluster, Setup, image, settings};
use crate::rig::docker::eventually;
use crate::rig::faults::{Fault, Role, Step, What, generate, schedule};
use crate::rig::history::{self, Ack, Double, Key, Wake, Write};
use crate::rig::prober::Prober;
use crate::rig::report::{self, Line, seconds};
use crate::rig::sql::ask;
use crate::rig::writers::Writers;
use crate::rig::{Clock, Outcome};
use crate::settings::Settings;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Writers, and how long their last inserts may take once the cluster is whole.
const WRITERS: u32 = 4;
const LAST_INSERT: Duration = Duration::from_secs(30);
/// Standbys attach to a primary within this of its opening, so what was acknowledged longer before a fault
/// has been sent. Asynchronous replication may lose only what had not.
const SENT: Duration = Duration::from_secs(2);

/// A primary that was frozen has closed by then, generously: what it acknowledged on waking is reported. With
/// synchronous replication there is no such excuse.
const WAKING: Duration = Duration::from_secs(2);

struct Run<'a> {
    settings: &'a Settings,
    clock: Clock,
    cluster: Cluster,
    prober: Prober,
    writers: Writers,
    lines: Vec<Line>,
    /// Lost rows that an earlier fault is to blame for.
    blamed: BTreeSet<Key>,
    excess: Vec<String>,
    wakes: Vec<Wake>,
}

pub(crate) fn drive(settings: &Settings) -> Outcome<()> {
    let dir = settings.dir();
    let Some(cluster) = start(settings, &dir)? else {
        return Ok(());
    };
    let clock = Clock::start();
    let doors = cluster.doors();
    let mut run = Run {
        settings,
        clock,
        prober: Prober::start(clock, doors.clone()),
        writers: Writers::start(clock, &doors, WRITERS),
        cluster,
        lines: Vec::new(),
        blamed: BTreeSet::new(),
        excess: Vec::new(),
        wakes: Vec::new(),
    };
    let faults = generate(settings.seed, settings.faults, settings.longest);
    for fault in faults {
        if clock.now() > settings.limit {
            println!(
                "{}: time is up before fault {}",
                settings.variant, fault.number
            );
            break;
        }
        if !run.may(&fault) {
            continue;
        }
        let begun = clock.now();
        if let Err(why) = run.fault(&fault) {
            let at = dir.join(format!("fault-{}", fault.number));
            run.cluster.dump(&at);
            run.tell(&dir);
            let also = run.verdict().err().unwrap_or_default();
            let acks = run.acks(&run.writers.writes());
            let gap = history::outage(&acks, begun, clock.now());
            return Err(format!(
                "seed {}, fault {} ({fault}): {why}\n{} s without a writable node meanwhile\nlogs in {}\n{also}",
                settings.seed,
                fault.number,
                seconds(gap),
                at.display()
            ));
        }
    }
    run.tell(&dir);
    let ended = run.verdict().and_then(|()| run.comes_back(&dir));
    ended.inspect_err(|_| run.cluster.dump(&dir.join("end")))
}

/// `None` where the image cannot do this variant at all.
fn start(settings_of_run: &Settings, dir: &Path) -> Outcome<Option<Cluster>> {
    let image = image();
    let known = settings(&image)?;
    if settings_of_run.synchronous != "off" && !known.contains("PGNODE_SYNCHRONOUS") {
        println!(
            "{}: LEFT OUT, {image} knows no PGNODE_SYNCHRONOUS",
            settings_of_run.variant
        );
        return Ok(None);
    }
    let setup = setup_of(settings_of_run, image, dir);
    let prefix = format!("pgnode-chaos-{}", settings_of_run.variant);
    Cluster::pgnode(&prefix, &setup).map(Some)
}

fn setup_of(settings_of_run: &Settings, image: String, dir: &Path) -> Setup {
    Setup {
        image,
        barman: settings_of_run.barman.clone(),
        vars: vec![
            (
                "PGNODE_FAILOVER_PROFILE".into(),
                settings_of_run.profile.clone(),
            ),
            (
                "PGNODE_SYNCHRONOUS".into(),
                settings_of_run.synchronous.clone(),
            ),
        ],
        dir: dir.to_owned(),
        small: true,
    }
}

impl Run<'_> {
    /// Whether this fault is wanted, and possible here; says so when it is not possible.
    fn may(&self, fault: &Fault) -> bool {
        if !self.settings.admits(fault.number, &fault.to_string()) {
            return false;
        }
        for strike in &fault.strikes {
            if let Some(why) = self.cluster.lacks(strike.what) {
                let variant = &self.settings.variant;
                println!("{variant} {}: LEFT OUT {fault}: {why}", fault.number);
                return false;
            }
        }
        true
    }

    /// Out of the bucket, where there is one.
    fn comes_back(&self, dir: &Path) -> Outcome<()> {
        if self.cluster.bucket.is_none() {
            return Ok(());
        }
        if !self.writers.pause(LAST_INSERT) {
            return Err("an insert is not answered though the cluster is whole".into());
        }
        let primary = eventually(self.settings.converge, || self.cluster.converged())?;
        self.cluster
            .rows_come_back(primary, &setup_of(self.settings, image(), dir))?;
        println!(
            "{}: all rows came back out of the bucket",
            self.settings.variant
        );
        Ok(())
    }

    fn fault(&mut self, fault: &Fault) -> Outcome<()> {
        let before = eventually(self.settings.converge, || self.cluster.converged())?;
        let node = |role| match role {
            Role::Primary => before,
            Role::Standby(n) => (0..3).filter(|i| *i != before).nth(usize::from(n)).unwrap(),
        };
        let (attempts, begin) = (self.prober.attempts(), self.clock.now());
        for (at, step) in schedule(fault) {
            // The fault's own rhythm, not a wait for something.
            std::thread::sleep((begin + at).saturating_sub(self.clock.now()));
            match step {
                Step::Inject(n) => {
                    let strike = &fault.strikes[n];
                    self.cluster.inject(strike.what, node(strike.role))?;
                }
                Step::Heal(n) => {
                    let strike = &fault.strikes[n];
                    let node = node(strike.role);
                    if strike.what == What::Freeze {
                        let woke = self.cluster.nodes[node].thaw()?;
                        self.wakes.push((node, self.clock.at(woke)));
                    } else {
                        self.cluster.heal(strike.what, node)?;
                    }
                }
            }
        }
        let healed = self.clock.now();
        let mut revived = 0;
        let after = eventually(self.settings.converge, || {
            revived += self.cluster.revive()?;
            self.cluster.converged()
        })?;
        let converged = self.clock.now();
        if self.prober.attempts() == attempts {
            return Err("the prober is asleep".into());
        }
        // A row of the new regime, so that the outage has an end.
        eventually(self.settings.converge, || {
            let ack = self.prober.first_after(converged, Some(after));
            ack.map(drop)
                .ok_or_else(|| "no write after convergence".to_owned())
        })?;
        self.account(fault, (begin, healed, converged), (before, after), revived)
    }

    /// What is there, what is missing, what was seen.
    fn account(
        &mut self,
        fault: &Fault,
        (begin, healed, converged): (Duration, Duration, Duration),
        (before, after): (usize, usize),
        revived: u32,
    ) -> Outcome<()> {
        if !self.writers.pause(LAST_INSERT) {
            return Err("an insert is not answered though the cluster is whole".into());
        }
        eventually(self.settings.converge, || self.cluster.same_rows())?;
        let rows = ask(
            &self.cluster.nodes[after].door,
            "postgres",
            "SELECT writer || ' ' || seq FROM chaos_rows",
        )?;
        let writes = self.writers.writes();
        self.writers.go_on();
        let present: BTreeSet<Key> = rows.iter().filter_map(|r| key(r)).collect();
        let mut lost = history::lost(&writes, &present);
        lost.retain(|w| self.blamed.insert(w.key()));
        let invented = history::invented(&writes, &present);
        if !invented.is_empty() {
            return Err(format!("rows that nobody wrote: {invented:?}"));
        }
        self.judge(fault, &lost, begin);
        let since = |acks: Vec<Ack>| -> Vec<Ack> {
            acks.into_iter().filter(|a| a.span.end >= begin).collect()
        };
        let acks = self.acks(&writes);
        let name = |n: usize| self.cluster.nodes[n].name().to_owned();
        let (doubles, woken) = self.doubles(&since(acks.clone()));
        let line = Line {
            number: fault.number,
            fault: fault.to_string(),
            outage: history::outage(&acks, begin, converged),
            converged: converged - healed,
            lost: lost.len(),
            doubles: doubles.len(),
            woken: woken.len(),
            late: history::late(&since(acks)).len(),
            primary: (name(before), name(after)),
            revived,
        };
        println!(
            "{} {}: {} | {} s without a writable node, converged {} s after healing, {} lost, {} double, {} on waking, {} late, {} → {}, {} ended by themselves",
            self.settings.variant,
            line.number,
            line.fault,
            seconds(line.outage),
            seconds(line.converged),
            line.lost,
            line.doubles,
            line.woken,
            line.late,
            line.primary.0,
            line.primary.1,
            line.revived,
        );
        self.lines.push(line);
        Ok(())
    }

    /// Every lost row of a synchronous run, and of an asynchronous one those that had been sent for certain.
    fn judge(&mut self, fault: &Fault, lost: &[Write], begin: Duration) {
        for write in lost {
            let sent = write.span.end + SENT < begin;
            if self.settings.synchronous != "off" || sent {
                self.excess.push(format!(
                    "fault {}: row {:?} that {} acknowledged at {} s is lost (the fault began at {} s)",
                    fault.number,
                    write.key(),
                    self.cluster.nodes[write.node].name(),
                    seconds(write.span.end),
                    seconds(begin),
                ));
            }
        }
    }

    /// Of the writers and of the prober.
    fn acks(&self, writes: &[Write]) -> Vec<Ack> {
        let mut acks = self.prober.acks();
        acks.extend(writes.iter().filter_map(Write::ack));
        acks
    }

    /// The table, to the terminal and into a file.
    fn tell(&self, dir: &Path) {
        let outages: Vec<Duration> = self.lines.iter().map(|l| l.outage).collect();
        let writes = self.writers.writes();
        let acked = writes.iter().filter(|w| w.ack().is_some()).count();
        let (doubles, woken) = self.doubles(&self.acks(&writes));
        let text = format!(
            "{}\n{} faults, {acked} acknowledged rows of {} attempts, {} lost, {} double writes and {} on waking; without a writable node {} s, median (worst)\n",
            report::table(&self.lines),
            self.lines.len(),
            writes.len(),
            self.blamed.len(),
            doubles.len(),
            woken.len(),
            report::median_worst(&outages),
        );
        println!("{}\n{text}", self.settings.replay());
        let head = format!("`{}`\n\n", self.settings.replay());
        std::fs::create_dir_all(dir).ok();
        std::fs::write(dir.join("report.md"), head + &text).ok();
        let story = report::story(&self.prober.episodes(), &self.names());
        std::fs::write(dir.join("probes.txt"), story).ok();
    }

    /// Double writes that nothing excuses, and those of a primary that had just woken.
    fn doubles(&self, acks: &[Ack]) -> (Vec<Double>, Vec<Double>) {
        let all = history::doubles(acks);
        if self.settings.synchronous != "off" {
            return (all, Vec::new());
        }
        let (woken, rest) = history::on_waking(&all, &self.wakes, WAKING);
        (rest, woken)
    }

    fn names(&self) -> Vec<String> {
        self.cluster.doors().into_iter().map(|d| d.name).collect()
    }

    fn verdict(&self) -> Outcome<()> {
        let writes = self.writers.writes();
        let names = self.names();
        let acks = self.acks(&writes);
        let (doubles, _) = self.doubles(&acks);
        let mut faults = self.excess.clone();
        faults.extend(history::forks(&acks).iter().map(|(timeline, nodes)| {
            let nodes: Vec<&str> = nodes.iter().map(|n| names[*n].as_str()).collect();
            format!(
                "timeline {timeline} was made by {}, each without the other's",
                nodes.join(" and ")
            )
        }));
        faults.extend(doubles.iter().take(5).map(|d| report::double(d, &names)));
        if !writes.iter().any(|w| w.ack().is_some()) {
            faults.push("no row was ever acknowledged".into());
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} rows lost that may not be, {} double writes:\n{}",
            self.excess.len(),
            doubles.len(),
            faults.join("\n")
        ))
    }
}

/// `writer seq`.
fn key(row: &str) -> Option<Key> {
    let (writer, seq) = row.split_once(' ')?;
    Some((writer.parse().ok()?, seq.parse().ok()?))
}
