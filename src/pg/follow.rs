//! Why a standby does not stream, and what helps: facts from its primary, then a pure decision.

use super::{PgError, Session};
use crate::domain::{Lsn, NodeId, Timeline, WalName};

/// What the primary says about our slot and the WAL that we need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// The slot exists.
    pub exists: bool,
    /// `wal_status` is `lost`: it holds nothing back any more.
    pub lost: bool,
    /// Somebody streams from it.
    pub active: bool,
    /// The segment that we need next is still there.
    pub has_segment: bool,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Make the slot.
    CreateSlot,
    /// Drop the lost one and make it anew.
    RecreateSlot,
    /// The WAL is gone: only a new clone helps.
    CloneAnew,
    /// Nothing here is wrong: the walreceiver will connect.
    Wait,
}

/// Decides.
#[must_use]
pub const fn repair(facts: &SlotFacts) -> Repair {
    match facts {
        SlotFacts { active: true, .. } => Repair::Wait,
        SlotFacts {
            has_segment: false, ..
        } => Repair::CloneAnew,
        SlotFacts { exists: false, .. } => Repair::CreateSlot,
        SlotFacts { lost: true, .. } => Repair::RecreateSlot,
        SlotFacts { .. } => Repair::Wait,
    }
}

/// repmgr's name for a node's slot.
#[must_use]
pub fn slot_name(node: NodeId) -> String {
    format!("repmgr_slot_{node}")
}

/// Asks the primary (a session of user repmgr in its database).
///
/// # Errors
/// [`PgError`].
pub async fn slot_facts(
    primary: &Session,
    node: NodeId,
    timeline: Timeline,
    position: Lsn,
) -> Result<SlotFacts, PgError> {
    let slot = primary
        .rows(
            "asking for our slot",
            "SELECT active, wal_status::text FROM pg_replication_slots WHERE slot_name = $1",
            &[&slot_name(node)],
        )
        .await?;
    let size: i64 = primary
        .one(
            "asking for the segment size",
            "SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'",
            &[],
        )
        .await?
        .get(0);
    let size = u64::try_from(size)
        .ok()
        .filter(|n| *n > 0)
        .unwrap_or(16 << 20);
    let segment = WalName::holding(timeline, position, size).to_string();
    let there: bool = primary
        .one(
            "asking for the segment",
            "SELECT EXISTS (SELECT FROM pg_ls_waldir() WHERE name = $1)",
            &[&segment],
        )
        .await?
        .get(0);
    Ok(SlotFacts {
        exists: !slot.is_empty(),
        lost: slot
            .first()
            .is_some_and(|r| r.get::<_, Option<&str>>(1) == Some("lost")),
        active: slot.first().is_some_and(|r| r.get(0)),
        has_segment: there,
    })
}

/// Makes the slot, dropping a lost one first. WAL is held back from now on.
///
/// # Errors
/// [`PgError`].
pub async fn make_slot(primary: &Session, node: NodeId, drop_first: bool) -> Result<(), PgError> {
    let name = slot_name(node);
    if drop_first {
        primary
            .rows(
                "dropping the lost slot",
                "SELECT pg_drop_replication_slot($1)",
                &[&name],
            )
            .await?;
    }
    primary
        .rows(
            "making the slot",
            "SELECT pg_create_physical_replication_slot($1, true)",
            &[&name],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_repairs() {
        for exists in [true, false] {
            for lost in [true, false] {
                for active in [true, false] {
                    for has_segment in [true, false] {
                        let facts = SlotFacts {
                            exists,
                            lost,
                            active,
                            has_segment,
                        };
                        let want = match (exists, lost, active, has_segment) {
                            (_, _, true, _) => Repair::Wait,
                            (_, _, _, false) => Repair::CloneAnew,
                            (false, _, _, true) => Repair::CreateSlot,
                            (true, true, _, true) => Repair::RecreateSlot,
                            (true, false, _, true) => Repair::Wait,
                        };
                        assert_eq!(repair(&facts), want, "{facts:?}");
                    }
                }
            }
        }
    }
}
