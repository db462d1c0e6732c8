//! Sends the pieces of a backup: at most `S3_MAX_PARALLEL` parts are on their way, whatever objects they belong to.

use super::catalogue::Catalogue;
use super::pack::Piece;
use crate::s3::S3Error;
use crate::s3::store::{Label, Part, Upload};
use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

/// An object under way.
#[derive(Debug, Default)]
struct Going {
    key: String,
    /// Until it is known whether there is a second one.
    first: Option<Bytes>,
    upload: Option<Upload>,
    begun: usize,
    done: Vec<Part>,
    ended: bool,
}

type Sent = (usize, Result<Part, S3Error>);

/// Takes pieces until there are no more and every object that was ended is there.
///
/// # Errors
/// [`S3Error`]: what was begun is left to be swept by its backup's id.
pub(super) async fn send(
    catalogue: &Catalogue,
    id: &str,
    pieces: &mut Receiver<Piece>,
) -> Result<(), S3Error> {
    let mut going: BTreeMap<usize, Going> = BTreeMap::new();
    let mut sending: JoinSet<Sent> = JoinSet::new();
    let most = catalogue.store.settings().max_parallel.max(1);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Begin { object, name } => {
                let key = catalogue.layout.base(id, &name);
                going.insert(
                    object,
                    Going {
                        key,
                        ..Going::default()
                    },
                );
            }
            Piece::Part { object, bytes } => {
                let Some(one) = going.get_mut(&object) else {
                    continue;
                };
                if one.upload.is_none() && one.first.is_none() {
                    one.first = Some(bytes);
                    continue;
                }
                let first = one.first.take();
                for bytes in first.into_iter().chain([bytes]) {
                    make_room(most - 1, &mut sending, &mut going).await?;
                    begin_part(catalogue, &mut going, &mut sending, object, bytes).await?;
                }
            }
            Piece::End { object } => {
                let Some(one) = going.get_mut(&object) else {
                    continue;
                };
                one.ended = true;
                if one.upload.is_none() {
                    // It fits into one request.
                    let body = one.first.take().unwrap_or_default();
                    catalogue.store.put(&one.key, body, Label::Plain).await?;
                    going.remove(&object);
                }
            }
        }
        finish_whole(&mut going).await?;
    }
    make_room(0, &mut sending, &mut going).await?;
    finish_whole(&mut going).await
}

/// Waits until at most `most` parts are on their way.
async fn make_room(
    most: usize,
    sending: &mut JoinSet<Sent>,
    going: &mut BTreeMap<usize, Going>,
) -> Result<(), S3Error> {
    while sending.len() > most {
        let Some(sent) = sending.join_next().await else {
            return Ok(());
        };
        let (object, part) = sent.map_err(|e| S3Error::Bug(format!("an upload of a part: {e}")))?;
        let part = part?;
        if let Some(one) = going.get_mut(&object) {
            one.done.push(part);
        }
    }
    Ok(())
}

async fn begin_part(
    catalogue: &Catalogue,
    going: &mut BTreeMap<usize, Going>,
    sending: &mut JoinSet<Sent>,
    object: usize,
    bytes: Bytes,
) -> Result<(), S3Error> {
    let Some(one) = going.get_mut(&object) else {
        return Ok(());
    };
    let upload = match &one.upload {
        Some(upload) => upload.clone(),
        None => {
            let begun = catalogue.store.upload(&one.key, Label::Plain).await?;
            one.upload.insert(begun).clone()
        }
    };
    let index = one.begun;
    one.begun += 1;
    sending.spawn(async move { (object, upload.part(index, bytes).await) });
    Ok(())
}

/// Completes those whose parts are all there.
async fn finish_whole(going: &mut BTreeMap<usize, Going>) -> Result<(), S3Error> {
    let whole: Vec<usize> = going
        .iter()
        .filter(|(_, one)| one.ended && one.done.len() == one.begun)
        .map(|(object, _)| *object)
        .collect();
    for object in whole {
        if let Some(one) = going.remove(&object)
            && let Some(upload) = one.upload
        {
            upload.finish(one.done).await?;
        }
    }
    Ok(())
}
