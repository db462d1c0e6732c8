//! Where nodes archive by themselves (`BARMAN_MODE=cloud`, or barman-cloud) no catalogue is shipped. Nothing there is in
//! barman's catalogue, so that all of it would look like what barman has deleted; that it is the same cluster's makes it
//! worse, not better.

use super::Ship;
use crate::s3::S3Error;
use crate::s3::base::ArchiveName;
use crate::s3::store::Walk;
use crate::s3::wal::MARKER;
use futures_util::{StreamExt as _, TryStreamExt as _};

/// Backups that are looked at at once.
const AT_ONCE: usize = 8;

impl Ship {
    /// Whether nobody else keeps an archive here, seen before anything is written, and again before anything is deleted.
    ///
    /// # Errors
    /// [`S3Error::Unfit`]: somebody does; the server refuses or does not answer.
    pub(super) async fn must_be_ours_to_ship_to(&self) -> Result<(), S3Error> {
        let marks = Walk::below(self.key(family()));
        let marks = self.store().page(&marks, None, Some(1)).await?;
        if let Some(mark) = marks.objects.first() {
            return Err(self.taken("nodes archive there by themselves", &mark.key));
        }
        let bases = self.layout.bases();
        let level = self.store().list(&Walk::level(&bases)).await?;
        let backups = level.folders.into_iter().filter(|folder| {
            let id = folder.strip_prefix(&bases).map(|f| f.trim_end_matches('/'));
            id.is_some_and(super::task::is_backup_id)
        });
        let looks = backups.map(|folder| self.archive_in(folder));
        let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
        while let Some(found) = looks.try_next().await? {
            if let Some(key) = found {
                return Err(self.taken("backups of barman-cloud's are there", &key));
            }
        }
        Ok(())
    }

    /// What of a backup is barman-cloud's. The first page has it: barman's own have only directories beside `backup.info`.
    async fn archive_in(&self, folder: String) -> Result<Option<String>, S3Error> {
        let page = self
            .store()
            .page(&Walk::level(&folder), None, None)
            .await?
            .objects;
        let keys = page.into_iter().map(|o| o.key);
        let mut clouds = keys.filter(|key| key.strip_prefix(&folder).is_some_and(is_barman_clouds));
        Ok(clouds.next())
    }

    fn taken(&self, why: &str, key: &str) -> S3Error {
        S3Error::Unfit(format!(
            "{} takes no catalogue of barman's: {why} ({}), and full-sync would delete it as what barman has no longer; \
             give S3_BUCKET_URI another path, or the cluster another name in BARMAN_SERVERS",
            self.store().uri(&self.layout.all()),
            self.store().uri(key)
        ))
    }
}

/// How the names begin of what those nodes keep beside `base/` and `wals/`: the marker, and before it is there the note of
/// one that is about to write it.
fn family() -> &'static str {
    MARKER.strip_suffix("json").unwrap_or(MARKER)
}

/// Whether an object directly in `base/<id>/` is of a backup of barman-cloud's: a tar archive, or the label that it keeps
/// there of a snapshot. barman has both in `base/<id>/data/`.
fn is_barman_clouds(name: &str) -> bool {
    // Whatever it is compressed with: later versions know more.
    let tar = name.split_once(".tar").is_some_and(|(stem, rest)| {
        (rest.is_empty() || rest.starts_with('.'))
            && ArchiveName::parse(&format!("{stem}.tar")).is_some()
    });
    tar || name == "backup_label"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_barman_clouds_is_told_from_barmans_files() {
        for name in [
            "data.tar",
            "data.tar.gz",
            "data.tar.bz2",
            "data.tar.snappy",
            "data.tar.zst",
            "data_0001.tar.gz",
            "16385.tar",
            "16385_0002.tar.gz",
            "backup_label",
        ] {
            assert!(is_barman_clouds(name), "{name}");
        }
        for name in [
            "backup.info",
            ".backup.info.tmp",
            "data",
            "x.tar",
            "data.tarball",
            "data/base.tar.gz",
            "16385.rclonelink",
        ] {
            assert!(!is_barman_clouds(name), "{name}");
        }
    }

    #[test]
    fn the_marker_and_the_notes_before_it_are_of_one_family() {
        assert_eq!(family(), "pgnode.");
        // Nothing that is shipped is.
        for shipped in ["identity.json", "base/", "meta/", "wals/"] {
            assert!(!shipped.starts_with(family()));
        }
    }
}
