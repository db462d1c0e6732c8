//! Figures for a person.

use super::history::Double;
use super::prober::Episode;
use std::fmt::Write as _;
use std::time::Duration;

/// What one fault did.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) fault: String,
    /// The longest time without an acknowledged write.
    pub(crate) outage: Duration,
    /// From the last healing to convergence.
    pub(crate) converged: Duration,
    pub(crate) lost: usize,
    pub(crate) doubles: usize,
    /// Double writes of a primary that had just woken, without synchronous replication.
    pub(crate) woken: usize,
    pub(crate) late: usize,
    /// The primary before and after.
    pub(crate) primary: (String, String),
    /// Containers that ended by themselves and were started again.
    pub(crate) revived: u32,
}

pub(crate) fn seconds(d: Duration) -> String {
    format!("{:.2}", d.as_secs_f64())
}

/// The middle one, the mean of the two middle ones of an even number.
pub(crate) fn median(values: &[Duration]) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2),
    }
}

/// `median (worst)` in seconds, `–` for nothing.
pub(crate) fn median_worst(values: &[Duration]) -> String {
    match (median(values), values.iter().max()) {
        (Some(median), Some(worst)) => format!("{} ({})", seconds(median), seconds(*worst)),
        _ => "–".to_owned(),
    }
}

/// The table of a run, as Markdown.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| # | fault | without a writable node, s | converged after, s | acknowledged rows lost | double writes | … on waking | late answers | primary | nodes that ended |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let primary = match &line.primary {
            (a, b) if a == b => a.clone(),
            (a, b) => format!("{a} → {b}"),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {primary} | {} |",
            line.number,
            line.fault,
            seconds(line.outage),
            seconds(line.converged),
            line.lost,
            line.doubles,
            line.woken,
            line.late,
            line.revived,
        )
        .ok();
    }
    text
}

/// What the probers saw, a line an episode.
pub(crate) fn story(episodes: &[Episode], names: &[String]) -> String {
    episodes.iter().fold(String::new(), |mut text, e| {
        let session = if e.patient { "patient" } else { "quick" };
        writeln!(
            text,
            "{:>9.3} to {:>9.3} s  {} {session:<7} {:?} × {}",
            e.span.start.as_secs_f64(),
            e.span.end.as_secs_f64(),
            names[e.node],
            e.answer,
            e.count,
        )
        .ok();
        text
    })
}

/// One double write, for a message.
pub(crate) fn double(double: &Double, names: &[String]) -> String {
    let Double { old, new } = double;
    format!(
        "{} acknowledged on timeline {} from {} s to {} s, after {} had on timeline {} from {} s to {} s",
        names[old.node],
        old.timeline,
        seconds(old.span.start),
        seconds(old.span.end),
        names[new.node],
        new.timeline,
        seconds(new.span.start),
        seconds(new.span.end),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: &[u64]) -> Vec<Duration> {
        n.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&secs(&[9, 1, 2])), Some(Duration::from_secs(2)));
        assert_eq!(
            median(&secs(&[1, 2, 3, 10])),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(median_worst(&secs(&[1, 2, 9])), "2.00 (9.00)");
        assert_eq!(median_worst(&[]), "–");
    }
}
