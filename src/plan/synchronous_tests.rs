use super::*;
use proptest::prelude::*;

fn others(names: &[(&str, bool)]) -> Vec<Other> {
    let other = |(name, streams): &(&str, bool)| Other {
        name: NodeName((*name).into()),
        streams: *streams,
    };
    names.iter().map(other).collect()
}

const fn settings(strict: bool) -> Synchronous {
    Synchronous {
        quorum: Quorum::On,
        strict,
    }
}

#[test]
fn the_number_by_the_voters() {
    for (voters, want) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3)] {
        assert_eq!(safe(voters), want, "{voters}");
    }
    for (quorum, others, voters, count, warns) in [
        (Quorum::Off, 2, 3, 0, None),
        (Quorum::On, 0, 1, 0, None),
        (Quorum::On, 0, 2, 0, None),
        (Quorum::On, 1, 2, 1, None),
        (Quorum::On, 1, 3, 1, None),
        (Quorum::On, 2, 3, 1, None),
        (Quorum::On, 3, 5, 2, None),
        (Quorum::On, 4, 5, 2, None),
        (Quorum::Of(2), 0, 1, 0, None),
        (Quorum::Of(2), 4, 5, 2, None),
        (Quorum::Of(1), 4, 5, 1, Some("2 to 4 would be safe")),
        (Quorum::Of(1), 3, 5, 1, Some("2 or 3 would be safe")),
        (Quorum::Of(3), 2, 3, 3, Some("the 2 that are registered")),
    ] {
        let got = requirement(quorum, others, voters);
        assert_eq!(got.count, count, "{quorum} {others} {voters}");
        match (got.warning, warns) {
            (None, None) => {}
            (Some(text), Some(part)) => assert!(text.contains(part), "{text}"),
            other => panic!("{quorum} {others} {voters}: {other:?}"),
        }
    }
}

#[test]
fn who_streams_decides_what_is_in_force() {
    let (none, one, both) = (
        others(&[("pg2", false), ("pg3", false)]),
        others(&[("pg2", true), ("pg3", false)]),
        others(&[("pg2", true), ("pg3", true)]),
    );
    use Standing::{Alone, Degraded, Met, Waits};
    for (strict, required, who, present, confirmed, count, standing) in [
        (false, 0, &none, 0, false, 0, Alone),
        (false, 1, &both, 0, false, 1, Met),
        (false, 1, &one, 1, false, 1, Met),
        // A loss: only once the voters have spoken.
        (false, 1, &none, 1, false, 1, Waits),
        (false, 1, &none, 1, true, 0, Degraded),
        (false, 1, &none, 0, false, 0, Degraded),
        (false, 2, &one, 2, false, 2, Waits),
        (false, 2, &one, 2, true, 1, Degraded),
        (false, 2, &none, 1, false, 1, Waits),
        (false, 2, &none, 1, true, 0, Degraded),
        // Back: at once, also in part.
        (false, 2, &one, 0, false, 1, Degraded),
        (false, 1, &one, 0, false, 1, Met),
        // Strict: never less.
        (true, 1, &none, 1, true, 1, Waits),
        (true, 2, &one, 0, true, 2, Waits),
        (true, 1, &one, 1, false, 1, Met),
    ] {
        let got = force(settings(strict), required, who, present, confirmed);
        assert_eq!(
            (got.count, got.standing),
            (count, standing),
            "{strict} {required} {present} {confirmed}: {}",
            sentence(required, &got, who)
        );
    }
}

#[test]
fn names_are_quoted_as_the_server_reads_them() {
    for (count, who, want) in [
        (1, others(&[]), ""),
        (0, others(&[("pg2", true)]), ""),
        (1, others(&[("pg2", false)]), r#"ANY 1 ("pg2")"#),
        (
            2,
            others(&[("pg3", true), ("a\"b", false), ("any", true)]),
            r#"ANY 2 ("a""b", "any", "pg3")"#,
        ),
    ] {
        assert_eq!(names(count, &who), want);
    }
}

#[test]
fn what_it_says() {
    let none = others(&[("pg2", false), ("pg3", false)]);
    let one = others(&[("pg2", true), ("pg3", false)]);
    let said = |strict, required, who: &[Other], present, confirmed| {
        let force = force(settings(strict), required, who, present, confirmed);
        sentence(required, &force, who)
    };
    let lines = [
        said(false, 1, &one, 1, true),
        said(false, 1, &none, 1, true),
        said(false, 2, &one, 2, true),
        said(false, 1, &none, 1, false),
        said(true, 1, &none, 1, true),
        said(false, 0, &[], 0, true),
    ];
    insta::assert_snapshot!(lines.join("\n"), @"
    a commit is on 1 standby before it is acknowledged, of: pg2
    commits wait for NOBODY and can be lost: 1 standby required, missing: pg2, pg3
    commits wait for only 1 of 2 required standbys and can be lost: streaming: pg2, missing: pg3
    commits WAIT: 1 standby required, streaming: none, missing: pg2, pg3; they go on without once the voters have confirmed this primary
    commits WAIT: 1 standby required, streaming: none, missing: pg2, pg3 (PGNODE_SYNCHRONOUS_STRICT)
    a commit waits for nobody: no other data node is registered yet
    ");
}

/// Whichever n standbys acknowledged, and whichever M voters elect: they have one in common. All of them
/// up to nine voters; and one standby fewer would not do.
#[test]
fn every_election_meets_a_holder() {
    for voters in 2_usize..=9 {
        for witness in [0, 1] {
            // Voter 0 is the primary; the witness is the last one, and holds nothing.
            let data = voters - witness;
            let others = data - 1;
            if others == 0 {
                continue;
            }
            let n = requirement(Quorum::On, others, voters).count;
            assert_eq!(missed(voters, data, n), 0, "{voters} voters, {n} standbys");
            if n > 1 {
                assert!(
                    missed(voters, data, n - 1) > 0,
                    "{voters} voters, {n} standbys"
                );
            }
        }
    }
}

/// Elections that meet no holder of a row on the primary and `n` standbys.
fn missed(voters: usize, data: usize, n: usize) -> usize {
    let ones = |mask: u32| mask.count_ones() as usize;
    let rows = (0..1_u32 << data).filter(|holders| holders & 1 == 1 && ones(*holders) == n + 1);
    let elections = |holders: u32| {
        (0..1_u32 << voters).filter(move |e| ones(*e) > voters / 2 && e & holders == 0)
    };
    rows.map(|holders| elections(holders).count()).sum()
}

proptest! {
    /// Strict is never less than required; otherwise never more than can be met, except while the
    /// voters have not spoken; and nothing is lowered before they have.
    #[test]
    fn what_is_in_force_is_bounded(
        strict in any::<bool>(),
        required in 0_usize..4,
        streams in proptest::collection::vec(any::<bool>(), 0..5),
        present in 0_usize..4,
        confirmed in any::<bool>(),
    ) {
        let who: Vec<Other> = streams
            .iter()
            .enumerate()
            .map(|(i, s)| Other { name: NodeName(format!("pg{i}")), streams: *s })
            .collect();
        let streaming = streams.iter().filter(|s| **s).count();
        let got = force(settings(strict), required, &who, present, confirmed);
        prop_assert!(got.count <= required);
        if strict {
            prop_assert_eq!(got.count, required);
        } else if confirmed {
            prop_assert_eq!(got.count, required.min(streaming));
        } else {
            prop_assert!(got.count >= present.min(required));
        }
        prop_assert_eq!(got.standing == Standing::Met, required > 0 && streaming >= required);
    }
}
