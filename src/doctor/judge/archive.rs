//! Step 5: the live `archive_command` against what barman reports.

use crate::doctor::ailments as a;
use crate::doctor::facts::Archiver;
use crate::doctor::finding::Finding;

/// Where an `archive_command` ships to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: the command is empty, or does nothing.
    Nowhere,
    /// A directory: of rsync, scp or cp.
    Directory(String),
    /// barman's own command on the other side, which looks the directory up there by this server's name.
    Server(String),
    /// Something that is not understood.
    Unknown,
}

/// Reads an `archive_command`.
#[must_use]
pub fn destination(command: &str) -> Destination {
    let Ok(words) = shell_words::split(command) else {
        return Destination::Unknown;
    };
    let Some(first) = words.first() else {
        return Destination::Nowhere;
    };
    if matches!(
        first.as_str(),
        "true" | "false" | "/bin/true" | "/bin/false" | ":" | "(disabled)"
    ) {
        return Destination::Nowhere;
    }
    // `barman-wal-archive HOST SERVER %p`, and `… put-wal SERVER` over ssh.
    let last_plain = words
        .iter()
        .rfind(|w| !w.starts_with('-') && !w.contains('%'));
    if first.ends_with("barman-wal-archive") || words.iter().any(|w| w.contains("put-wal")) {
        let server = last_plain.and_then(|w| w.split(' ').next_back());
        return server.map_or(Destination::Unknown, |s| Destination::Server(s.to_owned()));
    }
    let target = words.iter().rev().find_map(|word| {
        let path = word.split_once(':').map_or(word.as_str(), |(_, path)| path);
        let dir = path.strip_suffix("%f").unwrap_or(path);
        (dir.starts_with('/') && !dir.contains('%') && dir != first).then(|| trimmed(dir))
    });
    target.map_or(Destination::Unknown, Destination::Directory)
}

fn trimmed(dir: &str) -> String {
    let dir = dir.trim_end_matches('/');
    if dir.is_empty() { "/" } else { dir }.to_owned()
}

/// Step 5, of the primary. `incoming` is barman's `incoming_wals_directory`, where barman can be asked; `ours`
/// is the file that pgnode renders, where it is at hand.
#[must_use]
pub fn archive(
    live: &Archiver,
    server: &str,
    incoming: Option<&str>,
    ours: Option<&str>,
) -> Finding {
    let tried = format!("SHOW archive_command: {}", live.command);
    if live.pending_restart {
        return Finding::of(&a::ARCHIVE_PENDING, &tried, "", &[]);
    }
    let target = destination(&live.command);
    if live.mode == "off" || target == Destination::Nowhere {
        let seen = format!("archive_mode is {}", live.mode);
        return Finding::of(&a::ARCHIVE_OFF, &tried, &seen, &[]);
    }
    let elsewhere = |there: &str, here: &str| {
        let words = [("there", there), ("here", here)];
        Finding::of(&a::ARCHIVE_ELSEWHERE, &tried, "", &words)
    };
    match (&target, incoming) {
        (Destination::Directory(there), Some(here)) if *there != trimmed(here) => {
            return elsewhere(there, here);
        }
        (Destination::Server(name), _) if name != server => {
            return elsewhere(&format!("barman's {name}"), server);
        }
        _ => {}
    }
    if let (Some(ours), Some(source)) = (ours, live.source.as_deref())
        && source != ours
    {
        return Finding::of(&a::ARCHIVE_OVERRIDDEN, &tried, "", &[("there", source)]);
    }
    if target == Destination::Unknown && ours.is_none() {
        let why =
            "where this command ships to cannot be told from it; the round trip of step 6 shows it";
        return Finding::skip(5, "destination", why);
    }
    Finding::pass(5, "destination", &tried, "it ships to where barman looks")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn the_usual_commands_are_understood() {
        let dir = |d: &str| Destination::Directory(d.to_owned());
        for (command, want) in [
            ("", Destination::Nowhere),
            ("(disabled)", Destination::Nowhere),
            ("/bin/true", Destination::Nowhere),
            (
                "rsync -a %p barman@bm:/srv/main/incoming/%f",
                dir("/srv/main/incoming"),
            ),
            (
                "rsync -a -e 'ssh -p 2222' %p barman@bm:/srv/main/incoming/",
                dir("/srv/main/incoming"),
            ),
            ("test ! -f /a/%f && cp %p /a/%f", dir("/a")),
            (
                "barman-wal-archive -U barman bm main %p",
                Destination::Server("main".into()),
            ),
            (
                "ssh barman@bm 'barman put-wal main'",
                Destination::Server("main".into()),
            ),
            ("wal-g wal-push %p", Destination::Unknown),
            ("a 'b", Destination::Unknown),
        ] {
            assert_eq!(destination(command), want, "{command}");
        }
    }

    fn live(command: &str) -> Archiver {
        Archiver {
            mode: "on".into(),
            command: command.into(),
            source: Some("/run/pgnode/postgresql.conf".into()),
            ..Archiver::default()
        }
    }

    #[test]
    fn another_destination_is_named_with_what_mends_it() {
        let l = live("rsync %p barman@bm:/srv/other/incoming/%f");
        let f = archive(&l, "main", Some("/srv/main/incoming"), None);
        assert_eq!(
            f.why,
            "the live archive_command ships to /srv/other/incoming, and barman looks in /srv/main/incoming: WAL is lost to the backups"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "remove archive_command from your own settings (ALTER SYSTEM RESET archive_command; files in conf.d; -c), then `pgnode reload` on the primary: a reload is enough for archive_command, and only archive_mode needs a restart"
            )
        );
        let f = archive(&l, "main", Some("/srv/other/incoming/"), None);
        assert_eq!(f.verdict, Verdict::Pass);
        let f = archive(&live("barman-wal-archive bm other %p"), "main", None, None);
        assert_eq!(f.ailment, Some("archive-elsewhere"));
    }

    #[test]
    fn off_pending_and_overridden_are_told_apart() {
        let mut l = live("x");
        l.pending_restart = true;
        let f = archive(&l, "main", None, None);
        assert_eq!(f.ailment, Some("archive-restart-pending"));
        assert_eq!(
            f.remedy.as_deref(),
            Some("restart the primary's container: archive_mode needs a restart")
        );
        let f = archive(
            &Archiver {
                mode: "off".into(),
                ..live("x")
            },
            "main",
            None,
            None,
        );
        assert_eq!(f.ailment, Some("archive-off"));
        let auto = Archiver {
            source: Some("/data/postgresql.auto.conf".into()),
            ..live("x")
        };
        let f = archive(&auto, "main", None, Some("/run/pgnode/postgresql.conf"));
        assert_eq!(f.ailment, Some("archive-overridden"));
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "remove archive_command there (in postgresql.auto.conf: ALTER SYSTEM RESET archive_command), then SELECT pg_reload_conf(): a reload is enough"
            )
        );
        let f = archive(
            &live("x"),
            "main",
            None,
            Some("/run/pgnode/postgresql.conf"),
        );
        assert_eq!(f.verdict, Verdict::Pass);
        assert_eq!(
            archive(&live("x"), "main", None, None).verdict,
            Verdict::Skip
        );
    }
}
