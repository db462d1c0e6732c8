//! How bad a failure is: the one classification that decides retry, fence and exit code.

use serde::{Deserialize, Serialize};

/// The exit codes of the contract (sysexits.h where it has a word for it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// Asked to stop, and stopped clean.
    pub const STOPPED: Self = Self(0);
    /// `EX_USAGE`: the configuration is wrong; nothing on disk was touched.
    pub const CONFIG: Self = Self(64);
    /// `EX_SOFTWARE`: a bug of ours.
    pub const BUG: Self = Self(70);
    /// `EX_TEMPFAIL`: gave up on something transient.
    pub const TRANSIENT: Self = Self(75);
    /// `EX_CONFIG`: a person is needed.
    pub const NEEDS_PERSON: Self = Self(78);

    /// Ended by signal `n`: 128+n, as a shell reports it.
    #[must_use]
    pub const fn signal(n: u8) -> Self {
        Self(128_u8.saturating_add(n))
    }
}

/// A failure, by what can be done about it. Every room's error becomes one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "why", rename_all = "snake_case")]
pub enum Fault {
    /// The settings are wrong: exit 64.
    Config(String),
    /// May go away by itself: tried again, then exit 75.
    Transient(String),
    /// Trying again cannot help; a person decides: exit 78.
    NeedsPerson(String),
    /// Ours: exit 70.
    Bug(String),
}

impl Fault {
    /// The exit code that this fault ends in when nothing else can be done.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::CONFIG,
            Self::Transient(_) => ExitCode::TRANSIENT,
            Self::NeedsPerson(_) => ExitCode::NEEDS_PERSON,
            Self::Bug(_) => ExitCode::BUG,
        }
    }

    /// The sentence for the operator.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Config(why) | Self::Transient(why) | Self::NeedsPerson(why) | Self::Bug(why) => {
                why
            }
        }
    }

    /// Whether the same thing may work when it is tried again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for Fault {}

/// An error with all of its sources, outermost first: `a: b: c`. tokio-postgres prints only
/// "db error" by itself, the reason is in `source()`.
impl Fault {
    /// Joins an error's chain of sources into one line.
    #[must_use]
    pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let more = source.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            next = source.source();
        }
        text
    }
}
