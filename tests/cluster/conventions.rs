//! The official image's conventions (§3), and what the user brings.

use crate::docker::{Cluster, docker};
use std::path::Path;

/// Scripts of every kind, packed by the tools of the image.
fn scripts(dir: &Path) {
    let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    put(
        "10.sh",
        "psql -c 'CREATE TABLE ran (at serial, name text)'; psql -c \"INSERT INTO ran(name) VALUES ('10.sh')\"\n",
    );
    put("20.sql", "INSERT INTO ran(name) VALUES ('20.sql');\n");
    for name in ["30.sql", "40.sql", "50.sql"] {
        put(name, &format!("INSERT INTO ran(name) VALUES ('{name}');\n"));
    }
    put("README", "not a script\n");
    let mount = format!("{}:/d", dir.display());
    let pack =
        "cd /d && gzip 30.sql && xz 40.sql && zstd -q --rm 50.sql && chmod 755 . && chmod 644 *";
    docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "bash",
        "-v",
        &mount,
        &crate::docker::image(),
        "-c",
        pack,
    ])
    .ok();
}

/// §3: user, database, initdb's arguments, init scripts in order and once, `-c`, conf.d and pg_hba.d.
#[test]
fn the_official_conventions() {
    let c = Cluster::new("official");
    let init = tempfile::tempdir().unwrap();
    scripts(init.path());
    let yours = tempfile::tempdir().unwrap();
    for dir in ["conf.d", "pg_hba.d"] {
        std::fs::create_dir(yours.path().join(dir)).unwrap();
    }
    let conf = "# mine\nwork_mem = '7MB'\nlog_statement = 'ddl'\n";
    let hba = "# mine\nhost app guest all trust\n";
    std::fs::write(yours.path().join("conf.d/mine.conf"), conf).unwrap();
    std::fs::write(yours.path().join("pg_hba.d/mine.conf"), hba).unwrap();
    let open = "chmod 755 /y /y/conf.d /y/pg_hba.d; chmod 644 /y/*/*";
    let mount = format!("{}:/y", yours.path().display());
    docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "bash",
        "-v",
        &mount,
        &crate::docker::image(),
        "-c",
        open,
    ])
    .ok();
    let plan = c
        .master()
        .env("POSTGRES_USER", "boss")
        .env("POSTGRES_DB", "app")
        .env("POSTGRES_INITDB_ARGS", "--locale=C.UTF-8 --wal-segsize=32")
        .flags(&[
            "-v",
            &format!("{}:/docker-entrypoint-initdb.d:ro", init.path().display()),
        ])
        .flags(&["-v", &format!("{}:/etc/pgnode:ro", yours.path().display())])
        .words(&[
            "-c",
            "max_connections=77",
            "-c",
            "log_min_duration_statement=500ms",
        ]);
    let node = plan.clone().open();
    let ran = "\\c app\nSELECT string_agg(name, ' ' ORDER BY at) FROM ran";
    let all = "10.sh 20.sql 30.sql 40.sql 50.sql";
    assert_eq!(node.psql(ran), all, "{}", node.logs());
    assert!(node.logged("README"), "what is left alone is told");
    for (name, want) in [
        ("wal_segment_size", "32MB"),
        ("lc_collate_of_app", ""),
        ("max_connections", "77"),
        ("log_min_duration_statement", "500ms"),
        ("work_mem", "7MB"),
        ("log_statement", "ddl"),
    ] {
        if want.is_empty() {
            let locale = node.psql("SELECT datcollate FROM pg_database WHERE datname = 'app'");
            assert_eq!(locale, "C.UTF-8");
        } else {
            assert_eq!(node.psql(&format!("SHOW {name}")), want, "{name}");
        }
    }
    let supers = node.psql("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper");
    assert_eq!(supers, "boss");
    // The line of pg_hba.d lets guest in without a password, to this database only.
    node.psql("CREATE ROLE guest LOGIN");
    let guest = |database: &str| {
        let shell =
            format!("psql -wXAtqc 'select 1' 'host=127.0.0.1 user=guest dbname={database}'");
        node.sh(&shell).code
    };
    assert_eq!(guest("app"), 0);
    assert_ne!(guest("postgres"), 0);

    // Once: not on the next start, nor in a new container on the same volume.
    node.stop();
    node.start();
    node.wait_open();
    assert_eq!(node.psql(ran), all);
    node.stop();
    c.remove(node);
    let node = plan.open();
    assert_eq!(node.psql(ran), all);
    assert_eq!(node.psql("SHOW work_mem"), "7MB");
    assert_eq!(
        std::fs::read_to_string(yours.path().join("conf.d/mine.conf")).unwrap(),
        conf
    );
    assert_eq!(
        std::fs::read_to_string(yours.path().join("pg_hba.d/mine.conf")).unwrap(),
        hba
    );
}

/// §3: a script that fails is named, nothing is taken for done, and the next start begins anew.
#[test]
fn a_failing_script_is_named_and_nothing_is_done() {
    let c = Cluster::new("failing");
    let init = tempfile::tempdir().unwrap();
    let mount = format!("{}:/docker-entrypoint-initdb.d:ro", init.path().display());
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(init.path().join(name), text).unwrap();
        let mode = |m| std::fs::Permissions::from_mode(m);
        std::fs::set_permissions(init.path(), mode(0o755)).unwrap();
        std::fs::set_permissions(init.path().join(name), mode(0o644)).unwrap();
    };
    write("10-good.sql", "CREATE TABLE first_run (n int);\n");
    write("20-bad.sql", "SELECT 1;\nSELECT no_such_column;\n");
    let node = c.master().flags(&["-v", &mount]).start();
    assert_eq!(node.ended(), 78, "{}", node.logs());
    let log = node.logs();
    let error = log
        .lines()
        .find(|l| l.contains("ERROR") && l.contains("20-bad.sql"));
    let error = error.unwrap_or_else(|| panic!("the file is not named: {log}"));
    assert!(
        error.contains("no_such_column"),
        "and its last words: {error}"
    );
    let data = c.on_volume("pg1", "ls -A /v/data 2>/dev/null").out;
    assert_eq!(data, "");
    write("20-bad.sql", "CREATE TABLE second_run (n int);\n");
    node.start();
    node.wait_open();
    assert!(
        node.boot().contains(&"init".to_owned()),
        "anew: {:?}",
        node.boot()
    );
    let tables = node
        .psql("SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_class WHERE relname ~ '_run$'");
    assert_eq!(tables, "first_run second_run");
}
