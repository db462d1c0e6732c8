//! What a run is asked to do.

use std::path::PathBuf;
use std::time::Duration;

/// The short fixed set: chosen for what it does to the primary, see the test below.
const SEED: u64 = 671;
const FAULTS: u32 = 9;
const HOLD: u64 = 12;

/// From `CHAOS_*`; what is left out is the short fixed set that every full test run has.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) variant: String,
    pub(crate) synchronous: String,
    pub(crate) seed: u64,
    pub(crate) faults: u32,
    /// No fault is begun after so long.
    pub(crate) limit: Duration,
    /// No part of a fault lasts longer.
    pub(crate) longest: Duration,
    /// From the last healing to a cluster as it should be.
    pub(crate) converge: Duration,
    /// Only faults that hold this word, or the one with this number.
    pub(crate) only: Option<String>,
    pub(crate) profile: String,
    pub(crate) barman: String,
    only_variant: Option<String>,
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let parse = |text: String| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number"))
    };
    var(name).map_or(default, parse)
}

impl Settings {
    pub(crate) fn read(variant: &str, synchronous: &str) -> Self {
        let quorum = var("CHAOS_SYNCHRONOUS").filter(|_| synchronous != "off");
        Self {
            variant: variant.to_owned(),
            synchronous: quorum.unwrap_or_else(|| synchronous.to_owned()),
            seed: number("CHAOS_SEED", SEED),
            faults: number("CHAOS_FAULTS", FAULTS),
            limit: Duration::from_secs(60 * number("CHAOS_MINUTES", 5)),
            longest: Duration::from_secs(number("CHAOS_HOLD", HOLD)),
            converge: Duration::from_secs(number("CHAOS_CONVERGE", 180)),
            only: var("CHAOS_ONLY"),
            profile: var("CHAOS_PROFILE").unwrap_or_else(|| "fast".to_owned()),
            barman: var("CHAOS_BARMAN").unwrap_or_else(|| "off".to_owned()),
            only_variant: var("CHAOS_VARIANT"),
        }
    }

    pub(crate) fn wanted(&self) -> bool {
        self.only_variant
            .as_ref()
            .is_none_or(|v| *v == self.variant)
    }

    /// Whether a fault is among those asked for.
    pub(crate) fn admits(&self, number: u32, text: &str) -> bool {
        let Some(only) = self.only.as_deref() else {
            return true;
        };
        match (only.parse::<u32>(), only.strip_prefix('!')) {
            (Ok(wanted), _) => wanted == number,
            (_, Some(unwanted)) => !text.contains(unwanted),
            _ => text.contains(only),
        }
    }

    /// The command that does the same faults again.
    pub(crate) fn replay(&self) -> String {
        format!(
            "make chaos CHAOS_SEED={} CHAOS_FAULTS={} CHAOS_HOLD={} CHAOS_VARIANT={} CHAOS_PROFILE={} CHAOS_BARMAN={}{}",
            self.seed,
            self.faults,
            self.longest.as_secs(),
            self.variant,
            self.profile,
            self.barman,
            self.only
                .as_ref()
                .map_or_else(String::new, |o| format!(" CHAOS_ONLY='{o}'")),
        )
    }

    /// Where logs and reports of this run go.
    pub(crate) fn dir(&self) -> PathBuf {
        let target = var("CARGO_TARGET_DIR").unwrap_or_else(|| "target".to_owned());
        PathBuf::from(target)
            .join("chaos")
            .join(format!("{}-{}", self.seed, self.variant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::faults::{Role, generate};

    #[test]
    fn the_short_set_does_to_the_primary_what_matters_most() {
        let set = generate(SEED, FAULTS, Duration::from_secs(HOLD));
        let on_primary: Vec<&str> = set
            .iter()
            .flat_map(|f| &f.strikes)
            .filter(|s| s.role == Role::Primary)
            .map(|s| s.what.word())
            .collect();
        for word in [
            "postmaster-kill",
            "container-kill",
            "cut",
            "freeze",
            "stop",
            "switchover",
            "disk-full",
        ] {
            assert!(on_primary.contains(&word), "{word}: {on_primary:?}");
        }
        assert!(set.iter().any(|f| f.strikes.len() == 2));
        // Longer than any profile's lease, else nobody takes over.
        let longest = |word| {
            let holds = set
                .iter()
                .flat_map(|f| &f.strikes)
                .filter(|s| s.what.word() == word);
            holds.map(|s| s.hold.as_secs()).max()
        };
        assert_eq!(
            (longest("cut"), longest("freeze")),
            (Some(HOLD), Some(HOLD))
        );
    }
}
