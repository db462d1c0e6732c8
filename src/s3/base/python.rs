//! Values as Python's `repr` writes them: barman reads some keys of `backup.info` with `ast.literal_eval`.

/// A text: in single quotes, or in double ones when it has single ones and no double ones.
pub(super) fn text(value: &str) -> String {
    let quote = match (value.contains('\''), value.contains('"')) {
        (true, false) => '"',
        _ => '\'',
    };
    let mut out = String::from(quote);
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            // The line and paragraph separators would end the line for some readers.
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A list of values that are written already.
pub(super) fn list(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<String> = values.into_iter().collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_as_python_does() {
        for (value, repr) in [
            ("ts1", "'ts1'"),
            ("t's", "\"t's\""),
            ("a\"b", "'a\"b'"),
            ("a\"'b", "'a\"\\'b'"),
            ("x\\y\n\t\r", "'x\\\\y\\n\\t\\r'"),
            ("\u{1}é\u{7f}\u{2028}", "'\\x01é\\x7f\\u2028'"),
            ("", "''"),
        ] {
            assert_eq!(text(value), repr);
        }
        assert_eq!(list([text("a"), text("b")]), "['a', 'b']");
        assert_eq!(list([]), "[]");
    }
}
