use super::fetch::sound;
use super::judge::*;
use crate::domain::{History, Lsn, SystemId, Timeline, WalName};
use crate::s3::layout::WalKind;

const SIZE: u64 = 1 << 20;

fn parsed(timeline: u32, text: &str) -> History {
    History::parse(Timeline(timeline), text).unwrap()
}

fn first(timeline: u32) -> History {
    History::without_past(Timeline(timeline))
}

#[test]
fn an_old_primary_is_kept_out_and_the_new_one_is_not() {
    let two = parsed(2, "1\t0/500028\tno recovery target specified\n");
    let superseded = |own: &History, end, archived: &[History]| {
        superseded(own, Lsn(end), archived, &[]).map(|s| (s.by.0, s.at.0))
    };
    // Nobody else.
    assert_eq!(superseded(&first(1), 0x60_0000, &[]), None);
    // What lies before the fork may still come in; the segment of the fork may not, nor what follows it.
    let archived = [two.clone()];
    assert_eq!(superseded(&first(1), 0x50_0000, &archived), None);
    assert_eq!(
        superseded(&first(1), 0x60_0000, &archived),
        Some((2, 0x50_0028))
    );
    assert_eq!(
        superseded(&first(1), 0x90_0000, &archived),
        Some((2, 0x50_0028))
    );
    // The new primary, and one after it.
    assert_eq!(superseded(&two, 0x60_0000, &archived), None);
    let three = parsed(3, "1\t0/500028\tx\n2\t0/700028\tx\n");
    assert_eq!(
        superseded(&three, 0x80_0000, std::slice::from_ref(&two)),
        None
    );
    assert_eq!(
        superseded(&two, 0x80_0000, std::slice::from_ref(&three)),
        Some((3, 0x70_0028))
    );
    // Two that were promoted from the same one: the later number has won, wherever it branched off.
    let other = parsed(4, "1\t0/300028\tx\n");
    assert_eq!(
        superseded(&two, 0x60_0000, std::slice::from_ref(&other)),
        Some((4, 0x30_0028))
    );
    assert_eq!(superseded(&other, 0x60_0000, &[two.clone(), three]), None);
    // One who knows the later timeline is on it, and brings what is left of an old one.
    let knows = super::judge::superseded(&first(1), Lsn(0x90_0000), &[two], &[Timeline(2)]);
    assert_eq!(knows, None);
}

#[test]
fn a_history_is_never_replaced_by_another_but_a_reservation_is() {
    let (one, two) = (b"1\t0/5\tx\n".as_slice(), b"1\t0/6\tx\n".as_slice());
    let reserved = b"# no timeline: term 2 has no primary that this node knows of\n".as_slice();
    for (ours, stored, want) in [
        (one, None, Past::Store),
        (one, Some(one), Past::There),
        (one, Some(two), Past::Differs),
        (one, Some(reserved), Past::Store),
        (reserved, None, Past::Store),
        (reserved, Some(one), Past::There),
        (
            reserved,
            Some(b"# no timeline: other".as_slice()),
            Past::There,
        ),
    ] {
        assert_eq!(past(ours, stored), want, "{ours:?} {stored:?}");
    }
}

#[test]
fn a_history_that_was_cut_off_is_none() {
    let two = Timeline(2);
    assert_eq!(
        sound_history(two, b"1\t0/5000028\tno recovery target specified\n"),
        Ok(())
    );
    assert_eq!(sound_history(two, b"# no timeline: x\n"), Ok(()));
    for bad in [
        b"".as_slice(),
        b"1\t0/5000028\tno recov",
        b"1\t0/50",
        b"2\t0/5000028\tits own\n",
        b"\xFF\n",
        b"no history\n",
    ] {
        assert!(sound_history(two, bad).is_err(), "{bad:?}");
    }
}

fn segment(timeline: u32, position: u64, cluster: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; 1 << 20];
    bytes[0..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
    bytes[8..16].copy_from_slice(&position.to_le_bytes());
    bytes[24..32].copy_from_slice(&cluster.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes
}

#[test]
fn only_what_its_name_says_is_handed_out() {
    let name = WalName::holding(Timeline(2), Lsn(0x50_0000), SIZE).to_string();
    let right = segment(2, 0x50_0000, 7);
    let kind = WalKind::Segment;
    sound(&right, &name, kind, Some(SystemId(7))).unwrap();
    sound(&right, &name, kind, None).unwrap();
    sound(&right, &format!("{name}.partial"), WalKind::Partial, None).unwrap();
    let no = |bytes: &[u8], name: &str, part: &str| {
        let error = sound(bytes, name, kind, Some(SystemId(7))).unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    no(
        &segment(2, 0x50_0000, 8),
        &name,
        "it is of cluster 8, not of 7",
    );
    no(&segment(2, 0x60_0000, 7), &name, "of position 0/600000");
    no(&segment(3, 0x50_0000, 7), &name, "of timeline 3");
    no(&right[..1 << 19], &name, "it has 524288 bytes of 1048576");
    no(b"", &name, "not the beginning");
    assert_eq!(
        sound(b"x", "x.backup", WalKind::BackupLabel, None),
        Err("is no backup label".to_owned())
    );
}
