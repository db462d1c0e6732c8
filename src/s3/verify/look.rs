//! What is there, by LIST and the small objects: metadata, histories, lists of checksums.

use super::judge::{Seen, Unfinished};
use crate::barman::{Backup, Server};
use crate::domain::{Fault, History, Timeline};
use crate::s3::S3Error;
use crate::s3::base::{Catalogue, Entry, Leftover, Line, Manifest, Shelf};
use crate::s3::source::Bucket;
use crate::s3::store::Walk;

/// Metadata are a few kB.
const LONGEST_INFO: u64 = 4 << 20;

/// Looks at a cluster's place.
///
/// # Errors
/// The server refuses it, or does not answer.
pub async fn look(bucket: &Bucket) -> Result<Seen, S3Error> {
    let catalogue = bucket.catalogue();
    let (shelf, blind) = match catalogue.read().await {
        Ok(shelf) => (shelf, false),
        // A key that may only read. Whatever else is refused is refused again.
        Err(S3Error::Refused { refusal, .. })
            if matches!(refusal.status, 401 | 403 | 405 | 501) =>
        {
            (catalogue.finished().await?, true)
        }
        Err(error) => return Err(error),
    };
    let Shelf { entries, leftovers } = with_meta(bucket, shelf).await?;
    let backups: Vec<_> = entries.iter().map(|e| e.backup.clone()).collect();
    let claim = bucket.wals().claimed().await?;
    let size = match (&claim, backups.is_empty()) {
        (Some(claim), true) => claim.segment_size,
        _ => Server::segment_size(&backups),
    };
    let held = bucket.held(size).await?;
    let mut seen = Seen {
        place: bucket.to_string(),
        claim: claim.map(|c| c.cluster),
        histories: vec![History::without_past(Timeline(1))],
        blind,
        ..Seen::default()
    };
    for timeline in held.archive.histories.iter().filter(|t| t.0 > 1) {
        match bucket.history(*timeline).await {
            Ok(history) => seen.histories.extend(history),
            Err(error @ S3Error::Damaged { .. }) => seen.bad_histories.push(Fault::chain(&error)),
            Err(error) => return Err(error),
        }
    }
    for entry in &entries {
        match compared(&catalogue, entry).await {
            Ok(None) => {}
            Ok(Some(why)) => drop(seen.lists.insert(entry.backup.id.clone(), why)),
            Err(error @ S3Error::Damaged { .. }) => {
                let why = format!("its list of checksums cannot be used: {error}");
                seen.lists.insert(entry.backup.id.clone(), why);
            }
            Err(error) => return Err(error),
        }
    }
    for leftover in &leftovers {
        seen.unfinished
            .push(unfinished(&catalogue, leftover).await?);
    }
    Ok(Seen {
        entries,
        held,
        ..seen
    })
}

/// A barman host's copy has its metadata in `meta/` (barman 3.13.2 and later), and files where barman-cloud has tars.
async fn with_meta(bucket: &Bucket, mut shelf: Shelf) -> Result<Shelf, S3Error> {
    let (store, prefix) = (bucket.store(), format!("{}meta/", bucket.layout().all()));
    let listed = store.list(&Walk::below(prefix.clone())).await?;
    for object in listed.objects {
        let name = object.key.strip_prefix(&prefix);
        let Some(id) = name.and_then(|name| name.strip_suffix("-backup.info")) else {
            continue;
        };
        if shelf.entry(id).is_some() {
            continue;
        }
        let Some(text) = store.read(&object.key, LONGEST_INFO).await? else {
            continue;
        };
        let at = shelf.leftovers.iter().position(|l| l.id == id);
        let objects = at.map(|at| shelf.leftovers.remove(at).objects);
        let objects = objects.unwrap_or_default();
        let lacks = match objects.is_empty() {
            true => vec!["its files are missing".to_owned()],
            false => Vec::new(),
        };
        let place = store.uri(&bucket.layout().base(id, ""));
        shelf.entries.push(Entry {
            backup: Backup::parse(id, place.into(), &String::from_utf8_lossy(&text)),
            archives: Vec::new(),
            manifest: None,
            objects,
            lacks,
        });
    }
    shelf.sort();
    Ok(shelf)
}

/// What the list of checksums says of the archives' sizes against what LIST says; `None`: the same.
async fn compared(catalogue: &Catalogue, entry: &Entry) -> Result<Option<String>, S3Error> {
    let Some(mut manifest) = Manifest::open(catalogue, entry).await? else {
        return Ok(None);
    };
    let mut listed = 0;
    while let Some(line) = manifest.next().await? {
        let Line::Archive { archive, size, .. } = line else {
            continue;
        };
        listed += 1;
        let stored = entry
            .archives
            .iter()
            .find(|a| a.name.to_string() == archive);
        match stored {
            None => return Ok(Some(format!("{archive}, which was stored, is missing"))),
            Some(stored) if stored.object.size != size => {
                return Ok(Some(format!(
                    "{archive} has {} bytes, and was stored with {size}",
                    stored.object.size
                )));
            }
            Some(_) => {}
        }
    }
    Ok((listed != entry.archives.len()).then(|| {
        let there = entry.archives.len();
        format!("it has {there} archives, and was stored with {listed}")
    }))
}

async fn unfinished(catalogue: &Catalogue, of: &Leftover) -> Result<Unfinished, S3Error> {
    Ok(Unfinished {
        id: of.id.clone(),
        bytes: of.bytes() + catalogue.parts_bytes(&of.uploads).await?,
        uploads: of.uploads.len(),
        node: of.marker.as_ref().map(|m| m.node.clone()),
        touched: of.touched().map(|t| t.to_rfc3339()),
    })
}
