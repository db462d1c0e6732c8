//! Where each value came from.

use super::table::Var;
use super::types::Config;
use std::collections::BTreeMap;
use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The table.
    #[default]
    Default,
    /// The variable itself.
    Environment,
    /// Another program's variable for the same thing.
    Alias(&'static str),
    /// The file that `NAME_FILE` names.
    File(String),
    /// The container's command.
    Argument,
    /// Something else that is set or known.
    Derived(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment => f.write_str("environment"),
            Self::Alias(name) => write!(f, "environment, as {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Argument => f.write_str("argument"),
            Self::Derived(from) => write!(f, "derived from {from}"),
        }
    }
}

/// The source of every value, and what else is worth saying about the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    by_name: BTreeMap<&'static str, Source>,
    notes: Vec<String>,
}

impl Sources {
    /// Where the variable's value came from.
    #[must_use]
    pub fn of(&self, var: &Var) -> Source {
        self.by_name.get(var.name).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, var: &'static Var, source: Source) {
        self.by_name.insert(var.name, source);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// What a person should know though nothing is wrong, one sentence each: default passwords
    /// first, then names that look like a slip. For the log at start and for `pgnode config`.
    #[must_use]
    pub fn warnings(&self, config: &Config) -> Vec<String> {
        let mut out = Vec::new();
        if !config.default_passwords.is_empty() {
            out.push(format!(
                "well-known default passwords are in use: {}; set each of them, or its _FILE form, before anyone can reach port {}",
                config.default_passwords.join(", "),
                config.postgres.port
            ));
        }
        out.extend(self.notes.iter().cloned());
        out
    }
}
