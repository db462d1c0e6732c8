//! Which names are ours, which are somebody else's, and which look like a slip of the pen.

use super::fault::{Faults, Problem, Wrong, printable};
use super::source::Sources;
use super::table::{TABLE, named};
use std::collections::BTreeMap;

/// Name spaces in which an unknown name is a fault.
pub(super) const PREFIXES: [&str; 4] = ["PGNODE_", "REPMGR_", "BARMAN_", "S3_"];

/// Names of the official image that pgnode has no use for; silence would be a surprise.
const UNUSED: [(&str, &str); 2] = [
    (
        "POSTGRES_HOST_AUTH_METHOD",
        "pg_hba.conf is pgnode's and asks for scram-sha-256; add rules in PGNODE_CONFIG_DIR/pg_hba.d",
    ),
    (
        "POSTGRES_INITDB_WALDIR",
        "WAL stays inside PGDATA, so that a new copy can be renamed into place",
    ),
];

/// The prefix of ours that a name has.
pub(super) fn prefix(name: &str) -> Option<&'static str> {
    PREFIXES.into_iter().find(|p| name.starts_with(p))
}

/// Whether a name is in the table, also by its `_FILE` form.
pub(super) fn known(name: &str) -> bool {
    named(name).is_some()
        || name
            .strip_suffix("_FILE")
            .and_then(named)
            .is_some_and(|var| var.from_file)
}

/// Checks every name that was given. Empty means unset, so an empty variable is passed over.
pub(super) fn check<'a>(
    vars: &BTreeMap<String, String>,
    not_text: impl Iterator<Item = &'a str>,
    faults: &mut Faults,
    sources: &mut Sources,
) {
    let text = vars.iter().filter(|(_, v)| !v.is_empty());
    for (name, value) in text
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .chain(not_text.map(|n| (n, "")))
    {
        if known(name) {
            continue;
        }
        if prefix(name).is_none() {
            if let Some(note) = stranger(name) {
                sources.note(note);
            }
            continue;
        }
        if injected_name(name, vars) {
            // The contract passes these over by name. Kubernetes and Docker put an URL into
            // `*_PORT`, so a bare number there is more likely a slip.
            if name.ends_with("_PORT")
                && !injected_value(value)
                && let Some(near) = suggest(name)
            {
                sources.note(format!(
                    "{} is passed over, as a name that Kubernetes may inject; was {near} meant?",
                    printable(name)
                ));
            }
            continue;
        }
        let suggestion = suggest(name);
        let remedy = suggestion.as_ref().map_or_else(
            || "remove it (`pgnode config` lists every variable)".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        faults.push(Wrong::outside(
            name,
            Problem::Unknown { suggestion },
            remedy,
        ));
    }
}

/// A word about a name outside our name spaces, if it looks like one of ours.
fn stranger(name: &str) -> Option<String> {
    if let Some((_, why)) = UNUSED
        .iter()
        .find(|(unused, _)| name.strip_suffix("_FILE").unwrap_or(name) == *unused)
    {
        return Some(format!("{name} has no effect here: {why}"));
    }
    // Short names differ by two letters from everything (PGHOST, PGPORT).
    if name.len() < 8 || name.len() > 64 {
        return None;
    }
    let plain = name.strip_suffix("_FILE").unwrap_or(name);
    let near = TABLE
        .iter()
        .filter(|var| !var.hidden && var.name.len() >= 8)
        // Kubernetes injects names by the thousand.
        .filter(|var| var.name.len().abs_diff(plain.len()) <= 2)
        .map(|var| (strsim::damerau_levenshtein(plain, var.name), var.name))
        .min()
        .filter(|(distance, _)| *distance <= 2)?;
    Some(format!(
        "{} has no effect; was {} meant?",
        printable(name),
        near.1
    ))
}

/// The known name that was probably meant.
fn suggest(name: &str) -> Option<String> {
    // Nobody's slip is that long, and the comparison is quadratic.
    if name.len() > 64 {
        return None;
    }
    let (plain, suffix) = name
        .strip_suffix("_FILE")
        .map_or((name, ""), |plain| (plain, "_FILE"));
    let (head, tail) = plain.split_once('_')?;
    TABLE
        .iter()
        .filter(|var| !var.hidden)
        .filter_map(|var| {
            let (their_head, their_tail) = var.name.split_once('_')?;
            let likeness = strsim::jaro_winkler(tail, their_tail);
            // In another name space only the same word counts: PGNODE_MASTER, BARMAN_NODE_NAME.
            let least = if head == their_head { 0.85 } else { 0.97 };
            (likeness >= least).then_some((likeness, head == their_head, var.name))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .map(|(_, _, near)| format!("{near}{suffix}"))
}

/// What Kubernetes services and Docker links inject by themselves.
fn injected_name(name: &str, vars: &BTreeMap<String, String>) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT") {
        return true;
    }
    if let Some((_, rest)) = name.split_once("_SERVICE_PORT")
        && (rest.is_empty() || rest.starts_with('_'))
    {
        return true;
    }
    // X_PORT_5432_TCP, X_PORT_5432_TCP_ADDR, _PORT, _PROTO
    if name.match_indices("_PORT_").any(|(at, sep)| {
        let rest = &name[at + sep.len()..];
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len()
            && ["_TCP", "_UDP", "_SCTP"].iter().any(|proto| {
                digits
                    .strip_prefix(proto)
                    .is_some_and(|end| end.is_empty() || end.starts_with('_'))
            })
    }) {
        return true;
    }
    // A Docker link also leaves X_NAME and X_ENV_*; X_PORT proves that there is one.
    let linked = |alias: &str| {
        vars.get(&format!("{alias}_PORT"))
            .is_some_and(|url| injected_value(url))
    };
    name.strip_suffix("_NAME").is_some_and(linked)
        || name
            .split_once("_ENV_")
            .is_some_and(|(alias, _)| linked(alias))
}

/// The form in which Kubernetes and Docker write a port: `tcp://10.0.0.7:5432`.
pub(super) fn injected_value(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(vars: &[(&str, &str)]) -> (Faults, Vec<String>) {
        let vars = vars
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let (mut faults, mut sources) = (Faults::default(), Sources::default());
        check(&vars, std::iter::empty(), &mut faults, &mut sources);
        let config = crate::config::tests::config(&[]);
        let notes = sources.warnings(&config).split_off(1);
        (faults.sorted(), notes)
    }

    #[test]
    fn a_slip_is_met_with_a_suggestion() {
        for (name, want) in [
            ("REPMGR_PASWORD", Some("REPMGR_PASSWORD")),
            ("REPMGR_PASWORD_FILE", Some("REPMGR_PASSWORD_FILE")),
            ("REPMGR_PARTNERS", Some("REPMGR_PARTNER_NODES")),
            ("REPMGR_PARTNER_NODE", Some("REPMGR_PARTNER_NODES")),
            ("REPMGR_SLAVE", Some("REPMGR_SLAVES")),
            ("PGNODE_MASTER", Some("REPMGR_MASTER")),
            ("BARMAN_NODE_NAME", Some("REPMGR_NODE_NAME")),
            ("PGNODE_HTTP_ADDRESS", Some("PGNODE_HTTP_ADDR")),
            ("PGNODE_PGDATA", None),
            ("BARMAN_RETENTION_POLICY", Some("BARMAN_RETENTION")),
            ("BARMAN_FOO", None),
            ("REPMGR_", None),
            ("PGNODE_ÜBER", None),
            ("PGNODE_TEST_HOLDS", None),
        ] {
            let (faults, _) = faults(&[(name, "x")]);
            assert_eq!(
                faults.list()[0].problem,
                Problem::Unknown {
                    suggestion: want.map(Into::into)
                },
                "{name}"
            );
        }
    }

    #[test]
    fn what_kubernetes_and_docker_inject_is_passed_over() {
        let (faults, notes) = faults(&[
            ("REPMGR_SERVICE_HOST", "10.0.0.1"),
            ("REPMGR_PRIMARY_SERVICE_HOST", "10.0.0.1"),
            ("REPMGR_SERVICE_PORT", "5432"),
            ("REPMGR_SERVICE_PORT_HTTP", "80"),
            ("BARMAN_PORT", "tcp://10.0.0.1:22"),
            ("BARMAN_PORT_22_TCP", "tcp://10.0.0.1:22"),
            ("BARMAN_PORT_22_TCP_ADDR", "10.0.0.1"),
            ("BARMAN_PORT_22_TCP_PORT", "22"),
            ("BARMAN_PORT_22_TCP_PROTO", "tcp"),
            ("BARMAN_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("BARMAN_NAME", "/pg1/barman"),
            ("BARMAN_ENV_PATH", "/bin"),
            ("S3_SERVICE_HOST", "10.0.0.1"),
            ("PGNODE_EMPTY", ""),
            ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            ("HOME", "/root"),
        ]);
        assert!(faults.is_empty(), "{faults}");
        assert_eq!(notes, Vec::<String>::new());
        let (wrong, _) = self::faults(&[
            ("REPMGR_NAME", "x"),
            ("REPMGR_ENV_X", "x"),
            ("REPMGR_PORT_NUMBER", "5432"),
            ("REPMGR_PORT_X_TCP", "5432"),
            ("REPMGR_SERVICE_PORTAL", "x"),
        ]);
        assert_eq!(wrong.list().len(), 5, "{wrong}");
    }

    #[test]
    fn a_likely_slip_elsewhere_is_a_note_and_not_a_fault() {
        let (faults, notes) = faults(&[
            ("POSTGRES_PASWORD", "x"),
            ("POSTGRES_PASSWORD_FLIE", "x"),
            ("POSTGRES_SOMETHING", "x"),
            ("POSTGRES_HOST_AUTH_METHOD", "trust"),
            ("REPMRG_PASSWORD", "x"),
            ("REPMGR_PRIMRY_PORT", "5433"),
            ("PGHOST", "x"),
        ]);
        assert!(faults.is_empty(), "{faults}");
        insta::assert_snapshot!(notes.join("\n"), @r"
        POSTGRES_HOST_AUTH_METHOD has no effect here: pg_hba.conf is pgnode's and asks for scram-sha-256; add rules in PGNODE_CONFIG_DIR/pg_hba.d
        POSTGRES_PASWORD has no effect; was POSTGRES_PASSWORD meant?
        REPMGR_PRIMRY_PORT is passed over, as a name that Kubernetes may inject; was REPMGR_PRIMARY_PORT meant?
        REPMRG_PASSWORD has no effect; was REPMGR_PASSWORD meant?
        ");
    }
}
