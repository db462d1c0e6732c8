use super::*;
use crate::barman::Server;

const A: &str = "20261121T070000";
const B: &str = "20261121T080000";
const C: &str = "20261121T090000";
const D: &str = "20261121T100000";

/// A full one with two that rest on it in a row, a second full one.
fn catalogue(kept: Option<&str>) -> Vec<Backup> {
    let tmp = tempfile::tempdir().unwrap();
    let meta = tmp.path().join("meta");
    std::fs::create_dir(&meta).unwrap();
    for (id, parent) in [(A, None), (B, Some(A)), (C, Some(B)), (D, None)] {
        let parent = parent.unwrap_or("None");
        let text = format!("status=DONE\nmode=postgres\nsize=2048\nparent_backup_id={parent}\n");
        std::fs::write(meta.join(format!("{id}-backup.info")), text).unwrap();
    }
    if let Some(id) = kept {
        std::fs::write(meta.join(format!("{id}-keep")), "full").unwrap();
    }
    Server::at(tmp.path().to_owned()).backups().unwrap()
}

#[test]
fn what_rests_on_a_backup_goes_with_it() {
    let all = catalogue(None);
    let going = |n: usize| ids(&tree(&all, &all[n]));
    assert_eq!(going(0), format!("{A}, {B}, {C}"));
    assert_eq!(going(1), format!("{B}, {C}"));
    assert_eq!(going(3), D);
    assert_eq!(
        told(&tree(&all, &all[1]), "would delete"),
        [
            format!("would delete backup {B} (incremental, 2.0 KiB)"),
            format!("would delete backup {C} (incremental, 2.0 KiB), which rests on {B}"),
            "would delete the WAL that no other backup needs".to_owned(),
        ]
    );
}

#[test]
fn the_last_full_backup_is_not_deleted_however_many_rest_on_it() {
    let all = catalogue(None);
    let obstacle = |all: &[Backup], n: usize, least| cannot_delete(all, &tree(all, &all[n]), least);
    assert_eq!(obstacle(&all, 0, 1), None);
    assert_eq!(obstacle(&all, 3, 0), None);
    let why = obstacle(&all, 0, 2).unwrap();
    assert!(
        why.contains("2 full backups must be there") && why.contains("there would be 1"),
        "{why}"
    );
    // barman counts three.
    let why = obstacle(&all[..3], 0, 1).unwrap();
    assert!(
        why.contains("there would be 0") && why.contains("pgnode backup --wait"),
        "{why}"
    );
    assert_eq!(obstacle(&all[..3], 2, 1), None);
}

#[test]
fn what_is_kept_is_not_deleted() {
    let all = catalogue(Some(A));
    let why = cannot_delete(&all, &tree(&all, &all[0]), 0).unwrap();
    assert!(why.contains(&format!("keep --release {A}")), "{why}");
}

#[test]
fn only_a_complete_full_backup_can_be_kept() {
    let mut all = catalogue(None);
    assert_eq!(cannot_keep(&all[0]), None);
    assert!(cannot_keep(&all[1]).unwrap().contains("keep that one"));
    all[0].status = crate::barman::BackupStatus::WaitingForWals;
    assert!(cannot_keep(&all[0]).unwrap().contains("WAITING_FOR_WALS"));
}
