//! Quoting, one function for each format that is written. What a format cannot carry is an error,
//! never a mangled file. Errors name the format and the rule, not the value: it may be a password.

/// A value that a file format has no way to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format} cannot hold {what}")]
pub struct Unwritable {
    /// The format, as a person calls it.
    pub format: &'static str,
    /// What it cannot carry.
    pub what: &'static str,
}

type Quoted = Result<String, Unwritable>;

const fn no(format: &'static str, what: &'static str) -> Unwritable {
    Unwritable { format, what }
}

const NUL: char = '\0';

/// A string literal of postgresql.conf and repmgr.conf, quotes included. Both scanners
/// (PostgreSQL's `guc-file.l`, repmgr's copy `configfile-scan.l`) read `''`, `\\` and `\n`, and end
/// a string at a line break.
///
/// # Errors
/// The value holds a NUL.
pub fn conf(value: &str) -> Quoted {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            NUL => return Err(no("a configuration file", "a NUL character")),
            '\'' => out.push_str("''"),
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            c => out.push(c),
        }
    }
    out.push('\'');
    Ok(out)
}

/// The name of a PostgreSQL setting. The include directives look like settings and are not.
///
/// # Errors
/// It is none.
pub fn guc(name: &str) -> Quoted {
    let word = |part: &str| {
        let mut chars = part.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
    };
    let directive = ["include", "include_dir", "include_if_exists"]
        .iter()
        .any(|d| name.eq_ignore_ascii_case(d));
    if directive || name.split('.').count() > 2 || !name.split('.').all(word) {
        return Err(no("postgresql.conf", "a setting of such a name"));
    }
    Ok(name.to_owned())
}

/// libpq's keyword/value string (libpq-connect, "Keyword/Value Connection Strings"): values in
/// single quotes when they need it, `\` before `'` and `\`.
#[must_use]
pub fn conninfo<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=*".contains(c);
    let mut out = String::new();
    for (key, value) in pairs {
        let value = value.as_ref();
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(key.as_ref());
        out.push('=');
        if !value.is_empty() && value.chars().all(plain) {
            out.push_str(value);
            continue;
        }
        out.push('\'');
        for c in value.chars() {
            if matches!(c, '\'' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('\'');
    }
    out
}

/// A connection string for barman, which splits it at white space before libpq sees it
/// (`PostgreSQL.parse_dsn`), so no value may need quotes.
///
/// # Errors
/// One does.
pub fn barman_dsn(dsn: &str) -> Quoted {
    if dsn.contains(['\'', '\\']) {
        return Err(no(
            "a connection string of barman's",
            "white space or quotes in a value",
        ));
    }
    Ok(dsn.to_owned())
}

/// A field of a password file (libpq-pgpass): `\` before `:` and `\`.
///
/// # Errors
/// The value holds a line break or a NUL.
pub fn pgpass(value: &str) -> Quoted {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\n' | '\r' | NUL => return Err(no("a password file", "a line break or NUL")),
            ':' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A token of pg_hba.conf or pg_ident.conf, always in double quotes: `all`, `replication` and `+`
/// lose their meaning. A leading `/` keeps its own (a regular expression, since PostgreSQL 16).
///
/// # Errors
/// A leading `/`, a control character.
pub fn hba(value: &str) -> Quoted {
    if value.starts_with('/') {
        return Err(no("pg_hba.conf", "a name that begins with a slash"));
    }
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(no(
            "pg_hba.conf",
            "an empty name or one with control characters",
        ));
    }
    Ok(format!("\"{}\"", value.replace('"', "\"\"")))
}

/// A value of barman's ini files. `%` is refused: barman 3.10 and later interpolate twice and
/// earlier ones once, so there is no spelling that all read alike. Quotes around a value are taken
/// off by barman (`Config._QUOTE_RE`).
///
/// # Errors
/// A per cent sign, a control character.
pub fn ini(value: &str) -> Quoted {
    if value.contains('%') || value.chars().any(char::is_control) {
        return Err(no(
            "barman's configuration",
            "a per cent sign or control characters",
        ));
    }
    let quote = |c: char| c == '"' || c == '\'';
    if value.is_empty() || value == "None" || value.trim() != value || value.starts_with(quote) {
        return Ok(format!("\"{value}\""));
    }
    Ok(value.to_owned())
}

/// A name of barman's: the section of a server, and so the name of its file and directory.
///
/// # Errors
/// Other characters than letters, digits, `_`, `-`, `.`; the words barman keeps for itself.
pub fn section(value: &str) -> Quoted {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if value.is_empty() || value.starts_with('.') || !value.chars().all(plain) {
        return Err(no(
            "barman's configuration",
            "a server name with other characters than letters, digits, `_`, `-` and `.`",
        ));
    }
    if matches!(value, "barman" | "all" | "DEFAULT") {
        return Err(no(
            "barman's configuration",
            "a server with one of its own words for a name",
        ));
    }
    Ok(value.to_owned())
}

/// One word for a POSIX shell.
///
/// # Errors
/// The value holds a NUL.
pub fn shell(value: &str) -> Quoted {
    if value.contains(NUL) {
        return Err(no("a shell command", "a NUL character"));
    }
    Ok(shell_words::quote(value).into_owned())
}

/// A command in a crontab: `%` would end it, and cron takes only `\%` for a plain one (crontab(5)).
/// After another backslash it does not, so that is refused.
///
/// # Errors
/// A line break, a NUL, or `\%`.
pub fn cron(command: &str) -> Quoted {
    if command.contains(['\n', '\r', NUL]) || command.contains("\\%") {
        return Err(no(
            "a crontab",
            "a line break, NUL or escaped per cent sign",
        ));
    }
    Ok(command.replace('%', "\\%"))
}

/// The five time fields of a crontab line.
///
/// # Errors
/// Not five, or characters that no such field has.
pub fn cron_schedule(value: &str) -> Quoted {
    let fields: Vec<&str> = value.split_whitespace().collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "*,-/".contains(c);
    if fields.len() != 5 || !fields.iter().all(|f| f.chars().all(plain)) {
        return Err(no("a crontab", "a schedule that is not five plain fields"));
    }
    Ok(fields.join(" "))
}

/// The value of an environment line in a crontab. cron takes it literally up to the matching quote:
/// no variables, no escapes, at most 1000 bytes a line.
///
/// # Errors
/// A line break, a NUL, both kinds of quotes, or too long.
pub fn cron_env(value: &str) -> Quoted {
    if value.contains(['\n', '\r', NUL]) || value.len() > 900 {
        return Err(no(
            "a crontab",
            "an environment value with line breaks or beyond 900 bytes",
        ));
    }
    match (value.contains('"'), value.contains('\'')) {
        (false, _) => Ok(format!("\"{value}\"")),
        (true, false) => Ok(format!("'{value}'")),
        (true, true) => Err(no(
            "a crontab",
            "an environment value with both kinds of quotes",
        )),
    }
}

/// The name of an account, as a field of a crontab and a value of barman's.
///
/// # Errors
/// Other characters than useradd(8) lets one have.
pub fn account(value: &str) -> Quoted {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
    if value.is_empty() || !value.chars().all(plain) {
        return Err(no("a crontab", "an account of such a name"));
    }
    Ok(value.to_owned())
}

/// Text in a comment: one line.
#[must_use]
pub fn comment(value: &str) -> String {
    value
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A user's fragment of pg_hba.conf, taken over as it is. The blank line after it ends a
/// continuation (`\` at the end of its last line) that would swallow the line after.
///
/// # Errors
/// The text holds a NUL.
pub fn fragment(text: &str) -> Quoted {
    if text.contains(NUL) {
        return Err(no("pg_hba.conf", "a NUL character"));
    }
    Ok(format!("{}\n\n", text.trim_end_matches(['\n', '\r'])))
}

#[cfg(test)]
mod tests;
