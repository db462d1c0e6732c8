//! Archives against the list of checksums beside them. Memory does not grow with either.

use super::catalogue::{Catalogue, Entry};
use super::manifest::{Line, Manifest};
use crate::domain::hex;
use crate::s3::S3Error;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Archives that were read.
    pub archives: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether there is a list to compare with.
    pub listed: bool,
    /// What is not as it should be.
    pub wrong: Vec<String>,
}

impl Catalogue {
    /// Reads every archive of a backup.
    ///
    /// # Errors
    /// Those of the server; a list that is not whole. What is wrong with an archive is in [`Compared::wrong`].
    pub async fn compare(&self, entry: &Entry) -> Result<Compared, S3Error> {
        let mut compared = Compared::default();
        let mut wanted: BTreeMap<String, (u64, String)> = BTreeMap::new();
        if let Some(mut list) = Manifest::open(self, entry).await? {
            compared.listed = true;
            while let Some(line) = list.next().await? {
                match line {
                    Line::Archive {
                        archive,
                        size,
                        sha256,
                    } => {
                        wanted.insert(archive, (size, sha256));
                    }
                    Line::Backup { id, .. } if id != entry.backup.id => {
                        compared.wrong.push(format!("the list is of backup {id}"));
                    }
                    Line::Backup { .. } | Line::File { .. } | Line::End { .. } => {}
                }
            }
        }
        for archive in &entry.archives {
            let name = archive.name.to_string();
            let found = self.sum(&archive.object.key).await?;
            compared.archives += 1;
            let Some((size, sha256)) = found else {
                compared.wrong.push(format!("{name} was deleted meanwhile"));
                continue;
            };
            compared.bytes += size;
            match wanted.remove(&name) {
                Some(same) if same == (size, sha256) => {}
                Some((should, _)) if should != size => compared.wrong.push(format!(
                    "{name} has {size} bytes, and had {should} when it was made"
                )),
                Some(_) => compared.wrong.push(format!(
                    "{name} is not what it was when it was made: its checksum is another"
                )),
                None if compared.listed => {
                    compared.wrong.push(format!("{name} is not in the list"));
                }
                None => {}
            }
        }
        let missing = wanted.into_keys().map(|name| format!("{name} is missing"));
        compared.wrong.extend(missing);
        Ok(compared)
    }

    /// Size and SHA-256 of an object.
    async fn sum(&self, key: &str) -> Result<Option<(u64, String)>, S3Error> {
        let Some(mut body) = self.store.get(key).await? else {
            return Ok(None);
        };
        let mut hash = Sha256::new();
        while let Some(chunk) = body.chunk().await? {
            hash.update(&chunk);
        }
        Ok(Some((body.size(), hex(&hash.finalize()))))
    }
}
