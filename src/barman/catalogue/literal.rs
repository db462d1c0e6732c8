//! Python literals, as far as barman writes them for tablespaces: a list of `(name, oid, location)`.
//! Anything else is refused: a wrong location would be restored over somebody's files.

use std::iter::Peekable;
use std::str::Chars;

/// `[('ts1', 16385, '/srv/ts1'), ("t's", 16386, '/srv/ts two')]`, as `repr` writes it; `[]` is none.
///
/// # Errors
/// What was expected, and the rest of the text where it was not found.
pub(super) fn tablespaces(text: &str) -> Result<Vec<(String, u32, String)>, String> {
    let mut reader = Reader {
        rest: text.chars().peekable(),
    };
    let mut all = Vec::new();
    reader.expect('[')?;
    while !reader.took(']') {
        if !all.is_empty() {
            reader.expect(',')?;
        }
        reader.expect('(')?;
        let name = reader.string()?;
        reader.expect(',')?;
        let oid = reader.number()?;
        reader.expect(',')?;
        let location = reader.string()?;
        reader.expect(')')?;
        all.push((name, oid, location));
    }
    match reader.rest.next() {
        None => Ok(all),
        Some(_) => Err("something follows the list".to_owned()),
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while self.rest.next_if(|c| *c == ' ').is_some() {}
    }

    fn took(&mut self, wanted: char) -> bool {
        self.blanks();
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.took(wanted) {
            true => Ok(()),
            false => Err(format!("`{wanted}` expected at `{}`", self.here())),
        }
    }

    fn here(&self) -> String {
        self.rest.clone().take(20).collect()
    }

    fn number(&mut self) -> Result<u32, String> {
        self.blanks();
        let here = self.here();
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits
            .parse()
            .map_err(|_| format!("an oid expected at `{here}`"))
    }

    fn string(&mut self) -> Result<String, String> {
        self.blanks();
        let quote = self
            .rest
            .next_if(|c| matches!(c, '\'' | '"'))
            .ok_or_else(|| format!("a quoted text expected at `{}`", self.here()))?;
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err("a text without an end".to_owned()),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    /// The escapes that Python's `repr` of a text uses.
    fn escaped(&mut self) -> Result<char, String> {
        match self.rest.next() {
            Some(c @ ('\\' | '\'' | '"')) => Ok(c),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('x') => self.code(2),
            Some('u') => self.code(4),
            Some('U') => self.code(8),
            other => Err(format!("an escape that is not known: \\{other:?}")),
        }
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let mut text = String::new();
        for _ in 0..digits {
            text.extend(self.rest.next_if(char::is_ascii_hexdigit));
        }
        Some(&text)
            .filter(|t| t.len() == digits)
            .and_then(|t| u32::from_str_radix(t, 16).ok())
            .and_then(char::from_u32)
            .ok_or_else(|| format!("`{text}` is not the code of a character"))
    }
}

#[cfg(test)]
mod tests {
    use super::tablespaces;

    #[test]
    fn tablespaces_are_read_as_python_writes_them() {
        let text = r#"[('ts1', 16385, '/lab/ts1'), ("t's", 16386, '/lab/ts two'), ('a"\'b', 3, '/x\\y\n\xe9\u2028\U0001f600')]"#;
        let read = tablespaces(text).unwrap();
        assert_eq!(read[0], ("ts1".into(), 16385, "/lab/ts1".into()));
        assert_eq!(read[1], ("t's".into(), 16386, "/lab/ts two".into()));
        assert_eq!(
            read[2],
            ("a\"'b".into(), 3, "/x\\y\né\u{2028}\u{1f600}".into())
        );
        assert_eq!(tablespaces("[]"), Ok(vec![]));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "None",
            "[",
            "[(]",
            "[('a', 1, '/a')",
            "[('a', 1, '/a')] + []",
            "[('a', -1, '/a')]",
            "[('a', 1, None)]",
            "[('a', 1)]",
            "[('a', 1, '/a') ('b', 2, '/b')]",
            "[('a', 4294967296, '/a')]",
            "[('a', 1, b'/a')]",
            "[('a', 1, '/a\\q')]",
            "[('a', 1, '/a\\x4')]",
            "[('a', 1, '/a\\ud800')]",
            "[Tablespace(name='a', oid=1, location='/a')]",
        ] {
            assert!(tablespaces(text).is_err(), "{text}");
        }
    }
}
