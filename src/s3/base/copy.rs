//! Files into archives, while postgres writes them: tablespaces, the data directory, `pg_control`, configuration
//! that lies elsewhere, and last the label, which there is only when the copy has ended.
//!
//! A file has the size that it had when it was opened: what grew is cut, what shrank is filled with zeros, what
//! vanished is left out. Replay from the backup's begin repairs all three.

use super::archive::ArchiveName;
use super::header::{BLOCK, Member, MemberKind, RECORD, padding};
use super::manifest::{Line, MANIFEST};
use super::pack::{Gone, Packer, Parts, Piece, Sum};
use super::walk::{Found, Tree};
use crate::barman::Tablespace;
use crate::config::Codec;
use crate::domain::hex;
use crate::s3::S3Error;
use nix::unistd::{Gid, Group, Uid, User};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::Sender;

/// What is copied, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) id: String,
    pub(super) system_id: String,
    pub(super) pgdata: PathBuf,
    pub(super) tablespaces: Vec<Tablespace>,
    pub(super) major: u32,
    /// Configuration outside of the data directory.
    pub(super) outside: Vec<PathBuf>,
    pub(super) codec: Codec,
    pub(super) part_size: usize,
    /// Compressed bytes after which an archive's next part begins.
    pub(super) longest: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    /// Bytes of the files.
    pub(super) bytes: u64,
}

/// A copy under way. It blocks.
#[derive(Debug)]
pub(super) struct Copier {
    plan: Plan,
    to: Sender<Piece>,
    objects: usize,
    open: Option<Open>,
    list: Parts,
    archives: Vec<(String, Sum)>,
    files: u64,
    /// Bytes read, for whoever shows progress.
    read: Arc<AtomicU64>,
    buffer: Vec<u8>,
    names: BTreeMap<(u32, u32), (String, String)>,
}

/// The archive that is being written.
#[derive(Debug)]
struct Open {
    name: ArchiveName,
    packer: Packer,
    /// Bytes before compression.
    offset: u64,
}

const BUFFER: usize = 256 << 10;

impl Copier {
    pub(super) fn begin(
        plan: Plan,
        to: Sender<Piece>,
        read: Arc<AtomicU64>,
    ) -> Result<Self, S3Error> {
        let list = Parts::begin(to.clone(), 0, MANIFEST, plan.part_size).map_err(gone)?;
        let first = Line::Backup {
            manifest: 1,
            id: plan.id.clone(),
            system_id: plan.system_id.clone(),
        };
        let mut copier = Self {
            plan,
            to,
            objects: 1,
            open: None,
            list,
            archives: Vec::new(),
            files: 0,
            read,
            buffer: vec![0; BUFFER],
            names: BTreeMap::new(),
        };
        copier.note(&first)?;
        Ok(copier)
    }

    /// Everything but the label.
    pub(super) fn copy(mut self) -> Result<Self, S3Error> {
        let (tablespaces, major) = (self.plan.tablespaces.clone(), self.plan.major);
        for space in &tablespaces {
            let tree = Tree::Tablespace { major };
            self.tree(&tree, Some(space.oid), &space.location)?;
        }
        // A data directory that is a link is copied from where it leads to.
        let root = self.plan.pgdata.clone();
        let root = root.canonicalize().map_err(|e| file("read", &root, e))?;
        let inside = tablespaces
            .iter()
            .filter_map(|t| t.location.strip_prefix(&self.plan.pgdata).ok())
            .map(Path::to_owned);
        let tree = Tree::Data {
            without: inside.collect(),
        };
        self.tree(&tree, None, &root)?;
        let control = Found {
            path: root.join("global/pg_control"),
            name: b"global/pg_control".to_vec(),
        };
        if !self.add(None, &control)? {
            return Err(file("read", &control.path, ErrorKind::NotFound.into()));
        }
        for path in self.plan.outside.clone() {
            let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
            self.add(None, &Found { path, name })?;
        }
        Ok(self)
    }

    /// The label, and the ends of everything.
    pub(super) fn finish(mut self, label: &str) -> Result<Copied, S3Error> {
        let root = self.plan.pgdata.clone();
        let meta = std::fs::metadata(&root).map_err(|e| file("read", &root, e))?;
        let bytes = label.as_bytes();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut member = self.member(b"backup_label", &meta, MemberKind::File, size);
        member.mode = 0o600;
        self.write(None, &member.header())?;
        self.append(bytes)?;
        self.pad(size)?;
        self.listed("backup_label", size, hex(&Sha256::digest(bytes)))?;
        self.close()?;
        let archives = std::mem::take(&mut self.archives);
        let end = Line::End {
            files: self.files,
            archives: u64::try_from(archives.len()).unwrap_or(u64::MAX),
        };
        for (archive, sum) in archives {
            self.note(&Line::Archive {
                archive,
                size: sum.size,
                sha256: sum.sha256,
            })?;
        }
        self.note(&end)?;
        self.list.end().map_err(gone)?;
        Ok(Copied {
            bytes: self.read.load(Ordering::Relaxed),
        })
    }

    fn tree(&mut self, tree: &Tree, space: Option<u32>, root: &Path) -> Result<(), S3Error> {
        // The walk's own errors are of a directory below the root.
        let mut wrong = None;
        let walked: Result<(), io::Error> =
            tree.walk(root, |found| match self.add(space, &found) {
                Ok(_) => Ok(()),
                Err(error) => {
                    wrong = Some(error);
                    Err(ErrorKind::Interrupted.into())
                }
            });
        match (wrong, walked) {
            (Some(error), _) => Err(error),
            (None, walked) => walked.map_err(|e| file("list", root, e)),
        }
    }

    /// Puts a file, a directory or a link into an archive; `false` when it has vanished.
    fn add(&mut self, space: Option<u32>, found: &Found) -> Result<bool, S3Error> {
        let failed = |e| file("read", &found.path, e);
        let meta = match std::fs::symlink_metadata(&found.path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        if meta.is_dir() || found.name == b"." {
            let member = self.member(&found.name, &meta, MemberKind::Dir, 0);
            self.write(space, &member.header())?;
            return Ok(true);
        }
        if meta.is_symlink() {
            let to = std::fs::read_link(&found.path).map_err(failed)?;
            let link = MemberKind::Link(to.as_os_str().as_bytes().to_vec());
            let member = self.member(&found.name, &meta, link, 0);
            self.write(space, &member.header())?;
            return Ok(true);
        }
        if !meta.is_file() {
            return Ok(false);
        }
        let open = match File::open(&found.path) {
            Ok(open) => open,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        let meta = open.metadata().map_err(failed)?;
        let member = self.member(&found.name, &meta, MemberKind::File, meta.len());
        self.write(space, &member.header())?;
        let sha256 = self.contents(open, meta.len(), &found.path)?;
        self.pad(meta.len())?;
        self.listed(
            &String::from_utf8_lossy(&found.name),
            meta.len(),
            hex(&sha256),
        )?;
        Ok(true)
    }

    /// Exactly `size` bytes of a file, and their checksum.
    fn contents(&mut self, open: File, size: u64, path: &Path) -> Result<Vec<u8>, S3Error> {
        let mut hash = Sha256::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut rest = size;
        let mut limited = open.take(size);
        let mut ended = false;
        while rest > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(rest).unwrap_or(usize::MAX));
            let Some(room) = buffer.get_mut(..room) else {
                break;
            };
            let read = match ended {
                true => {
                    room.fill(0);
                    room.len()
                }
                false => match limited.read(room) {
                    Ok(read) => read,
                    Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                    Err(e) => return Err(file("read", path, e)),
                },
            };
            let bytes = room.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                ended = true;
                continue;
            }
            hash.update(bytes);
            let count = u64::try_from(read).unwrap_or(u64::MAX);
            rest = rest.saturating_sub(count);
            self.read.fetch_add(count, Ordering::Relaxed);
            if let Some(open) = &mut self.open {
                open.packer.write_all(bytes).map_err(broken)?;
                open.offset += count;
            }
        }
        self.buffer = buffer;
        Ok(hash.finalize().to_vec())
    }

    /// A header, or what fits between two: here an archive may end and its next part begin.
    fn write(&mut self, space: Option<u32>, bytes: &[u8]) -> Result<(), S3Error> {
        let longest = self.plan.longest;
        let next = match &self.open {
            Some(open) if open.name.tablespace == space && open.packer.size() <= longest => None,
            Some(open) if open.name.tablespace == space => Some(open.name.part + 1),
            Some(_) | None => Some(0),
        };
        if let Some(part) = next {
            self.close()?;
            self.begin_archive(ArchiveName {
                tablespace: space,
                part,
                format: self.plan.codec.format,
            })?;
        }
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), S3Error> {
        if let Some(open) = &mut self.open {
            open.packer.write_all(bytes).map_err(broken)?;
            open.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), S3Error> {
        self.append([0; BLOCK].get(..padding(size)).unwrap_or_default())
    }

    fn begin_archive(&mut self, name: ArchiveName) -> Result<(), S3Error> {
        let (object, text) = (self.objects, name.to_string());
        self.objects += 1;
        let parts = Parts::begin(self.to.clone(), object, &text, self.plan.part_size);
        let packer = Packer::new(self.plan.codec, parts.map_err(gone)?).map_err(broken)?;
        self.open = Some(Open {
            name,
            packer,
            offset: 0,
        });
        Ok(())
    }

    /// Two blocks of zeros, and on to a whole record, as tarfile does.
    fn close(&mut self) -> Result<(), S3Error> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let end = (open.offset + 2 * BLOCK as u64).next_multiple_of(RECORD);
        let zeros = usize::try_from(end - open.offset).unwrap_or(0);
        open.packer.write_all(&vec![0; zeros]).map_err(broken)?;
        let sum = open.packer.end().map_err(broken)?;
        self.archives.push((open.name.to_string(), sum));
        Ok(())
    }

    fn listed(&mut self, path: &str, size: u64, sha256: String) -> Result<(), S3Error> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let line = Line::File {
            archive: open.name.to_string(),
            path: path.to_owned(),
            size,
            sha256,
        };
        self.files += 1;
        self.note(&line)
    }

    fn note(&mut self, line: &Line) -> Result<(), S3Error> {
        let mut text = serde_json::to_vec(line).map_err(|e| S3Error::Bug(e.to_string()))?;
        text.push(b'\n');
        self.list.write_all(&text).map_err(broken)
    }

    fn member(&mut self, name: &[u8], meta: &Metadata, kind: MemberKind, size: u64) -> Member {
        let (uid, gid) = (meta.uid(), meta.gid());
        let names = self.names.entry((uid, gid)).or_insert_with(|| {
            let owner = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            // The field has 32 bytes.
            let short = |name: String| Some(name).filter(|n| n.len() < 32).unwrap_or_default();
            (
                owner.map(|u| short(u.name)).unwrap_or_default(),
                group.map(|g| short(g.name)).unwrap_or_default(),
            )
        });
        Member {
            name: name.to_vec(),
            kind,
            size,
            mode: meta.mode(),
            uid: uid.into(),
            gid: gid.into(),
            owner: names.0.clone(),
            group: names.1.clone(),
            mtime: u64::try_from(meta.mtime()).unwrap_or(0),
        }
    }
}

fn file(what: &'static str, path: &Path, source: io::Error) -> S3Error {
    S3Error::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The uploader says why, not we.
fn gone(gone: Gone) -> S3Error {
    broken(gone.into())
}

fn broken(error: io::Error) -> S3Error {
    S3Error::Bug(format!("a backup's archive: {error}"))
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
