//! Whose an archive is (docs/s3-wal.md): a wrong place shows before there is any WAL.

use crate::docker::{Cluster, Node};
use crate::s3::{Bucket, PATH, first_backup, switch, wal_key};

#[test]
fn a_place_of_another_cluster_shows_before_there_is_any_wal() {
    let c = Cluster::new("s3whose");
    let bucket = Bucket::start(&c);
    let pg1 = bucket.cloud(None, "main", c.master()).open();
    first_backup(&pg1);
    let doctor = |node: &Node| node.sh("pgnode doctor --step 9 2>&1").out;
    assert!(
        doctor(&pg1).contains("it is this cluster's"),
        "{}",
        doctor(&pg1)
    );
    let before = bucket.keys("");

    let other = bucket.cloud(None, "main", c.node("pg9")).open();
    let refused = "expected an empty archive at s3://pgnode/prod/main/";
    other.wait_status("it says that the place is another's", |s| {
        s["archiving"]["why"]
            .as_str()
            .is_some_and(|why| why.contains(refused))
    });
    other.wait_log(refused);
    let said = other.sh("pgnode status").out;
    assert!(said.contains("expected an empty archive"), "{said}");
    let said = doctor(&other);
    assert!(
        said.contains("it is the archive of cluster") && said.contains("BARMAN_CLOUD_SERVER_NAME"),
        "{said}"
    );
    // The archiver was never asked for anything, and nothing was written.
    let asked = other.psql("SELECT archived_count + failed_count FROM pg_stat_archiver");
    assert_eq!(asked, "0");
    assert_eq!(bucket.keys(""), before);
    // It serves all the same.
    assert_eq!(other.psql("SELECT pg_is_in_recovery()"), "f");

    // Where the other one is gone for good: its things are moved away, and the next file takes the place.
    pg1.stop();
    bucket.delete_all(&format!("{PATH}/main/"));
    let name = switch(&other);
    bucket.wait_keys(&wal_key("main", &name));
    other.wait_status("it archives", |s| {
        s["archiving"]["failing_since_ms"].is_null()
    });
}
