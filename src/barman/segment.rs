//! The first page of a WAL segment, read before the segment is handed to a server: a file of another
//! cluster, of another position or cut off must never be replayed (`XLogLongPageHeaderData` in
//! `xlog_internal.h`; the layout is the same from PostgreSQL 9.3 to 18).

use crate::domain::{SystemId, WalName};

/// Bytes of the long header that are looked at.
pub const HEADER: usize = 40;
/// `XLP_LONG_HEADER`: the first page of a segment has it.
const LONG: u16 = 0x0002;

/// Why a segment must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {name} is not what it should be: {why}")]
pub struct BadSegment {
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// Whether nothing has been written to it yet.
#[must_use]
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().take(HEADER).all(|b| *b == 0)
}

/// What a segment says of the cluster that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: SystemId,
    /// Bytes of its segments.
    pub segment_size: u64,
}

/// Reads a segment's first bytes; `None` where they are not those of one. At least [`HEADER`] are needed.
#[must_use]
pub fn origin(head: &[u8]) -> Option<Origin> {
    let (magic, info) = (field(head, 0, 2), field(head, 2, 2));
    let sound = matches!(magic >> 8, 0xD0 | 0xD1) && info & u64::from(LONG) != 0;
    (sound && head.len() >= HEADER).then(|| Origin {
        cluster: SystemId(field(head, 24, 8)),
        segment_size: field(head, 32, 4),
    })
}

fn field(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut value = [0; 8];
    for (to, from) in value.iter_mut().zip(bytes.iter().skip(at).take(size)) {
        *to = *from;
    }
    u64::from_le_bytes(value)
}

/// Looks at length, magic number, position, timeline, segment size and cluster.
///
/// # Errors
/// [`BadSegment`].
pub fn check(bytes: &[u8], name: &WalName, cluster: SystemId) -> Result<(), BadSegment> {
    check_head(bytes, bytes.len() as u64, name, cluster)
}

/// As [`check`], of a segment whose first bytes are here and whose length is known.
///
/// # Errors
/// [`BadSegment`].
pub fn check_head(
    head: &[u8],
    length: u64,
    name: &WalName,
    cluster: SystemId,
) -> Result<(), BadSegment> {
    let bad = |why: String| {
        Err(BadSegment {
            name: name.to_string(),
            why,
        })
    };
    let whole = name.segment_size;
    if length != whole {
        return bad(format!("it has {length} bytes of {whole}"));
    }
    let timeline = field(head, 4, 4);
    let Some(origin) = origin(head) else {
        return bad("its first page is not the beginning of a segment".to_owned());
    };
    let (position, system, size) = (field(head, 8, 8), origin.cluster.0, origin.segment_size);
    if position != name.begin().0 {
        return bad(format!(
            "its first page is of position {}",
            crate::domain::Lsn(position)
        ));
    }
    // A segment in which timelines switch begins with pages of the old one.
    if timeline > u64::from(name.timeline.0) {
        return bad(format!("its first page is of timeline {timeline}"));
    }
    if system != cluster.0 {
        return bad(format!("it is of cluster {system}, not of {cluster}"));
    }
    if size != whole {
        return bad(format!("it says that segments have {size} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Lsn, Timeline};

    fn segment(timeline: u32, position: u64, cluster: u64) -> Vec<u8> {
        let mut bytes = vec![0_u8; 1 << 20];
        bytes[0..2].copy_from_slice(&0xD116_u16.to_le_bytes());
        bytes[2..4].copy_from_slice(&LONG.to_le_bytes());
        bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
        bytes[8..16].copy_from_slice(&position.to_le_bytes());
        bytes[24..32].copy_from_slice(&cluster.to_le_bytes());
        bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        bytes
    }

    #[test]
    fn only_the_segment_that_was_asked_for_is_handed_over() {
        let name = WalName::holding(Timeline(2), Lsn(0x50_0000), 1 << 20);
        let right = segment(2, 0x50_0000, 7);
        check(&right, &name, SystemId(7)).unwrap();
        // A switch within it.
        check(&segment(1, 0x50_0000, 7), &name, SystemId(7)).unwrap();
        let no = |bytes: &[u8], part: &str| {
            let error = check(bytes, &name, SystemId(7)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        no(&right[..1000], "it has 1000 bytes of 1048576");
        no(&segment(3, 0x50_0000, 7), "of timeline 3");
        no(&segment(2, 0x60_0000, 7), "of position 0/600000");
        no(&segment(2, 0x50_0000, 8), "of cluster 8, not of 7");
        let mut torn = right.clone();
        torn[..8192].fill(7);
        no(&torn, "not the beginning of a segment");
        let head = &right[..HEADER];
        let known = Origin {
            cluster: SystemId(7),
            segment_size: 1 << 20,
        };
        assert_eq!(origin(head), Some(known));
        assert_eq!(origin(&head[..30]), None);
        check_head(head, 1 << 20, &name, SystemId(7)).unwrap();
        assert!(is_blank(&[0; 100]) && !is_blank(&right));
    }
}
