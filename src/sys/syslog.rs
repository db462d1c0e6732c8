//! `/dev/log`: what cron, PAM and `logger` say by syslog(3), as events.
//!
//! glibc and cron send datagrams `<PRI>Mon DD HH:MM:SS tag[pid]: text`, local time, no host name.

use super::limit::{Flood, Rate};
use super::log;
use super::parse::{Format, Piece};
use super::pump::{self, Gate};
use super::said::Said;
use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::Instant;
use tracing::Level;

/// Longest datagram that is read; syslog(3) itself cuts at 8 KiB.
const LONGEST: usize = 16 * 1024;
/// Anybody in the container may write here, so each tag is limited.
const RATE: Rate = Rate {
    burst: 500,
    every: Duration::from_millis(20),
};
/// Tags that are told apart.
const TAGS: usize = 32;
/// Running jobs whose command is remembered.
const JOBS: usize = 64;

/// Makes the socket, mode 0666 (PAM logs there in jobs of other users), and logs its datagrams in a
/// task. A socket that an earlier run left is replaced. Call it before cron starts.
///
/// # Errors
/// The path cannot be bound (not root, a real syslogd), or is something else than a socket.
pub fn listen(path: &Path) -> std::io::Result<()> {
    let socket = bind(path)?;
    tokio::spawn(serve(socket));
    Ok(())
}

fn bind(path: &Path) -> std::io::Result<UnixDatagram> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        // systemd's images leave a link to nowhere.
        Ok(found) if found.is_symlink() && !path.exists() => std::fs::remove_file(path)?,
        Ok(_) => return Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// Logs every datagram, until the end of the log.
async fn serve(socket: UnixDatagram) {
    let mut pass = log::pump_pass();
    let mut ending = false;
    let mut buffer = vec![0_u8; LONGEST];
    let mut desk = Desk::default();
    let began = Instant::now();
    loop {
        let due = desk.due().map(|d| began + d);
        tokio::select! {
            biased;
            received = socket.recv(&mut buffer) => match received {
                Ok(n) => {
                    let text = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default());
                    desk.take(&text, began.elapsed(), &mut |said| said.log());
                }
                // Nothing that recv can say here is for ever; not to spin on it.
                Err(why) => {
                    tracing::debug!(error = &why as &dyn std::error::Error, "/dev/log");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            () = log::told_to_end(&mut pass), if !ending => ending = true,
            () = tokio::time::sleep(pump::DRAINED), if ending => return,
            () = tokio::time::sleep_until(due.unwrap_or(began)), if due.is_some() => {
                desk.settle(began.elapsed(), &mut |said| said.log());
            }
        }
        log::room().await;
    }
}

/// What is remembered between datagrams.
#[derive(Debug, Default)]
struct Desk {
    gates: HashMap<String, Gate>,
    /// cron reports a failure by pid only: `([19] command)` came before.
    jobs: VecDeque<(String, String, String)>,
}

impl Desk {
    fn take(&mut self, datagram: &str, now: Duration, out: &mut impl FnMut(Said)) {
        // Several lines in one datagram are one message; glibc adds a newline, and NUL over TCP.
        let datagram = datagram.trim_end_matches(['\n', '\0']);
        if let Some(said) = self.read(datagram) {
            let source = said.source.to_string();
            let full = self.gates.len() >= TAGS && !self.gates.contains_key(&source);
            let key = if full { String::new() } else { source };
            let gate = self.gates.entry(key).or_insert_with_key(|key| Gate {
                flood: Some(Flood::of_all(RATE)),
                source: key.clone().into(),
            });
            gate.pass(said, now, out);
        }
    }

    fn due(&self) -> Option<Duration> {
        let each = self.gates.values().filter_map(|g| g.flood.as_ref());
        each.filter_map(Flood::due).min()
    }

    fn settle(&mut self, now: Duration, out: &mut impl FnMut(Said)) {
        for gate in self.gates.values_mut() {
            gate.settle(now, out);
        }
    }

    fn read(&mut self, datagram: &str) -> Option<Said> {
        let Datagram {
            priority,
            tag,
            pid,
            text,
        } = Datagram::parse(datagram);
        if text.trim().is_empty() {
            return None;
        }
        let mut said = match tag {
            "cron" | "CRON" | "crond" => self.cron(priority, text),
            "barman" => barman(priority, text),
            "" => Said::new("syslog", by_priority(priority), text),
            tag => Said::new(tag.to_owned(), by_priority(priority), text),
        };
        said.pid = said.pid.or(pid);
        Some(said)
    }

    /// `(user) WORD (text)`, else a sentence. Every job says CMD and END, and PAM opens and closes a
    /// session for it: what happens each minute as it should is for debugging.
    fn cron(&mut self, priority: u8, text: &str) -> Said {
        const AUTHPRIV: u8 = 10;
        let level = by_priority(priority);
        if priority >> 3 == AUTHPRIV && level == Level::INFO {
            return Said::new("crond", Level::DEBUG, text);
        }
        let mut said = Said::new("crond", level, text);
        let Some((user, word, inner)) = job_line(text) else {
            return said;
        };
        match word {
            "CMD" => {
                said.level = Level::DEBUG;
                if let Some((pid, command)) = numbered(inner) {
                    self.jobs.truncate(JOBS - 1);
                    self.jobs
                        .push_front((pid.to_owned(), user.to_owned(), command.to_owned()));
                }
            }
            "END" => {
                said.level = Level::DEBUG;
                if let Some((pid, _)) = numbered(inner) {
                    self.jobs.retain(|(p, _, _)| p != pid);
                }
            }
            // `grandchild #19 failed with exit status 3`
            "error" | "ERROR" | "FAILED" => {
                said.level = level.min(Level::WARN);
                let pid = inner.split('#').nth(1).and_then(|r| r.split(' ').next());
                let job = pid.and_then(|pid| self.jobs.iter().find(|(p, _, _)| p == pid));
                if let Some((_, user, command)) = job {
                    said.user = Some(user.clone());
                    said.statement = Some(command.clone());
                    let end = inner.split_once(' ').and_then(|(_, r)| r.split_once(' '));
                    said.message = format!("a job {}", end.map_or(inner, |(_, rest)| rest));
                }
            }
            _ => {}
        }
        said
    }
}

/// What `logger -t barman` brings: barman's console output.
fn barman(priority: u8, text: &str) -> Said {
    match Format::Barman.piece(text, None) {
        Piece::Begin(said) | Piece::Whole(said) => *said,
        Piece::Detail(_)
        | Piece::Hint(_)
        | Piece::Statement(_)
        | Piece::Context(_)
        | Piece::More(_) => Said::new("barman", by_priority(priority), text),
    }
}

/// syslog(3)'s levels, the lowest three bits.
fn by_priority(priority: u8) -> Level {
    match priority & 7 {
        0..=3 => Level::ERROR,
        4 => Level::WARN,
        5 | 6 => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// `(root) CMD ([60] echo tick)` → root, CMD, `[60] echo tick`.
fn job_line(text: &str) -> Option<(&str, &str, &str)> {
    let (user, rest) = text.strip_prefix('(')?.split_once(") ")?;
    let (word, inner) = rest.split_once(" (")?;
    Some((user, word, inner.strip_suffix(')')?))
}

/// `[60] echo tick` → 60, `echo tick`.
fn numbered(inner: &str) -> Option<(&str, &str)> {
    inner.strip_prefix('[')?.split_once("] ")
}

#[derive(Debug, PartialEq, Eq)]
struct Datagram<'a> {
    priority: u8,
    tag: &'a str,
    pid: Option<u64>,
    text: &'a str,
}

impl<'a> Datagram<'a> {
    /// Reads what there is; whatever is missing is left out, nothing is refused.
    fn parse(datagram: &'a str) -> Self {
        const USER_NOTICE: u8 = 13;
        let priority = || {
            let (number, rest) = datagram.strip_prefix('<')?.split_once('>')?;
            Some((number.parse().ok()?, rest))
        };
        let (priority, rest) = priority().unwrap_or((USER_NOTICE, datagram));
        let rest = after_time(rest).unwrap_or(rest);
        let tagged = || {
            let (head, text) = rest.split_once(':')?;
            let (tag, pid) = match head.strip_suffix(']').and_then(|h| h.split_once('[')) {
                Some((tag, pid)) => (tag, Some(pid.parse().ok()?)),
                None => (head, None),
            };
            let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            let fits = (1..=32).contains(&tag.len()) && tag.chars().all(word);
            fits.then_some((tag, pid, text))
        };
        let (tag, pid, text) = tagged().unwrap_or(("", None, rest));
        Self {
            priority,
            tag,
            pid,
            text: text.strip_prefix(' ').unwrap_or(text),
        }
    }
}

/// What follows `Nov 21 09:11:01 `.
fn after_time(text: &str) -> Option<&str> {
    let time = text.get(..16)?.as_bytes();
    let shape = time[3] == b' ' && time[6] == b' ' && time[9] == b':' && time[12] == b':';
    (shape && time[15] == b' ').then(|| text.get(16..))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(datagrams: &[&str]) -> Vec<Said> {
        let (mut desk, mut out) = (Desk::default(), Vec::new());
        for datagram in datagrams {
            desk.take(datagram, Duration::ZERO, &mut |said| out.push(said));
        }
        out
    }

    #[test]
    fn a_minute_of_cron() {
        // Captured from cron 3.0pl1-197, `cron -f -L 15`.
        let out = events(&[
            "<78>Nov 21 09:10:26 cron[9]: (CRON) INFO (Running @reboot jobs)",
            "<86>Nov 21 09:11:01 CRON[13]: pam_unix(cron:session): session opened for user root(uid=0) by root(uid=0)",
            "<78>Nov 21 09:11:01 CRON[13]: (root) CMD ([19] exit 3)",
            "<78>Nov 21 09:11:01 CRON[12]: (barman) CMD ([21] echo \"a (b)\" | logger -t barman)",
            "<78>Nov 21 09:11:01 CRON[13]: (CRON) error (grandchild #19 failed with exit status 3)",
            "<78>Nov 21 09:11:01 CRON[13]: (root) END ([19] exit 3)",
            "<78>Nov 21 09:11:02 CRON[13]: (CRON) error (grandchild #19 failed with exit status 3)",
            "<75>Nov 21 09:04:42 cron[10]: Error: bad minute; while reading /etc/cron.d/pgnode",
            "<78>Nov 21 09:04:42 cron[10]: (*system*pgnode) ERROR (Syntax error, this crontab file will be ignored)",
            "<78>Nov 21 09:05:01 cron[10]: (*system*pgnode) RELOAD (/etc/cron.d/pgnode)",
        ]);
        let show: Vec<String> = out
            .iter()
            .map(|s| {
                let job = s.statement.as_deref().unwrap_or("-");
                let user = s.user.as_deref().unwrap_or("-");
                format!("{:5} {} {user} {job} | {}", s.level, s.source, s.message)
            })
            .collect();
        insta::assert_snapshot!(show.join("\n"), @r#"
        INFO  crond - - | (CRON) INFO (Running @reboot jobs)
        DEBUG crond - - | pam_unix(cron:session): session opened for user root(uid=0) by root(uid=0)
        DEBUG crond - - | (root) CMD ([19] exit 3)
        DEBUG crond - - | (barman) CMD ([21] echo "a (b)" | logger -t barman)
        WARN  crond root exit 3 | a job failed with exit status 3
        DEBUG crond - - | (root) END ([19] exit 3)
        WARN  crond - - | (CRON) error (grandchild #19 failed with exit status 3)
        ERROR crond - - | Error: bad minute; while reading /etc/cron.d/pgnode
        WARN  crond - - | (*system*pgnode) ERROR (Syntax error, this crontab file will be ignored)
        INFO  crond - - | (*system*pgnode) RELOAD (/etc/cron.d/pgnode)
        "#);
        assert_eq!(out[1].pid, Some(13));
    }

    #[test]
    fn what_logger_brings() {
        let out = events(&[
            "<11>Nov 21 09:11:01 barman: ERROR: something failed",
            "<13>Nov 21 09:11:01 barman: Starting backup using postgres method",
            "<12>Nov 21 09:11:01 backup.sh[77]: careful\n",
            "<13>no tag at all",
            "no priority",
            "<13>Nov 21 09:11:01 : ",
            "",
            "<999>x: y",
        ]);
        let show: Vec<String> = out
            .iter()
            .map(|s| format!("{} {} {:?} {}", s.level, s.source, s.pid, s.message))
            .collect();
        insta::assert_snapshot!(show.join("\n"), @r#"
        ERROR barman None something failed
        INFO barman None Starting backup using postgres method
        WARN backup.sh Some(77) careful
        INFO syslog None no tag at all
        INFO syslog None no priority
        INFO syslog None : 
        INFO syslog None <999>x: y
        "#);
    }

    #[test]
    fn no_datagram_makes_it_panic() {
        let seed = "<78>Nov 21 09:11:01 CRON[13]: (CRON) error (grandchild #19 failed é)";
        let chars: Vec<char> = seed.chars().collect();
        for start in 0..chars.len() {
            for end in start..=chars.len() {
                let part: String = chars[start..end].iter().collect();
                drop(events(&[&part]));
            }
        }
        drop(events(&["Nov 21é09:11:01 x", "<1>éééééééééééééééé"]));
    }

    #[test]
    fn many_tags_share_and_a_flood_is_counted() {
        let (mut desk, mut out) = (Desk::default(), Vec::new());
        for i in 0..1000 {
            let text = format!("<13>Nov 21 09:11:01 tag{i}: hello");
            desk.take(&text, Duration::ZERO, &mut |said| out.push(said));
        }
        assert!(desk.gates.len() <= TAGS + 1);
        out.clear();
        assert!(desk.due().is_some());
        desk.settle(Duration::from_secs(60), &mut |said| out.push(said));
        assert_eq!(out.iter().filter_map(|s| s.dropped).sum::<u64>(), 468);
    }

    #[tokio::test]
    async fn the_socket_is_for_everybody_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        drop(bind(&path).unwrap());
        let socket = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"<13>x: hello", &path).await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(socket.recv(&mut buffer).await.unwrap(), 12);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(bind(&file).is_err());
    }
}
