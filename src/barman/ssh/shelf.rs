//! Takes WAL in, as `barman-wal-archive` does: the file is complete and on disk before the node is
//! told so, and none is ever replaced by a different one.

use crate::barman::Server;
use crate::sys;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// One cluster's directory of incoming WAL.
#[derive(Clone, Debug)]
pub struct Shelf {
    server: Server,
    incoming: PathBuf,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is there now.
    New,
    /// The same file was there already.
    Same,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The node's `archive_command` and barman's configuration disagree.
    #[error(
        "barman takes WAL of {cluster} in at {ours}, the archive_command names {theirs}: reload the \
         node (`pgnode reload`), it takes the directory from the barman host's card"
    )]
    OtherDirectory {
        /// Which cluster.
        cluster: String,
        /// Where barman looks.
        ours: PathBuf,
        /// Where it was sent.
        theirs: PathBuf,
    },
    /// It is of another cluster.
    #[error(
        "the archive of {cluster} belongs to the cluster with system identifier {ours}, and {name} is of \
         {theirs}: give that cluster a name of its own (BARMAN_SERVER_NAME, BARMAN_SERVERS)"
    )]
    OtherCluster {
        /// Which archive.
        cluster: String,
        /// The file.
        name: String,
        /// The archive's.
        ours: u64,
        /// The file's.
        theirs: u64,
    },
    /// Something else has that name.
    #[error(
        "{cluster} already has another file {name}, at {at}: two primaries have written the same \
         timeline; find out which one is right before anything is removed"
    )]
    Different {
        /// Which archive.
        cluster: String,
        /// The file.
        name: String,
        /// The one that is there.
        at: PathBuf,
    },
    /// Not all of it came.
    #[error("{name} ended after {got} of {announced} bytes")]
    Short {
        /// The file.
        name: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that should have.
        announced: u64,
    },
    /// The disk.
    #[error("cannot {doing} {path}")]
    Io {
        /// What.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// barman's own record of the cluster.
    #[error(transparent)]
    Catalogue(#[from] crate::barman::BarmanError),
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShelfError {
    let path = path.to_owned();
    move |source| ShelfError::Io {
        doing,
        path,
        source,
    }
}

impl Shelf {
    /// Of a cluster whose files are in `<home>/<cluster>`.
    #[must_use]
    pub fn of(home: &Path, cluster: &str) -> Self {
        Self {
            server: Server::at(home.join(cluster)),
            incoming: crate::config::incoming_wals(home, cluster),
        }
    }

    /// Takes `bytes` bytes from `from` as the file `name` of `into`. Complete and synced when it returns.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing is left behind then.
    pub fn put(
        &self,
        name: &str,
        bytes: u64,
        into: &Path,
        from: &mut impl Read,
    ) -> Result<Kept, ShelfError> {
        let ours = &self.incoming;
        if into != ours {
            return Err(ShelfError::OtherDirectory {
                cluster: self.server.name(),
                ours: ours.clone(),
                theirs: into.to_owned(),
            });
        }
        // barman makes it at its first check; WAL may come before.
        std::fs::create_dir_all(ours).map_err(io("make", ours))?;
        // barman passes over *.tmp.
        let draft = Draft(ours.join(format!("{name}.{}.tmp", std::process::id())));
        self.receive(&draft.0, name, bytes, from)?;
        let end = ours.join(name);
        if let Some(at) = self.twin(name)? {
            match self.same(name, &draft.0)? {
                Some(true) => return Ok(Kept::Same),
                Some(false) => {
                    return Err(ShelfError::Different {
                        cluster: self.server.name(),
                        name: name.to_owned(),
                        at,
                    });
                }
                None => {}
            }
        }
        // A link, unlike a rename, replaces nothing.
        std::fs::hard_link(&draft.0, &end).map_err(io("make", &end))?;
        drop(draft);
        crate::sys::sync_dir(ours).map_err(io("sync", ours))?;
        Ok(Kept::New)
    }

    fn receive(
        &self,
        draft: &Path,
        name: &str,
        bytes: u64,
        from: &mut impl Read,
    ) -> Result<(), ShelfError> {
        let mut file = File::create(draft).map_err(io("make", draft))?;
        let mut head = Vec::new();
        from.by_ref()
            .take(HEAD.min(bytes))
            .read_to_end(&mut head)
            .map_err(io("receive", draft))?;
        self.of_this_cluster(name, &head)?;
        file.write_all(&head).map_err(io("write", draft))?;
        let rest = bytes - head.len() as u64;
        let more = io::copy(&mut from.take(rest), &mut file).map_err(io("write", draft))?;
        let got = head.len() as u64 + more;
        if got != bytes {
            return Err(ShelfError::Short {
                name: name.to_owned(),
                got,
                announced: bytes,
            });
        }
        file.sync_all().map_err(io("sync", draft))
    }

    /// A segment says whose it is in its first page.
    fn of_this_cluster(&self, name: &str, head: &[u8]) -> Result<(), ShelfError> {
        if name.len() != 24 {
            return Ok(());
        }
        let (Some(ours), Some(theirs)) = (self.server.identity()?, system_id(head)) else {
            return Ok(());
        };
        if ours.0 == theirs {
            return Ok(());
        }
        Err(ShelfError::OtherCluster {
            cluster: self.server.name(),
            name: name.to_owned(),
            ours: ours.0,
            theirs,
        })
    }

    /// A file of that name, shipped or archived. What streaming brought does not count: it may be partial.
    fn twin(&self, name: &str) -> Result<Option<PathBuf>, ShelfError> {
        use crate::barman::Place;
        let found = self
            .server
            .wal_file(name)
            .map_err(io("look for", &self.server.dir))?;
        Ok(found
            .filter(|f| matches!(f.place, Place::Archived | Place::Incoming))
            .map(|f| f.path))
    }

    /// `None` when it is gone meanwhile.
    fn same(&self, name: &str, draft: &Path) -> Result<Option<bool>, ShelfError> {
        let found = self
            .server
            .wal_file(name)
            .map_err(io("look for", &self.server.dir))?;
        let Some(found) = found else { return Ok(None) };
        let mut old = found.open().map_err(io("read", &found.path))?;
        let mut new = File::open(draft).map_err(io("read", draft))?;
        let same = sys::same(&mut old, &mut new).map_err(io("compare", &found.path))?;
        Ok(Some(same))
    }
}

/// Enough for the header of the first page.
const HEAD: u64 = 64;

/// `xlp_sysid` of a segment's first page, whose header is a long one (`access/xlog_internal.h`,
/// `XLogLongPageHeaderData`; `XLP_LONG_HEADER` is bit 1 of `xlp_info`).
fn system_id(head: &[u8]) -> Option<u64> {
    let info = u16::from_le_bytes(head.get(2..4)?.try_into().ok()?);
    if info & 2 == 0 {
        return None;
    }
    Some(u64::from_le_bytes(head.get(24..32)?.try_into().ok()?))
}

/// A file that is not finished; gone when dropped.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // Where it cannot be removed it is passed over, and written again by name.
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000000010000000000000004";

    /// A segment's beginning: magic, XLP_LONG_HEADER, and the system identifier.
    fn segment(system_id: u64, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; 4096];
        bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
        bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
        bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
        bytes
    }

    struct Lab {
        dir: tempfile::TempDir,
        shelf: Shelf,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("main")).unwrap();
            let shelf = Shelf::of(dir.path(), "main");
            Self { dir, shelf }
        }

        fn put(&self, bytes: &[u8], announced: u64) -> Result<Kept, ShelfError> {
            let into = crate::config::incoming_wals(self.dir.path(), "main");
            self.shelf.put(NAME, announced, &into, &mut &bytes[..])
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path().join("main/incoming")).unwrap();
            let name = |e: io::Result<std::fs::DirEntry>| e.unwrap().file_name();
            entries
                .map(|e| name(e).to_string_lossy().into_owned())
                .collect()
        }
    }

    #[test]
    fn a_file_is_taken_once_and_never_replaced() {
        let lab = Lab::new();
        let (one, two) = (segment(7, 1), segment(7, 2));
        assert_eq!(lab.put(&one, 4096).unwrap(), Kept::New);
        assert_eq!(lab.put(&one, 4096).unwrap(), Kept::Same);
        assert!(matches!(
            lab.put(&two, 4096),
            Err(ShelfError::Different { .. })
        ));
        let kept = std::fs::read(lab.dir.path().join("main/incoming").join(NAME)).unwrap();
        assert_eq!(kept, one);
        assert_eq!(lab.names(), [NAME]);
    }

    #[test]
    fn an_archived_file_counts_as_well() {
        let lab = Lab::new();
        let archive = lab.dir.path().join("main/wals/0000000100000000");
        std::fs::create_dir_all(&archive).unwrap();
        std::fs::write(archive.join(NAME), segment(7, 1)).unwrap();
        assert_eq!(lab.put(&segment(7, 1), 4096).unwrap(), Kept::Same);
        assert!(matches!(
            lab.put(&segment(7, 2), 4096),
            Err(ShelfError::Different { .. })
        ));
        assert!(lab.names().is_empty());
    }

    #[test]
    fn what_is_cut_short_or_anothers_is_not_taken() {
        let lab = Lab::new();
        let short = lab.put(&segment(7, 1)[..100], 4096);
        assert!(matches!(
            short,
            Err(ShelfError::Short {
                got: 100,
                announced: 4096,
                ..
            })
        ));
        std::fs::write(
            lab.dir.path().join("main/identity.json"),
            r#"{"systemid": "7"}"#,
        )
        .unwrap();
        assert_eq!(lab.put(&segment(7, 1), 4096).unwrap(), Kept::New);
        let other = lab.put(&segment(8, 1), 4096);
        assert!(matches!(
            other,
            Err(ShelfError::OtherCluster {
                ours: 7,
                theirs: 8,
                ..
            })
        ));
        let elsewhere = lab
            .shelf
            .put(NAME, 1, Path::new("/x"), &mut &[0_u8][..])
            .unwrap_err();
        assert!(
            elsewhere
                .to_string()
                .contains("the archive_command names /x")
        );
        assert_eq!(lab.names(), [NAME]);
    }
}
