//! Uploads in parts: nothing is there until [`Upload::finish`], and what was begun and never finished can be found.

use super::patience::within;
use super::{Label, Store, Walk};
use crate::config::{LARGEST_PART, MOST_PARTS};
use crate::s3::S3Error;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{PutMultipartOptions, PutPayload};

/// An upload in parts that is under way.
#[derive(Clone, Debug)]
pub struct Upload {
    store: Store,
    /// The key that it will have.
    pub key: String,
    /// The server's id of the upload.
    pub id: String,
    path: Path,
}

/// A part that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: usize,
    /// Bytes.
    pub size: u64,
    /// The server's mark of it.
    pub etag: String,
}

/// An upload that somebody began and has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that it would have.
    pub key: String,
    /// The server's id of the upload.
    pub id: String,
    /// When it began, by the server's clock.
    pub begun: DateTime<Utc>,
}

impl Store {
    /// How large the parts of a file of that size should be: `S3_PART_SIZE`, or more where that would need too many.
    #[must_use]
    pub fn part_size(&self, whole: u64) -> u64 {
        // A tenth is left for a file that grows meanwhile.
        let least = whole.div_ceil(MOST_PARTS - MOST_PARTS / 10);
        self.settings().part_size.max(least).min(LARGEST_PART)
    }

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn upload(&self, key: &str, label: Label) -> Result<Upload, S3Error> {
        let path = self.path(key)?;
        let what = format!("cannot begin to store {key}");
        let mut patience = self.patience();
        loop {
            let options = PutMultipartOptions {
                tags: self.tags(label),
                ..PutMultipartOptions::default()
            };
            let begin = self.inner.client.create_multipart_opts(&path, options);
            match within(&what, 0, begin).await {
                Ok(id) => {
                    return Ok(Upload {
                        store: self.clone(),
                        key: key.to_owned(),
                        id,
                        path,
                    });
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// Takes up an upload that was begun before; [`Store::parts`] says what is there of it.
    ///
    /// # Errors
    /// The key cannot be one.
    pub fn resume(&self, unfinished: &Unfinished) -> Result<Upload, S3Error> {
        Ok(Upload {
            store: self.clone(),
            path: self.path(&unfinished.key)?,
            key: unfinished.key.clone(),
            id: unfinished.id.clone(),
        })
    }

    /// Uploads below a prefix that were begun and not finished.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, S3Error> {
        let mut found = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let full = self.full(prefix);
            let mut query = vec![("uploads", String::new()), ("prefix", full)];
            if let Some((key, id)) = &marker {
                query.push(("key-marker", key.clone()));
                query.push(("upload-id-marker", id.clone()));
            }
            let what = format!("cannot list unfinished uploads below {prefix}");
            let listed: Uploads = self.ask(&what, None, &query).await?;
            for upload in listed.upload {
                let Some(key) = self.own(&upload.key) else {
                    continue;
                };
                found.push(Unfinished {
                    key: key.to_owned(),
                    id: upload.upload_id,
                    begun: upload.initiated,
                });
            }
            if !listed.is_truncated {
                return Ok(found);
            }
            let next = (listed.next_key_marker, listed.next_upload_id_marker);
            if marker.as_ref() == Some(&next) {
                return Err(S3Error::Unfit(format!(
                    "{what}: the server's pages do not end"
                )));
            }
            marker = Some(next);
        }
    }

    /// The parts that the server has of an upload; `None`: it was finished or discarded meanwhile.
    ///
    /// # Errors
    /// As [`Store::unfinished`].
    pub async fn parts(&self, upload: &Unfinished) -> Result<Option<Vec<Part>>, S3Error> {
        let mut found: Vec<Part> = Vec::new();
        loop {
            let mut query = vec![("uploadId", upload.id.clone())];
            if let Some(last) = found.last() {
                query.push(("part-number-marker", (last.index + 1).to_string()));
            }
            let what = format!("cannot list the parts of {}", upload.key);
            let listed: Parts = match self.ask(&what, Some(&upload.key), &query).await {
                Ok(listed) => listed,
                Err(S3Error::Refused { refusal, .. }) if refusal.status == 404 => return Ok(None),
                Err(error) => return Err(error),
            };
            let before = found.len();
            for part in listed.part {
                found.push(Part {
                    index: part.part_number.saturating_sub(1),
                    size: part.size,
                    etag: part.e_tag,
                });
            }
            if !listed.is_truncated || found.len() == before {
                return Ok(Some(found));
            }
        }
    }

    /// Gives an unfinished upload up: its parts are freed.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn discard(&self, upload: &Unfinished) -> Result<(), S3Error> {
        self.resume(upload)?.abort().await
    }

    /// Whether there is an object with exactly this key, and what LIST says of it.
    ///
    /// # Errors
    /// As [`Store::page`].
    pub async fn find(&self, key: &str) -> Result<Option<super::Object>, S3Error> {
        let page = self.page(&Walk::below(key), None, Some(1)).await?;
        Ok(page.objects.into_iter().find(|o| o.key == key))
    }
}

impl Upload {
    /// Sends one part; all but the last have at least 5 MiB. `index` counts from 0, parts may come in any order.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn part(&self, index: usize, body: Bytes) -> Result<Part, S3Error> {
        let inner = &self.store.inner;
        let what = format!("cannot store part {} of {}", index + 1, self.key);
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut patience = self.store.patience();
        loop {
            let slot = self.store.slot(body.len()).await;
            inner.pace.let_out(body.len()).await;
            let payload = PutPayload::from_bytes(body.clone());
            let put = inner.client.put_part(&self.path, &self.id, index, payload);
            let ended = within(&what, size, put).await;
            drop(slot);
            match ended {
                Ok(part) => {
                    return Ok(Part {
                        index,
                        size,
                        etag: part.content_id,
                    });
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// Makes the object of its parts, which are put in order first. Only now is it there.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn finish(self, mut parts: Vec<Part>) -> Result<(), S3Error> {
        parts.sort_unstable_by_key(|p| p.index);
        if parts.iter().enumerate().any(|(n, p)| p.index != n) {
            return Err(S3Error::Bug(format!("{}: a part is missing", self.key)));
        }
        let size: u64 = parts.iter().map(|p| p.size).sum();
        let what = format!("cannot complete {}", self.key);
        let mut patience = self.store.patience();
        loop {
            let ids = parts.iter().map(|p| PartId {
                content_id: p.etag.clone(),
            });
            let client = &self.store.inner.client;
            let complete = client.complete_multipart(&self.path, &self.id, ids.collect());
            match within(&what, size, complete).await {
                Ok(_) => return Ok(()),
                Err(S3Error::Refused { what, refusal }) if refusal.status == 404 => {
                    // An earlier try may have done it, and only its answer was lost.
                    return match self.store.find(&self.key).await? {
                        Some(object) if object.size == size => Ok(()),
                        Some(_) | None => Err(S3Error::Refused { what, refusal }),
                    };
                }
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// Gives it up: its parts are freed.
    ///
    /// # Errors
    /// The server refuses it, or does not answer for `S3_RETRY`.
    pub async fn abort(&self) -> Result<(), S3Error> {
        let what = format!("cannot give up the upload of {}", self.key);
        let mut patience = self.store.patience();
        loop {
            let client = &self.store.inner.client;
            let abort = client.abort_multipart(&self.path, &self.id);
            match within(&what, 0, abort).await {
                Ok(()) => return Ok(()),
                Err(S3Error::Refused { refusal, .. }) if refusal.status == 404 => return Ok(()),
                Err(error) => patience.again(error).await?,
            }
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default)]
    upload: Vec<Begun>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parts {
    #[serde(default)]
    part: Vec<Listed>,
    #[serde(default)]
    is_truncated: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    part_number: usize,
    size: u64,
    e_tag: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LEAST_PART, S3};

    fn store(part_size: u64) -> Store {
        let settings = S3 {
            part_size,
            ..S3::at("http://s3:3900")
        };
        Store::open(&settings).unwrap()
    }

    /// Amazon's limits: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
    #[test]
    fn no_file_needs_more_parts_than_an_upload_may_have() {
        const MIB: u64 = 1 << 20;
        const LARGEST: u64 = 5 << 40;
        for setting in [
            LEAST_PART,
            LEAST_PART + 1,
            16 * MIB,
            600 * MIB,
            LARGEST_PART,
        ] {
            let store = store(setting);
            let edges = [setting, setting * 9_000, setting * 10_000, LARGEST];
            let powers = (0..=42).map(|n| 1 << n);
            let sizes = edges.into_iter().chain(powers);
            let sizes = sizes.flat_map(|n| [n.saturating_sub(1), n, n + 1]);
            for whole in sizes.filter(|n| *n <= LARGEST) {
                let part = store.part_size(whole);
                // A file may grow by a tenth while it is sent.
                let grown = (whole + whole / 10).min(LARGEST);
                assert!(grown.div_ceil(part) <= 10_000, "{whole} by {part}");
                assert!((5 * MIB..=5 << 30).contains(&part), "{whole} by {part}");
                assert!(part >= setting, "{whole} by {part}, not {setting}");
                if whole <= setting * 9_000 {
                    assert_eq!(part, setting, "{whole}");
                }
            }
        }
    }

    #[test]
    fn the_servers_lists_are_read() {
        let text = "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated><Upload><Key>p/a</Key><UploadId>u1</UploadId><Initiated>2026-11-21T10:00:00.000Z</Initiated></Upload><Upload><Key>p/b</Key><UploadId>u2</UploadId><Initiated>2026-11-21T10:00:01Z</Initiated></Upload></ListMultipartUploadsResult>";
        let uploads: Uploads = quick_xml::de::from_str(text).unwrap();
        let keys: Vec<_> = uploads.upload.iter().map(|u| &*u.key).collect();
        assert_eq!(keys, ["p/a", "p/b"]);
        let text = "<ListPartsResult><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;</ETag><Size>5</Size></Part></ListPartsResult>";
        let parts: Parts = quick_xml::de::from_str(text).unwrap();
        assert!(parts.is_truncated && parts.part[0].e_tag == "\"x\"");
    }
}
