//! The rules of names: of the node, the superuser, the database.

use super::rules::Ruled;

/// Roles that pgnode makes; the superuser cannot be one of them.
const OUR_ROLES: [&str; 4] = ["repmgr", "repmgr_streaming", "barman", "barman_streaming"];

/// Words that barman's commands take for something else.
const BARMAN_WORDS: [&str; 11] = [
    "all",
    "auto",
    "barman",
    "first",
    "last",
    "last-failed",
    "last-full",
    "latest",
    "latest-full",
    "oldest",
    "repmgr",
];

/// PostgreSQL's longest name, in bytes (`NAMEDATALEN` - 1).
const NAME_MAX: usize = 63;

/// Also barman's server name, a file name and an `application_name`.
pub(super) fn node_name(text: &str) -> Ruled<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.len() > NAME_MAX
        || !text.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !text.chars().all(plain)
    {
        return Err(format!(
            "is not a node name: a letter or digit, then up to {} of a-z A-Z 0-9 _ . -",
            NAME_MAX - 1
        ));
    }
    if BARMAN_WORDS
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Err("is a word that barman or repmgr uses for something else".to_owned());
    }
    Ok(text.to_owned())
}

/// A name that every file and command line of PostgreSQL can carry in quotes.
fn identifier(text: &str) -> Ruled<()> {
    if text.len() > NAME_MAX {
        return Err(format!("is longer than PostgreSQL's {NAME_MAX} bytes"));
    }
    if text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
        return Err("holds a control character, a double quote or a backslash".to_owned());
    }
    if text.starts_with(['/', '+', '@']) {
        // pg_hba.conf and pg_ident.conf: a regular expression, a group, a file.
        return Err("begins with / + or @, which pg_hba.conf takes for something else".to_owned());
    }
    Ok(())
}

pub(super) fn superuser(text: &str) -> Ruled<String> {
    identifier(text)?;
    if OUR_ROLES.contains(&text) {
        return Err("is a role that pgnode makes, without superuser rights".to_owned());
    }
    if text.starts_with("pg_") || matches!(text, "public" | "none" | "all") {
        return Err("is a name that PostgreSQL keeps for itself".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn database(text: &str) -> Ruled<String> {
    identifier(text)?;
    match text {
        "repmgr" => Err("is repmgr's own database".to_owned()),
        "template0" | "template1" => Err("is a template of PostgreSQL's".to_owned()),
        // psql and libpq read a "database name" with = or :// as a connection string.
        _ if text.contains('=') || text.contains("://") => {
            Err("would be read as a connection string: it holds = or ://".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "n".repeat(64);
        for good in ["node1", "pg-2", "db.3", "7", "A_b", &long[1..]] {
            assert!(node_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-pg1", ".pg1", "_1", "pg 1", "pg/1", "pgä1", "pg1\n", "ALL", "latest", "barman",
            &long,
        ] {
            assert!(node_name(bad).is_err(), "{bad}");
        }
        for good in ["postgres", "my user", "o'neil", "Ünal", "a$b%c", &long[1..]] {
            assert!(superuser(good).is_ok(), "{good}");
        }
        for bad in [
            "repmgr",
            "repmgr_streaming",
            "barman",
            "barman_streaming",
            "pg_admin",
            "public",
            "none",
            "all",
            "/x",
            "+x",
            "@x",
            "a\"b",
            "a\\b",
            "a\nb",
            &long,
        ] {
            assert!(superuser(bad).is_err(), "{bad}");
        }
        for good in ["app", "my db", "all", "replication"] {
            assert!(database(good).is_ok(), "{good}");
        }
        for bad in [
            "repmgr",
            "template0",
            "template1",
            "a=b",
            "postgres://x",
            "a\0b",
            &long,
        ] {
            assert!(database(bad).is_err(), "{bad}");
        }
    }
}
