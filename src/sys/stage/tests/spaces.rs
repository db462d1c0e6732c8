//! A copy with tablespaces, killed at any call of its making and of what cleans up after it.

use super::*;
use std::path::PathBuf;

const OWN: &str = "PG_17_202406281";

/// Two directories for tablespaces beside the volume: one is there and empty, one is missing.
fn spaces(volume: &Volume) -> Vec<Space> {
    let root = volume.layout.anchor.ancestors().nth(2).unwrap();
    let root = match volume.layout.in_place {
        true => root.parent().unwrap(),
        false => root,
    };
    let at = |name: &str| root.join("spaces").join(name);
    fs::create_dir_all(at("there").join("lost+found")).unwrap();
    [(16385, "there"), (16386, "made")]
        .map(|(oid, name)| Space { oid, at: at(name) })
        .into()
}

/// A restore: unpacked, recovered, put in its place.
fn restore(stage: &Stage, spaces: &[Space], word: &str) -> Result<()> {
    for space in spaces {
        assert_eq!(stage.stranger(&space.at)?, None);
    }
    stage.prepare(None)?;
    stage.begin_spaces(word, spaces, None)?;
    for space in spaces {
        let dir = space.unpacked().join(OWN).join("5");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("16400"), word).unwrap();
    }
    put(&stage.layout.staging, (word, 0o700));
    stage.place_spaces(None)?;
    // Recovery writes through the links.
    for space in spaces {
        let link = stage.layout.staging.join("pg_tblspc");
        let link = link.join(space.oid.to_string());
        fs::write(link.join(OWN).join("5/16401"), word).unwrap();
    }
    stage.commit()
}

/// The entries of a tablespace's directory.
fn inside(space: &Space) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&space.at) else {
        return Vec::new();
    };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "lost+found").collect();
    names.sort();
    names
}

/// Whole, of one copy, and nobody's but the cluster's.
fn check_new(volume: &Volume, spaces: &[Space], word: &str) {
    let pgdata = &volume.layout.pgdata;
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(read(pgdata.join("PG_VERSION")), word);
    for space in spaces {
        assert_eq!(inside(space), [OWN]);
        let link = pgdata.join("pg_tblspc").join(space.oid.to_string());
        assert_eq!(fs::read_link(&link).unwrap(), space.at);
        for file in ["5/16400", "5/16401"] {
            assert_eq!(read(link.join(OWN).join(file)), word);
        }
    }
    let record = fs::read_dir(pgdata).unwrap().any(|e| {
        let name = e.unwrap().file_name();
        name.to_string_lossy().contains("tablespaces")
    });
    assert!(!record, "the record is left");
}

/// How many calls it took to come to an end after a kill at `first`, and one at `second`.
fn killed(in_place: bool, first: usize, second: Option<usize>) -> usize {
    let volume = Volume::new(in_place);
    let spaces = spaces(&volume);
    let ended = restore(&volume.stage(first).0, &spaces, "one");
    if let Some(second) = second {
        volume.stage(second).0.resume().ok();
    }
    let (stage, left) = volume.stage(ENDLESS);
    let found = stage.resume().unwrap();
    let took = ENDLESS - left.load(SeqCst);
    if ended.is_ok() {
        assert_eq!(found.pgdata, Pgdata::Occupied);
    }
    match found.pgdata {
        Pgdata::Occupied => check_new(&volume, &spaces, "one"),
        _ => {
            // As before; a directory that was made may stay.
            for space in &spaces {
                assert_eq!(inside(space), [""; 0], "{first} {second:?}");
            }
            restore(&stage, &spaces, "two").unwrap();
            check_new(&volume, &spaces, "two");
        }
    }
    volume.check_clean();
    // Once more finds nothing to do, and from now on they are taken.
    stage.resume().unwrap();
    for space in &spaces {
        assert_eq!(stage.stranger(&space.at).unwrap().as_deref(), Some(OWN));
    }
    took
}

#[test]
fn a_killed_restore_leaves_all_of_its_tablespaces_or_none() {
    for in_place in [false, true] {
        let volume = Volume::new(in_place);
        let (stage, left) = volume.stage(ENDLESS);
        restore(&stage, &spaces(&volume), "one").unwrap();
        let calls = ENDLESS - left.load(SeqCst);
        assert!(calls > 20, "{calls}");
        for first in 0..calls {
            let resuming = killed(in_place, first, None);
            for second in 0..resuming {
                killed(in_place, first, Some(second));
            }
        }
    }
}

/// A second try of the same process: what the first left is taken away with its staging directory.
#[test]
fn another_try_begins_with_empty_directories() {
    let volume = Volume::new(false);
    let spaces = spaces(&volume);
    let stage = volume.stage(ENDLESS).0;
    stage.prepare(None).unwrap();
    stage.begin_spaces("first", &spaces, None).unwrap();
    fs::create_dir(spaces[0].unpacked().join(OWN)).unwrap();
    stage.place_spaces(None).unwrap();
    assert_eq!(inside(&spaces[0]), [".pgnode-restore", OWN]);
    restore(&stage, &spaces, "second").unwrap();
    check_new(&volume, &spaces, "second");
}

#[test]
fn what_is_somebody_elses_is_seen_and_never_removed() {
    let volume = Volume::new(false);
    let spaces = spaces(&volume);
    let stage = volume.stage(ENDLESS).0;
    let foreign = |name: &str| spaces[0].at.join(name);
    let seen = |stage: &Stage| stage.stranger(&spaces[0].at).unwrap();
    assert_eq!(seen(&stage), None);
    // Another cluster's.
    fs::create_dir_all(foreign(OWN).join("5")).unwrap();
    assert_eq!(seen(&stage).as_deref(), Some(OWN));
    fs::remove_dir_all(foreign(OWN)).unwrap();

    // What another node's restore left: its record is on another volume.
    let other = Volume::new(false);
    let theirs = other.stage(ENDLESS).0;
    theirs.prepare(None).unwrap();
    theirs.begin_spaces("theirs", &spaces, None).unwrap();
    fs::create_dir(spaces[0].unpacked().join(OWN)).unwrap();
    theirs.place_spaces(None).unwrap();
    assert_eq!(seen(&stage).as_deref(), Some(".pgnode-restore"));
    assert_eq!(seen(&theirs), None);
    stage.prepare(None).unwrap();
    stage.resume().unwrap();
    assert!(foreign(OWN).is_dir() && foreign(".pgnode-restore").is_dir());
    // Also where ours was, before another volume was mounted there.
    let aside = spaces[0].at.with_file_name("aside");
    fs::rename(&spaces[0].at, &aside).unwrap();
    stage.prepare(None).unwrap();
    stage.begin_spaces("ours", &spaces[..1], None).unwrap();
    fs::remove_dir_all(&spaces[0].at).unwrap();
    fs::rename(&aside, &spaces[0].at).unwrap();
    stage.resume().unwrap();
    assert!(foreign(OWN).is_dir() && foreign(".pgnode-restore").is_dir());

    // Somebody writes beside ours: only ours goes.
    fs::write(foreign("notes"), "mine").unwrap();
    assert_eq!(seen(&theirs).as_deref(), Some("notes"));
    theirs.resume().unwrap();
    assert_eq!(inside(&spaces[0]), ["notes"]);

    // A file where a directory belongs is no place.
    assert!(stage.stranger(&foreign("notes")).is_err());
}
