//! Whose archive it is. A marker beside `base/` and `wals/`, where barman-cloud's tools look at nothing, names the cluster.
//!
//! An archive without a marker is claimed when it is first used, if it is empty or all that is in it is ours (archived by
//! barman-cloud before). S3 has no lock: conditional writes are ignored by some servers, so that two clusters could both write
//! the marker. Therefore each first puts a note of its own name, then lists all notes, then reads the marker
//! again, and writes the marker only if it saw no other cluster's note and no marker:
//!
//! - Both notes are put before either lists: both see two notes, both withdraw, and try again later.
//! - One lists before the other's note is put: then the other, which lists after that, sees the first one's note and
//!   withdraws; or the note is gone already, which happens after the marker is written, and it reads the marker after its LIST.
//!
//! So never more than one cluster writes. A cluster may claim several times at once (the worker, a backup): no try has another's
//! note, because whoever withdraws takes his own away, and that of a sibling which goes on must stay. A note that a kill has
//! left stops others, not its own cluster, and goes when that has its marker, or at its next backup.

use super::look::Stored;
use super::{Archive, SystemId};
use crate::barman::{self, Origin};
use crate::s3::S3Error;
use crate::s3::layout::{WalKey, WalKind};
use crate::s3::store::{Label, Walk};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The marker's name, below `<server>/`.
pub const MARKER: &str = "pgnode.json";
/// How the notes' names begin.
const NOTE: &str = "pgnode.claim.";
/// No marker is larger.
const MOST: u64 = 4096;
/// The largest segment, and what packing may add.
const SEGMENT: u64 = 1 << 30;
/// Of how many segments the first one that can be read speaks for all.
const TRIES: usize = 5;

/// The identity of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: SystemId,
    /// Bytes of its segments.
    pub segment_size: u64,
}

/// The marker's text. Numbers of 64 bits are strings, because not every reader of JSON has them.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    system_id: String,
    segment_size: u64,
}

impl From<Origin> for Claim {
    fn from(origin: Origin) -> Self {
        Self {
            cluster: origin.cluster,
            segment_size: origin.segment_size,
        }
    }
}

impl Archive {
    /// What the marker says; `None`: nobody has claimed the archive.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`; it is no marker.
    pub async fn claimed(&self) -> Result<Option<Claim>, S3Error> {
        let key = format!("{}{MARKER}", self.layout.all());
        let Some(text) = self.store.read(&key, MOST).await? else {
            return Ok(None);
        };
        let marker: Option<Marker> = serde_json::from_slice(&text).ok();
        let claim = marker.and_then(|m| {
            Some(Claim {
                cluster: SystemId(m.system_id.parse().ok()?),
                segment_size: m.segment_size,
            })
        });
        claim.map(Some).ok_or_else(|| S3Error::Damaged {
            key: self.store.uri(&key),
            why: "does not say whose archive this is".to_owned(),
        })
    }

    /// Sees to it that the archive is ours: it is already, or it is claimed now.
    ///
    /// # Errors
    /// [`S3Error::Unfit`]: it is another cluster's, or nobody can say whose; [`S3Error::Busy`]: another one claims it at this
    /// moment; else as [`Archive::claimed`].
    pub async fn claim(&self, ours: Claim) -> Result<Claim, S3Error> {
        if let Some(theirs) = self.claimed().await? {
            return self.compare(ours, theirs);
        }
        if let Some(key) = self.shipped().await? {
            return Err(S3Error::Unfit(format!(
                "a barman host ships its catalogue to {} ({key}): archives of nodes have another layout, and each would delete \
                 what the other keeps; set another BARMAN_CLOUD_SERVER_NAME or S3_BUCKET_URI",
                self.uri()
            )));
        }
        match self.identity().await? {
            Identity::Empty => {}
            Identity::Of(cluster) if cluster == ours.cluster => {}
            Identity::Of(cluster) => return Err(self.foreign(ours, cluster)),
            Identity::Unknown(key) => {
                return Err(S3Error::Unfit(format!(
                    "expected an empty archive at {}, or one of cluster {}: there is {key}, which does not say \
                     whose it is; set another BARMAN_CLOUD_SERVER_NAME or S3_BUCKET_URI",
                    self.uri(),
                    ours.cluster
                )));
            }
        }
        self.write_claim(ours).await
    }

    /// Takes away the notes that killed tries have left, of whichever cluster: with a marker there, which there must be,
    /// nobody goes by them.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn forget_tries(&self) -> Result<(), S3Error> {
        let notes = Walk::below(format!("{}{NOTE}", self.layout.all()));
        let notes = self.store.list(&notes).await?.objects;
        let keys: Vec<String> = notes.into_iter().map(|o| o.key).collect();
        self.store.delete(&keys).await
    }

    /// Whether the archive is that of a cluster, by its marker or by what is in it. Nothing is written.
    ///
    /// # Errors
    /// [`S3Error::Unfit`]: it is another's, or there is none at all; else as [`Archive::claimed`].
    pub async fn must_be_of(&self, cluster: SystemId) -> Result<(), S3Error> {
        match self.owner().await? {
            Some(theirs) if theirs == cluster => Ok(()),
            Some(theirs) => Err(S3Error::Unfit(format!(
                "{} is the archive of cluster {theirs}, not of {cluster}",
                self.uri()
            ))),
            None => Err(S3Error::Unfit(format!(
                "there is nothing at {}: not even what belongs to an archive; is S3_BUCKET_URI right?",
                self.uri()
            ))),
        }
    }

    /// Whose the archive is, by its marker or by what is in it; `None`: nothing is there. Nothing is written.
    ///
    /// # Errors
    /// [`S3Error::Unfit`]: something is there that does not tell; else as [`Archive::claimed`].
    pub async fn owner(&self) -> Result<Option<SystemId>, S3Error> {
        if let Some(claim) = self.claimed().await? {
            return Ok(Some(claim.cluster));
        }
        match self.identity().await? {
            Identity::Empty => Ok(None),
            Identity::Of(cluster) => Ok(Some(cluster)),
            Identity::Unknown(key) => Err(S3Error::Unfit(format!(
                "{} does not say whose archive it is: there is {key}",
                self.uri()
            ))),
        }
    }

    async fn write_claim(&self, ours: Claim) -> Result<Claim, S3Error> {
        let own = format!("{}{NOTE}{}", self.layout.all(), ours.cluster);
        let note = format!("{own}.{}", nonce()?);
        let claimed = self.write_after_note(ours, &own, &note).await;
        if claimed.is_err() {
            // It should not stop others. Where it cannot be deleted the first error says why.
            drop(self.store.delete(&[note]).await);
        }
        claimed
    }

    /// `own` is what the names of all notes of this cluster begin with.
    async fn write_after_note(&self, ours: Claim, own: &str, note: &str) -> Result<Claim, S3Error> {
        let all = self.layout.all();
        let put = async |key: &str, text: String| {
            self.store.put(key, Bytes::from(text), Label::Plain).await
        };
        put(note, "A cluster is claiming this archive.\n".to_owned()).await?;
        let notes = self
            .store
            .list(&Walk::below(format!("{all}{NOTE}")))
            .await?;
        let (siblings, others): (Vec<_>, Vec<_>) = notes
            .objects
            .iter()
            .map(|o| &o.key)
            .partition(|key| is_of(own, key));
        match (self.claimed().await?, others.first()) {
            (Some(theirs), _) => {
                let ours = self.compare(ours, theirs)?;
                self.store.delete(&[note.to_owned()]).await?;
                Ok(ours)
            }
            (None, Some(other)) => Err(S3Error::Busy(format!(
                "another cluster claims {} at this moment; if there is none, delete {}",
                self.uri(),
                self.store.uri(other)
            ))),
            (None, None) => {
                let text = Marker {
                    system_id: ours.cluster.to_string(),
                    segment_size: ours.segment_size,
                };
                let text = serde_json::to_string(&text).map_err(|e| S3Error::Bug(e.to_string()))?;
                put(&format!("{all}{MARKER}"), format!("{text}\n")).await?;
                tracing::info!(
                    "{} is the archive of cluster {} now",
                    self.uri(),
                    ours.cluster
                );
                // The marker speaks for all of them now.
                let mut notes: Vec<String> = siblings.into_iter().cloned().collect();
                notes.push(note.to_owned());
                notes.sort_unstable();
                notes.dedup();
                self.store.delete(&notes).await?;
                Ok(ours)
            }
        }
    }

    fn compare(&self, ours: Claim, theirs: Claim) -> Result<Claim, S3Error> {
        if ours.cluster != theirs.cluster {
            return Err(self.foreign(ours, theirs.cluster));
        }
        if ours.segment_size != theirs.segment_size {
            return Err(S3Error::Unfit(format!(
                "{} holds segments of {} bytes, this cluster's have {}: set another BARMAN_CLOUD_SERVER_NAME",
                self.uri(),
                theirs.segment_size,
                ours.segment_size
            )));
        }
        Ok(theirs)
    }

    fn foreign(&self, ours: Claim, theirs: SystemId) -> S3Error {
        S3Error::Unfit(format!(
            "expected an empty archive at {}, or one of cluster {}: it is that of cluster {theirs}; set another \
             BARMAN_CLOUD_SERVER_NAME or S3_BUCKET_URI",
            self.uri(),
            ours.cluster
        ))
    }

    /// What only a copy of barman's own catalogue has (`docs/shipping.md`), if the place is one.
    async fn shipped(&self) -> Result<Option<String>, S3Error> {
        let all = self.layout.all();
        let bases = self.store.list(&Walk::level(self.layout.bases())).await?;
        let files = bases.folders.iter().map(|folder| format!("{folder}data/"));
        let known = [format!("{all}identity.json"), format!("{all}meta/")];
        for prefix in known.into_iter().chain(files.take(TRIES)) {
            if !self.store.is_empty(&prefix).await? {
                return Ok(Some(self.store.uri(&prefix)));
            }
        }
        Ok(None)
    }

    /// Whose the archive is, by what is in it.
    ///
    /// # Errors
    /// As [`Archive::claimed`].
    async fn identity(&self) -> Result<Identity, S3Error> {
        let wals = self.first_segments().await?;
        for stored in &wals.segments {
            // What is damaged says nothing; the next one may.
            let plain = match self.contents(stored, SEGMENT).await {
                Ok(Some(plain)) => plain,
                Ok(None) | Err(S3Error::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Some(origin) = barman::origin(&plain) {
                return Ok(Identity::Of(origin.cluster));
            }
        }
        let mut strange = wals.other;
        let backups = self.store.list(&Walk::level(self.layout.bases())).await?;
        for folder in &backups.folders {
            let key = format!("{folder}backup.info");
            strange.get_or_insert_with(|| self.store.uri(folder));
            let Some(text) = self.store.read(&key, super::look::SMALL).await? else {
                continue;
            };
            let text = String::from_utf8_lossy(&text);
            let id = text.lines().find_map(|l| l.strip_prefix("systemid="));
            if let Some(id) = id.and_then(|id| id.trim().parse().ok()) {
                return Ok(Identity::Of(SystemId(id)));
            }
        }
        Ok(strange.map_or(Identity::Empty, Identity::Unknown))
    }

    async fn first_segments(&self) -> Result<Wals, S3Error> {
        let walk = Walk::below(self.layout.wals());
        let page = self.store.page(&walk, None, None).await?;
        let mut found = Wals::default();
        for object in page.objects {
            let key = WalKey::parse(&object.key);
            found
                .other
                .get_or_insert_with(|| self.store.uri(&object.key));
            let whole = key.filter(|k| matches!(k.kind, WalKind::Segment | WalKind::Partial));
            if let Some(key) = whole
                && found.segments.len() < TRIES
            {
                found.segments.push(Stored {
                    key: object.key,
                    format: key.format,
                    size: object.size,
                });
            }
        }
        Ok(found)
    }
}

/// Whether a note is one of the cluster whose notes begin so. Those of earlier versions end there.
fn is_of(own: &str, key: &str) -> bool {
    let rest = key.strip_prefix(own);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A name that no other try has.
fn nonce() -> Result<String, S3Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| S3Error::Bug(format!("no random number: {e}")))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(random)))
}

#[derive(Default)]
struct Wals {
    segments: Vec<Stored>,
    /// Any object at all.
    other: Option<String>,
}

/// Whose an archive without a marker is.
enum Identity {
    Empty,
    Of(SystemId),
    /// Something is there, and does not tell.
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_notes_are_not_those_of_another_whose_number_begins_alike() {
        let own = "main/pgnode.claim.75";
        assert!(is_of(own, "main/pgnode.claim.75"));
        assert!(is_of(own, "main/pgnode.claim.75.00ff"));
        assert!(!is_of(own, "main/pgnode.claim.750.00ff"));
        assert!(!is_of(own, "main/pgnode.claim.7"));
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
