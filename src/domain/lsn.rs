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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WalName {
    /// The timeline that wrote the segment.
    pub timeline: Timeline,
    /// The segment's number since the beginning: position divided by the segment size.
    pub number: u64,
    /// The cluster's segment size in bytes (`wal_segment_size`; 16 MiB unless initdb was told).
    pub segment_size: u64,
}

/// A text that does not name a WAL segment of the cluster's segment size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a WAL segment of {segment_size} bytes")]
pub struct NotASegment {
    /// What was read.
    pub text: String,
    /// The cluster's segment size in bytes.
    pub segment_size: u64,
}

impl WalName {
    /// initdb's segment size when it is not told another, in bytes.
    pub const DEFAULT_SEGMENT_SIZE: u64 = 16 << 20;

    /// Whether a cluster can have segments of this many bytes: a power of two from 1 MiB to 1 GiB
    /// (`IsValidWalSegSize` in `xlog_internal.h`).
    #[must_use]
    pub const fn is_segment_size(bytes: u64) -> bool {
        bytes.is_power_of_two() && bytes >= 1 << 20 && bytes <= 1 << 30
    }

    /// Segments that share the first 16 digits of their names: 4 GiB of WAL.
    #[must_use]
    pub const fn per_log(segment_size: u64) -> u64 {
        0x1_0000_0000 / segment_size
    }

    /// Reads a file name: 24 hexadecimal digits in capitals, the last eight below [`Self::per_log`].
    ///
    /// # Errors
    /// [`NotASegment`], also for history, backup and partial files, and for an impossible segment size.
    pub fn parse(text: &str, segment_size: u64) -> Result<Self, NotASegment> {
        let bad = || NotASegment {
            text: text.to_owned(),
            segment_size,
        };
        if text.len() != 24 || !text.bytes().all(is_digit) || !Self::is_segment_size(segment_size) {
            return Err(bad());
        }
        let part = |from: usize| {
            text.get(from..from + 8)
                .and_then(|s| u32::from_str_radix(s, 16).ok())
                .ok_or_else(bad)
        };
        let (timeline, log, segment) = (part(0)?, part(8)?, u64::from(part(16)?));
        if timeline == 0 || segment >= Self::per_log(segment_size) {
            return Err(bad());
        }
        Ok(Self {
            timeline: Timeline(timeline),
            number: u64::from(log) * Self::per_log(segment_size) + segment,
            segment_size,
        })
    }

    /// Its first byte.
    #[must_use]
    pub const fn begin(&self) -> Lsn {
        Lsn(self.number.saturating_mul(self.segment_size))
    }

    /// The first byte of the next one.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        Lsn(self.begin().0.saturating_add(self.segment_size))
    }

    /// The next one on the same timeline.
    #[must_use]
    pub const fn next(&self) -> Self {
        Self {
            timeline: self.timeline,
            number: self.number.saturating_add(1),
            segment_size: self.segment_size,
        }
    }

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

/// PostgreSQL writes capitals only.
const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'A'..=b'F')
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_log = Self::per_log(self.segment_size);
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

    #[test]
    fn a_segment_name_is_read_back_at_every_segment_size() {
        for shift in 20..=30 {
            let size = 1_u64 << shift;
            for lsn in [
                0,
                size - 1,
                size,
                0xFFFF_FFFF,
                0x1_0000_0000,
                0x7_8000_0000,
                u64::MAX - size,
            ] {
                let name = WalName::holding(Timeline(0x1F), Lsn(lsn), size);
                assert_eq!(WalName::parse(&name.to_string(), size), Ok(name));
                assert!(name.begin().0 <= lsn && lsn < name.end().0, "{name} {lsn}");
                assert_eq!(name.next().begin(), name.end());
                assert!(name.to_string() < name.next().to_string());
            }
        }
    }

    #[test]
    fn the_last_segment_of_a_log_is_followed_by_the_first_of_the_next() {
        for (size, last, next) in [
            (
                1 << 20,
                "000000010000000000000FFF",
                "000000010000000100000000",
            ),
            (
                16 << 20,
                "0000000100000000000000FF",
                "000000010000000100000000",
            ),
            (
                1 << 30,
                "000000010000000900000003",
                "000000010000000A00000000",
            ),
        ] {
            let name = WalName::parse(last, size).unwrap();
            assert_eq!(name.next().to_string(), next);
        }
    }

    #[test]
    fn what_is_no_segment_of_this_cluster_is_refused() {
        for (text, size) in [
            ("000000010000000000000100", 16 << 20),
            ("000000010000000000000004", 1 << 30),
            ("000000000000000000000001", 16 << 20),
            ("00000001000000000000000a", 16 << 20),
            ("00000001000000000000000", 16 << 20),
            ("00000001000000000000000A.partial", 16 << 20),
            ("00000002.history", 16 << 20),
            ("+00000010000000000000001", 16 << 20),
            ("000000010000000000000001", 0),
            ("000000010000000000000001", 3 << 20),
            ("000000010000000000000001", 1 << 19),
            ("000000010000000000000001", 1 << 31),
            ("é0000001000000000000000", 16 << 20),
        ] {
            assert!(WalName::parse(text, size).is_err(), "{text} {size}");
        }
    }
}
