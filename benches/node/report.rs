//! Numbers to Markdown, between the markers of `benches/README.md`.

use crate::lab::docker;
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

    /// `median (min to max)` in whole units.
    pub(crate) fn shown(&self) -> String {
        let min = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.0.iter().copied().fold(0.0, f64::max);
        format!("{:.0} ({min:.0} to {max:.0})", self.median())
    }
}

/// The block that replaces the last one.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    notes: String,
}

impl Report {
    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: &str,
        bare: &str,
        ratio: &str,
        aim: &str,
        met: bool,
    ) {
        let met = if met { "yes" } else { "**no**" };
        let row = format!("| {what} | {ours} | {bare} | {ratio} | {aim} | {met} |");
        eprintln!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn note(&mut self, text: &str) {
        eprintln!("{text}");
        writeln!(self.notes, "{text}\n").unwrap();
    }

    pub(crate) fn text(&self, runs: usize) -> String {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let model = cpu.lines().find(|l| l.starts_with("model name"));
        let model = model
            .and_then(|l| l.split(": ").nth(1))
            .unwrap_or("unknown");
        let mut text = format!(
            "`make bench` on {}, {runs} runs of each side in turn, median (min to max). {} cores ({model}), Linux {}, docker {}, \
             storage driver {}; load average at the end {}.\n\n\
             | what | pgnode | bare | ratio | aim | met |\n|---|---|---|---|---|---|\n",
            chrono::Utc::now().format("%Y-%m-%d"),
            std::thread::available_parallelism().unwrap(),
            kernel.trim(),
            docker(&["version", "-f", "{{.Server.Version}}"]),
            docker(&["info", "-f", "{{.Driver}}"]),
            load.split(' ').take(2).collect::<Vec<_>>().join(" and "),
        );
        for row in &self.rows {
            writeln!(text, "{row}").unwrap();
        }
        text.push('\n');
        text.push_str(&self.notes);
        text
    }
}

const BEGIN: &str = "<!-- results: written by make bench -->\n";
const END: &str = "<!-- end of results -->";

/// Writes the block into the file.
pub(crate) fn write(text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");
    let old = std::fs::read_to_string(path).unwrap();
    let (before, rest) = old.split_once(BEGIN).expect("the first marker");
    let (_, after) = rest.split_once(END).expect("the last marker");
    std::fs::write(path, format!("{before}{BEGIN}\n{text}{END}{after}")).unwrap();
}
