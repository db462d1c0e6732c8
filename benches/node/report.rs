//! Numbers to Markdown, between the markers of `benches/README.md`: a block for each part, written
//! when the part has ended.

use crate::lab::{Start, docker};
use std::fmt::Write as _;

/// Measurements of one thing in one unit.
#[derive(Debug, Default, Clone)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        if n % 2 == 1 {
            sorted[n / 2]
        } else {
            f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// `median (min to max)` in whole units.
    pub(crate) fn shown(&self) -> String {
        let min = self.min();
        let max = self.0.iter().copied().fold(0.0, f64::max);
        format!("{:.0} ({min:.0} to {max:.0})", self.median())
    }

    /// The same with so many digits behind the point.
    pub(crate) fn shown_to(&self, digits: usize) -> String {
        let min = self.min();
        let max = self.0.iter().copied().fold(0.0, f64::max);
        format!(
            "{:.digits$} ({min:.digits$} to {max:.digits$})",
            self.median()
        )
    }
}

/// Starts of one side.
#[derive(Debug, Default, Clone)]
pub(crate) struct Starts {
    pub(crate) wall: Series,
    pub(crate) cpu: Series,
}

impl Starts {
    pub(crate) fn add(&mut self, start: Start) {
        self.wall.0.push(start.wall);
        self.cpu.0.push(start.cpu);
    }
}

/// The results of one part.
#[derive(Debug)]
pub(crate) struct Report {
    head: String,
    /// What the second column of figures is of.
    other: &'static str,
    rows: Vec<String>,
    notes: String,
}

impl Report {
    pub(crate) fn new(part: &str, runs: usize) -> Self {
        Self::named(&format!(
            "PGNODE_BENCH={part} PGNODE_BENCH_RUNS={runs} make bench"
        ))
    }

    /// With the command that makes it.
    pub(crate) fn named(command: &str) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let head = format!(
            "`{command}` on {}; load average at its begin {}.\n\n",
            chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
            load.split(' ').next().unwrap(),
        );
        Self {
            head,
            other: "bare",
            rows: Vec::new(),
            notes: String::new(),
        }
    }

    /// Not against a bare server.
    pub(crate) fn against(mut self, other: &'static str) -> Self {
        self.other = other;
        self
    }

    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: &str,
        bare: &str,
        ratio: &str,
        aim: &str,
        met: Option<bool>,
    ) {
        let met = match met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        self.rows.push(format!(
            "| {what} | {ours} | {bare} | {ratio} | {aim} | {met} |"
        ));
    }

    pub(crate) fn note(&mut self, text: &str) {
        writeln!(self.notes, "\n{text}").unwrap();
    }

    /// Into the block of the part, and to the terminal.
    pub(crate) fn write(&self, part: &str) {
        let text = format!(
            "{}| what | pgnode | {} | ratio | aim | met |\n|---|---|---|---|---|---|\n{}\n{}",
            self.head,
            self.other,
            self.rows.join("\n"),
            self.notes
        );
        replace(part, &text);
        println!("== {part}\n{text}");
    }
}

/// The machine, without its name.
pub(crate) fn machine() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = cpu.lines().find(|l| l.starts_with("model name"));
    let model = model
        .and_then(|l| l.split(": ").nth(1))
        .unwrap_or("unknown");
    let text = format!(
        "{} cores ({model}), Linux {}, docker {}, storage driver {}.\n",
        std::thread::available_parallelism().unwrap(),
        kernel.trim(),
        docker(&["version", "-f", "{{.Server.Version}}"]),
        docker(&["info", "-f", "{{.Driver}}"]),
    );
    replace("machine", &text);
}

fn replace(part: &str, text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");
    let old = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (
        format!("<!-- {part}: written by make bench -->\n"),
        format!("<!-- end of {part} -->"),
    );
    let (before, rest) = old.split_once(&begin).expect("the first marker");
    let (_, after) = rest.split_once(&end).expect("the last marker");
    std::fs::write(path, format!("{before}{begin}\n{text}\n{end}{after}")).unwrap();
}
