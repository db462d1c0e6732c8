//! A WAL segment from the outside: the headers of its pages (`access/xlog_internal.h`), not the records.

use crate::domain::{SystemId, Timeline, WalName};
use crate::sys::fill;
use std::io::{self, Read};

/// `XLP_LONG_HEADER`: the first page of a segment.
const LONG_HEADER: u16 = 0x0002;
/// `SizeOfXLogLongPHD`.
const LONG: usize = 40;
/// `SizeOfXLogShortPHD`.
const SHORT: usize = 24;

/// Why a file is not the segment that its name says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    /// It cannot be read or unpacked.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Its length is another.
    #[error("has {found} bytes unpacked where {wanted} belong")]
    Length { found: u64, wanted: u64 },
    /// Its first page is not that of a segment.
    #[error("does not begin with the header of a WAL segment")]
    Header,
    /// It belongs to somebody else.
    #[error("is of the cluster {found}, not of {wanted}")]
    Cluster { found: u64, wanted: SystemId },
    /// Its segment size is another.
    #[error("is of a cluster with segments of {found} bytes, not of {wanted}")]
    SegmentSize { found: u32, wanted: u64 },
    /// It was written on a timeline that cannot be.
    #[error("was begun on timeline {found}")]
    Timeline { found: u32 },
    /// A page in the middle is not where it should be.
    #[error("is damaged: the page at byte {at} is not that of {wanted}")]
    Page { at: u64, wanted: crate::domain::Lsn },
}

/// Reads all of it. A segment copied at a promotion begins with the parent's pages, so its first
/// timeline may be an older one: `ancestor` says which may be.
pub(super) fn check(
    mut contents: impl Read,
    name: &WalName,
    cluster: Option<SystemId>,
    ancestor: impl Fn(Timeline) -> bool,
) -> Result<(), Wrong> {
    let mut first = [0_u8; LONG];
    let got = fill(&mut contents, &mut first)?;
    if got < LONG {
        return Err(length(got as u64, name));
    }
    let header = Header::of(&first).ok_or(Wrong::Header)?;
    let page = u64::from(u32_at(&first, 36));
    let (system, size) = (u64_at(&first, 24), u32_at(&first, 32));
    if header.info & LONG_HEADER == 0 || !(1024..=65536).contains(&page) {
        return Err(Wrong::Header);
    }
    if let Some(wanted) = cluster.filter(|c| c.0 != system) {
        return Err(Wrong::Cluster {
            found: system,
            wanted,
        });
    }
    if u64::from(size) != name.segment_size {
        return Err(Wrong::SegmentSize {
            found: size,
            wanted: name.segment_size,
        });
    }
    if header.address != name.begin().0 {
        return Err(Wrong::Page {
            at: 0,
            wanted: name.begin(),
        });
    }
    let timeline = Timeline(header.timeline);
    if timeline != name.timeline && !ancestor(timeline) {
        return Err(Wrong::Timeline { found: timeline.0 });
    }
    skip(&mut contents, page - LONG as u64, name, LONG as u64)?;
    pages(contents, name, page, header.magic)
}

/// The pages after the first. Behind a switch of the segment they are zero.
fn pages(mut contents: impl Read, name: &WalName, page: u64, magic: u16) -> Result<(), Wrong> {
    let mut at = page;
    let mut head = [0_u8; SHORT];
    loop {
        let got = fill(&mut contents, &mut head)?;
        if got == 0 && at == name.segment_size {
            return Ok(());
        }
        if got < SHORT || at >= name.segment_size {
            return Err(length(at + got as u64, name));
        }
        let wanted = crate::domain::Lsn(name.begin().0 + at);
        let sound = Header::of(&head).is_some_and(|h| h.magic == magic && h.address == wanted.0);
        if !sound && head != [0; SHORT] {
            return Err(Wrong::Page { at, wanted });
        }
        skip(&mut contents, page - SHORT as u64, name, at + SHORT as u64)?;
        at += page;
    }
}

struct Header {
    magic: u16,
    info: u16,
    timeline: u32,
    address: u64,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let magic = u16_at(bytes, 0);
        (magic >> 8 == 0xD0 || magic >> 8 == 0xD1).then(|| Self {
            magic,
            info: u16_at(bytes, 2),
            timeline: u32_at(bytes, 4),
            address: u64_at(bytes, 8),
        })
    }
}

// WAL is written in the byte order of the machine; a catalogue is read on one of the same kind.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|b| b.try_into().ok())
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

const fn length(found: u64, name: &WalName) -> Wrong {
    Wrong::Length {
        found,
        wanted: name.segment_size,
    }
}

fn skip(contents: &mut impl Read, bytes: u64, name: &WalName, before: u64) -> Result<(), Wrong> {
    let passed = io::copy(&mut contents.take(bytes), &mut io::sink())?;
    match passed == bytes {
        true => Ok(()),
        false => Err(length(before + passed, name)),
    }
}
