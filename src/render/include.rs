//! The one line that PGDATA/postgresql.conf gets.

use super::quote::{self, Unwritable};
use crate::config::Config;

/// The line that makes PostgreSQL read our file; `if_exists`, so that the cluster still starts by
/// hand where pgnode is not.
///
/// # Errors
/// The run directory's name cannot be written into a configuration file.
pub fn managed_include_line(config: &Config) -> Result<String, Unwritable> {
    let path = super::RunFiles::of(config).postgresql_conf;
    let path = path.to_str().ok_or(Unwritable {
        format: "postgresql.conf",
        what: "a path that is not UTF-8",
    })?;
    Ok(format!("include_if_exists = {}", quote::conf(path)?))
}

/// `existing` with `line` as its last; `None` when it is there already, wherever the user moved it.
#[must_use]
pub fn with_include(existing: &str, line: &str) -> Option<String> {
    if existing.lines().any(|l| l.trim() == line) {
        return None;
    }
    let gap = if existing.is_empty() || existing.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{existing}{gap}{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "include_if_exists = '/run/pgnode/postgresql.conf'";

    #[test]
    fn the_line_goes_to_the_end_once() {
        for (before, after) in [
            ("", format!("{LINE}\n")),
            ("a = 1\n", format!("a = 1\n{LINE}\n")),
            ("a = 1", format!("a = 1\n{LINE}\n")),
            // Commented out by somebody: ours is needed all the same.
            (
                "#include_if_exists = '/run/pgnode/postgresql.conf'\n",
                format!("#{LINE}\n{LINE}\n"),
            ),
        ] {
            assert_eq!(with_include(before, LINE), Some(after));
        }
        assert_eq!(with_include(&format!("  {LINE}\r\nport = 1\n"), LINE), None);
    }

    proptest! {
        #[test]
        fn twice_is_once_and_nothing_is_lost(text in "(?s).{0,80}") {
            let first = with_include(&text, LINE);
            let now = first.clone().unwrap_or_else(|| text.clone());
            prop_assert!(now.starts_with(&text));
            prop_assert_eq!(with_include(&now, LINE), None);
        }
    }
}
