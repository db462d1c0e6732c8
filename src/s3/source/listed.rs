//! What is unpacked, compared with the list of checksums that pgnode stores beside a backup. The list has the files
//! in the order of the archives, so that both are read once and side by side; barman-cloud's own backups have none.

use crate::domain::hex;
use crate::s3::S3Error;
use crate::s3::base::{Line, Manifest};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Lines that may wait.
const WAITING: usize = 256;

/// The list, as far as it has come.
#[derive(Debug)]
pub(super) struct Listed {
    lines: mpsc::Receiver<Line>,
    /// Of the archives that were read: bytes and SHA-256.
    archives: BTreeMap<String, (u64, String)>,
    ahead: Option<Line>,
}

/// The list's lines, and what reads them out of the bucket.
pub(super) fn listed() -> (mpsc::Sender<Line>, Listed) {
    let (to, lines) = mpsc::channel(WAITING);
    let listed = Listed {
        lines,
        archives: BTreeMap::new(),
        ahead: None,
    };
    (to, listed)
}

/// Sends the list through; ends early without an error when nobody reads any more.
pub(super) async fn send(mut manifest: Manifest, to: mpsc::Sender<Line>) -> Result<(), S3Error> {
    while let Some(line) = manifest.next().await? {
        if to.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A file that is being read, and its line.
#[derive(Debug)]
pub(super) struct Expected {
    size: u64,
    sha256: String,
    seen: Sha256,
    bytes: u64,
}

impl Expected {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.seen.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Why it is not what was stored.
    pub(super) fn judge(self, path: &str) -> Result<(), String> {
        if self.bytes != self.size {
            let (is, was) = (self.bytes, self.size);
            return Err(format!("{path} has {is} bytes, and was stored with {was}"));
        }
        if hex(&self.seen.finalize()) != self.sha256 {
            return Err(format!(
                "{path} is not what was stored: its SHA-256 is another"
            ));
        }
        Ok(())
    }
}

impl Listed {
    /// The next file of an archive, which has to be this one.
    pub(super) fn file(&mut self, archive: &str, path: &str) -> Result<Expected, String> {
        loop {
            match self.next() {
                Some(Line::Backup { .. }) => {}
                Some(Line::File {
                    archive: listed,
                    path: name,
                    size,
                    sha256,
                }) if listed == archive => {
                    if name != path {
                        return Err(format!("has {path} where {name} was stored"));
                    }
                    return Ok(Expected {
                        size,
                        sha256,
                        seen: Sha256::new(),
                        bytes: 0,
                    });
                }
                other => {
                    self.ahead = other;
                    return Err(format!("has {path}, which was not stored with it"));
                }
            }
        }
    }

    /// An archive that was read to its end: its bytes, packed.
    pub(super) fn archive(&mut self, name: &str, size: u64, sha256: String) {
        self.archives.insert(name.to_owned(), (size, sha256));
    }

    /// All archives were read.
    pub(super) fn finish(mut self) -> Result<(), String> {
        while let Some(line) = self.next() {
            match line {
                Line::File { archive, path, .. } if self.archives.contains_key(&archive) => {
                    return Err(format!("has no {path}, which was stored in {archive}"));
                }
                Line::Archive {
                    archive,
                    size,
                    sha256,
                } => match self.archives.remove(&archive) {
                    Some(seen) if seen == (size, sha256) => {}
                    Some((seen, _)) => {
                        return Err(format!(
                            "{archive} has {seen} bytes and another SHA-256 than the {size} bytes that were stored"
                        ));
                    }
                    None => return Err(format!("{archive} was stored and was not read")),
                },
                Line::Backup { .. } | Line::File { .. } | Line::End { .. } => {}
            }
        }
        match self.archives.into_keys().next() {
            Some(name) => Err(format!("{name} is not in the list of checksums")),
            None => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Line> {
        self.ahead.take().or_else(|| self.lines.blocking_recv())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: Vec<Line>) -> Listed {
        let (to, listed) = listed();
        for line in lines {
            to.try_send(line).unwrap();
        }
        listed
    }

    fn file(path: &str, body: &[u8]) -> Line {
        Line::File {
            archive: "data.tar".into(),
            path: path.into(),
            size: body.len() as u64,
            sha256: hex(&Sha256::digest(body)),
        }
    }

    fn archive() -> Line {
        Line::Archive {
            archive: "data.tar".into(),
            size: 7,
            sha256: "ab".into(),
        }
    }

    fn read(listed: &mut Listed, path: &str, body: &[u8]) -> Result<(), String> {
        let mut expected = listed.file("data.tar", path)?;
        expected.update(body);
        expected.judge(path)
    }

    #[test]
    fn files_and_archives_are_what_was_stored() {
        let mut listed = of(vec![file("a", b"x"), file("b", b"y"), archive()]);
        read(&mut listed, "a", b"x").unwrap();
        read(&mut listed, "b", b"y").unwrap();
        listed.archive("data.tar", 7, "ab".into());
        listed.finish().unwrap();
    }

    #[test]
    fn whatever_is_otherwise_is_said() {
        let all = || of(vec![file("a", b"x"), file("b", b"y"), archive()]);
        let no = |found: Result<(), String>, part: &str| {
            let why = found.unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        no(read(&mut all(), "a", b"z"), "its SHA-256 is another");
        no(
            read(&mut all(), "a", b"xx"),
            "has 2 bytes, and was stored with 1",
        );
        no(read(&mut all(), "b", b"y"), "has b where a was stored");
        let mut more = of(vec![archive()]);
        no(read(&mut more, "c", b""), "which was not stored with it");
        let mut fewer = all();
        read(&mut fewer, "a", b"x").unwrap();
        fewer.archive("data.tar", 7, "ab".into());
        no(fewer.finish(), "has no b, which was stored in data.tar");
        let mut other = of(vec![archive()]);
        other.archive("data.tar", 8, "ab".into());
        no(other.finish(), "data.tar has 8 bytes");
        no(of(vec![archive()]).finish(), "was not read");
        let mut unknown = of(vec![]);
        unknown.archive("data.tar", 7, "ab".into());
        no(unknown.finish(), "not in the list");
    }
}
