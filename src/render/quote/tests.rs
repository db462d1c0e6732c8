//! Oracles: small readers written after the real ones, which must read back what was written.

use super::*;
use proptest::prelude::*;

/// `conninfo_parse` of libpq's fe-connect.c.
fn libpq(text: &str) -> Option<Vec<(String, String)>> {
    let s: Vec<char> = text.chars().collect();
    let (mut i, mut out) = (0, Vec::new());
    let space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    while i < s.len() {
        if space(s[i]) {
            i += 1;
            continue;
        }
        let mut name = String::new();
        while i < s.len() && s[i] != '=' {
            if space(s[i]) {
                return None;
            }
            name.push(s[i]);
            i += 1;
        }
        i += 1;
        let mut value = String::new();
        if s.get(i) == Some(&'\'') {
            i += 1;
            loop {
                match s.get(i)? {
                    '\'' => break i += 1,
                    '\\' => {
                        value.push(*s.get(i + 1)?);
                        i += 2;
                    }
                    c => {
                        value.push(*c);
                        i += 1;
                    }
                }
            }
        } else {
            while i < s.len() && !space(s[i]) {
                if s[i] == '\\' {
                    i += 1;
                }
                value.push(*s.get(i)?);
                i += 1;
            }
        }
        out.push((name, value));
    }
    Some(out)
}

/// `GUC_scanstr` after the lexer's rule `\'([^'\\\n]|\\.|\'\')*\'`; a byte more is not a string.
fn guc_string(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('\'')?.chars();
    let mut out = String::new();
    loop {
        match chars.next()? {
            '\n' => return None,
            '\'' => match chars.next() {
                None => return Some(out),
                Some('\'') => out.push('\''),
                Some(_) => return None,
            },
            '\\' => out.push(match chars.next()? {
                '\n' => return None,
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0'..='7' => return None,
                c => c,
            }),
            c => out.push(c),
        }
    }
}

/// `passwordFromFile`: the line break is taken off, then the password ends at a plain colon.
fn pgpass_field(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.trim_end_matches(['\n', '\r']).chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => break,
            '\\' => out.push(chars.next().unwrap_or('\\')),
            c => out.push(c),
        }
    }
    out
}

/// `next_token` of hba.c.
fn hba_token(line: &str) -> String {
    let (mut out, mut inside, mut was_quote) = (String::new(), false, false);
    for c in line.chars() {
        if !inside && (c.is_whitespace() || c == ',') {
            break;
        }
        if c != '"' || was_quote {
            out.push(c);
        }
        was_quote = inside && c == '"' && !was_quote;
        if c == '"' {
            inside = !inside;
        }
    }
    out
}

/// Python's configparser, then barman's `_QUOTE_RE`.
fn barman_value(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if text.len() >= 2 && text.starts_with(quote) && text.ends_with(quote) {
            return text[1..text.len() - 1].to_owned();
        }
    }
    text.to_owned()
}

/// `do_command.c`: `\%` is `%`, a plain `%` ends the command.
fn cron_command(text: &str) -> String {
    let (mut out, mut escaped) = (String::new(), false);
    for c in text.chars() {
        match (escaped, c) {
            (true, '%') => {
                out.pop();
                out.push('%');
            }
            (false, '%') => break,
            (_, c) => out.push(c),
        }
        escaped = !escaped && c == '\\';
    }
    out
}

const HARD: &[&str] = &[
    "plain",
    "",
    " ",
    "a b",
    "'",
    "\"",
    "\\",
    "$",
    "%",
    ":",
    "@",
    "it's",
    "\\'",
    "'\\",
    "a:b\\c",
    "p%41 'q' \"r\" $HOME `x` ;#",
    "пароль 密码 🔑",
    "tail ",
    " head",
    "\\\\",
    "''",
    "#x",
    "a=b",
    "=",
    "\t",
    "${x}",
    "{{ x }}",
    "%(x)s",
    "!",
    "&|<>",
    "~",
    "\u{a0}",
];

#[test]
fn hard_values_come_back_from_every_format() {
    for &value in HARD {
        let text = conninfo(&[("a", "1"), ("password", value), ("z", "2")]);
        let want = [("a", "1"), ("password", value), ("z", "2")];
        let want = want.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        assert_eq!(libpq(&text), Some(want), "{text}");
        assert_eq!(guc_string(&conf(value).unwrap()).as_deref(), Some(value));
        assert_eq!(
            pgpass_field(&format!("{}\n", pgpass(value).unwrap())),
            value
        );
        assert_eq!(shell_words::split(&shell(value).unwrap()).unwrap(), [value]);
        if let Ok(text) = hba(value) {
            assert_eq!(hba_token(&format!("{text} all")), value);
        }
        if let Ok(text) = ini(value) {
            assert_eq!(barman_value(&text), value);
        }
        if let Ok(text) = cron(value) {
            assert_eq!(cron_command(&text), value);
        }
    }
}

#[test]
fn what_needs_no_quotes_gets_none() {
    let text = conninfo(&[
        ("host", "pg-1.example"),
        ("port", "5432"),
        ("dbname", "repmgr"),
    ]);
    assert_eq!(text, "host=pg-1.example port=5432 dbname=repmgr");
    assert_eq!(
        conninfo(&[("host", ""), ("user", "a b")]),
        "host='' user='a b'"
    );
    assert_eq!(conninfo::<&str, &str>(&[]), "");
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    for refused in [
        conf("a\0b"),
        pgpass("a\nb"),
        pgpass("a\r"),
        hba("/x"),
        hba(""),
        hba("a\nb"),
        ini("50 %"),
        ini("a\nb"),
        section("a]b"),
        section(""),
        section("barman"),
        section("../x"),
        section("-\n"),
        cron("a\\%"),
        cron("a\nb"),
        cron_env("'\""),
        cron_schedule("* * * *"),
        cron_schedule("* * * * * root"),
        cron_schedule("* * * * %"),
        cron_schedule("@daily"),
        account("a b"),
        account(""),
        guc("include"),
        guc("Include_Dir"),
        guc("a b"),
        guc("a.b.c"),
        guc(""),
        guc("1a"),
        guc("a="),
        fragment("\0"),
        barman_dsn("passfile='/a b'"),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
    for fine in [
        guc("work_mem"),
        guc("pg_stat_statements.max"),
        section("pg-1.a_b"),
    ] {
        assert!(fine.is_ok(), "{fine:?}");
    }
    assert_eq!(
        cron_schedule(" 15  3 * * mon-fri,sun "),
        Ok("15 3 * * mon-fri,sun".into())
    );
    assert_eq!(comment("a\nb\tc"), "a b c");
}

proptest! {
    #[test]
    fn conninfo_is_read_back_by_libpq(values in prop::collection::vec("(?s)[^\0]{0,12}", 0..4)) {
        let pairs: Vec<(String, String)> =
            values.into_iter().enumerate().map(|(i, v)| (format!("k{i}"), v)).collect();
        prop_assert_eq!(libpq(&conninfo(&pairs)), Some(pairs));
    }

    #[test]
    fn conf_strings_nest_a_conninfo(value in "(?s)[^\0]{0,30}") {
        let inner = conninfo(&[("password", &value)]);
        let outer = conf(&inner).unwrap();
        prop_assert!(!outer.contains('\n'));
        let read = guc_string(&outer).unwrap();
        prop_assert_eq!(libpq(&read), Some(vec![("password".to_owned(), value)]));
    }

    #[test]
    fn a_password_file_gives_the_password_back(value in "[^\0\r\n]{0,30}") {
        prop_assert_eq!(pgpass_field(&pgpass(&value).unwrap()), value);
    }

    #[test]
    fn whatever_is_accepted_comes_back(value in "(?s).{0,20}") {
        if let Ok(text) = hba(&value) {
            prop_assert_eq!(hba_token(&text), value.clone());
        }
        if let Ok(text) = ini(&value) {
            prop_assert_eq!(barman_value(&text), value.clone());
            prop_assert!(!text.contains('\n'));
        }
        if let Ok(text) = cron(&value) {
            prop_assert_eq!(cron_command(&text), value.clone());
            prop_assert!(!text.contains('\n'));
        }
        if let Ok(text) = cron_env(&value) {
            prop_assert_eq!(&text[1..text.len() - 1], value.as_str());
            prop_assert!(!text[1..text.len() - 1].contains(&text[..1]));
        }
        if let Ok(text) = shell(&value) {
            prop_assert_eq!(shell_words::split(&text).unwrap(), vec![value]);
        }
    }
}
