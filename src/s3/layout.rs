//! barman-cloud's keys, below the bucket's path: `<server>/base/<id>/…` and `<server>/wals/<16 hex>/<name>`
//! (`barman/cloud.py` and `barman/clients/cloud_walarchive.py`, 3.13).

use crate::config::Format;
use crate::domain::Timeline;

/// Where one cluster's objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    server: String,
}

/// The kinds of file that PostgreSQL archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WalKind {
    /// 24 hex digits.
    Segment,
    /// A segment that a promotion cut short.
    Partial,
    /// `<segment>.<8 hex>.backup`
    BackupLabel,
    /// `<8 hex>.history`
    History,
}

/// An object below `wals/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WalKey {
    /// PostgreSQL's name of the file.
    pub name: String,
    /// What it is.
    pub kind: WalKind,
    /// How it is compressed, by its extension.
    pub format: Format,
}

impl Layout {
    /// Of the cluster that has this name in the bucket.
    #[must_use]
    pub fn of(server: &str) -> Self {
        Self {
            server: server.to_owned(),
        }
    }

    /// The cluster's name.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// All of the cluster's objects: `<server>/`.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/", self.server)
    }

    /// `<server>/base/`
    #[must_use]
    pub fn bases(&self) -> String {
        format!("{}/base/", self.server)
    }

    /// `<server>/base/<id>/<name>`
    #[must_use]
    pub fn base(&self, id: &str, name: &str) -> String {
        format!("{}/base/{id}/{name}", self.server)
    }

    /// `<server>/wals/`
    #[must_use]
    pub fn wals(&self) -> String {
        format!("{}/wals/", self.server)
    }

    /// The key of a WAL file without the codec's extension: the prefix that barman-cloud-wal-restore lists. History
    /// files are at the top, everything else in a directory of its timeline and log.
    #[must_use]
    pub fn wal(&self, name: &str) -> String {
        match name.get(..16) {
            Some(dir) if !name.ends_with(".history") => {
                format!("{}/wals/{dir}/{name}", self.server)
            }
            Some(_) | None => format!("{}/wals/{name}", self.server),
        }
    }
}

impl WalKey {
    /// From a key, or the last part of one; `None` for what PostgreSQL does not archive.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let file = key.rsplit('/').next()?;
        let compressed = Format::ALL
            .into_iter()
            .filter(|f| *f != Format::None)
            .find_map(|f| Some((file.strip_suffix(f.extension())?, f)));
        let (name, format) = compressed.unwrap_or((file, Format::None));
        Some(Self {
            name: name.to_owned(),
            kind: kind(name)?,
            format,
        })
    }

    /// The timeline in the name.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        let digits = self.name.get(..8)?;
        u32::from_str_radix(digits, 16).ok().map(Timeline)
    }
}

/// What a file of this name is; `None` for what PostgreSQL does not archive.
#[must_use]
pub fn kind(name: &str) -> Option<WalKind> {
    let hex = |text: &str, n: usize| {
        text.len() == n && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
    };
    if let Some(timeline) = name.strip_suffix(".history") {
        return hex(timeline, 8).then_some(WalKind::History);
    }
    if let Some(segment) = name.strip_suffix(".partial") {
        return hex(segment, 24).then_some(WalKind::Partial);
    }
    if let Some(label) = name.strip_suffix(".backup") {
        let (segment, offset) = label.split_once('.')?;
        return (hex(segment, 24) && hex(offset, 8)).then_some(WalKind::BackupLabel);
    }
    hex(name, 24).then_some(WalKind::Segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_barman_clouds() {
        let layout = Layout::of("main");
        assert_eq!(
            layout.wal("000000020000000A000000FF"),
            "main/wals/000000020000000A/000000020000000A000000FF"
        );
        assert_eq!(
            layout.wal("000000020000000A000000FF.00000028.backup"),
            "main/wals/000000020000000A/000000020000000A000000FF.00000028.backup"
        );
        assert_eq!(layout.wal("00000002.history"), "main/wals/00000002.history");
        assert_eq!(
            layout.base("20261121T030000", "backup.info"),
            "main/base/20261121T030000/backup.info"
        );
    }

    #[test]
    fn a_key_says_what_it_is() {
        let parse = |key: &str| WalKey::parse(key).map(|k| (k.name, k.kind, k.format));
        let segment = "000000010000000000000003";
        for format in Format::ALL {
            let key = format!("main/wals/0000000100000000/{segment}{}", format.extension());
            assert_eq!(
                parse(&key),
                Some((segment.to_owned(), WalKind::Segment, format))
            );
        }
        assert_eq!(
            parse(&format!("{segment}.partial.gz")),
            Some((format!("{segment}.partial"), WalKind::Partial, Format::Gzip))
        );
        assert_eq!(
            parse(&format!("{segment}.00000028.backup")),
            Some((
                format!("{segment}.00000028.backup"),
                WalKind::BackupLabel,
                Format::None
            ))
        );
        assert_eq!(
            parse("main/wals/00000002.history.zst"),
            Some(("00000002.history".into(), WalKind::History, Format::Zstd))
        );
        for other in [
            "",
            "x",
            "00000001000000000000000g",
            "000000010000000000000003.zip",
            "0000001.history",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(
            WalKey::parse(segment).and_then(|k| k.timeline()),
            Some(Timeline(1))
        );
    }
}
