//! The tars that make a cluster, and what must be known of a backup before the first of them is opened.

use crate::config::Format;
use crate::s3::base::Entry;
use crate::s3::{S3Error, Store, pipe};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// One tar of a backup: all of the data directory or of a tablespace, or the next part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tablespace; `None`: the data directory.
    pub tablespace: Option<u32>,
    /// `data.tar.gz`, as the list of checksums calls it.
    pub name: String,
    /// Its key.
    pub key: String,
    /// How it is packed.
    pub format: Format,
    /// Bytes, packed.
    pub size: u64,
}

/// The tars in their order, or why they cannot be restored: those of each tablespace, by its oid, and last those of the
/// data directory, as they were made (and as the list of checksums has them).
///
/// # Errors
/// A sentence about what is missing.
pub fn pieces(entry: &Entry) -> Result<Vec<Piece>, String> {
    let mut spaces: Vec<Option<u32>> = entry
        .backup
        .tablespaces
        .iter()
        .map(|t| Some(t.oid))
        .collect();
    spaces.sort_unstable();
    spaces.push(None);
    let pieces: Vec<Piece> = spaces
        .into_iter()
        .flat_map(|space| entry.archives_of(space))
        .map(|archive| Piece {
            tablespace: archive.name.tablespace,
            name: archive.name.to_string(),
            key: archive.object.key.clone(),
            format: archive.name.format,
            size: archive.object.size,
        })
        .collect();
    if entry.archives.is_empty() && entry.objects.iter().any(|o| o.key.contains("/data/")) {
        return Err(
            "it is a barman host's copy and no tar of barman-cloud's: download it, and restore from the directory"
                .to_owned(),
        );
    }
    if !entry.lacks.is_empty() {
        return Err(entry.lacks.join("; "));
    }
    match pieces.iter().find(|p| p.size == 0) {
        Some(empty) => Err(format!("{} is empty", empty.name)),
        None => Ok(pieces),
    }
}

/// Sends an object through, whole; ends early without an error when nobody reads any more.
pub(super) async fn pour(
    store: &Store,
    piece: &Piece,
    to: mpsc::Sender<Bytes>,
    done: &AtomicU64,
) -> Result<(), S3Error> {
    let Some(body) = store.get(&piece.key).await? else {
        return Err(S3Error::Damaged {
            key: store.uri(&piece.key),
            why: "was listed, and is not there now".to_owned(),
        });
    };
    if body.size() != piece.size {
        return Err(S3Error::Damaged {
            key: store.uri(&piece.key),
            why: format!(
                "was listed with {} bytes and has {}",
                piece.size,
                body.size()
            ),
        });
    }
    let sent = |bytes| {
        done.fetch_add(bytes, Ordering::Relaxed);
    };
    pipe::pour(body, to, sent).await
}
