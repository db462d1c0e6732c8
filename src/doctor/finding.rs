//! What a check found, and what is said of it.

use super::ailments::Ailment;
use serde::Serialize;

/// How a check ended; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Not looked at, and why.
    Skip,
    /// As it should be.
    Pass,
    /// Not wrong yet.
    Warn,
    /// Wrong: backups are not made, or cannot be relied on.
    Fail,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Skip => "SKIP",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// The steps of the protocol, in order.
pub const STEPS: [(u8, &str); 9] = [
    (1, "ssh between barman and the nodes"),
    (2, "barman's login to every node"),
    (3, "barman knows the cluster"),
    (4, "barman check"),
    (5, "where WAL is shipped to"),
    (6, "WAL round trip"),
    (7, "a backup"),
    (8, "a restore"),
    (9, "the bucket"),
];

/// One check's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Step of the protocol, 1 to 9.
    pub step: u8,
    /// What was checked.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was tried.
    pub tried: String,
    /// What was seen; for a failure also the likely cause.
    pub why: String,
    /// The command or setting that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The failure's name in `docs/doctor.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ailment: Option<&'static str>,
}

impl Finding {
    fn new(step: u8, check: &str, verdict: Verdict, tried: &str, why: String) -> Self {
        Self {
            step,
            check: check.to_owned(),
            verdict,
            tried: tried.to_owned(),
            why,
            remedy: None,
            ailment: None,
        }
    }

    /// All is well.
    #[must_use]
    pub fn pass(step: u8, check: &str, tried: &str, why: impl Into<String>) -> Self {
        Self::new(step, check, Verdict::Pass, tried, why.into())
    }

    /// Not looked at.
    #[must_use]
    pub fn skip(step: u8, check: &str, why: impl Into<String>) -> Self {
        Self::new(step, check, Verdict::Skip, "nothing", why.into())
    }

    /// A failure of the table: `seen` in the words of whoever saw it, then the table's cause. `{name}` in
    /// the table's texts is filled in from `words`.
    #[must_use]
    pub fn of(ailment: &'static Ailment, tried: &str, seen: &str, words: &[(&str, &str)]) -> Self {
        let cause = fill(ailment.cause, words);
        let why = if seen.is_empty() {
            cause
        } else {
            format!("{}: {cause}", seen.trim_end_matches('.'))
        };
        Self {
            remedy: Some(fill(ailment.remedy, words)),
            ailment: Some(ailment.id),
            ..Self::new(ailment.step, ailment.check, ailment.verdict, tried, why)
        }
    }

    /// The same about one of several things.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.check = format!("{} ({what})", self.check);
        self
    }
}

/// Puts words in for `{name}`.
fn fill(text: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (name, word)| {
        text.replace(&format!("{{{name}}}"), word)
    })
}

/// What was found about one cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// barman's name of it.
    pub server: String,
    /// The worst.
    pub verdict: Verdict,
    /// In the protocol's order.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// From the findings, in whatever order they came.
    #[must_use]
    pub fn new(server: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|f| f.step);
        let worst = findings.iter().map(|f| f.verdict).max();
        Self {
            server: server.to_owned(),
            verdict: worst.unwrap_or(Verdict::Skip),
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ailments::PASSWORD;
    use super::*;

    #[test]
    fn the_worst_verdict_counts_and_steps_are_in_order() {
        let d = Diagnosis::new(
            "main",
            vec![
                Finding::pass(7, "age", "x", "y"),
                Finding::skip(1, "ssh", "not needed"),
            ],
        );
        assert_eq!((d.verdict, d.findings[0].step), (Verdict::Pass, 1));
        let failed = Finding::of(&PASSWORD, "x", "no.", &[("host", "pg1:5432")]);
        assert!(failed.why.starts_with("no: "), "{}", failed.why);
        let d = Diagnosis::new("main", vec![failed, Finding::pass(2, "b", "x", "y")]);
        assert_eq!(d.verdict, Verdict::Fail);
    }
}
