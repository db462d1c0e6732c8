//! The WAL that a backup needs: whether all of it is in the bucket.

use super::catalogue::Catalogue;
use crate::config::Format;
use crate::domain::WalName;
use crate::s3::S3Error;
use crate::s3::layout::{WalKey, WalKind};
use crate::s3::store::Walk;
use std::collections::BTreeSet;

/// Whether it can be seen from outside that it is not whole: of a compressed one only that it is empty.
fn is_cut(key: &WalKey, size: u64, segment_size: u64) -> bool {
    match key.format {
        Format::None => size != segment_size,
        _ => size == 0,
    }
}

impl Catalogue {
    /// Segments from `first` to `last`, of one timeline, that are in the bucket, by number.
    ///
    /// # Errors
    /// [`S3Error`].
    pub async fn archived(&self, first: WalName, last: WalName) -> Result<BTreeSet<u64>, S3Error> {
        let per_log = WalName::per_log(first.segment_size);
        let mut found = BTreeSet::new();
        let mut name = first;
        while name.number <= last.number {
            // One directory is one timeline and log; where few of it are wanted, only what they have in common.
            let end = last.number.min((name.number / per_log + 1) * per_log - 1);
            let (from, to) = (
                name.to_string(),
                WalName {
                    number: end,
                    ..name
                }
                .to_string(),
            );
            let same = from.bytes().zip(to.bytes()).take_while(|(a, b)| a == b);
            let common = from.get(..same.count().max(16)).unwrap_or(&from);
            let walk = Walk::below(self.layout.wal(common));
            self.store
                .walk(&walk, |page| -> Result<(), S3Error> {
                    for object in page.objects {
                        if let Some(key) = WalKey::parse(&object.key)
                            && !is_cut(&key, object.size, first.segment_size)
                            && key.kind == WalKind::Segment
                            && let Ok(wal) = WalName::parse(&key.name, first.segment_size)
                            && (name.number..=end).contains(&wal.number)
                        {
                            found.insert(wal.number);
                        }
                    }
                    Ok(())
                })
                .await?;
            name.number = end + 1;
        }
        Ok(found)
    }

    /// The first segment from `first` to `last` that is not in the bucket.
    ///
    /// # Errors
    /// [`S3Error`].
    pub(super) async fn missing(
        &self,
        first: WalName,
        last: WalName,
    ) -> Result<Option<WalName>, S3Error> {
        let found = self.archived(first, last).await?;
        let missing = (first.number..=last.number).find(|n| !found.contains(n));
        Ok(missing.map(|number| WalName { number, ..first }))
    }
}
