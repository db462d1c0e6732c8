//! Whose the place in the bucket is: a catalogue never goes where another cluster's is.

use super::Ship;
use super::send::blocking;
use crate::barman::Backup;
use crate::domain::SystemId;
use crate::s3::S3Error;
use crate::s3::store::Walk;

/// The file in barman's directory, and the object.
const FILE: &str = "identity.json";
/// No such file is larger.
const MOST: u64 = 1 << 20;

/// Reads `systemid` as barman writes it.
fn read(text: &[u8]) -> Option<SystemId> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    let id = value.get("systemid")?.as_str()?;
    id.parse().ok().map(SystemId)
}

impl Ship {
    /// Whose the place is: an `identity.json`, or what a backup there says; `None` for an empty place.
    ///
    /// # Errors
    /// The server refuses or does not answer; the place is not empty and nobody's; nodes archive there by themselves.
    pub(super) async fn theirs(&self) -> Result<Option<SystemId>, S3Error> {
        self.must_be_ours_to_ship_to().await?;
        let key = self.key(FILE);
        if let Some(text) = self.store().read(&key, MOST).await? {
            let unreadable = || S3Error::Unfit(format!("{} is unreadable", self.store().uri(&key)));
            return read(&text).map(Some).ok_or_else(unreadable);
        }
        if self.store().is_empty(&self.layout.all()).await? {
            return Ok(None);
        }
        let shelf = self.shelf().await?;
        let found = shelf.iter().find_map(|s| s.info.as_ref()?.system_id);
        found.map(Some).ok_or_else(|| {
            S3Error::Unfit(format!(
                "{} is not empty, and nothing in it says of which cluster it is: give S3_BUCKET_URI another path, or \
                 move away what is there",
                self.store().uri(&self.layout.all())
            ))
        })
    }

    /// The cluster in barman's directory.
    fn ours(&self, backups: &[Backup]) -> Result<SystemId, S3Error> {
        let known = self.server.identity()?;
        let known = known.or_else(|| backups.iter().rev().find_map(|b| b.system_id));
        known.ok_or_else(|| {
            S3Error::Unfit(format!(
                "{} has neither an identity.json nor a backup: there is nothing to ship yet, or the catalogue is not \
                 mounted",
                self.server.dir.display()
            ))
        })
    }

    /// Takes the place, or finds that it is ours.
    ///
    /// # Errors
    /// It is another cluster's, or cannot be looked at.
    pub async fn claim(&self) -> Result<SystemId, S3Error> {
        let backups = self.backups().await?;
        let ours = self.ours(&backups)?;
        match self.theirs().await? {
            Some(theirs) if theirs != ours => Err(S3Error::Unfit(format!(
                "{} holds another cluster's backups (system id {theirs}, here {ours}): give S3_BUCKET_URI another path, \
                 or the cluster another name in BARMAN_SERVERS",
                self.store().uri(&self.layout.all())
            ))),
            Some(_) | None => {
                let path = self.server.dir.join(FILE);
                let there = blocking("read", &path, |path| path.try_exists()).await?;
                if there {
                    self.commit(FILE, &path).await?;
                }
                Ok(ours)
            }
        }
    }

    /// Whether anything is there of this cluster.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn answers(&self) -> Result<(), S3Error> {
        let walk = Walk::below(self.layout.all());
        self.store().page(&walk, None, Some(1)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barmans_file_is_read() {
        // As barman 3.13 writes it.
        let text = br#"{"systemid": "7512345678901234567", "version": "17"}"#;
        assert_eq!(read(text), Some(SystemId(7_512_345_678_901_234_567)));
        assert_eq!(read(b"{}"), None);
        assert_eq!(read(b"x"), None);
    }
}
