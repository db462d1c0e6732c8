//! The file that says what a commit waits for: of its own, because it changes while the server runs.

use super::quote::{self, Unwritable};

/// The whole file, for a value of `synchronous_standby_names`.
///
/// # Errors
/// The value has a NUL.
pub fn synchronous_conf(names: &str) -> Result<String, Unwritable> {
    Ok(format!(
        "# Written by pgnode as standbys come and go (PGNODE_SYNCHRONOUS); changes are lost.\n\
         synchronous_standby_names = {}\n",
        quote::conf(names)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_for_the_file() {
        let text = synchronous_conf(r#"ANY 1 ("pg2", "o'b""\")"#).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            r#"synchronous_standby_names = 'ANY 1 ("pg2", "o''b""\\")'"#
        );
        assert!(synchronous_conf("a\0").is_err());
    }
}
