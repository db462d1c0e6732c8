use super::*;
use std::collections::HashMap;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

const MOUNTS: &str = "\
600 500 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=x\n\
601 600 8:1 /vol/_data /var/lib/postgresql rw,relatime - ext4 /dev/vda rw\n\
602 601 8:1 /other /var/lib/postgresql/my\\040data\\134x rw shared:7 master:2 - ext4 /dev/vda rw\n\
603 600 0:60 / /run rw,nosuid - tmpfs tmpfs rw\n\
604 600 0:61 / /run rw,nosuid - ramfs none rw\n\
garbage\n";

#[test]
fn the_mount_of_a_path_is_the_deepest_and_last() {
    let mounts = parse_mounts(MOUNTS.as_bytes());
    assert_eq!(mounts.len(), 5);
    for (path, id) in [
        ("/", 600),
        ("/etc/passwd", 600),
        ("/var/lib/postgresql", 601),
        ("/var/lib/postgresqlx", 600),
        ("/var/lib/postgresql/data/base", 601),
        ("/var/lib/postgresql/my data\\x/pg_wal", 602),
        ("/run/pgnode", 604),
    ] {
        assert_eq!(
            mount_of(&mounts, Path::new(path)).map(|m| m.id),
            Some(id),
            "{path}"
        );
    }
    assert_eq!(mounts[4].kind, "ramfs");
}

#[test]
fn this_machine_can_be_read() {
    let facts = fs_facts(Path::new("/")).unwrap();
    assert!(facts.total > 0 && facts.available <= facts.total && !facts.kind.is_empty());
    assert!(is_mount_point(Path::new("/")).unwrap());
    assert!(is_mount_point(Path::new("/proc")).unwrap());
    let dir = tempdir().unwrap();
    assert!(!is_mount_point(dir.path()).unwrap());
    assert!(!is_mount_point(&dir.path().join("missing")).unwrap());
    assert!(same_mount(dir.path(), &dir.path().join("not/yet/there")).unwrap());
    assert!(!same_mount(dir.path(), Path::new("/proc")).unwrap());
    assert!(
        mounts_below(Path::new("/"))
            .unwrap()
            .contains(&PathBuf::from("/proc"))
    );
    assert!(mounts_below(dir.path()).unwrap().is_empty());
    assert!(
        mounts_below(&dir.path().join("missing"))
            .unwrap()
            .is_empty()
    );
    sync_tree(dir.path()).unwrap();
    assert!(fs_facts(&dir.path().join("missing")).is_err());
}

#[test]
fn a_directory_is_as_large_as_its_files() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/c"), [0; 1000]).unwrap();
    fs::write(dir.path().join("d"), [0; 24]).unwrap();
    symlink("/usr", dir.path().join("link")).unwrap();
    assert_eq!(dir_size(dir.path()).unwrap(), 1024);
    assert_eq!(dir_size(&dir.path().join("missing")).unwrap(), 0);
}

fn limit(files: &[(&str, &str)]) -> Option<u64> {
    let files: HashMap<PathBuf, String> = files
        .iter()
        .map(|(p, t)| (PathBuf::from(p), (*t).to_owned()))
        .collect();
    memory_limit(&|path| files.get(path).cloned())
}

#[test]
fn the_memory_limit_is_found_in_every_arrangement() {
    const INFO: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
    );
    let v2 = ("/proc/self/cgroup", "0::/\n");
    // Version 2 with its own namespace, as Docker does it by default.
    assert_eq!(
        limit(&[v2, INFO, ("/sys/fs/cgroup/memory.max", "536870912\n")]),
        Some(536_870_912)
    );
    assert_eq!(
        limit(&[v2, INFO, ("/sys/fs/cgroup/memory.max", "max\n")]),
        None
    );
    assert_eq!(limit(&[v2, INFO]), None);
    // More than the host has.
    assert_eq!(
        limit(&[v2, INFO, ("/sys/fs/cgroup/memory.max", "99999999999999")]),
        Some(8 << 30)
    );
    // The host's tree: the smallest on the way up counts.
    let host = ("/proc/self/cgroup", "0::/kubepods/pod1/abc\n");
    assert_eq!(
        limit(&[
            host,
            ("/sys/fs/cgroup/kubepods/pod1/abc/memory.max", "max"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.max", "1000000"),
            ("/sys/fs/cgroup/kubepods/memory.max", "5000000"),
        ]),
        Some(1_000_000)
    );
    // Version 1: the path is the host's, the mount shows our group at its root.
    let v1 = (
        "/proc/self/cgroup",
        "12:pids:/docker/abc\n5:memory:/docker/abc\n1:name=systemd:/x\n",
    );
    let file = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    assert_eq!(limit(&[v1, INFO, (file, "268435456\n")]), Some(268_435_456));
    assert_eq!(limit(&[v1, INFO, (file, "9223372036854771712\n")]), None);
    // Both, with memory under version 1.
    let both = (
        "/proc/self/cgroup",
        "5:memory:/docker/abc\n0::/docker/abc\n",
    );
    assert_eq!(limit(&[both, (file, "1048576\n")]), Some(1_048_576));
    // Somebody else's namespace, and nonsense.
    let outside = ("/proc/self/cgroup", "0::/../../x\n");
    assert_eq!(
        limit(&[outside, ("/sys/fs/cgroup/memory.max", "7")]),
        Some(7)
    );
    assert_eq!(limit(&[("/proc/self/cgroup", "nonsense\n::\n0::/")]), None);
    assert_eq!(limit(&[]), None);
}
