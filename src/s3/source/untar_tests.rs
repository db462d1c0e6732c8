use super::*;
use crate::config::Format;
use crate::domain::{Lsn, Timeline, WalName};
use std::io::Cursor;

const LABEL: &[u8] = b"START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n";

/// Its metadata.
fn backup(tablespaces: &str) -> Backup {
    let begin = WalName::holding(Timeline(1), Lsn(0x0300_0028), 16 << 20);
    let text = format!("begin_wal={begin}\ntablespaces={tablespaces}\n");
    Backup::parse("20261121T030000", "s3://b".into(), &text)
}

fn piece(tablespace: Option<u32>) -> Piece {
    let owner = tablespace.map_or("data".to_owned(), |oid| oid.to_string());
    Piece {
        tablespace,
        name: format!("{owner}.tar"),
        key: String::new(),
        format: Format::None,
        size: 0,
    }
}

/// Members as they are given; the blocks at the end where `whole`.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: EntryType, name: &str, target: &str, body: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mode(0o600);
        // As a hostile tar has it, unchecked.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, body).unwrap();
        self
    }

    fn dir(self, name: &str) -> Self {
        self.raw(EntryType::Directory, name, "", b"")
    }

    fn file(self, name: &str, body: &[u8]) -> Self {
        self.raw(EntryType::Regular, name, "", body)
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// A cut at the end of the last member.
    fn without_end(self) -> Vec<u8> {
        let mut bytes = self.done();
        bytes.truncate(bytes.len() - 1024);
        bytes
    }
}

/// A small one, as barman-cloud makes it.
fn cluster() -> Tar {
    Tar::new()
        .dir(".")
        .file("./PG_VERSION", b"17\n")
        .dir("base")
        .dir("base/1")
        .file("base/1/1259", &[0; 3000])
        .dir("pg_wal")
        .dir("global")
        .file("global/pg_control", &[7; 8192])
        .file("backup_label", LABEL)
}

fn unpacked(parts: &[Vec<u8>]) -> Result<tempfile::TempDir, String> {
    let tmp = tempfile::tempdir().unwrap();
    let mut untar = Untar::new(Some(&Places::of(tmp.path())), None, None);
    for (n, part) in parts.iter().enumerate() {
        let input = Cursor::new(part.clone());
        untar
            .part(&format!("part{n}"), &piece(None), input)
            .map_err(|e| e.to_string())?;
    }
    untar
        .finish("whole", &backup("None"))
        .map_err(|e| e.to_string())
        .map(|()| tmp)
}

fn refused(parts: &[Vec<u8>], part: &str) {
    let error = unpacked(parts).map(drop).unwrap_err();
    assert!(error.contains(part), "{error}, not {part}");
}

#[test]
fn a_tar_becomes_a_data_directory() {
    let tmp = unpacked(&[cluster().done()]).unwrap();
    let dir = tmp.path();
    assert_eq!(std::fs::read(dir.join("PG_VERSION")).unwrap(), b"17\n");
    assert_eq!(std::fs::read(dir.join("base/1/1259")).unwrap(), [0; 3000]);
    for made in DIRS {
        assert!(dir.join(made).is_dir(), "{made}");
    }
}

/// barman-cloud and we have no member for a `pg_wal` that was a link.
#[test]
fn a_tar_without_the_directory_of_the_wal_becomes_one_with_it() {
    let tar = Tar::new()
        .dir(".")
        .file("./PG_VERSION", b"17\n")
        .dir("base")
        .dir("global")
        .file("global/pg_control", &[7; 8192])
        .file("backup_label", LABEL);
    let tmp = unpacked(&[tar.done()]).unwrap();
    let made = std::fs::symlink_metadata(tmp.path().join("pg_wal")).unwrap();
    assert!(made.is_dir());
}

#[test]
fn parts_are_tars_of_their_own_and_belong_together() {
    let first = Tar::new()
        .dir(".")
        .file("PG_VERSION", b"17\n")
        .dir("base")
        .done();
    let second = Tar::new()
        .file("base/2", b"x")
        .file("global/pg_control", b"y")
        .file("backup_label", LABEL)
        .done();
    let tmp = unpacked(&[first.clone(), second]).unwrap();
    assert_eq!(std::fs::read(tmp.path().join("base/2")).unwrap(), b"x");
    // The last part is gone, and no number tells.
    refused(&[first], "has no global/pg_control");
}

#[test]
fn a_tar_that_is_cut_off_anywhere_is_refused() {
    // Trap: at a member's end, where tar readers see nothing wrong. The member before ends in zeros.
    let whole = cluster().done();
    refused(&[cluster().without_end()], "without the blocks");
    for cut in (512..whole.len()).step_by(512) {
        let error = unpacked(&[whole[..cut].to_vec()]).map(drop).unwrap_err();
        assert!(error.contains("cut off"), "{cut}: {error}");
    }
    refused(&[whole[..700].to_vec()], "cut off");
    refused(&[Vec::new()], "cut off");
    let mut more = whole.clone();
    more.extend_from_slice(&whole);
    refused(&[more], "goes on behind its end");
    let mut padded = whole;
    padded.extend_from_slice(&[0; 10240]);
    unpacked(&[padded]).unwrap();
}

#[test]
fn nothing_is_written_outside_of_the_directory() {
    for name in ["../x", "base/../../x", "/tmp/x"] {
        refused(&[cluster().file(name, b"x").done()], "leads out");
        refused(&[cluster().dir(name).done()], "leads out");
    }
    let link = |name, target| cluster().raw(EntryType::Symlink, name, target, b"").done();
    for name in [
        "pg_wal2/x",
        "base/1/link",
        "pg_tblspc/16385",
        "pg_xact",
        "global",
    ] {
        refused(&[link(name, "/tmp")], "as a link");
    }
    let hard = cluster().raw(EntryType::Link, "x", "PG_VERSION", b"");
    refused(&[hard.done()], "as a Link");
    let fifo = cluster().raw(EntryType::Fifo, "x", "", b"");
    refused(&[fifo.done()], "as a Fifo");
    // A link, and then a file through it: the link is made last.
    let tmp = tempfile::tempdir().unwrap();
    let away = tmp.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let through = cluster()
        .raw(EntryType::Symlink, "x", away.to_str().unwrap(), b"")
        .file("x/y", b"z");
    refused(&[through.done()], "as a file and as a link");
    assert!(std::fs::read_dir(&away).unwrap().next().is_none());
}

#[test]
fn a_link_of_somebody_at_the_top_stays_one() {
    let tar = cluster().raw(EntryType::Symlink, "server.crt", "/etc/ssl/x.pem", b"");
    let tmp = unpacked(&[tar.done()]).unwrap();
    let link = std::fs::read_link(tmp.path().join("server.crt")).unwrap();
    assert_eq!(link, Path::new("/etc/ssl/x.pem"));
}

#[test]
fn a_configuration_from_elsewhere_wins_and_nothing_else_is_there_twice() {
    let tar = cluster()
        .file("pg_hba.conf", b"old")
        .file("pg_hba.conf", b"new");
    let tmp = unpacked(&[tar.done()]).unwrap();
    assert_eq!(
        std::fs::read(tmp.path().join("pg_hba.conf")).unwrap(),
        b"new"
    );
    refused(
        &[cluster().file("base/1/1259", b"x").done()],
        "has base/1/1259 twice",
    );
}

#[test]
fn another_backups_label_is_refused() {
    let other = Tar::new()
        .file("PG_VERSION", b"17\n")
        .dir("base")
        .file("global/pg_control", b"y")
        .file(
            "backup_label",
            b"START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\n",
        );
    refused(
        &[other.done()],
        "does not begin at 000000010000000000000003",
    );
}

const OWN: &str = "PG_17_202406281";

/// A tablespace, as barman-cloud makes it.
fn tablespace() -> Tar {
    Tar::new()
        .dir(".")
        .dir(OWN)
        .dir(&format!("{OWN}/5"))
        .file(&format!("{OWN}/5/16400"), b"rows")
}

/// Tablespaces 16385 and 16386 into places of their own, then the data directory.
fn with_tablespaces(spaces: &[(u32, Vec<u8>)]) -> Result<tempfile::TempDir, String> {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let dir = tmp.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    };
    let places = Places {
        data: at("data"),
        tablespaces: [(16385, at("a")), (16386, at("b"))].into(),
    };
    let mut untar = Untar::new(Some(&places), None, None);
    let spaces = spaces.iter().map(|(oid, tar)| (Some(*oid), tar.clone()));
    for (space, tar) in spaces.chain([(None, cluster().done())]) {
        untar
            .part("x.tar", &piece(space), Cursor::new(tar))
            .map_err(|e| e.to_string())?;
    }
    let backup = backup("[('one', 16385, '/a'), ('two', 16386, '/b')]");
    untar.finish("whole", &backup).map_err(|e| e.to_string())?;
    Ok(tmp)
}

#[test]
fn a_tablespace_goes_to_its_own_place() {
    let empty = Tar::new().dir(".").dir(OWN).done();
    // The same names in both, and in several parts.
    let more = Tar::new().file(&format!("{OWN}/5/16401"), b"more").done();
    let parts = [(16385, tablespace().done()), (16385, more), (16386, empty)];
    let tmp = with_tablespaces(&parts).unwrap();
    let read = |path: &str| std::fs::read(tmp.path().join(path)).unwrap();
    assert_eq!(read(&format!("a/{OWN}/5/16400")), b"rows");
    assert_eq!(read(&format!("a/{OWN}/5/16401")), b"more");
    assert_eq!(read("data/PG_VERSION"), b"17\n");
    assert!(tmp.path().join("b").join(OWN).is_dir());
    assert!(!tmp.path().join("data").join(OWN).exists());
    let tablespaces = tmp.path().join("data/pg_tblspc");
    assert!(std::fs::read_dir(tablespaces).unwrap().next().is_none());
}

#[test]
fn what_is_no_tablespace_is_refused() {
    let whole = || (16386, tablespace().done());
    let refuses = |tar: Vec<u8>, part: &str| {
        let error = with_tablespaces(&[(16385, tar), whole()]).map(drop);
        let error = error.unwrap_err();
        assert!(error.contains(part), "{error}, not {part}");
    };
    for name in [
        "notes",
        "5/16400",
        "PG_VERSION",
        "PG_17_/x",
        "PG_x_1/y",
        OWN,
    ] {
        let part = "does not belong in a tablespace";
        refuses(tablespace().file(name, b"x").done(), part);
    }
    refuses(tablespace().file("../x", b"x").done(), "leads out");
    let link = tablespace().raw(EntryType::Symlink, &format!("{OWN}/x"), "/tmp", b"");
    refuses(link.done(), "as a link");
    refuses(tablespace().without_end(), "without the blocks");
    refuses(Tar::new().dir(".").done(), "has nothing in tablespace one");
    let missing = with_tablespaces(&[whole()]).map(drop).unwrap_err();
    assert!(
        missing.contains("has nothing in tablespace one"),
        "{missing}"
    );
}
