//! What a commit waits for. A candidate needs M = N/2 + 1 grants of N voters, and a voter grants only
//! to a candidate that lacks nothing it holds. A row on the primary and n standbys is missing from
//! N − n − 1 voters; when these are fewer than M, every election meets a voter that holds it: n ≥ N − M.

use crate::config::{Quorum, Synchronous};
use crate::domain::NodeName;

/// Another registered data node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Also the `application_name` of its walreceiver.
    pub name: NodeName,
    /// Whether it streams at the moment.
    pub streams: bool,
}

/// What a commit must wait for by the settings, whoever streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// So many standbys.
    pub count: usize,
    /// What a person should know about the number.
    pub warning: Option<String>,
}

/// How the requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is required: there is no other data node yet.
    Alone,
    /// Enough standbys stream.
    Met,
    /// Too few, and the requirement is kept: commits wait.
    Waits,
    /// Too few, and commits go on with those that there are.
    Degraded,
}

/// What is to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Force {
    /// So many standbys.
    pub count: usize,
    /// Why.
    pub standing: Standing,
    /// Less is in force only once the voters have confirmed this primary after the loss was seen.
    pub unconfirmed: bool,
}

/// The fewest standbys that lose no acknowledged row in any election of so many voters.
#[must_use]
pub const fn safe(voters: usize) -> usize {
    let least = voters.saturating_sub(voters / 2 + 1);
    if least == 0 { 1 } else { least }
}

/// What the settings ask for beside `others` data nodes, of `voters` in all, the witness included.
#[must_use]
pub fn requirement(quorum: Quorum, others: usize, voters: usize) -> Requirement {
    let safe = safe(voters);
    let plain = |count| Requirement {
        count,
        warning: None,
    };
    match quorum {
        Quorum::Off => plain(0),
        _ if others == 0 => plain(0),
        Quorum::On => plain(safe.min(others)),
        Quorum::Of(n) => Requirement {
            count: n,
            warning: if n < safe {
                Some(format!(
                    "quorum:{n} is too few for {voters} voters: an election can lose acknowledged \
                     rows. {} would be safe, and so is `on`",
                    numbers(safe, others)
                ))
            } else if n > others {
                Some(format!(
                    "quorum:{n} asks for more standbys than the {others} that are registered"
                ))
            } else {
                None
            },
        },
    }
}

fn numbers(from: usize, to: usize) -> String {
    match to.saturating_sub(from) {
        0 => from.to_string(),
        1 => format!("{from} or {to}"),
        _ => format!("{from} to {to}"),
    }
}

/// What is to be in force now. `present` is what is: raising it is always right; lowering it gives up
/// rows that a voter may be about to be elected without, so it needs `confirmed`: voters that answered
/// after the loss was seen, so many that the silent ones could not elect. A primary that was cut off or
/// frozen therefore waits, and closes, instead of acknowledging what nobody else has.
#[must_use]
pub fn force(
    settings: Synchronous,
    required: usize,
    others: &[Other],
    present: usize,
    confirmed: bool,
) -> Force {
    let streaming = others.iter().filter(|o| o.streams).count();
    let of = |count, standing| Force {
        count,
        standing,
        unconfirmed: false,
    };
    if required == 0 {
        return of(0, Standing::Alone);
    }
    if streaming >= required {
        return of(required, Standing::Met);
    }
    if settings.strict {
        return of(required, Standing::Waits);
    }
    if streaming < present && !confirmed {
        return Force {
            count: present.min(required),
            standing: Standing::Waits,
            unconfirmed: true,
        };
    }
    of(streaming, Standing::Degraded)
}

/// The value of `synchronous_standby_names`: `ANY 1 ("pg2", "pg3")`, empty where nothing is waited for.
#[must_use]
pub fn names(count: usize, others: &[Other]) -> String {
    if count == 0 || others.is_empty() {
        return String::new();
    }
    // Always the same text for the same nodes.
    let mut quoted: Vec<String> = others
        .iter()
        .map(|o| format!("\"{}\"", o.name.0.replace('"', "\"\"")))
        .collect();
    quoted.sort();
    quoted.dedup();
    format!("ANY {count} ({})", quoted.join(", "))
}

/// For log and status.
#[must_use]
pub fn sentence(required: usize, force: &Force, others: &[Other]) -> String {
    let list = |streams: bool| {
        let names: Vec<&str> = others
            .iter()
            .filter(|o| o.streams == streams)
            .map(|o| o.name.0.as_str())
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let (here, away) = (list(true), list(false));
    let plural = if required == 1 { "standby" } else { "standbys" };
    match force.standing {
        Standing::Alone => {
            "a commit waits for nobody: no other data node is registered yet".to_owned()
        }
        Standing::Met => {
            format!("a commit is on {required} {plural} before it is acknowledged, of: {here}")
        }
        Standing::Waits if force.unconfirmed => format!(
            "commits WAIT: {required} {plural} required, streaming: {here}, missing: {away}; they go \
             on without once the voters have confirmed this primary"
        ),
        Standing::Waits => format!(
            "commits WAIT: {required} {plural} required, streaming: {here}, missing: {away} \
             (PGNODE_SYNCHRONOUS_STRICT)"
        ),
        Standing::Degraded if force.count == 0 => format!(
            "commits wait for NOBODY and can be lost: {required} {plural} required, missing: {away}"
        ),
        Standing::Degraded => format!(
            "commits wait for only {} of {required} required standbys and can be lost: streaming: \
             {here}, missing: {away}",
            force.count
        ),
    }
}

#[cfg(test)]
#[path = "synchronous_tests.rs"]
mod tests;
