//! What is wrong with the settings: all of it, in the order of the table.

use super::table::Var;
use crate::domain::Fault;
use std::fmt;

/// Longest value that a message repeats, in characters.
const SHOWN: usize = 80;

/// What a setting did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A name in our name space that means nothing.
    #[error("there is no such variable")]
    Unknown {
        /// The name that was probably meant.
        suggestion: Option<String>,
    },
    /// The variable and its `_FILE` form are both set.
    #[error("is set twice, by value and by file")]
    Twice,
    /// The file that `_FILE` names cannot be used.
    #[error("the file {path} {why}")]
    File {
        /// The path, made printable.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// The value breaks the variable's rule.
    #[error("{rule}")]
    Value {
        /// The rule.
        rule: String,
    },
}

/// One fault: which variable, its value unless that is a secret, the rule, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Place in the table; names that are not in it come after all that are.
    order: usize,
    /// The variable's name, or the argument.
    pub name: String,
    /// The value as it was given, made printable; `None` for secrets and unknown names, whose
    /// value may be one.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: Problem,
    /// What to do.
    pub remedy: String,
}

impl Wrong {
    /// A fault of a variable in the table; the remedy is its example.
    pub(super) fn of(var: &'static Var, value: Option<&str>, problem: Problem) -> Self {
        Self {
            order: var.order(),
            name: var.name.to_owned(),
            value: value.filter(|_| !var.secret()).map(printable),
            remedy: if var.example.is_empty() {
                String::new()
            } else {
                format!("for example {}={}", var.name, var.example)
            },
            problem,
        }
    }

    /// A fault of a name or an argument that the table does not have.
    pub(super) fn outside(name: &str, problem: Problem, remedy: impl Into<String>) -> Self {
        Self {
            order: usize::MAX,
            name: printable(name),
            value: None,
            problem,
            remedy: remedy.into(),
        }
    }

    /// Says something better than the example.
    pub(super) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(value) = &self.value {
            write!(f, "=\"{value}\"")?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Every fault of the settings at once; never empty when it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Wrong>);

impl Faults {
    pub(super) fn push(&mut self, wrong: Wrong) {
        self.0.push(wrong);
    }

    /// The list, in the order of the table.
    #[must_use]
    pub fn list(&self) -> &[Wrong] {
        &self.0
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn sorted(mut self) -> Self {
        self.0
            .sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        self.0.dedup();
        self
    }

    /// How bad it is: always a matter of configuration, exit 64.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Config(self.to_string())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is wrong:")?,
            n => write!(f, "{n} settings are wrong:")?,
        }
        for wrong in &self.0 {
            write!(f, "\n  {wrong}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A text with control characters escaped and its length bounded, so that a value can neither
/// forge a log line nor flood it.
pub(super) fn printable(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| {
            // Quotes stay as they are; escape_debug also catches what would not print.
            let plain = matches!(c, '\'' | '"' | '\\');
            std::iter::once(c)
                .filter(move |_| plain)
                .chain(c.escape_debug().filter(move |_| !plain))
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_line() {
        assert_eq!(printable("a\nb\t\u{1b}[31m"), r"a\nb\t\u{1b}[31m");
        assert_eq!(printable(r#"it's "so" \"#), r#"it's "so" \"#);
        assert_eq!(printable(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(printable(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    }
}
