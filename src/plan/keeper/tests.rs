use super::*;
use crate::domain::Switch;

const SEGMENT: u64 = WalName::DEFAULT_SEGMENT_SIZE;

fn segment(timeline: u32, number: u64) -> WalName {
    WalName {
        timeline: Timeline(timeline),
        number,
        segment_size: SEGMENT,
    }
}

fn partial(timeline: u32, number: u64) -> Option<Tail> {
    Some(Tail {
        segment: segment(timeline, number),
        partial: true,
    })
}

fn primary(timeline: u32, number: u64) -> Primary {
    Primary {
        timeline: Timeline(timeline),
        position: Lsn(number * SEGMENT + 4096),
        slot: Slot::Idle,
        history: None,
        oldest: None,
    }
}

/// Timeline 3 of a cluster that left timeline 1 in the middle of segment 4, and 2 in that of segment 6.
fn history() -> History {
    let past = |timeline, number| Switch {
        timeline: Timeline(timeline),
        end: Lsn(number * SEGMENT + 100),
    };
    History {
        past: vec![past(1, 4), past(2, 6)],
        timeline: Timeline(3),
    }
}

/// All is well.
fn green() -> Seen {
    Seen {
        cluster: Cluster::Primary(Primary {
            slot: Slot::Taken,
            ..primary(1, 5)
        }),
        receiver: Receiver::Running(Duration::from_secs(60)),
        tail: partial(1, 5),
        archived: true,
        backups: Backups {
            newest: Some(Timeline(1)),
            ..Backups::default()
        },
        free: Some(1 << 40),
    }
}

fn stopped(failures: u32, ago: Option<u64>) -> Receiver {
    let ago = ago.map(Duration::from_millis);
    Receiver::Stopped { failures, ago }
}

/// Nothing is received, and the primary is this one.
fn down(primary: Primary, tail: Option<Tail>) -> Seen {
    Seen {
        cluster: Cluster::Primary(primary),
        receiver: stopped(0, None),
        tail,
        ..green()
    }
}

#[test]
fn a_green_cluster_is_left_alone() {
    assert_eq!(next(&green()), Step::Rest);
}

#[test]
fn a_cluster_that_ships_its_wal_needs_no_receiver() {
    for slot in [Slot::Missing, Slot::Idle, Slot::Taken, Slot::Lost] {
        let mut seen = down(
            Primary {
                slot,
                ..primary(1, 5)
            },
            None,
        );
        seen.receiver = Receiver::Shipped;
        assert_eq!(next(&seen), Step::Rest);
        seen.archived = false;
        assert_eq!(next(&seen), Step::FirstWal);
    }
}

#[test]
fn from_nothing_to_a_backup_step_by_step() {
    let slot = Slot::Missing;
    let mut seen = down(
        Primary {
            slot,
            ..primary(1, 3)
        },
        None,
    );
    seen.archived = false;
    seen.backups = Backups::default();
    assert_eq!(next(&seen), Step::Receive);
    seen.receiver = Receiver::Running(Duration::from_secs(1));
    assert_eq!(next(&seen), Step::Wait(Why::Attach));
    let slot = Slot::Taken;
    seen.cluster = Cluster::Primary(Primary {
        slot,
        ..primary(1, 3)
    });
    assert_eq!(next(&seen), Step::FirstWal);
    seen.archived = true;
    assert_eq!(next(&seen), Step::Backup(Cause::First));
    seen.backups.running = true;
    assert_eq!(next(&seen), Step::Wait(Why::Backup));
    seen.backups = Backups {
        waiting: true,
        newest: Some(Timeline(1)),
        ..Backups::default()
    };
    assert_eq!(next(&seen), Step::Finish);
    seen.backups.waiting = false;
    assert_eq!(next(&seen), Step::Rest);
}

#[test]
fn without_a_primary_nothing_is_touched() {
    let why = |cluster| {
        let seen = Seen { cluster, ..green() };
        match next(&seen) {
            Step::Wait(why) => why,
            step => panic!("{step:?}"),
        }
    };
    let said = "pg1: no".to_owned();
    let waits = why(Cluster::NoPrimary(said.clone()));
    assert_eq!(waits, Why::Primary(said));
    let waits = why(Cluster::Refused("BARMAN_PASSWORD".into()));
    assert!(waits.is_problem() && waits.sentence().contains("BARMAN_PASSWORD"));
    let (ours, theirs) = (SystemId(1), SystemId(2));
    let waits = why(Cluster::Stranger { ours, theirs });
    assert!(waits.is_problem() && waits.sentence().contains("BARMAN_SERVERS"));
}

#[test]
fn a_receiver_that_attaches_nowhere_is_started_again() {
    for slot in [Slot::Missing, Slot::Idle, Slot::Lost] {
        let mut seen = green();
        seen.cluster = Cluster::Primary(Primary {
            slot,
            ..primary(1, 5)
        });
        seen.receiver = Receiver::Running(ATTACH - Duration::from_millis(1));
        assert_eq!(next(&seen), Step::Wait(Why::Attach));
        seen.receiver = Receiver::Running(ATTACH);
        assert_eq!(next(&seen), Step::Kick);
    }
}

#[test]
fn a_dead_receiver_is_started_at_once_and_then_with_growing_pauses() {
    for (failures, ago, want) in [
        (0, None, None),
        (1, Some(0), None),
        (2, Some(100), Some(400)),
        (2, Some(500), None),
        (3, Some(0), Some(1000)),
        (30, Some(0), Some(15_000)),
        (u32::MAX, Some(15_000), None),
    ] {
        let mut seen = down(primary(1, 5), partial(1, 5));
        seen.receiver = stopped(failures, ago);
        let want = match want.map(Duration::from_millis) {
            Some(left) => Step::Wait(Why::Pause { failures, left }),
            None => Step::Receive,
        };
        assert_eq!(next(&seen), want, "{failures} {ago:?}");
    }
}

#[test]
fn a_full_disk_is_waited_out_and_nothing_is_reset() {
    // Even where the WAL seems to be gone or the slot is lost: first there must be space.
    for slot in [Slot::Missing, Slot::Idle, Slot::Lost, Slot::Taken] {
        let tight = Primary {
            slot,
            oldest: Some(99),
            ..primary(1, 100)
        };
        let mut seen = down(tight, partial(1, 5));
        seen.free = Some(3 * SEGMENT - 1);
        let Step::Wait(why) = next(&seen) else {
            panic!("{:?}", next(&seen));
        };
        assert!(why.is_problem() && why.sentence().contains("BARMAN_BACKUP_DIR"));
        seen.free = Some(3 * SEGMENT);
        assert!(!matches!(next(&seen), Step::Wait(Why::Space(_))));
    }
}

#[test]
fn a_lost_slot_is_removed_and_one_in_use_is_waited_for() {
    for (slot, want) in [
        (Slot::Lost, Step::DropSlot),
        (Slot::Taken, Step::Evict),
        (Slot::Idle, Step::Receive),
        (Slot::Missing, Step::Receive),
    ] {
        let seen = down(
            Primary {
                slot,
                ..primary(1, 5)
            },
            partial(1, 5),
        );
        assert_eq!(next(&seen), want);
    }
    let slot = Slot::Taken;
    let mut seen = down(
        Primary {
            slot,
            ..primary(1, 5)
        },
        partial(1, 5),
    );
    seen.receiver = stopped(1, Some(100));
    assert_eq!(next(&seen), Step::Wait(Why::SlotTaken));
}

/// After a promotion: what was received, how it is healed.
#[test]
fn what_the_new_primary_never_had_is_put_aside() {
    let complete = |timeline, number| {
        Some(Tail {
            segment: segment(timeline, number),
            partial: false,
        })
    };
    for (tail, want) in [
        // Within the segment of the fork the server sends it anew.
        (partial(1, 4), None),
        (partial(1, 3), None),
        (complete(1, 3), None),
        (partial(2, 6), None),
        (partial(3, 7), None),
        (None, None),
        // Beyond it.
        (complete(1, 4), Some(segment(2, 4))),
        (partial(1, 5), Some(segment(2, 4))),
        (partial(1, 9), Some(segment(2, 4))),
        (partial(2, 7), Some(segment(3, 6))),
    ] {
        let after = Primary {
            history: Some(history()),
            oldest: Some(1),
            ..primary(3, 8)
        };
        let got = match next(&down(after, tail)) {
            Step::Realign(realign) => Some(realign.to),
            Step::Receive => None,
            step => panic!("{step:?}"),
        };
        assert_eq!(got, want, "{tail:?}");
    }
}

#[test]
fn a_timeline_that_came_to_nothing_is_left_where_the_new_one_left_it() {
    // Timeline 2 was received, and the primary went from 1 to 3.
    let mut straight = history();
    straight.past.truncate(1);
    let after = Primary {
        history: Some(straight),
        oldest: Some(1),
        ..primary(3, 8)
    };
    let Step::Realign(realign) = next(&down(after, partial(2, 4))) else {
        panic!();
    };
    assert_eq!(realign.to, segment(3, 4));
    assert!(realign.gap.sentence().contains("timeline 2"));
}

#[test]
fn what_the_primary_has_no_more_is_skipped_as_little_as_can_be() {
    for (oldest, want) in [
        (None, None),
        (Some(5), None),
        (Some(6), Some(segment(1, 6))),
    ] {
        let short = Primary {
            oldest,
            ..primary(1, 9)
        };
        let got = match next(&down(short, partial(1, 5))) {
            Step::Realign(realign) => Some(realign.to),
            Step::Receive => None,
            step => panic!("{step:?}"),
        };
        assert_eq!(got, want, "{oldest:?}");
    }
    // Also where a fork is to be gone back to.
    let after = Primary {
        history: Some(history()),
        oldest: Some(7),
        ..primary(3, 9)
    };
    let Step::Realign(realign) = next(&down(after, partial(1, 9))) else {
        panic!();
    };
    assert_eq!(realign.to, segment(3, 7));
}

#[test]
fn a_primary_of_the_past_is_a_persons_business() {
    for (now, tail) in [
        (primary(1, 9), partial(2, 4)),
        (primary(2, 4), partial(2, 6)),
    ] {
        let Step::Wait(why) = next(&down(now, tail)) else {
            panic!();
        };
        assert!(why.is_problem() && matches!(why, Why::Behind { .. }));
    }
    // It may just have begun the next segment.
    assert_eq!(next(&down(primary(2, 4), partial(2, 5))), Step::Receive);
}

#[test]
fn without_the_history_the_server_is_asked() {
    let after = Primary {
        history: None,
        ..primary(3, 8)
    };
    assert_eq!(next(&down(after, partial(1, 9))), Step::Receive);
}

#[test]
fn backups_follow_what_is_there() {
    let owed = || Some("a gap".to_owned());
    for (newest, owed, pause, want) in [
        (Some(2), None, 0, Step::Rest),
        (Some(3), None, 0, Step::Rest),
        (Some(1), None, 0, Step::Backup(Cause::NewTimeline)),
        (None, None, 0, Step::Backup(Cause::First)),
        (None, owed(), 0, Step::Backup(Cause::First)),
        (
            Some(2),
            owed(),
            0,
            Step::Backup(Cause::Owed("a gap".into())),
        ),
        (
            Some(1),
            None,
            9,
            Step::Wait(Why::BackupPause(Duration::from_secs(9))),
        ),
        (Some(2), None, 9, Step::Rest),
    ] {
        let mut seen = green();
        seen.cluster = Cluster::Primary(Primary {
            slot: Slot::Taken,
            ..primary(2, 5)
        });
        seen.backups = Backups {
            newest: newest.map(Timeline),
            owed,
            pause: Duration::from_secs(pause),
            ..Backups::default()
        };
        assert_eq!(next(&seen), want);
    }
}

#[test]
fn there_are_as_many_backups_as_must_be_kept() {
    let mut seen = green();
    seen.backups.missing = 1;
    assert_eq!(next(&seen), Step::Backup(Cause::TooFew));
}

#[test]
fn pauses_grow_and_end() {
    assert!(backup_pause(0).is_zero());
    assert_eq!(backup_pause(1), Duration::from_secs(10));
    assert_eq!(backup_pause(u32::MAX), Duration::from_secs(300));
    assert_eq!(receiver_pause(u32::MAX), LONGEST_PAUSE);
}

/// Whatever is seen, the archive comes before a backup, and nothing is put aside while it is received.
#[test]
fn every_combination_keeps_the_order() {
    let slots = [Slot::Missing, Slot::Idle, Slot::Taken, Slot::Lost];
    let receivers = [
        Receiver::Running(Duration::ZERO),
        Receiver::Running(Duration::from_secs(99)),
        stopped(0, None),
        stopped(5, Some(0)),
    ];
    let tails = [
        None,
        partial(1, 1),
        partial(1, 9),
        partial(3, 8),
        partial(9, 1),
    ];
    let flags = [false, true];
    let mut count = 0;
    for slot in slots {
        for receiver in receivers {
            for tail in tails {
                for (archived, running) in flags.map(|a| flags.map(|r| (a, r))).concat() {
                    for (waiting, done) in flags.map(|a| flags.map(|r| (a, r))).concat() {
                        let seen = Seen {
                            cluster: Cluster::Primary(Primary {
                                slot,
                                history: Some(history()),
                                oldest: Some(3),
                                ..primary(3, 8)
                            }),
                            receiver,
                            tail,
                            archived,
                            backups: Backups {
                                running,
                                waiting,
                                newest: done.then_some(Timeline(3)),
                                ..Backups::default()
                            },
                            free: None,
                        };
                        let step = next(&seen);
                        let receives = matches!(receiver, Receiver::Running(_));
                        match step {
                            Step::Backup(_) => assert!(receives && archived && !running),
                            Step::Realign(_) | Step::DropSlot | Step::Receive | Step::Evict => {
                                assert!(!receives);
                            }
                            Step::Kick | Step::FirstWal | Step::Finish | Step::Rest => {
                                assert!(receives);
                            }
                            Step::Wait(why) => assert!(!why.sentence().is_empty()),
                        }
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 1000, "{count}");
}
