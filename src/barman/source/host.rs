//! A barman host, over ssh: it runs the same functions on its own directory and sends what they give.
//! Whatever ends otherwise than well is [`SourceError::Lost`], so that a connection that broke is never taken
//! for the end of the archive.

use super::directory::{give, make_dir, make_link, unwritable};
use super::{Entry, EntryKind, Places, SourceError, Wal};
use crate::barman::{Archive, Backup, Place, Server};
use crate::domain::{History, SystemId, Timeline};
use crate::sys::{Account, Child, Children, Exit, Spec};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// A barman host that keeps the cluster's backups.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name or address, as on its card.
    pub host: String,
    /// Its sshd's port.
    pub port: u16,
    /// What it calls the cluster.
    pub server: String,
    /// ssh's settings: keys, and whom to trust.
    pub ssh_config: PathBuf,
    /// Whose key it is; `None`: ours.
    pub account: Option<Account>,
    /// ssh's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Who starts ssh.
    pub children: Children,
}

/// Metadata, a list or a segment. A silent connection ends by ssh's own means (`ServerAliveInterval`).
const ANSWER: Duration = Duration::from_secs(300);

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}:{}", self.server, self.host, self.port)
    }
}

impl Host {
    fn lost(&self, doing: &str) -> impl FnOnce(io::Error) -> SourceError + use<> {
        let (source_name, doing) = (self.to_string(), doing.to_owned());
        move |source| SourceError::Lost {
            source_name,
            doing,
            source,
        }
    }

    async fn ask(&self, request: &str) -> Result<Child, SourceError> {
        let config = self.ssh_config.to_string_lossy().into_owned();
        let port = self.port.to_string();
        let spec = Spec::new("ssh", ["-F", &config, "-p", &port, &self.host, request])
            .env(self.env.clone())
            .account(self.account.clone());
        let started = self.children.spawn(spec).await;
        started.map_err(|e| self.lost("starting ssh")(io::Error::other(e)))
    }

    /// The whole answer; it counts only when the other side ended well.
    async fn answer(&self, request: &str) -> Result<Vec<u8>, SourceError> {
        let mut child = self.ask(request).await?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let talk = async {
            let (mut answer, mut words) = (Vec::new(), String::new());
            let both = tokio::join!(
                async {
                    match out {
                        Some(mut pipe) => pipe.read_to_end(&mut answer).await,
                        None => Ok(0),
                    }
                },
                async {
                    match err {
                        Some(pipe) => pipe.take(LAST_WORDS).read_to_string(&mut words).await,
                        None => Ok(0),
                    }
                }
            );
            both.0?;
            let exit = child.wait().await.map_err(io::Error::other)?;
            ended(exit, &words)?;
            Ok(answer)
        };
        match tokio::time::timeout(ANSWER, talk).await {
            Ok(answered) => answered.map_err(self.lost(request)),
            Err(_) => Err(self.lost(request)(ErrorKind::TimedOut.into())),
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, request: &str) -> Result<T, SourceError> {
        let bytes = self.answer(request).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.lost(request)(e.into()))
    }

    /// barman's own files on its backups, for a moment: read with the same eyes as a directory's.
    async fn mirror(&self) -> Result<Mirror, SourceError> {
        let request = format!("catalogue {}", self.server);
        let tar = self.answer(&request).await?;
        let failed = self.lost(&request);
        let server = self.server.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            let dir = tempfile::tempdir()?;
            let home = dir.path().join(server);
            std::fs::create_dir(&home)?;
            tar::Archive::new(&tar[..]).unpack(&home)?;
            Ok::<_, io::Error>(Mirror { home, _dir: dir })
        });
        unpacked
            .await
            .map_err(io::Error::other)
            .and_then(|done| done)
            .map_err(failed)
    }

    pub(super) async fn backups(&self) -> Result<Vec<Backup>, SourceError> {
        let mirror = self.mirror().await?;
        Ok(Server::at(mirror.home.clone()).backups()?)
    }

    pub(super) async fn identity(&self) -> Result<Option<SystemId>, SourceError> {
        let mirror = self.mirror().await?;
        Ok(Server::at(mirror.home.clone()).identity()?)
    }

    pub(super) async fn archive(&self, segment_size: u64) -> Result<Archive, SourceError> {
        self.json(&format!("archive {} {segment_size}", self.server))
            .await
    }

    pub(super) async fn entries(&self, id: &str) -> Result<Vec<Entry>, SourceError> {
        self.json(&format!("entries {} {id}", self.server)).await
    }

    pub(super) async fn history(&self, timeline: Timeline) -> Result<Option<History>, SourceError> {
        if timeline.0 == 1 {
            return Ok(Some(History::without_past(timeline)));
        }
        let name = History::file_name(timeline);
        let Some(file) = self.wal(&name, NO_ANCHOR).await? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let garbled = |line: String| SourceError::Unusable {
            what: format!("{name} of {self}: `{line}` is not understood"),
        };
        History::parse(timeline, &text).map(Some).map_err(garbled)
    }

    /// A line that says where it lay and how long it is, then the file.
    pub(super) async fn wal(&self, name: &str, anchor: &str) -> Result<Option<Wal>, SourceError> {
        let request = format!("wal {} {name} {anchor}", self.server);
        let answer = self.answer(&request).await?;
        let unlike = |what: &str| self.lost(&request)(io::Error::new(ErrorKind::InvalidData, what));
        let end = answer.iter().position(|b| *b == b'\n');
        let end = end.ok_or_else(|| unlike("an answer without a first line"))?;
        let head: Head =
            serde_json::from_slice(&answer[..end]).map_err(|e| self.lost(&request)(e.into()))?;
        let Head {
            place: Some(place),
            bytes: Some(bytes),
        } = head
        else {
            return Ok(None);
        };
        let rest = &answer[end + 1..];
        if rest.len() != bytes {
            return Err(unlike("an answer that was cut short"));
        }
        let place = Place::named(&place).ok_or_else(|| unlike("a place that is unknown here"))?;
        Ok(Some(Wal {
            bytes: rest.to_vec(),
            place,
        }))
    }

    /// Unpacks the other side's tar as it comes, and compares it with what was listed.
    pub(super) async fn copy(
        &self,
        id: &str,
        entries: Vec<Entry>,
        places: &Places,
        owner: Option<(u32, u32)>,
        done: Arc<AtomicU64>,
    ) -> Result<(), SourceError> {
        let request = format!("base {} {id}", self.server);
        let mut child = self.ask(&request).await?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(self.lost(&request)(ErrorKind::BrokenPipe.into()));
        };
        let out = out.into_blocking_fd().map_err(self.lost(&request))?;
        let (places, failed) = (places.clone(), self.lost(&request));
        let unpacking = tokio::task::spawn_blocking(move || {
            unpack(File::from(out), &entries, &places, owner, &done)
        });
        let mut words = String::new();
        let mut err = err.take(LAST_WORDS);
        let (unpacked, _) = tokio::join!(unpacking, err.read_to_string(&mut words));
        let exit = child.wait().await;
        // What the other side says is the cause of what was missed here.
        exit.map_err(io::Error::other)
            .and_then(|exit| ended(exit, &words))
            .map_err(failed)?;
        unpacked.map_err(|e| self.lost(&request)(io::Error::other(e)))?
    }
}

/// Enough for what went wrong.
const LAST_WORDS: u64 = 16 * 1024;

/// A history is asked for before a backup was chosen: the archive's presence is enough.
const NO_ANCHOR: &str = "none";

/// Metadata, gone when dropped.
struct Mirror {
    home: PathBuf,
    _dir: tempfile::TempDir,
}

#[derive(serde::Deserialize)]
struct Head {
    place: Option<String>,
    bytes: Option<usize>,
}

fn ended(exit: Exit, words: &str) -> io::Result<()> {
    if exit.is_success() {
        return Ok(());
    }
    let words = words.trim();
    Err(io::Error::other(format!("ssh ended with {exit}: {words}")))
}

fn unpack(
    from: impl Read,
    entries: &[Entry],
    places: &Places,
    owner: Option<(u32, u32)>,
    done: &AtomicU64,
) -> Result<(), SourceError> {
    let broken = |source| SourceError::Lost {
        source_name: "the barman host".to_owned(),
        doing: "receiving the backup".to_owned(),
        source,
    };
    let mut missing: std::collections::BTreeMap<&Path, (&EntryKind, PathBuf)> = entries
        .iter()
        .filter_map(|e| Some((e.path.as_path(), (&e.kind, places.target(e)?))))
        .collect();
    let mut tar = tar::Archive::new(from);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let Some((kind, target)) = missing.remove(path.as_path()) else {
            // The root, or what was made after the list.
            continue;
        };
        match kind {
            // A tablespace's own is there.
            EntryKind::Dir if path.components().count() == 1 => {}
            EntryKind::Dir => make_dir(&target, owner)?,
            EntryKind::Link(link) => make_link(link, &target, owner)?,
            EntryKind::File(bytes) => {
                let got = write(&mut entry, &target, owner, done).map_err(unwritable(&target))?;
                if got != *bytes {
                    let what = format!("{} has {got} bytes, {bytes} were listed", path.display());
                    return Err(broken(io::Error::new(ErrorKind::UnexpectedEof, what)));
                }
            }
        }
    }
    match missing.keys().next() {
        None => Ok(()),
        Some(path) => {
            let what = format!(
                "{} and {} more did not come",
                path.display(),
                missing.len() - 1
            );
            Err(broken(io::Error::new(ErrorKind::UnexpectedEof, what)))
        }
    }
}

fn write(
    from: &mut impl Read,
    to: &Path,
    owner: Option<(u32, u32)>,
    done: &AtomicU64,
) -> io::Result<u64> {
    let mut output = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let (mut buffer, mut copied) = (vec![0; 256 * 1024], 0);
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        output.write_all(&buffer[..n])?;
        copied += n as u64;
        done.fetch_add(n as u64, Ordering::Relaxed);
    }
    drop(output);
    give(to, owner)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all("data", dir.path()).unwrap();
        tar.into_inner().unwrap()
    }

    fn file(path: &str, bytes: u64) -> Entry {
        Entry {
            path: path.into(),
            kind: EntryKind::File(bytes),
        }
    }

    #[test]
    fn a_backup_that_came_in_part_is_lost() {
        let tar = packed(&[("PG_VERSION", b"17\n"), ("base/1", &[7; 3000])]);
        let dir = |path: &str| Entry {
            path: path.into(),
            kind: EntryKind::Dir,
        };
        let entries = [
            dir("data/base"),
            file("data/PG_VERSION", 3),
            file("data/base/1", 3000),
        ];
        let run = |tar: &[u8], entries: &[Entry]| {
            let to = tempfile::tempdir().unwrap();
            let done = AtomicU64::new(0);
            let result = unpack(tar, entries, &Places::of(to.path()), None, &done);
            (result, done.into_inner(), to)
        };
        let (result, done, to) = run(&tar, &entries);
        result.unwrap();
        assert_eq!(done, 3003);
        assert_eq!(std::fs::read(to.path().join("base/1")).unwrap(), [7; 3000]);
        for (tar, entries) in [
            (&tar[..tar.len() / 3], entries.to_vec()),
            (&tar[..], [&entries[..], &[file("data/base/2", 1)]].concat()),
            (&tar[..], vec![file("data/PG_VERSION", 4)]),
        ] {
            let (result, ..) = run(tar, &entries);
            assert!(result.is_err(), "{entries:?}");
        }
    }
}
