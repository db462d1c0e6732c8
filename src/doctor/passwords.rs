//! barman's passwords: from the file that barman itself reads, where there is one.

use crate::config::{Config, Secret};
use crate::render::RunFiles;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The two passwords, and where they came from.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    /// Of `barman`.
    pub(super) plain: Secret,
    /// Of `barman_streaming`.
    pub(super) streaming: Secret,
    /// The file.
    pub(super) path: PathBuf,
    /// Its owner, its mode, and whether it holds what is configured; `None` without a file.
    pub(super) file: Option<(u32, u32, bool)>,
}

impl Passwords {
    /// A drill that cron started knows no secret of the container's: the file is all it has.
    pub(super) fn find(config: &Config) -> Self {
        let path = RunFiles::of(config).barman_pgpass;
        let text = std::fs::read_to_string(&path).ok();
        let from = |user: &str| {
            let password = text.as_ref()?.lines().find_map(|line| of(line, user))?;
            Some(Secret::new(password))
        };
        let (plain, streaming) = (from("barman"), from("barman_streaming"));
        let same = |found: &Option<Secret>, wanted: &Secret| {
            found
                .as_ref()
                .is_some_and(|f| f.reveal() == wanted.reveal())
        };
        let whole = same(&plain, &config.barman.password)
            && same(&streaming, &config.barman.streaming_password);
        let meta = std::fs::metadata(&path).ok();
        Self {
            file: meta.map(|meta| (meta.uid(), meta.mode(), whole)),
            plain: plain.unwrap_or_else(|| config.barman.password.clone()),
            streaming: streaming.unwrap_or_else(|| config.barman.streaming_password.clone()),
            path,
        }
    }
}

/// The password of a line `host:port:database:user:password` (PostgreSQL manual, "The Password File"):
/// `:` and `\` in a field have a backslash before them.
fn of(line: &str, user: &str) -> Option<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let more = fields.len() < 5;
        let field = fields.last_mut()?;
        match c {
            '\\' => field.extend(chars.next()),
            ':' if more => fields.push(String::new()),
            c => field.push(c),
        }
    }
    let [.., name, password] = fields.as_slice() else {
        return None;
    };
    (fields.len() == 5 && name == user).then(|| password.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_libpq_reads_it() {
        assert_eq!(
            of(r"*:*:*:barman:a\:b\\c:d", "barman").as_deref(),
            Some(r"a:b\c:d")
        );
        assert_eq!(of("h:1:db:barman_streaming:x", "barman"), None);
        assert_eq!(of("# comment", "barman"), None);
    }
}
