//! How a failure is noticed and acted upon, and what it may cost: the profile, single durations over it, and the arithmetic
//! that they have to satisfy together.

use super::given::RawEnv;
use super::reader::Reader;
use super::rules::{self, Ruled};
use super::table::{self, Var};
use super::types::{NodeKind, Quorum, Synchronous};
use crate::domain::{Profile, Timing, TimingFault};
use std::time::Duration;

impl Reader {
    pub(super) fn failover(&mut self, raw: &RawEnv) -> Option<Timing> {
        let profile = self.fixed(
            &table::PGNODE_FAILOVER_PROFILE,
            raw.pgnode_failover_profile.as_deref(),
            profile,
        );
        let mut given = |var: &'static Var, text: &Option<String>| {
            let given = self.optional(var, text.as_deref(), rules::short_duration)?;
            Some(self.or_derive(var, given, "PGNODE_FAILOVER_PROFILE", || None))
        };
        let beat = given(&table::PGNODE_FAILOVER_BEAT, &raw.pgnode_failover_beat);
        let lease = given(&table::PGNODE_FAILOVER_LEASE, &raw.pgnode_failover_lease);
        let close = given(&table::PGNODE_FAILOVER_CLOSE, &raw.pgnode_failover_close);
        let promise = given(
            &table::PGNODE_FAILOVER_PROMISE,
            &raw.pgnode_failover_promise,
        );
        let mut timing = Timing::of(profile?);
        let parts: [(&mut Duration, Option<Duration>); 4] = [
            (&mut timing.beat, beat?),
            (&mut timing.lease, lease?),
            (&mut timing.close, close?),
            (&mut timing.promise, promise?),
        ];
        for (part, given) in parts {
            *part = given.unwrap_or(*part);
        }
        match timing.check() {
            Ok(()) => Some(timing),
            Err(fault) => {
                let (var, value, remedy) = remedy(&fault);
                self.wrong_with(var, value.as_deref(), &rule(&fault), remedy);
                None
            }
        }
    }

    pub(super) fn synchronous(
        &mut self,
        raw: &RawEnv,
        kind: Option<NodeKind>,
    ) -> Option<Synchronous> {
        let quorum = self.fixed(
            &table::PGNODE_SYNCHRONOUS,
            raw.pgnode_synchronous.as_deref(),
            quorum,
        );
        let strict = self.fixed(
            &table::PGNODE_SYNCHRONOUS_STRICT,
            raw.pgnode_synchronous_strict.as_deref(),
            rules::boolean,
        );
        let given = Synchronous {
            quorum: quorum?,
            strict: strict?,
        };
        if given.strict && given.quorum == Quorum::Off {
            self.sources.note(
                "PGNODE_SYNCHRONOUS_STRICT=true does nothing while PGNODE_SYNCHRONOUS is off"
                    .to_owned(),
            );
        }
        // Nobody streams from a witness.
        Some(match kind {
            Some(kind) if kind.is_witness() => Synchronous::default(),
            Some(_) | None => given,
        })
    }
}

/// More than any cluster has; PostgreSQL's own limit is far beyond.
const MOST_STANDBYS: usize = 100;

fn quorum(text: &str) -> Ruled<Quorum> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "off" => return Ok(Quorum::Off),
        "on" => return Ok(Quorum::On),
        _ => {}
    }
    text.strip_prefix("quorum:")
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|n| n.parse().ok())
        .filter(|n| (1..=MOST_STANDBYS).contains(n))
        .map(Quorum::Of)
        .ok_or_else(|| {
            format!("is none of off, on, quorum:<n> with a number from 1 to {MOST_STANDBYS}")
        })
}

fn profile(text: &str) -> Ruled<Profile> {
    match text.trim().to_ascii_lowercase().as_str() {
        "fast" => Ok(Profile::Fast),
        "default" => Ok(Profile::Default),
        "cautious" => Ok(Profile::Cautious),
        _ => Err("is none of fast, default, cautious".to_owned()),
    }
}

fn rule(fault: &TimingFault) -> String {
    format!("does not fit: {fault}")
}

fn remedy(fault: &TimingFault) -> (&'static Var, Option<String>, String) {
    let ms = |time: &Duration| format!("{}ms", time.as_millis());
    match fault {
        TimingFault::Beat { beat, lease } => (
            &table::PGNODE_FAILOVER_LEASE,
            Some(ms(lease)),
            format!("make it at least {}", ms(&(*beat * 3))),
        ),
        TimingFault::Close(close) => (
            &table::PGNODE_FAILOVER_CLOSE,
            Some(ms(close)),
            "make it at least 200ms".to_owned(),
        ),
        TimingFault::Promise { promise, least } => (
            &table::PGNODE_FAILOVER_PROMISE,
            Some(ms(promise)),
            format!("make it at least {}, or the lease shorter", ms(least)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_waits_for() {
        for (text, want) in [
            ("off", Some(Quorum::Off)),
            (" ON ", Some(Quorum::On)),
            ("quorum:1", Some(Quorum::Of(1))),
            ("quorum:100", Some(Quorum::Of(100))),
            ("quorum:0", None),
            ("quorum:101", None),
            ("quorum:+1", None),
            ("quorum:", None),
            ("quorum", None),
            ("1", None),
            ("any", None),
            ("", None),
        ] {
            assert_eq!(quorum(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_witness_waits_for_nobody() {
        let load = |more: &[(&str, &str)]| {
            let mut vars = vec![("PGNODE_SYNCHRONOUS_STRICT", "true")];
            vars.extend(more);
            let vars = vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            let around = crate::config::Surroundings::bare("box");
            crate::config::Config::from_vars(vars, &around).unwrap()
        };
        let (config, sources) = load(&[]);
        let warnings = sources.warnings(&config).join("\n");
        assert!(warnings.contains("does nothing while PGNODE_SYNCHRONOUS is off"));
        let (config, sources) = load(&[("PGNODE_SYNCHRONOUS", "on")]);
        assert_eq!(config.synchronous.quorum, Quorum::On);
        assert!(config.synchronous.strict);
        assert!(!sources.warnings(&config).join("\n").contains("SYNCHRONOUS"));
        let (config, _) = load(&[
            ("PGNODE_SYNCHRONOUS", "on"),
            ("PGNODE_ROLE", "witness"),
            ("REPMGR_PARTNER_NODES", "pg1"),
        ]);
        assert_eq!(config.synchronous, Synchronous::default());
    }
}
