//! Steps 1 and 2: who is let in where.

use crate::doctor::ailments::{self, Ailment};
use crate::doctor::facts::NodeLogin;
use crate::doctor::finding::Finding;
use crate::pg::Refusal;

/// One ssh login: to whom, and why it failed. `out` is barman to a node.
#[must_use]
pub fn ssh(out: bool, host: &str, port: u16, ended: Result<(), &str>) -> Finding {
    let ailment: &'static Ailment = if out {
        &ailments::SSH_OUT
    } else {
        &ailments::SSH_BACK
    };
    let tried = format!("ssh -p {port} {host}, with the keys of PGNODE_SSH_KEYS only");
    match ended {
        Ok(()) => Finding::pass(1, ailment.check, &tried, "let in").about(host),
        Err(why) => {
            let port = port.to_string();
            Finding::of(ailment, &tried, why, &[("host", host), ("port", &port)]).about(host)
        }
    }
}

/// Step 2: every node's logins, its rights, and that one of them is the primary.
#[must_use]
pub fn logins(nodes: &[NodeLogin], pgpass: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in nodes {
        let host = node.address.to_string();
        let tried = |user: &str| format!("logging in to {host} as {user} with its password");
        match &node.plain {
            Ok(facts) => {
                let role = if facts.standby {
                    "a standby"
                } else {
                    "the primary"
                };
                let what = format!("let in; it is {role}");
                found.push(login_passed(&tried("barman"), &what, &host, "barman"));
                found.extend(rights(facts, &host));
            }
            Err(refusal) => found.push(refused(refusal, &host, "barman", pgpass, &tried("barman"))),
        }
        let user = "barman_streaming";
        let tried = format!("{}, for replication", tried(user));
        found.push(match &node.streaming {
            Ok(()) => login_passed(&tried, "let in", &host, user),
            Err(refusal) => refused(refusal, &host, user, pgpass, &tried),
        });
    }
    let known = |n: &NodeLogin| n.plain.as_ref().is_ok_and(|f| !f.standby);
    let primaries = nodes.iter().filter(|n| known(n)).count();
    if primaries == 0 && nodes.iter().any(|n| n.plain.is_ok()) {
        let tried = "asking each node whether it is in recovery";
        found.push(Finding::of(&ailments::NO_PRIMARY, tried, "", &[]));
    }
    found
}

fn login_passed(tried: &str, what: &str, host: &str, user: &str) -> Finding {
    Finding::pass(2, "login", tried, what).about(&format!("{user} at {host}"))
}

fn refused(refusal: &Refusal, host: &str, user: &str, pgpass: &str, tried: &str) -> Finding {
    let ailment: &'static Ailment = match refusal {
        Refusal::Password(_) => &ailments::PASSWORD,
        Refusal::Hba(_) => &ailments::HBA,
        Refusal::NoLogin(_) => &ailments::NO_LOGIN,
        Refusal::NotReplication(_) => &ailments::NOT_REPLICATION,
        Refusal::Unreachable(_) => &ailments::UNREACHABLE,
        Refusal::Other(_) => &ailments::LOGIN,
    };
    let variable = if user == "barman" {
        "BARMAN_PASSWORD"
    } else {
        "BARMAN_STREAMING_PASSWORD"
    };
    let words = [
        ("host", host),
        ("user", user),
        ("variable", variable),
        ("pgpass", pgpass),
    ];
    Finding::of(ailment, tried, refusal.words(), &words).about(&format!("{user} at {host}"))
}

fn rights(facts: &crate::doctor::facts::ServerFacts, host: &str) -> Vec<Finding> {
    let tried = "asking the server which rights barman has";
    if facts.missing.is_empty() {
        return vec![Finding::pass(2, "rights", tried, "all that it needs").about(host)];
    }
    let one = |(grant, sql): &(String, String)| {
        let words = [("grant", grant.as_str()), ("sql", sql), ("host", host)];
        Finding::of(&ailments::GRANT, tried, "", &words).about(host)
    };
    facts.missing.iter().map(one).collect()
}

/// Step 2: barman's password file. `found` is who owns it, its mode and whether it holds the passwords
/// that are configured; `None` when it cannot be read.
#[must_use]
pub fn password_file(pgpass: &str, account: u32, found: Option<(u32, u32, bool)>) -> Finding {
    let tried = format!("reading {pgpass}");
    let wrong = |seen: &str| Finding::of(&ailments::PGPASS, &tried, seen, &[("pgpass", pgpass)]);
    match found {
        None => wrong("it is not there"),
        Some((owner, _, _)) if owner != account => wrong("it is not barman's"),
        Some((_, mode, _)) if mode & 0o077 != 0 => wrong(&format!(
            "its mode is {:04o}, others may read it",
            mode & 0o7777
        )),
        Some((_, _, false)) => {
            wrong("it does not hold BARMAN_PASSWORD and BARMAN_STREAMING_PASSWORD as they are set")
        }
        Some((_, _, true)) => Finding::pass(2, "password file", &tried, "as it should be"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::doctor::Verdict;
    use crate::doctor::facts::ServerFacts;

    fn node(
        host: &str,
        plain: Result<ServerFacts, Refusal>,
        streaming: Result<(), Refusal>,
    ) -> NodeLogin {
        let host = host.to_owned();
        NodeLogin {
            address: Address { host, port: 5432 },
            plain,
            streaming,
        }
    }

    fn primary() -> ServerFacts {
        ServerFacts::default()
    }

    #[test]
    fn a_primary_and_a_standby_that_let_barman_in_are_well() {
        let standby = ServerFacts {
            standby: true,
            ..primary()
        };
        let found = logins(
            &[
                node("pg1", Ok(primary()), Ok(())),
                node("pg2", Ok(standby), Ok(())),
            ],
            "/p",
        );
        assert_eq!(found.len(), 6);
        assert!(
            found.iter().all(|f| f.verdict == Verdict::Pass),
            "{found:#?}"
        );
        assert_eq!(found[3].why, "let in; it is a standby");
    }

    #[test]
    fn each_refusal_has_its_cause_and_its_remedy() {
        let no = || "no".to_owned();
        for (refusal, id, remedy) in [
            (
                Refusal::Password(no()),
                "wrong-password",
                "set BARMAN_PASSWORD to the same value on the nodes and where barman runs, and restart both: the primary sets the role's password at its start, and barman's .pgpass (/p) is written at the start",
            ),
            (
                Refusal::Hba(no()),
                "pg-hba",
                "set BARMAN_MODE=remote on the nodes where barman runs elsewhere (local lets barman in from 127.0.0.1 only), and remove what rejects barman from the files in pg_hba.d; `pgnode reload` on pg1:5432 applies it",
            ),
            (
                Refusal::NoLogin(no()),
                "role-cannot-log-in",
                "set BARMAN_MODE=local or remote on the nodes and restart the primary, which then gives the role its LOGIN",
            ),
            (
                Refusal::Unreachable(no()),
                "unreachable",
                "look at `docker exec <node> pgnode status` there, and check the address (BARMAN_SERVERS, REPMGR_SLAVES or REPMGR_NODE_NETWORK_NAME) and the network between the containers",
            ),
            (
                Refusal::Other(no()),
                "login-refused",
                "look at the log of pg1:5432: `docker logs <node>`",
            ),
        ] {
            let found = logins(&[node("pg1", Err(refusal), Ok(()))], "/p");
            assert_eq!(found[0].ailment, Some(id));
            assert_eq!(found[0].remedy.as_deref(), Some(remedy));
            assert!(found[0].why.starts_with("no: "), "{}", found[0].why);
        }
        let lost = Refusal::NotReplication(no());
        let found = logins(&[node("pg1", Ok(primary()), Err(lost))], "/p");
        assert_eq!(
            found[2].remedy.as_deref(),
            Some("as the superuser on the primary: ALTER ROLE barman_streaming REPLICATION")
        );
        let wrong = Refusal::Password(no());
        let found = logins(&[node("pg1", Ok(primary()), Err(wrong))], "/p");
        let remedy = found[2].remedy.as_deref().unwrap();
        assert!(
            remedy.starts_with("set BARMAN_STREAMING_PASSWORD "),
            "{remedy}"
        );
    }

    #[test]
    fn a_missing_right_names_the_grant() {
        let facts = ServerFacts {
            missing: vec![(
                "EXECUTE on x()".into(),
                "GRANT EXECUTE ON FUNCTION x() TO barman".into(),
            )],
            ..primary()
        };
        let found = logins(&[node("pg1", Ok(facts), Ok(()))], "/p");
        assert_eq!(found[1].ailment, Some("missing-grant"));
        assert_eq!(
            found[1].remedy.as_deref(),
            Some(
                "as the superuser on the primary, in the database postgres: GRANT EXECUTE ON FUNCTION x() TO barman"
            )
        );
        assert_eq!(
            found[1].why,
            "the role barman lacks EXECUTE on x() on pg1:5432"
        );
    }

    #[test]
    fn standbys_alone_are_no_cluster() {
        let standby = ServerFacts {
            standby: true,
            ..primary()
        };
        let found = logins(&[node("pg1", Ok(standby), Ok(()))], "/p");
        assert_eq!(found.last().unwrap().ailment, Some("no-primary"));
    }

    #[test]
    fn a_password_file_that_libpq_passes_over_is_seen() {
        let is = |found| password_file("/p", 998, found);
        assert_eq!(is(Some((998, 0o100_600, true))).verdict, Verdict::Pass);
        for (found, seen) in [
            (None, "it is not there: "),
            (Some((0, 0o600, true)), "it is not barman's: "),
            (
                Some((998, 0o100_644, true)),
                "its mode is 0644, others may read it: ",
            ),
            (Some((998, 0o600, false)), "it does not hold "),
        ] {
            let f = is(found);
            assert!(f.why.starts_with(seen), "{}", f.why);
            assert_eq!(
                f.remedy.as_deref(),
                Some("restart this container, which writes the file anew")
            );
        }
    }

    #[test]
    fn ssh_names_the_keys_and_the_port() {
        let f = ssh(true, "pg1", 2222, Err("Permission denied (publickey)"));
        assert_eq!(f.ailment, Some("ssh-to-node"));
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "give both containers the same PGNODE_SSH_KEYS directory and check that PGNODE_SSH_PORT (2222) of pg1 can be reached; then restart the one that was changed"
            )
        );
        let f = ssh(false, "bm", 2222, Err("no"));
        assert_eq!(f.ailment, Some("ssh-to-barman"));
        assert_eq!(ssh(false, "bm", 2222, Ok(())).verdict, Verdict::Pass);
    }
}
