use super::rules::{choice, from, point, servers, tablespaces, time};
use super::*;
use crate::config::rules::number;
use crate::config::{Config, Surroundings};

fn load(vars: &[(&str, &str)]) -> Result<Config, String> {
    let vars = vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Config::from_vars(vars, &Surroundings::bare("pg1"))
        .map(|(config, _)| config)
        .map_err(|faults| faults.to_string())
}

#[test]
fn clusters_of_a_barman_host() {
    let show = |text: &str| {
        servers(text).map(|all| {
            let each = all.iter().map(|s| format!("{}:{}", s.name, s.hosts.len()));
            each.collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(
        show("main=pg1,pg2:6432; other=pg7"),
        Ok("main:2 other:1".into())
    );
    assert_eq!(show("main=pg1\n  b=[fd00::1]:1"), Ok("main:1 b:1".into()));
    for bad in [
        "",
        ";",
        "pg1,pg2",
        "main=",
        "main=a main=b",
        "all=pg1",
        "main=p/g",
        "=pg1",
    ] {
        assert!(servers(bad).is_err(), "{bad:?}");
    }
    let error = load(&[("PGNODE_ROLE", "barman")]).unwrap_err();
    assert!(error.contains("BARMAN_SERVERS: is not set"), "{error}");
    let config = load(&[("PGNODE_ROLE", "barman"), ("BARMAN_SERVERS", "main=pg1")]).unwrap();
    assert_eq!(config.barman.mode, BarmanMode::Off);
    assert_eq!(config.barman.servers[0].name, "main");
    // A data node with the whole cluster's environment.
    let config = load(&[("BARMAN_SERVERS", "main=pg1")]).unwrap();
    assert!(config.barman.servers.is_empty());
    assert_eq!(config.barman.server_name, "node1");
}

#[test]
fn rsync_needs_a_host_and_keys() {
    let rsync = ("BARMAN_METHOD", "rsync");
    let remote = ("BARMAN_MODE", "remote");
    let error = load(&[rsync]).unwrap_err();
    assert!(error.contains("BARMAN_MODE is not remote"), "{error}");
    let error = load(&[rsync, remote]).unwrap_err();
    assert!(error.contains("BARMAN_HOST: is not set"), "{error}");
    let host = ("BARMAN_HOST", "barman1");
    let error = load(&[rsync, remote, host]).unwrap_err();
    assert!(error.contains("PGNODE_SSH_KEYS: is not set"), "{error}");
    let keys = ("PGNODE_SSH_KEYS", "/keys");
    assert_eq!(
        load(&[rsync, remote, host, keys]).unwrap().barman.method,
        Method::Rsync
    );
}

#[test]
fn at_most_one_target() {
    let latest = ("PGNODE_RESTORE", "latest");
    assert_eq!(load(&[]).unwrap().restore, None);
    let restore = load(&[latest]).unwrap().restore.unwrap();
    assert_eq!(
        (restore.target, restore.from),
        (Target::End, RestoreFrom::Local)
    );
    let at = ("PGNODE_RESTORE_TARGET_TIME", "2026-11-21 10:15:00+02");
    let restore = load(&[latest, at]).unwrap().restore.unwrap();
    assert_eq!(restore.target.to_string(), "time 2026-11-21 08:15:00+00");
    let error = load(&[latest, at, ("PGNODE_RESTORE_TARGET_XID", "742")]).unwrap_err();
    assert!(
        error.contains("is a second target beside PGNODE_RESTORE_TARGET_TIME"),
        "{error}"
    );
    let error = load(&[latest, at, ("PGNODE_RESTORE_TARGET_IMMEDIATE", "yes")]).unwrap_err();
    assert!(error.contains("is a second target"), "{error}");
}

#[test]
fn times_are_utc_unless_they_say_otherwise() {
    for (text, want) in [
        ("2026-11-21 10:15:00", "2026-11-21T10:15:00+00:00"),
        ("2026-11-21 10:15:00.25+00", "2026-11-21T10:15:00.250+00:00"),
        ("2026-11-21T10:15:00Z", "2026-11-21T10:15:00+00:00"),
        ("2026-11-21 10:15:00+05:30", "2026-11-21T04:45:00+00:00"),
        ("2026-11-21 10:15:00 UTC", "2026-11-21T10:15:00+00:00"),
        ("2026-11-21 10:15", "2026-11-21T10:15:00+00:00"),
        ("2026-11-21", "2026-11-21T00:00:00+00:00"),
    ] {
        assert_eq!(
            time(text).map(|t| t.to_rfc3339()).as_deref(),
            Ok(want),
            "{text}"
        );
    }
    for bad in [
        "",
        "now",
        "yesterday",
        "10:15",
        "2026-13-01 00:00",
        "2026-11-21 25:00",
    ] {
        assert!(time(bad).is_err(), "{bad}");
    }
}

#[test]
fn where_a_backup_comes_from() {
    for (text, want) in [
        ("local", "local"),
        ("/srv/barman/main", "/srv/barman/main"),
        ("ssh://barman1/main", "ssh://barman1:2222/main"),
        ("ssh://barman@barman1:22/main", "ssh://barman1:22/main"),
        ("ssh://[fd00::1]:22/main", "ssh://[fd00::1]:22/main"),
    ] {
        assert_eq!(
            from(text).map(|f| f.to_string()).as_deref(),
            Ok(want),
            "{text}"
        );
    }
    for bad in [
        "",
        "barman1",
        "ssh://barman1",
        "ssh://barman1/",
        "ssh:///main",
        "s3://b/x",
        "/",
    ] {
        assert!(from(bad).is_err(), "{bad}");
    }
    assert_eq!(choice("last"), Ok(Choice::Latest));
    assert_eq!(
        choice("20261121T030000"),
        Ok(Choice::Id("20261121T030000".into()))
    );
    assert!(choice("../x").is_err() && choice("").is_err());
    assert!(point(&"x".repeat(64)).is_err() && point("before upgrade").is_ok());
    assert_eq!(
        number::<u32>("0", 1, 5),
        Err("is not a number from 1 to 5".into())
    );
}

#[test]
fn where_tablespaces_go() {
    let plain = |text: &str| {
        let moved = tablespaces(text)?;
        let words = moved.iter().map(|(n, d)| format!("{n}>{}", d.display()));
        Ok::<_, String>(words.collect::<Vec<_>>().join(" "))
    };
    for (text, want) in [
        ("fast=/srv/fast", "fast>/srv/fast"),
        (
            "fast=/srv/fast/, t's one=/a=b",
            "fast>/srv/fast t's one>/a=b",
        ),
        ("a=b=/srv/x,16385=/srv/y", "a=b>/srv/x 16385>/srv/y"),
    ] {
        assert_eq!(plain(text).as_deref(), Ok(want), "{text}");
    }
    for (text, part) in [
        ("", "is not name=/directory"),
        ("fast", "is not name=/directory"),
        ("=/srv/fast", "is not name=/directory"),
        ("fast=/srv/fast,", "is not name=/directory"),
        (
            "fast=srv",
            "gives fast a directory that is not an absolute path",
        ),
        ("fast=/a/../b", "gives fast a directory that holds .."),
        ("fast=/", "gives fast a directory that is the root"),
        ("a=/x,a=/y", "names a twice"),
        ("a=/x,b=/x/", "gives a and b the same directory"),
        ("a=/x,b=/x/y", "of which one holds the other"),
        ("a=/x/y,b=/x", "of which one holds the other"),
    ] {
        let error = plain(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    for inside in [
        "/var/lib/postgresql/data",
        "/var/lib/postgresql/data/fast",
        "/var/lib",
        "/var/lib/postgresql/.pgnode/fast",
    ] {
        let value = format!("fast={inside}");
        let error = load(&[("PGNODE_RESTORE_TABLESPACES", &value)]).unwrap_err();
        for part in [
            "PGNODE_RESTORE_TABLESPACES",
            &value,
            "or inside it, or holds it",
            "fast=/srv/fast",
        ] {
            assert!(error.contains(part), "{inside}: {error}");
        }
    }
}

#[test]
fn a_drill_stays_away_from_the_data() {
    for bad in [
        "/var/lib/postgresql/data",
        "/var/lib/postgresql/data/x",
        "/var/lib",
    ] {
        let error = load(&[("PGNODE_DRILL_DIR", bad)]).unwrap_err();
        assert!(error.contains("a drill empties its directory"), "{error}");
    }
    let dir = load(&[]).unwrap().drill.dir;
    assert_eq!(dir, PathBuf::from("/home/barman/data/.drill"));
    // Beside the data there may be no room beside them.
    let bucket = [
        ("BARMAN_MODE", "cloud"),
        ("S3_BUCKET_URI", "s3://backups"),
        ("S3_ACCESS_KEY_ID", "id"),
        ("S3_SECRET_ACCESS_KEY", "key"),
        ("PGNODE_DATA_DIR", "/srv/pg"),
        ("PGDATA", "/srv/pg"),
    ];
    let with = |more: &[(&'static str, &'static str)]| load(&[bucket.as_slice(), more].concat());
    assert!(with(&[]).is_ok());
    let schedule = ("PGNODE_DRILL_SCHEDULE", "0 5 * * 0");
    let error = with(&[schedule]).unwrap_err();
    assert!(error.contains("PGNODE_DRILL_DIR"), "{error}");
    assert!(with(&[schedule, ("PGNODE_DRILL_DIR", "/srv/drill")]).is_ok());
}
