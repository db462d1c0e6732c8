//! Applies rules to variables, and keeps what they said.

use super::fault::{Faults, Problem, Wrong};
use super::source::{Source, Sources};
use super::table::{Preset, Var};
use super::{Secret, rules};

/// What is collected on the way. A method gives `None` only after it has noted a fault, so a
/// section reads all that it needs first and gives up afterwards.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Faults,
    pub(super) sources: Sources,
    pub(super) default_passwords: Vec<&'static str>,
}

impl Reader {
    pub(super) fn wrong(
        &mut self,
        var: &'static Var,
        value: Option<&str>,
        rule: impl Into<String>,
    ) {
        let rule = rule.into();
        self.faults
            .push(Wrong::of(var, value, Problem::Value { rule }));
    }

    pub(super) fn wrong_with(
        &mut self,
        var: &'static Var,
        value: Option<&str>,
        rule: &str,
        remedy: String,
    ) {
        let rule = rule.to_owned();
        let wrong = Wrong::of(var, value, Problem::Value { rule }).with_remedy(remedy);
        self.faults.push(wrong);
    }

    /// Whether the variable already has a fault, so that what follows from it is left unsaid.
    pub(super) fn is_wrong(&self, var: &'static Var) -> bool {
        self.faults.list().iter().any(|w| w.name == var.name)
    }

    /// Applies a rule to a value that is there.
    pub(super) fn apply<T>(
        &mut self,
        var: &'static Var,
        text: &str,
        rule: impl FnOnce(&str) -> rules::Ruled<T>,
    ) -> Option<T> {
        rule(text)
            .map_err(|rule| self.wrong(var, Some(text), rule))
            .ok()
    }

    /// The value, or the table's.
    pub(super) fn fixed<T>(
        &mut self,
        var: &'static Var,
        given: Option<&str>,
        rule: impl FnOnce(&str) -> rules::Ruled<T>,
    ) -> Option<T> {
        if given.is_none() && self.is_wrong(var) {
            return None;
        }
        let text = match (given, var.default) {
            (Some(text), _) | (None, Preset::Fixed(text)) => text,
            (None, Preset::Derived(_) | Preset::Unset) => "",
        };
        self.apply(var, text, rule)
    }

    /// The value, or `Some(None)` when there is none; `None` is a fault.
    #[expect(
        clippy::option_option,
        reason = "unset and faulty are different things"
    )]
    pub(super) fn optional<T>(
        &mut self,
        var: &'static Var,
        given: Option<&str>,
        rule: impl FnOnce(&str) -> rules::Ruled<T>,
    ) -> Option<Option<T>> {
        match given {
            Some(text) => self.apply(var, text, rule).map(Some),
            None if self.is_wrong(var) => None,
            None => Some(None),
        }
    }

    pub(super) fn password(&mut self, var: &'static Var, given: Option<&str>) -> Option<Secret> {
        let secret = self.fixed(var, given, rules::secret)?;
        // Also when somebody wrote it down: it is the value that is well known.
        if matches!(var.default, Preset::Fixed(text) if text == secret.reveal()) {
            self.default_passwords.push(var.name);
        }
        Some(secret)
    }

    /// Keeps the value, or derives it and says from what.
    pub(super) fn or_derive<T>(
        &mut self,
        var: &'static Var,
        value: Option<T>,
        from: &'static str,
        derive: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        value.or_else(|| {
            self.sources.set(var, Source::Derived(from));
            derive()
        })
    }
}
