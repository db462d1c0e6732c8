//! The names of a backup's tar archives: `data.tar.gz`, `data_0001.tar.gz`, `16385.tar.gz` (`_build_dest_name` and
//! `get_backup_files` in `barman/cloud.py`, 3.13).

use crate::config::Format;

/// Which archive of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveName {
    /// The tablespace; `None`: the data directory, whose archives come first.
    pub tablespace: Option<u32>,
    /// 0, and on from 1 where one archive would have been too large. Each is a tar archive of its own.
    pub part: u32,
    /// How it is compressed.
    pub format: Format,
}

impl ArchiveName {
    /// From the last part of a key; `None` for what is no archive.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.split_once('.')?;
        let format = match extension {
            "tar" => Format::None,
            "tar.gz" => Format::Gzip,
            "tar.bz2" => Format::Bzip2,
            "tar.snappy" => Format::Snappy,
            _ => return None,
        };
        let (owner, part) = match stem.split_once('_') {
            Some((owner, part)) => (owner, number(part)?),
            None => (stem, 0),
        };
        let tablespace = match owner {
            "data" => None,
            oid => Some(number(oid)?),
        };
        Some(Self {
            tablespace,
            part,
            format,
        })
    }

    /// `data` or the oid: what all its parts begin with.
    #[must_use]
    pub fn owner(&self) -> String {
        self.tablespace
            .map_or_else(|| "data".to_owned(), |oid| oid.to_string())
    }
}

impl std::fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.owner())?;
        if self.part > 0 {
            write!(f, "_{:04}", self.part)?;
        }
        write!(f, ".tar{}", self.format.extension())
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_as_barman_cloud_names_them() {
        let name = |tablespace, part, format| {
            let name = ArchiveName {
                tablespace,
                part,
                format,
            };
            let text = name.to_string();
            assert_eq!(ArchiveName::parse(&text), Some(name), "{text}");
            text
        };
        assert_eq!(name(None, 0, Format::None), "data.tar");
        assert_eq!(name(None, 1, Format::Gzip), "data_0001.tar.gz");
        assert_eq!(name(Some(16385), 0, Format::Bzip2), "16385.tar.bz2");
        assert_eq!(
            name(Some(16385), 10_000, Format::Snappy),
            "16385_10000.tar.snappy"
        );
        for other in [
            "backup.info",
            "data.sha256",
            "data.tar.zst",
            "data_x.tar",
            "data_manifest.json",
            "x.tar",
            "_1.tar",
            "data",
        ] {
            assert_eq!(ArchiveName::parse(other), None, "{other}");
        }
    }
}
