//! Every interruption of every operation: after it and a resume, PGDATA is wholly one copy or wholly
//! another, and no copy is lost that should not be.

mod spaces;
mod volume;

use super::*;
use crate::domain::Fault;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering::SeqCst;
use tempfile::tempdir;
use volume::{ENDLESS, Tree, Volume, cluster, paths, scratch, tree};

type Holdings = (Option<Tree>, Option<Tree>);
type MakeTree<'a> = &'a dyn Fn(&str, u32) -> Option<Tree>;

/// One operation: how the volume is before, what is done, and what may be afterwards.
struct Scenario {
    name: &'static str,
    before: fn(&Layout),
    act: fn(&Stage) -> Result<()>,
    /// (PGDATA, old) when it did not happen, and when it did.
    outcomes: fn(MakeTree<'_>) -> [Holdings; 2],
}

const A: (&str, u32) = ("a", 0o700);
const B: (&str, u32) = ("b", 0o750);
const Z: (&str, u32) = ("z", 0o700);

fn put(dir: &Path, (name, mode): (&str, u32)) {
    cluster(dir, name, mode);
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the first copy",
        before: |l| put(&l.staging, B),
        act: Stage::commit,
        outcomes: |t| [(None, None), (t(B.0, B.1), None)],
    },
    Scenario {
        name: "the first copy, PGDATA being there and empty",
        before: |l| {
            put(&l.staging, B);
            fs::create_dir_all(&l.pgdata).unwrap();
        },
        act: Stage::commit,
        outcomes: |t| [(None, None), (t(B.0, B.1), None)],
    },
    Scenario {
        name: "over another",
        before: |l| {
            put(&l.pgdata, A);
            put(&l.staging, B);
        },
        act: Stage::commit,
        outcomes: |t| [(t(A.0, A.1), None), (t(B.0, B.1), t(A.0, A.1))],
    },
    Scenario {
        name: "over one that was never proven",
        before: |l| {
            put(&l.pgdata, A);
            put(&l.staging, B);
            put(&l.old, Z);
        },
        act: Stage::commit,
        outcomes: |t| [(t(A.0, A.1), t(Z.0, Z.1)), (t(B.0, B.1), t(Z.0, Z.1))],
    },
    Scenario {
        name: "over another, an empty old being there",
        before: |l| {
            put(&l.pgdata, A);
            put(&l.staging, B);
            fs::create_dir_all(&l.old).unwrap();
        },
        act: Stage::commit,
        outcomes: |t| [(t(A.0, A.1), None), (t(B.0, B.1), t(A.0, A.1))],
    },
    Scenario {
        name: "old is discarded",
        before: |l| {
            put(&l.pgdata, A);
            put(&l.old, Z);
        },
        act: |s| s.discard_old().map(|had| assert!(had)),
        outcomes: |t| [(t(A.0, A.1), t(Z.0, Z.1)), (t(A.0, A.1), None)],
    },
    Scenario {
        name: "old is put back",
        before: |l| put(&l.old, Z),
        act: Stage::restore_old,
        outcomes: |t| [(None, t(Z.0, Z.1)), (t(Z.0, Z.1), None)],
    },
];

fn expected(scenario: &Scenario, in_place: bool) -> [Holdings; 2] {
    (scenario.outcomes)(&|name, mode| {
        let dir = scratch();
        cluster(dir.path(), name, mode);
        tree(&layout(&paths(dir.path()), in_place), dir.path())
    })
}

/// How many calls the operation makes when nothing stops it.
fn length(scenario: &Scenario, in_place: bool) -> usize {
    let volume = Volume::new(in_place);
    (scenario.before)(&volume.layout);
    let (stage, left) = volume.stage(ENDLESS);
    (scenario.act)(&stage).unwrap_or_else(|e| panic!("{}: {e:?}", scenario.name));
    assert_eq!(
        volume.holds(),
        expected(scenario, in_place)[1],
        "{}",
        scenario.name
    );
    volume.check_clean();
    ENDLESS - left.load(SeqCst)
}

/// Interrupted at `first`, and the resumption at `second`. Says how many calls resuming took.
fn interrupted(
    scenario: &Scenario,
    in_place: bool,
    outcomes: &[Holdings; 2],
    first: usize,
    second: Option<usize>,
) -> usize {
    let at = format!(
        "{}, in place: {in_place}, at {first} and {second:?}",
        scenario.name
    );
    let volume = Volume::new(in_place);
    (scenario.before)(&volume.layout);
    let error = (scenario.act)(&volume.stage(first).0).expect_err(&at);
    assert!(matches!(error, StageError::Io { .. }), "{at}: {error:?}");
    assert!(error.fault().is_transient());
    if let Some(second) = second {
        volume.stage(second).0.resume().expect_err(&at);
    }

    let (stage, left) = volume.stage(ENDLESS);
    let resumed = stage.resume().unwrap_or_else(|e| panic!("{at}: {e:?}"));
    let took = ENDLESS - left.load(SeqCst);
    let now = volume.holds();
    assert!(outcomes.contains(&now), "{at}: {now:#?}");
    volume.check_clean();
    let pgdata = match &now {
        (Some(_), _) => Pgdata::Occupied,
        (None, Some(_)) => Pgdata::OnlyOld,
        (None, None) => Pgdata::Empty,
    };
    assert_eq!(
        (resumed.pgdata, resumed.has_old),
        (pgdata, now.1.is_some()),
        "{at}"
    );

    // Once more changes nothing.
    let again = stage.resume().unwrap();
    assert_eq!(
        again,
        Resumed {
            finished: false,
            removed_staging: false,
            ..resumed
        },
        "{at}"
    );
    assert_eq!(volume.holds(), now, "{at}");
    took
}

#[test]
fn no_interruption_loses_a_copy() {
    for in_place in [false, true] {
        for scenario in SCENARIOS {
            let calls = length(scenario, in_place);
            let outcomes = expected(scenario, in_place);
            for first in 0..calls {
                let resuming = interrupted(scenario, in_place, &outcomes, first, None);
                for second in 0..resuming {
                    interrupted(scenario, in_place, &outcomes, first, Some(second));
                }
            }
        }
    }
}

/// From the moment the journal is there the new copy must win: hours may have gone into it.
#[test]
fn a_journalled_swap_is_finished_not_undone() {
    let scenario = &SCENARIOS[2];
    for in_place in [false, true] {
        let [_, done] = expected(scenario, in_place);
        let mut due = 0;
        for first in 0..length(scenario, in_place) {
            let volume = Volume::new(in_place);
            (scenario.before)(&volume.layout);
            (scenario.act)(&volume.stage(first).0).unwrap_err();
            let journalled = exists(&volume.layout.journal);
            let stage = volume.stage(ENDLESS).0;
            if journalled {
                due += 1;
                for refused in [stage.prepare(None), stage.commit(), stage.restore_old()] {
                    assert!(matches!(refused, Err(StageError::SwapDue)));
                }
                assert!(matches!(stage.discard_old(), Err(StageError::SwapDue)));
            }
            assert_eq!(stage.resume().unwrap().finished, journalled);
            assert_eq!(volume.holds() == done, due > 0, "{first}");
        }
        assert!(due > 5);
    }
}

#[test]
fn preparing_empties_staging_and_nothing_else() {
    for in_place in [false, true] {
        let volume = Volume::new(in_place);
        put(&volume.layout.pgdata, A);
        put(&volume.layout.old, Z);
        put(&volume.layout.staging, B);
        let before = volume.holds();
        let stage = Stage::new(volume.layout.clone());
        stage.prepare(None).unwrap();
        assert_eq!(fs::read_dir(&volume.layout.staging).unwrap().count(), 0);
        assert_eq!(volume.holds(), before);
        // Nothing, or half of something, is not put in place.
        assert!(matches!(stage.commit(), Err(StageError::NotACluster(_))));
        fs::write(volume.layout.staging.join("PG_VERSION"), "17").unwrap();
        assert!(matches!(stage.commit(), Err(StageError::NotACluster(_))));
        assert_eq!(volume.holds(), before);
        assert!(matches!(stage.restore_old(), Err(StageError::NotEmpty(_))));
        let resumed = stage.resume().unwrap();
        assert!(resumed.removed_staging && !resumed.finished && resumed.has_old);
        assert_eq!(volume.holds(), before);
    }
}

#[test]
fn the_real_calls_do_the_same() {
    for in_place in [false, true] {
        let volume = Volume::new(in_place);
        let stage = Stage::new(volume.layout.clone());
        assert_eq!(stage.resume().unwrap().pgdata, Pgdata::Empty);
        for (copy, kept) in [(A, None), (B, Some(A))] {
            stage.prepare(None).unwrap();
            put(&volume.layout.staging, copy);
            // Came along from a source that has its own inside.
            fs::create_dir(volume.layout.staging.join(ANCHOR_INSIDE)).unwrap();
            stage.commit().unwrap();
            let name = fs::read_to_string(volume.layout.pgdata.join("PG_VERSION")).unwrap();
            assert_eq!(
                (name.as_str(), is_cluster(&volume.layout.old)),
                (copy.0, kept.is_some())
            );
        }
        fs::remove_dir_all(volume.layout.pgdata.join("global")).unwrap();
        assert_eq!(stage.resume().unwrap().pgdata, Pgdata::Occupied);
        assert!(stage.discard_old().unwrap());
        assert!(!stage.discard_old().unwrap());
        volume.check_clean();
    }
}

#[test]
fn what_nobody_expected_is_left_for_a_person() {
    for in_place in [false, true] {
        let volume = Volume::new(in_place);
        let stage = Stage::new(volume.layout.clone());
        fs::write(&volume.layout.journal, "{\"from\":").unwrap();
        let error = stage.resume().unwrap_err();
        assert!(matches!(error, StageError::Journal { .. }));
        assert!(matches!(error.fault(), Fault::NeedsPerson(_)));

        // A swap is due, and the copy it speaks of is not there.
        let journal = br#"{"from":"staging","aside":"old","phase":"in"}"#;
        fs::write(&volume.layout.journal, journal).unwrap();
        assert!(matches!(stage.resume(), Err(StageError::Gone(_))));

        // Somebody has written into PGDATA since.
        put(&volume.layout.staging, B);
        put(&volume.layout.old, A);
        put(&volume.layout.pgdata, Z);
        assert!(matches!(stage.resume(), Err(StageError::Taken(_))));
    }
}

#[test]
fn the_layout_follows_where_pgdata_is() {
    let dir = tempdir().unwrap();
    let mut paths = paths(dir.path());
    let volume = paths.data_dir.clone();
    let beside = layout(&paths, false);
    assert_eq!(beside.staging, volume.join(".pgnode/staging"));
    assert_eq!(beside.journal, volume.join(".pgnode/staged.json"));
    assert!(!beside.in_place);
    // Nothing is there yet.
    assert_eq!(Layout::find(&paths).unwrap(), beside);
    let inside = layout(&paths, true);
    assert_eq!(inside.lock, volume.join("data/pgsql_tmp.pgnode/lock"));

    // A link cannot be renamed into what it points to.
    fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
    fs::create_dir_all(&volume).unwrap();
    symlink(dir.path().join("elsewhere"), &paths.pgdata).unwrap();
    assert_eq!(Layout::find(&paths).unwrap(), inside);

    for elsewhere in [dir.path().join("other/data"), volume] {
        paths.pgdata = elsewhere;
        assert!(layout(&paths, false).in_place);
    }
}
