//! What may be asked of the other side over ssh.

use crate::domain::History;

/// A request, as `SSH_ORIGINAL_COMMAND` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whether one gets through at all: barman's own check.
    True,
    /// Whether the node is an open primary.
    IsPrimary,
    /// barman's rsync, reading. Its arguments; the paths come later, over the connection (`-s`).
    Rsync(Vec<String>),
    /// All metadata of a cluster's backups, as a tar of barman's own files.
    Catalogue(String),
    /// Which segments are archived; their size in bytes.
    Archive(String, u64),
    /// A WAL or history file, unpacked; the backup that must be in the catalogue.
    Wal(String, String, String),
    /// What a backup consists of.
    Entries(String, String),
    /// Its files, as a tar.
    Base(String, String),
    /// Takes a WAL file in: cluster, name, bytes, directory.
    PutWal(String, String, u64, String),
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of the requests that this key may make")]
pub struct Refused(pub String);

impl Request {
    /// What a barman host answers to a node.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn of_node(text: &str) -> Result<Self, Refused> {
        let refused = || Refused(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        let own = |word: &&str| (*word).to_owned();
        if words.iter().skip(1).take(2).any(|word| !is_word(word)) {
            return Err(refused());
        }
        match words.as_slice() {
            ["true"] => Ok(Self::True),
            ["catalogue", server] => Ok(Self::Catalogue(own(server))),
            ["archive", server, size] => Ok(Self::Archive(
                own(server),
                size.parse().map_err(|_| refused())?,
            )),
            ["wal", server, name, anchor] if is_wal(name) && is_word(anchor) => {
                Ok(Self::Wal(own(server), own(name), own(anchor)))
            }
            ["entries", server, id] => Ok(Self::Entries(own(server), own(id))),
            ["base", server, id] => Ok(Self::Base(own(server), own(id))),
            ["put-wal", server, name, size, into] if is_wal(name) => Ok(Self::PutWal(
                own(server),
                own(name),
                size.parse().map_err(|_| refused())?,
                own(into),
            )),
            _ => Err(refused()),
        }
    }

    /// What a data node answers to barman.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn of_barman(text: &str) -> Result<Self, Refused> {
        let refused = || Refused(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["true"] => Ok(Self::True),
            ["is-primary"] => Ok(Self::IsPrimary),
            ["rsync", "--server", "--sender", rest @ ..] if reads_only(rest) => {
                let args = words.iter().skip(1).map(|w| (*w).to_owned());
                Ok(Self::Rsync(args.collect()))
            }
            _ => Err(refused()),
        }
    }
}

/// The options that barman's rsync sends (seen with 3.13): a block of letters, `-s` among them, so that no
/// path stands here, and settings of speed. `--log-file` and its like could write.
fn reads_only(options: &[&str]) -> bool {
    let letters = |o: &str| {
        o.strip_prefix('-').is_some_and(|rest| {
            !rest.starts_with('-') && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
        })
    };
    let harmless = |o: &str| {
        let digits = |prefix| {
            o.strip_prefix(prefix)
                .is_some_and(|n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        letters(o) || digits("--bwlimit=") || digits("--timeout=") || o == "--numeric-ids"
    };
    options
        .first()
        .is_some_and(|first| letters(first) && first.starts_with("-s"))
        && options.iter().all(|o| harmless(o))
}

/// A server's name, a backup's id, a number.
fn is_word(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
}

/// A segment, also a partial one, a label or a history file.
pub(super) fn is_wal(name: &str) -> bool {
    if History::file_timeline(name).is_some() {
        return true;
    }
    let Some((digits, rest)) = name.split_at_checked(24) else {
        return false;
    };
    let hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'A'..=b'F'))
    };
    let label = |rest: &str| {
        rest.strip_prefix('.')
            .and_then(|r| r.strip_suffix(".backup"))
            .is_some_and(|offset| offset.len() == 8 && hex(offset))
    };
    hex(digits) && (rest.is_empty() || rest == ".partial" || label(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barman_may_read_and_do_nothing_else() {
        for good in [
            "true",
            "is-primary",
            "  rsync --server --sender -sLtpre.iLsfxCIvu",
            "rsync --server --sender -sLtprRe.iLsfxCIvu --bwlimit=1000",
        ] {
            assert!(Request::of_barman(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "sh",
            "true; rm -rf /",
            "rsync --server -sLtpre.iLsfxCIvu",
            "rsync --server --sender",
            "rsync --server --sender -Ltpre.iLsfxCIvu . /etc",
            "rsync --server --sender -sLtp --log-file=/x",
            "rsync --server --sender --daemon",
            "rsync --server --sender -sLtp --bwlimit=x",
            "catalogue main",
        ] {
            assert_eq!(Request::of_barman(bad), Err(Refused(bad.into())), "{bad}");
        }
    }

    #[test]
    fn a_node_may_ask_for_backups_and_bring_wal() {
        let put = "put-wal main 000000010000000000000004 16777216 /b/main/incoming";
        for good in [
            "true",
            "catalogue main",
            "archive main 16777216",
            "wal main 000000010000000000000004 20261121T030000",
            "wal main 00000002.history 20261121T030000",
            "entries main 20261121T030000",
            "base main 20261121T030000",
            put,
        ] {
            assert!(Request::of_node(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "catalogue ../x",
            "catalogue -x",
            "base main ../../etc",
            "wal main ../x 1",
            "wal main 000000010000000000000004 ../x",
            "archive main x",
            "put-wal main x 1 /b",
            "put-wal main 000000010000000000000004 -1 /b",
            "rsync --server --sender -sLtp",
        ] {
            assert_eq!(Request::of_node(bad), Err(Refused(bad.into())), "{bad}");
        }
        for name in [
            "000000010000000000000004.00000028.backup",
            "000000010000000000000004.partial",
        ] {
            assert!(is_wal(name), "{name}");
        }
        assert!(!is_wal("000000010000000000000004.tmp") && !is_wal("00000001000000000000000g"));
    }
}
