use super::*;

const DAY: u64 = DAY_MS;
const NOW: u64 = 100 * DAY;

/// `D30`: done, ended 30 days ago; `B30` the same, and it cannot be restored; `F1` failed, `U2` not understood, `K50` kept,
/// `S50` standalone.
fn backups(words: &str) -> Vec<Backup> {
    let mut all = Vec::new();
    for (n, word) in words.split_whitespace().enumerate() {
        let (kind, days) = word.split_at(1);
        let days: u64 = days.parse().unwrap();
        let end = chrono::DateTime::from_timestamp_millis((NOW - days * DAY) as i64).unwrap();
        let status = if kind == "F" { "FAILED" } else { "DONE" };
        // The first segment is 10 for the first, 20 for the second…
        let wal = 10 * (n + 1);
        let text = format!(
            "status={status}\nend_time={}\ntimeline=1\nbegin_wal=0000000100000000{wal:08X}\nend_wal=0000000100000000{:08X}\n",
            end.format("%Y-%m-%d %H:%M:%S+00:00"),
            wal + 1,
        );
        let mut backup = Backup::parse(&format!("20260101T0000{n:02}"), "/x".into(), &text);
        assert_eq!(backup.garbled, [] as [&str; 0]);
        match kind {
            "K" => backup.keep = Some(Keep::Full),
            "S" => backup.keep = Some(Keep::Standalone),
            "U" => backup.garbled.push("x".into()),
            _ => {}
        }
        all.push(backup);
    }
    all
}

/// The ids of the `B`s.
fn broken(words: &str) -> BTreeSet<String> {
    let kinds = words.split_whitespace().map(|w| w.starts_with('B'));
    let ids = backups(words).into_iter().map(|b| b.id);
    let both = ids.zip(kinds);
    both.filter(|(_, broken)| *broken)
        .map(|(id, _)| id)
        .collect()
}

/// What goes, by number.
fn gone(words: &str, policy: Policy, least: u32) -> Vec<usize> {
    let verdicts = judge(&backups(words), &broken(words), policy, least, NOW);
    let all = verdicts.iter().enumerate();
    all.filter(|(_, v)| v.goes()).map(|(n, _)| n).collect()
}

#[test]
fn policies_are_read_in_barmans_words() {
    for (text, want) in [
        ("REDUNDANCY 2", Some(Policy::Redundancy(2))),
        ("redundancy 3", Some(Policy::Redundancy(3))),
        (
            "RECOVERY WINDOW OF 5 DAYS",
            Some(Policy::Window { days: 5 }),
        ),
        (
            "RECOVERY WINDOW OF 4 WEEKS",
            Some(Policy::Window { days: 28 }),
        ),
        (
            "RECOVERY WINDOW OF 1 MONTHS",
            Some(Policy::Window { days: 31 }),
        ),
        ("RECOVERY WINDOW OF x DAYS", None),
        ("5 days", None),
        ("", None),
    ] {
        assert_eq!(Policy::parse(text), want, "{text}");
    }
}

#[test]
fn redundancy_keeps_the_newest_and_never_fewer_than_must_be_there() {
    let two = Policy::Redundancy(2);
    assert_eq!(gone("D9 D8 D7 D6", two, 0), [0, 1]);
    assert_eq!(gone("D9 D8 D7 D6", two, 3), [0]);
    assert_eq!(gone("D9 D8", two, 0), [] as [usize; 0]);
    // A kept one stays, and does not stand in for another.
    assert_eq!(gone("D9 D8 K7 D6", two, 0), [0]);
    assert_eq!(gone("D9 D8 S7 D6", two, 0), [0]);
    // What is not understood neither goes nor counts.
    assert_eq!(gone("D9 U8 D7 U6 D5", two, 0), [0]);
}

#[test]
fn a_window_keeps_what_recovery_to_its_begin_needs() {
    let week = Policy::Window { days: 7 };
    assert_eq!(gone("D20 D15 D10 D5 D1", week, 0), [0, 1]);
    let verdicts = judge(&backups("D20 D10 D5"), &BTreeSet::new(), week, 0, NOW);
    assert_eq!(
        verdicts,
        [Verdict::Obsolete, Verdict::Opens, Verdict::Window]
    );
    // Also when nothing is within it: the newest is never given up.
    assert_eq!(gone("D90 D80", week, 0), [0]);
    assert_eq!(gone("D90", week, 0), [] as [usize; 0]);
    assert_eq!(gone("D90 D80 D70 D60", week, 3), [0]);
    // A standalone one does not open the window: the WAL after it is not kept for it.
    assert_eq!(gone("D20 D12 S10 D5", week, 0), [0]);
    assert_eq!(gone("D20 D12 K10 D5", week, 0), [0]);
}

#[test]
fn a_failed_one_goes_when_a_newer_one_is_complete() {
    let two = Policy::Redundancy(2);
    assert_eq!(gone("F9 D8 F7", two, 0), [0]);
    assert_eq!(gone("F9 F8", two, 0), [] as [usize; 0]);
    assert_eq!(gone("F9 K8", two, 0), [0]);
    assert_eq!(gone("F9 U8", two, 0), [] as [usize; 0]);
    // Failed ones do not count.
    assert_eq!(gone("D9 D8 F7 F6", two, 0), [] as [usize; 0]);
}

/// What cannot be restored stands for nothing that can, and is a person's to delete.
#[test]
fn a_broken_one_does_not_count() {
    assert_eq!(gone("D9 B8 D7", Policy::Redundancy(2), 0), [] as [usize; 0]);
    assert_eq!(gone("D9 D8 B7 D6", Policy::Redundancy(2), 0), [0]);
    assert_eq!(gone("B9 D8 D7 D6", Policy::Redundancy(2), 0), [1]);
    let week = Policy::Window { days: 7 };
    assert_eq!(
        gone("D20 D15 B10 D5", week, 0),
        [0],
        "the window opens with 15"
    );
    assert_eq!(gone("F9 B8", week, 0), [] as [usize; 0]);
}

/// Every catalogue of up to five backups of every kind, under every policy.
#[test]
fn no_retention_ever_takes_too_much() {
    let kinds = ["D", "F", "U", "K", "S", "B"];
    let policies = [
        Policy::Redundancy(1),
        Policy::Redundancy(2),
        Policy::Window { days: 3 },
        Policy::Window { days: 30 },
    ];
    for length in 0..=5_u32 {
        for code in 0..6_usize.pow(length) {
            let words: Vec<String> = (0..length)
                .map(|n| format!("{}{}", kinds[code / 6_usize.pow(n) % 6], 2 * (length - n)))
                .collect();
            let words = words.join(" ");
            let (all, broken) = (backups(&words), broken(&words));
            for (policy, least) in policies.iter().flat_map(|p| [(*p, 0), (*p, 2)]) {
                let verdicts = judge(&all, &broken, policy, least, NOW);
                assert_eq!(verdicts.len(), all.len());
                let staying: Vec<&Backup> = all
                    .iter()
                    .zip(&verdicts)
                    .filter(|(_, v)| !v.goes())
                    .map(|(b, _)| b)
                    .collect();
                let whole = |b: &Backup| b.garbled.is_empty() && !broken.contains(&b.id);
                let done = |b: &&&Backup| b.is_done() && whole(b) && b.keep.is_none();
                let had = all.iter().filter(|b| done(&b)).count();
                let left = staying.iter().filter(done).count();
                let wanted = match policy {
                    Policy::Redundancy(n) => n.max(least),
                    Policy::Window { .. } => least.max(1),
                };
                assert!(
                    left >= had.min(wanted as usize),
                    "{words} {policy:?} {least}"
                );
                for (backup, verdict) in all.iter().zip(&verdicts) {
                    if backup.keep.is_some() && backup.garbled.is_empty() && backup.is_done() {
                        assert!(!verdict.goes(), "{words}");
                    }
                    assert!(whole(backup) || !verdict.goes(), "{words}");
                }
                // Whatever WAL may go, no backup that stays needs it.
                let Some(needed) = Needed::by(&staying) else {
                    continue;
                };
                assert!(staying.iter().all(|b| b.garbled.is_empty()));
                for backup in staying.iter().filter(|b| b.is_done()) {
                    let (begin, end) = (backup.begin_wal.unwrap(), backup.end_wal.unwrap());
                    let last = match backup.keep {
                        Some(Keep::Standalone) => end.number,
                        _ => 100,
                    };
                    for number in begin.number..=last {
                        let wal = WalName { number, ..begin };
                        assert!(!needed.spares(&wal), "{words} {wal}");
                    }
                }
            }
        }
    }
}

#[test]
fn wal_before_the_oldest_goes_on_its_timelines_and_no_later_one() {
    let all = backups("S9 D8 D7");
    let needed = Needed::by(&all.iter().collect::<Vec<_>>()).unwrap();
    let wal = |timeline, number| WalName {
        timeline: Timeline(timeline),
        number,
        segment_size: 16 << 20,
    };
    assert_eq!((needed.from, needed.by.as_str()), (20, "20260101T000001"));
    for (timeline, number, want) in [
        (1, 9, true),
        (1, 10, false),
        (1, 11, false),
        (1, 12, true),
        (1, 19, true),
        (1, 20, false),
        // A cluster that was restored to an earlier position has begun timeline 2 there.
        (2, 9, false),
    ] {
        assert_eq!(
            needed.spares(&wal(timeline, number)),
            want,
            "{timeline} {number}"
        );
    }
    assert_eq!(needed.first().to_string(), "000000010000000000000014");
}

#[test]
fn without_a_backup_that_says_what_it_needs_all_wal_stays() {
    let by = |words: &str| Needed::by(&backups(words).iter().collect::<Vec<_>>()).is_some();
    assert!(by("D1") && by("F2 D1") && by("S2 D1"));
    assert!(!by("") && !by("F1") && !by("U1") && !by("U2 D1") && !by("S1"));
}
