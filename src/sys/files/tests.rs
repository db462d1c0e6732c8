use super::*;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

fn identity(path: &Path) -> (u64, i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & PERMISSIONS
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: owners, for want of root");
    }
    root
}

#[test]
fn a_file_is_written_once() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.conf");
    for write in [write_atomic, write_volatile] {
        assert_eq!(write(&path, b"one", 0o640, None).unwrap(), Changed::Yes);
        let before = identity(&path);
        assert_eq!(write(&path, b"one", 0o640, None).unwrap(), Changed::No);
        assert_eq!(identity(&path), before);
        assert_eq!(write(&path, b"two", 0o640, None).unwrap(), Changed::Yes);
        assert_ne!(identity(&path).0, before.0);
        assert_eq!(write(&path, b"two", 0o600, None).unwrap(), Changed::Yes);
        assert_eq!(
            (fs::read(&path).unwrap(), mode(&path)),
            (b"two".to_vec(), 0o600)
        );
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_is_no_obstacle_and_no_trap() {
    let dir = tempdir().unwrap();
    let (path, victim) = (dir.path().join("f"), dir.path().join("victim"));
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, beside(&path).unwrap()).unwrap();
    write_atomic(&path, b"new", 0o644, None).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    // A link in the file's own place is replaced, its target untouched.
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    write_atomic(&path, b"new", 0o644, None).unwrap();
    assert_eq!(
        (fs::read(&victim).unwrap(), fs::read(&path).unwrap()),
        (b"mine".to_vec(), b"new".to_vec())
    );
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    fs::create_dir(&path).unwrap();
    assert!(write_atomic(&path, b"x", 0o644, None).is_err());
    assert!(path.is_dir());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(write_atomic(Path::new("/"), b"x", 0o644, None).is_err());
}

#[test]
fn an_owner_is_set_and_kept() {
    if !is_root() {
        return;
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    write_atomic(&path, b"x", 0o600, Some((1234, 5678))).unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 5678));
    assert_eq!(
        write_atomic(&path, b"x", 0o600, Some((1234, 5678))).unwrap(),
        Changed::No
    );
    // Without an owner asked for, whoever has it is fine.
    assert_eq!(write_atomic(&path, b"x", 0o600, None).unwrap(), Changed::No);
    assert_eq!(
        write_atomic(&path, b"x", 0o600, Some((0, 0))).unwrap(),
        Changed::Yes
    );
}

#[test]
fn a_directory_is_made_through_a_dangling_link() {
    let dir = tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let (etc, run) = (root.join("etc/repmgr.d"), root.join("run/pgnode/repmgr.d"));
    fs::create_dir(root.join("etc")).unwrap();
    symlink("../run/pgnode/repmgr.d", &etc).unwrap();
    assert_eq!(ensure_dir(&etc, 0o750, None).unwrap(), run);
    assert!(run.is_dir());
    assert_eq!((mode(&run), mode(run.parent().unwrap())), (0o750, 0o755));
    assert_eq!(ensure_dir(&etc, 0o700, None).unwrap(), run);
    assert_eq!(mode(&run), 0o700);

    write_atomic(&etc.join("repmgr.conf"), b"x", 0o640, None).unwrap();
    assert!(run.join("repmgr.conf").is_file());

    symlink(root.join("b"), root.join("a")).unwrap();
    symlink(root.join("a"), root.join("b")).unwrap();
    assert!(ensure_dir(&root.join("a"), 0o700, None).is_err());
    assert!(ensure_dir(&run.join("repmgr.conf"), 0o700, None).is_err());
    assert!(ensure_dir(&run.join("repmgr.conf/x"), 0o700, None).is_err());
}

#[test]
fn a_pipe_is_made_once_and_replaces_a_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "an old log").unwrap();
    assert_eq!(fifo(&path, 0o660, None).unwrap(), Changed::Yes);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(mode(&path), 0o660);
    let before = identity(&path);
    assert_eq!(fifo(&path, 0o660, None).unwrap(), Changed::No);
    assert_eq!(fifo(&path, 0o600, None).unwrap(), Changed::Yes);
    assert_eq!(identity(&path).0, before.0);
    assert!(fifo(dir.path(), 0o600, None).is_err());
    // A pipe nobody reads must not block a comparison.
    assert_eq!(
        write_volatile(&path, b"", 0o600, None).unwrap(),
        Changed::Yes
    );
}

#[test]
fn owners_are_fixed_only_where_they_are_wrong() {
    if !is_root() {
        return;
    }
    let dir = tempdir().unwrap();
    let outside = tempdir().unwrap();
    let tree = dir.path().join("data");
    fs::create_dir_all(tree.join("base/1")).unwrap();
    fs::create_dir_all(tree.join("pg_tblspc")).unwrap();
    fs::write(tree.join("base/1/2"), "x").unwrap();
    fs::write(outside.path().join("theirs"), "x").unwrap();
    symlink(outside.path(), tree.join("pg_tblspc/16384")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    // data, base, 1, 2, pg_tblspc and the two links themselves.
    assert_eq!(fix_ownership(&tree, 70, 71).unwrap(), 7);
    assert_eq!(fix_ownership(&tree, 70, 71).unwrap(), 0);
    assert_eq!(
        fs::symlink_metadata(tree.join("dangling")).unwrap().uid(),
        70
    );
    assert_eq!(
        fs::metadata(outside.path().join("theirs")).unwrap().uid(),
        0
    );
    assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);
    lchown(tree.join("base/1/2"), Some(0), None).unwrap();
    assert_eq!(fix_ownership(&tree, 70, 71).unwrap(), 1);
    assert!(fix_ownership(&tree.join("missing"), 70, 71).is_err());
}

#[test]
fn a_volume_has_one_holder_and_the_loser_learns_who() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = VolumeLock::acquire(&path).unwrap();
    let error = VolumeLock::acquire(&path).unwrap_err();
    let me = format!("(pid {})", std::process::id());
    assert!(
        matches!(&error, LockError::Held { holder, .. } if holder.contains(&me)),
        "{error}"
    );
    assert!(error.fault().is_transient());
    drop(lock);
    let again = VolumeLock::acquire(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    drop(again);
    let error = VolumeLock::acquire(&dir.path().join("no/such")).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }));
}
