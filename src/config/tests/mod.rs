//! The configuration as a whole; each rule's own table is beside the rule.

mod defaults;
mod fuzz;
mod identity;
mod secrets;

use super::table::{self, Kind, Preset, TABLE};
use super::*;
use crate::domain::{Fault, NodeId};
use std::path::Path;
use std::time::Duration;

/// A machine with one file, `/secret`.
pub(super) fn machine() -> Surroundings<'static> {
    Surroundings {
        read_file: &|path: &Path| match path.to_str() {
            Some("/secret") => Ok(b"from the file\n".to_vec()),
            Some("/dos") => Ok(b"6432\r\n".to_vec()),
            Some("/two") => Ok(b"two\n\n".to_vec()),
            Some("/empty") => Ok(b"\n".to_vec()),
            Some("/latin1") => Ok(b"caf\xe9".to_vec()),
            _ => Err("cannot be read: No such file or directory (os error 2)".to_owned()),
        },
        ..Surroundings::bare("box")
    }
}

pub(super) fn owned(vars: &[(&str, &str)]) -> Vec<(String, String)> {
    vars.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

pub(super) fn load(vars: &[(&str, &str)]) -> Result<(Config, Sources), Faults> {
    Config::from_vars(owned(vars), &machine())
}

pub(super) fn config(vars: &[(&str, &str)]) -> Config {
    match load(vars) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{faults}"),
    }
}

pub(super) fn faults(vars: &[(&str, &str)]) -> String {
    match load(vars) {
        Ok(_) => "none".to_owned(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn every_default_and_example_is_valid_and_every_variable_is_used() {
    for var in TABLE {
        if let Preset::Fixed(text) = var.default {
            assert_eq!(faults(&[(var.name, text)]), "none", "{}", var.name);
        }
        // What is in a file has a test of its own.
        if var.secret() || var.name == "S3_CONFIG_FILE" {
            continue;
        }
        // What else it needs to be valid, or to be seen.
        let beside: &[(&str, &str)] = match var.name {
            "REPMGR_MASTER" | "REPMGR_PRIMARY_PORT" => &[("REPMGR_PRIMARY_HOST", "pg9")],
            "BARMAN_SERVERS" => &[("PGNODE_ROLE", "barman")],
            "BARMAN_METHOD" => &[
                ("BARMAN_MODE", "remote"),
                ("BARMAN_HOST", "barman1"),
                ("PGNODE_SSH_KEYS", "/keys"),
            ],
            name if name.starts_with("PGNODE_RESTORE_") => &[("PGNODE_RESTORE", "latest")],
            "S3_CREDENTIALS_FILE" => &[("S3_BUCKET_URI", "s3://x-y")],
            "S3_PROFILE" => &[
                ("S3_BUCKET_URI", "s3://x-y"),
                ("S3_CREDENTIALS_FILE", "/aws"),
            ],
            name if name.starts_with("S3_") => &[
                ("S3_BUCKET_URI", "s3://x-y"),
                ("S3_ACCESS_KEY_ID", "x"),
                ("S3_SECRET_ACCESS_KEY", "y"),
                ("S3_SSE", "aws:kms"),
            ],
            _ => &[],
        };
        let vars = [&[(var.name, var.example)], beside].concat();
        let (with, sources) = load(&vars).unwrap();
        let (without, _) = match var.name {
            "REPMGR_MASTER" | "REPMGR_PRIMARY_PORT" => load(&[]).unwrap(),
            "BARMAN_SERVERS" => load(&[beside, &[(var.name, "x=y")]].concat()).unwrap(),
            _ => load(beside).unwrap(),
        };
        assert_eq!(sources.of(var), Source::Environment, "{}", var.name);
        if var.name != "PGNODE_ROLE" {
            // It is seen where it belongs, and at no other variable than those that follow it.
            let changed: Vec<_> = TABLE
                .iter()
                .filter(|v| show::shown(&with, v.name) != show::shown(&without, v.name))
                .map(|v| v.name)
                .collect();
            let follows: &[&str] = match var.name {
                "REPMGR_MASTER" | "REPMGR_PRIMARY_PORT" | "REPMGR_PRIMARY_HOST" => &[
                    "REPMGR_PRIMARY_HOST",
                    "REPMGR_PRIMARY_PORT",
                    "REPMGR_PARTNER_NODES",
                ],
                "REPMGR_NODE_NAME" => &[
                    "REPMGR_NODE_ID",
                    "BARMAN_SERVER_NAME",
                    "BARMAN_CLOUD_SERVER_NAME",
                ],
                "BARMAN_SERVER_NAME" => &["BARMAN_CLOUD_SERVER_NAME"],
                "BARMAN_BACKUP_DIR" => &["PGNODE_DRILL_DIR", "S3_QUEUE_DIR"],
                "S3_CREDENTIALS_FILE" => &["S3_PROFILE"],
                "REPMGR_SLAVES" => &["REPMGR_PARTNER_NODES"],
                "POSTGRES_USER" => &["POSTGRES_DB"],
                "PGNODE_DATA_DIR" => &["PGDATA"],
                "PGNODE_FAILOVER_PROFILE" => &[
                    "PGNODE_FAILOVER_BEAT",
                    "PGNODE_FAILOVER_LEASE",
                    "PGNODE_FAILOVER_CLOSE",
                    "PGNODE_FAILOVER_PROMISE",
                ],
                _ => &[],
            };
            assert!(changed.contains(&var.name), "{} is not used", var.name);
            for name in changed {
                let restores = var.name == "PGNODE_RESTORE" && name.starts_with(var.name);
                assert!(
                    name == var.name || restores || follows.contains(&name),
                    "{} → {name}",
                    var.name
                );
            }
        }
        assert!(
            table::named(var.name).is_some() && !show::shown(&with, var.name).is_empty(),
            "{}",
            var.name
        );
    }
}

#[test]
fn every_password_goes_where_it_belongs() {
    let config = config(&[
        ("POSTGRES_PASSWORD", "a"),
        ("REPMGR_PASSWORD", "b"),
        ("REPMGR_STREAMING_PASSWORD", "c"),
        ("BARMAN_PASSWORD", "d"),
        ("BARMAN_STREAMING_PASSWORD_FILE", "/secret"),
    ]);
    assert_eq!(config.postgres.password.reveal(), "a");
    assert_eq!(config.repmgr.password.reveal(), "b");
    assert_eq!(config.repmgr.streaming_password.reveal(), "c");
    assert_eq!(config.barman.password.reveal(), "d");
    assert_eq!(config.barman.streaming_password.reveal(), "from the file");
    assert_eq!(config.default_passwords, Vec::<&str>::new());
    // Written down, it is just as well known.
    let config = self::config(&[("REPMGR_PASSWORD", "iamrepmgr"), ("POSTGRES_PASSWORD", "x")]);
    assert!(config.default_passwords.contains(&"REPMGR_PASSWORD"));
    assert!(!config.default_passwords.contains(&"POSTGRES_PASSWORD"));
}

#[test]
fn every_kind_refuses_what_it_is_not() {
    for var in TABLE {
        let bad: &[&str] = match var.kind {
            Kind::Text => &["\u{7}"],
            Kind::Secret => &["a\nb"],
            Kind::Path => &["x", "/", "/..", "/a b"],
            Kind::Host => &["a b", "a/b", "://"],
            Kind::List => &["a:0", "a/b", "u@h"],
            Kind::Bool => &["2", "maybe"],
            Kind::Port => &["0", "65536", "x", "-1"],
            Kind::Number => &["0", "x", "2147483648"],
            Kind::Socket => &["8008", "host:1", "0.0.0.0:0"],
            Kind::Duration => &["x", "-1", "1y"],
            Kind::Bytes => &["x", "-1MB", "1XB"],
            Kind::Cron => &["x", "* * * *", "61 * * * *"],
            Kind::Choice(_) => &["x", "LOCAL"],
        };
        for text in bad {
            let faults = load(&[(var.name, text)]).unwrap_err();
            let wrong = &faults.list()[0];
            assert_eq!(wrong.name, var.name, "{faults}");
            assert_eq!(
                wrong.value.is_none(),
                var.secret() || text.contains('@'),
                "{faults}"
            );
            assert!(!wrong.remedy.is_empty() || var.secret(), "{faults}");
        }
    }
}

#[test]
fn a_file_gives_the_value_without_its_last_line_break() {
    let (config, sources) =
        load(&[("POSTGRES_USER_FILE", "/secret"), ("PGPORT_FILE", "/dos")]).unwrap();
    assert_eq!(config.postgres.superuser, "from the file");
    assert_eq!(config.postgres.port, 6432);
    assert_eq!(sources.of(&table::PGPORT), Source::File("/dos".into()));
    // An empty file is as good as none, but not for a secret.
    assert_eq!(
        self::config(&[("PGPORT_FILE", "/empty")]).postgres.port,
        5432
    );
    insta::assert_snapshot!(faults(&[
        ("PGPORT", "6432"),
        ("PGPORT_FILE", "/dos"),
        ("POSTGRES_USER_FILE", "/none"),
        ("POSTGRES_PASSWORD_FILE", "/empty"),
        ("REPMGR_PASSWORD_FILE", "/two"),
        ("REPMGR_STREAMING_PASSWORD_FILE", "hunter2"),
        ("BARMAN_PASSWORD", "x"),
        ("BARMAN_PASSWORD_FILE", "/secret"),
        ("BARMAN_MODE_FILE", "/latin1"),
        ("BARMAN_RETENTION_FILE", "relative"),
        ("PGNODE_TEST_HOLD_FILE", "/secret"),
    ]), @r"
    9 settings are wrong:
      PGPORT: is set twice, by value and by file; keep one of PGPORT and PGPORT_FILE
      POSTGRES_USER: the file /none cannot be read: No such file or directory (os error 2); POSTGRES_USER_FILE names a readable text file
      POSTGRES_PASSWORD: the file /empty is empty; POSTGRES_PASSWORD_FILE names a readable text file
      REPMGR_PASSWORD: holds a line break or a NUL, which no password file can carry
      REPMGR_STREAMING_PASSWORD: the file given is not named by an absolute path; REPMGR_STREAMING_PASSWORD_FILE names a readable text file
      BARMAN_MODE: the file /latin1 is not UTF-8 text; BARMAN_MODE_FILE names a readable text file
      BARMAN_PASSWORD: is set twice, by value and by file; keep one of BARMAN_PASSWORD and BARMAN_PASSWORD_FILE
      BARMAN_RETENTION: the file relative is not named by an absolute path; BARMAN_RETENTION_FILE names a readable text file
      PGNODE_TEST_HOLD_FILE: there is no such variable; remove it (`pgnode config` lists every variable)
    ");
}

#[test]
fn empty_means_unset() {
    let mut vars = Vec::new();
    for var in TABLE {
        vars.push((var.name.to_owned(), String::new()));
        vars.push((var.file_name(), String::new()));
    }
    let (config, sources) = Config::from_vars(vars, &machine()).unwrap();
    let (bare, bare_sources) = load(&[]).unwrap();
    assert_eq!(
        show::text(&config, &sources),
        show::text(&bare, &bare_sources)
    );
    // A value and an empty file form are not set twice.
    assert_eq!(faults(&[("PGPORT", "6432"), ("PGPORT_FILE", "")]), "none");
    // The first of two counts, as in getenv.
    assert_eq!(
        self::config(&[("PGPORT", "6432"), ("PGPORT", "x")])
            .postgres
            .port,
        6432
    );
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_table() {
    let ctx = Surroundings {
        not_text: vec![
            "RUST_LOG".into(),
            "HOME".into(),
            "REPMGR_X".into(),
            "PGDATA_FILE".into(),
        ],
        arguments: vec!["-c".into(), "port=1".into()],
        ..machine()
    };
    let vars = owned(&[
        ("PGNODE_ROLE", "barman"),
        ("REPMGR_MASTER", "perhaps"),
        ("REPMGR_NODE_NAME", "pg"),
        ("REPMGR_NODE_NETWORK_NAME", "not a host"),
        ("PGPORT", "70000"),
        ("POSTGRES_USER", "barman"),
        ("POSTGRES_PASSWORD", "hunter2\n"),
        ("POSTGRES_INITDB_ARGS", "-D /x --auth=trust --frobnicate"),
        ("PGNODE_MAX_SLOT_WAL", "1MB"),
        ("REPMGR_PASWORD", "hunter2"),
        ("REPMGR_PRIMARY_HOST", "pg1:1"),
        ("REPMGR_PRIMARY_PORT", "2"),
        ("REPMGR_SLAVES", "postgres://me:hunter2@pg2"),
        ("BARMAN_RETENTION", "for\never"),
        ("BARMAN_BACKUP_SCHEDULE", "@daily"),
        ("PGNODE_HTTP_ADDR", "0.0.0.0:5434"),
        ("PGNODE_STOP_TIMEOUT", "1s"),
        ("PGNODE_DATA_DIR", "data"),
        ("S3_BUCKET_URI", "backups"),
    ]);
    let faults = Config::from_vars(vars, &ctx).unwrap_err();
    assert!(matches!(faults.fault(), Fault::Config(_)));
    insta::assert_snapshot!(faults, @r#"
    23 settings are wrong:
      REPMGR_MASTER="perhaps": is neither true nor false; for example REPMGR_MASTER=false
      REPMGR_NODE_NETWORK_NAME="not a host": is not a host name or an IP address; for example REPMGR_NODE_NETWORK_NAME=pg2.example.com
      PGPORT="70000": is not a port: a number from 1 to 65535; for example PGPORT=6432
      POSTGRES_USER="barman": is a role that pgnode makes, without superuser rights; for example POSTGRES_USER=admin
      POSTGRES_PASSWORD: holds a line break or a NUL, which no password file can carry
      POSTGRES_INITDB_ARGS="-D /x --auth=trust --frobnicate": holds -D: the directory is PGDATA; for example POSTGRES_INITDB_ARGS=--locale=C.UTF-8 --wal-segsize=64
      POSTGRES_INITDB_ARGS="-D /x --auth=trust --frobnicate": holds --auth: pg_hba.conf is written by pgnode, with scram-sha-256; add rules in PGNODE_CONFIG_DIR/pg_hba.d; for example POSTGRES_INITDB_ARGS=--locale=C.UTF-8 --wal-segsize=64
      POSTGRES_INITDB_ARGS="-D /x --auth=trust --frobnicate": holds --frobnicate, which is not an option of initdb (written in full, one by one); for example POSTGRES_INITDB_ARGS=--locale=C.UTF-8 --wal-segsize=64
      PGNODE_MAX_SLOT_WAL="1MB": is out of range: 64MB to 2047TB; for example PGNODE_MAX_SLOT_WAL=8GB
      REPMGR_PRIMARY_HOST="pg1:1": names another port than REPMGR_PRIMARY_PORT, which is 2; for example REPMGR_PRIMARY_HOST=pg1
      REPMGR_SLAVES: holds an address that is not host[:port]; for example REPMGR_SLAVES=pg2,pg3:6432
      BARMAN_SERVERS: is not set, and PGNODE_ROLE says that this is a barman host; name its clusters: BARMAN_SERVERS=main=pg1,pg2
      BARMAN_RETENTION="for\never": is not a retention: `<n> days`, `weeks` or `months`, or `redundancy <n>`, n from 1 to 9999; for example BARMAN_RETENTION=4 weeks
      BARMAN_BACKUP_SCHEDULE="@daily": is not a schedule of five cron fields; for example BARMAN_BACKUP_SCHEDULE=30 1 * * 0
      S3_BUCKET_URI="backups": is not s3://bucket/path; for example S3_BUCKET_URI=s3://backups/prod
      PGNODE_HTTP_ADDR="0.0.0.0:5434": has the port of PGNODE_TECHNICAL_PORT; for example PGNODE_HTTP_ADDR=127.0.0.1:9008
      RUST_LOG: is not UTF-8 text; for example RUST_LOG=info,pgnode=debug
      PGNODE_STOP_TIMEOUT="1s": is too short for a clean stop of PostgreSQL: at least 3s; for example PGNODE_STOP_TIMEOUT=60s
      PGNODE_DATA_DIR="data": is not an absolute path; for example PGNODE_DATA_DIR=/srv/pg
      PGDATA: is not UTF-8 text; for example PGDATA=/srv/pg/17
      REPMGR_PASWORD: there is no such variable; did you mean REPMGR_PASSWORD?
      REPMGR_X: there is no such variable; remove it (`pgnode config` lists every variable)
      argument -c port: cannot be set here: the port is PGPORT; remove it
    "#);
}

#[test]
fn ports_stand_apart() {
    assert_eq!(
        faults(&[("PGPORT", "5434"), ("PGNODE_TECHNICAL_PORT", "5432")]),
        "none"
    );
    for (vars, want) in [
        (&[("PGPORT", "5434")][..], "PGNODE_TECHNICAL_PORT"),
        (&[("PGPORT", "8008")], "PGNODE_HTTP_ADDR"),
        (&[("PGNODE_TECHNICAL_PORT", "8008")], "PGNODE_HTTP_ADDR"),
    ] {
        let faults = load(vars).unwrap_err();
        assert_eq!(
            (faults.list().len(), faults.list()[0].name.as_str()),
            (1, want),
            "{faults}"
        );
    }
}

#[test]
fn the_official_images_conventions_work() {
    let ctx = Surroundings {
        arguments: [
            "postgres",
            "-c",
            "shared_buffers=256MB",
            "--max-connections=200",
        ]
        .map(Into::into)
        .to_vec(),
        ..machine()
    };
    let vars = owned(&[
        ("POSTGRES_USER", "admin"),
        ("POSTGRES_PASSWORD_FILE", "/secret"),
        ("POSTGRES_INITDB_ARGS", "--locale=C.UTF-8 --data-checksums"),
        ("PGDATA", "/var/lib/postgresql/data/pgdata"),
        ("POSTGRES_HOST_AUTH_METHOD", "md5"),
    ]);
    let (config, sources) = Config::from_vars(vars, &ctx).unwrap();
    assert_eq!(config.postgres.database, "admin");
    assert_eq!(
        config.postgres.initdb_args,
        ["--locale=C.UTF-8", "--data-checksums"]
    );
    let text = show::text(&config, &sources);
    assert!(
        text.contains("-c shared_buffers") && text.contains("argument"),
        "{text}"
    );
    assert_eq!(
        show::json(&config, &sources)["arguments"][1]["value"],
        "200"
    );
}

#[test]
fn json_says_the_same() {
    let (config, sources) =
        load(&[("PGPORT", "6432"), ("REPMGR_PASSWORD_FILE", "/secret")]).unwrap();
    let json = show::json(&config, &sources);
    let find = |name: &str| {
        let all = json["settings"].as_array().unwrap();
        all.iter()
            .find(|row| row["name"] == name)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        find("PGPORT"),
        r#"{"group":"PostgreSQL","name":"PGPORT","secret":false,"source":"environment","value":"6432"}"#
    );
    assert_eq!(
        find("REPMGR_PASSWORD"),
        r#"{"group":"Cluster","name":"REPMGR_PASSWORD","secret":true,"source":"file /secret","value":"********"}"#
    );
    assert_eq!(
        find("REPMGR_SLAVES"),
        r#"{"group":"Cluster","name":"REPMGR_SLAVES","secret":false,"source":"default","value":null}"#
    );
    assert_eq!(json["settings"].as_array().unwrap().len(), TABLE.len() - 1);
}
