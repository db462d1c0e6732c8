//! Settings that follow from how much memory and disk there is. Whole MiB.

use serde::Serialize;

const MIB: u64 = 1 << 20;

/// Memory, when the container has a limit; without one the host is shared with others, and
/// PostgreSQL's own modest defaults stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// What the values below were derived from.
    pub(super) limit: u64,
    /// 25 %, the manual's advice.
    pub(super) shared_buffers: u64,
    /// 75 %: the page cache counts against the limit too, but is what is left.
    pub(super) effective_cache_size: u64,
    /// 5 %, at most 1 GiB: three autovacuum workers may take it at once.
    pub(super) maintenance_work_mem: u64,
    /// What is left after shared_buffers, over three sorts in each of 100 connections.
    pub(super) work_mem: u64,
}

impl Memory {
    /// From the limit in bytes. Nothing below 64 MiB, where no choice is a good one.
    pub(super) fn under(limit: u64) -> Option<Self> {
        let limit = limit / MIB;
        (limit >= 64).then(|| Self {
            limit,
            shared_buffers: limit / 4,
            effective_cache_size: limit * 3 / 4,
            maintenance_work_mem: (limit / 20).clamp(16, 1024),
            work_mem: (limit / 400).clamp(4, 64),
        })
    }
}

/// WAL that is kept for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wal {
    /// `max_slot_wal_keep_size`.
    pub(super) slots: u64,
    /// `wal_keep_size`.
    pub(super) keep: u64,
}

impl Wal {
    /// What was asked for, else a fifth of the volume: a forgotten slot must never fill the disk, and
    /// a standby or barman host that is away for a night should find its WAL again. Apart from slots
    /// 2 %, at most 1 GiB, for the standbys of a new primary, whose slots are not made yet.
    pub(super) fn on(volume: Option<u64>, asked: Option<u64>) -> Self {
        // Four segments of 16 MiB: less would invalidate a slot between two checkpoints.
        const LEAST: u64 = 64;
        // A volume whose size nobody could tell: unlimited, the server's default, is no answer.
        const UNKNOWN: u64 = 4096;
        let volume = volume.map(|bytes| bytes / MIB);
        Self {
            slots: match (asked, volume) {
                (Some(bytes), _) => bytes.div_ceil(MIB),
                (None, Some(size)) => (size / 5).max(LEAST),
                (None, None) => UNKNOWN,
            },
            keep: volume.map_or(LEAST, |size| (size / 50).clamp(LEAST, 1024)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_follows_the_limit() {
        let small = Memory::under(256 * MIB).unwrap();
        assert_eq!(
            (
                small.shared_buffers,
                small.work_mem,
                small.maintenance_work_mem
            ),
            (64, 4, 16)
        );
        let large = Memory::under(64 * GIB).unwrap();
        assert_eq!(
            (
                large.shared_buffers,
                large.work_mem,
                large.maintenance_work_mem
            ),
            (16 * 1024, 64, 1024)
        );
        assert_eq!(Memory::under(6 * MIB), None);
    }

    #[test]
    fn wal_follows_the_volume_unless_it_was_said() {
        assert_eq!(
            Wal::on(Some(100 * GIB), None),
            Wal {
                slots: 20_480,
                keep: 1024
            }
        );
        assert_eq!(
            Wal::on(Some(10 * GIB), Some(GIB)),
            Wal {
                slots: 1024,
                keep: 204
            }
        );
        assert_eq!(
            Wal::on(Some(100 * MIB), None),
            Wal {
                slots: 64,
                keep: 64
            }
        );
        assert_eq!(
            Wal::on(None, None),
            Wal {
                slots: 4096,
                keep: 64
            }
        );
    }

    proptest! {
        #[test]
        fn every_limit_leaves_room(limit in 64 * MIB..=1 << 44) {
            let m = Memory::under(limit).unwrap();
            // Shared memory and three autovacuum workers fit, whatever the limit.
            prop_assert!(m.shared_buffers + 3 * m.maintenance_work_mem <= m.limit);
            prop_assert!(m.shared_buffers >= 16);
        }
    }
}
