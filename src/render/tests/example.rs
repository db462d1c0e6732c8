//! A node's settings and what was found on its machine.

use super::*;

pub(super) fn config(name: &str, mode: BarmanMode) -> Config {
    let secret = |s: &str| Secret::new(s.to_owned());
    Config {
        kind: NodeKind::Postgres,
        start_as: StartAs::Master,
        identity: Identity {
            name: NodeName(name.into()),
            id: NodeName(name.into()).number().unwrap_or(NodeId(7)),
            network_name: name.into(),
        },
        paths: Paths {
            data_dir: "/var/lib/postgresql".into(),
            pgdata: "/var/lib/postgresql/data".into(),
            repmgr_config_dir: "/etc/repmgr.d/".into(),
            barman_config_dir: "/etc/barman.d/".into(),
            barman_backup_dir: "/home/barman/data".into(),
            run_dir: "/run/pgnode".into(),
            socket_dir: "/run/postgresql".into(),
            user_dir: "/etc/pgnode".into(),
            init_scripts: "/docker-entrypoint-initdb.d".into(),
        },
        postgres: Postgres {
            port: 5432,
            technical_port: 5434,
            superuser: "postgres".into(),
            password: secret("super secret"),
            database: "postgres".into(),
            initdb_args: Vec::new(),
            settings: vec![("max_connections".into(), "200".into())],
            max_slot_wal: None,
            keep_diverged: false,
        },
        peers: Peers {
            slaves: Vec::new(),
            primary: None,
            partners: Vec::new(),
        },
        repmgr: Repmgr {
            password: secret(SECRETS[0]),
            streaming_password: secret(SECRETS[1]),
        },
        synchronous: Synchronous::default(),
        timing: crate::domain::Timing::of(crate::domain::Profile::Default),
        barman: Barman {
            mode,
            password: secret(SECRETS[2]),
            streaming_password: secret(SECRETS[3]),
            servers: Vec::new(),
            server_name: name.into(),
            cloud_name: name.into(),
            method: Method::Streaming,
            host: None,
            habits: Habits {
                retention_policy: "RECOVERY WINDOW OF 5 DAYS".into(),
                minimum_redundancy: 1,
                compression: Compression::Gzip,
                bandwidth: None,
                parallel_jobs: 1,
                immediate_checkpoint: true,
                backup_schedule: "15 3 * * *".into(),
                incremental_schedule: None,
                max_age: Duration::from_secs(172_800),
            },
        },
        s3: None,
        shipping: Shipping {
            wal_schedule: "*/15 * * * *".into(),
            base_schedule: "30 5 * * *".into(),
            full_schedule: "0 6 1 * *".into(),
            queue_dir: "/home/barman/data/.s3-queue".into(),
            queue_keep: Duration::from_secs(2_592_000),
        },
        restore: None,
        drill: Drill {
            schedule: None,
            dir: "/home/barman/data/.drill".into(),
        },
        ssh: Ssh {
            port: 2222,
            keys: None,
        },
        http: ([0, 0, 0, 0], 8008).into(),
        log_format: LogFormat::Text,
        log_filter: "info".into(),
        limits: Limits {
            primary_wait: Duration::from_secs(600),
            stop_grace: Duration::from_secs(10),
        },
        test_hold: None,
        environment: Environment::default(),
        default_passwords: Vec::new(),
    }
}

pub(in crate::render) fn facts(role: Role) -> RenderFacts {
    RenderFacts {
        role,
        foreign_archive: false,
        memory_limit: Some(2 << 30),
        volume_bytes: Some(100 << 30),
        pg_major: 17,
        barman_account: "barman".into(),
        postgres_account: "postgres".into(),
        our_account: "root".into(),
        root: true,
        user_conf_dir_exists: true,
        user_hba: vec![(
            "10-app.conf".into(),
            "host app app 10.0.0.0/8 scram-sha-256".into(),
        )],
        user_preload: Some("pg_stat_statements".into()),
        pg_bin: "/usr/lib/postgresql/17/bin".into(),
        pgnode: "/usr/local/bin/pgnode".into(),
    }
}
