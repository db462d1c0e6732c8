//! Positions in the write-ahead log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A byte position in the WAL, written `16/B374D848` (PostgreSQL manual, `pg_lsn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `other` up to here; zero when `other` is ahead.
    #[must_use]
    pub const fn bytes_since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not a log position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a WAL position such as 0/3000028")]
pub struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let bad = || NotAnLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |s: &str| {
            if s.is_empty() || s.len() > 8 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            u64::from_str_radix(s, 16).map_err(|_| bad())
        };
        Ok(Self((part(high)? << 32) | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A timeline: one more each time a standby is promoted or a cluster recovered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a WAL segment file: 24 hexadecimal digits (timeline, log, segment).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WalName {
    /// The timeline that wrote the segment.
    pub timeline: Timeline,
    /// The segment's number since the beginning: position divided by the segment size.
    pub number: u64,
    /// The cluster's segment size in bytes (`wal_segment_size`; 16 MiB unless initdb was told).
    pub segment_size: u64,
}

impl WalName {
    /// The segment that holds `lsn`.
    #[must_use]
    pub const fn holding(timeline: Timeline, lsn: Lsn, segment_size: u64) -> Self {
        Self {
            timeline,
            number: lsn.0 / segment_size,
            segment_size,
        }
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_log = 0x1_0000_0000 / self.segment_size;
        write!(
            f,
            "{:08X}{:08X}{:08X}",
            self.timeline.0,
            self.number / per_log,
            self.number % per_log
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_as_postgres_writes_it() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0x0300_0028).to_string(), "0/3000028");
        for bad in [
            "",
            "/",
            "0/",
            "/0",
            "0/123456789",
            "0x1/0",
            "g/0",
            "1",
            "-1/0",
            "+1/0",
        ] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_segment_is_named_as_postgres_names_it() {
        let name = WalName::holding(Timeline(2), Lsn(0x1_0300_0028), 16 << 20);
        assert_eq!(name.to_string(), "000000020000000100000003");
        let big = WalName::holding(Timeline(1), Lsn(0x1_4000_0000), 1 << 30);
        assert_eq!(big.to_string(), "000000010000000100000001");
    }
}
