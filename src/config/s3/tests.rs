use super::*;
use crate::config::tests::{config, faults};
use crate::config::{Config, RestoreFrom, Sources, Surroundings, table};

const KEYS: [(&str, &str); 3] = [
    ("S3_BUCKET_URI", "s3://backups/prod/"),
    ("S3_ACCESS_KEY_ID", "GK1"),
    ("S3_SECRET_ACCESS_KEY", "s3cr3t"),
];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    KEYS.iter().chain(more).copied().collect()
}

#[test]
fn a_bucket_is_optional_and_its_defaults_are_plain() {
    assert_eq!(config(&[]).s3, None);
    let s3 = config(&with(&[])).s3.unwrap();
    assert_eq!(
        (s3.bucket.as_str(), s3.prefix.as_str()),
        ("backups", "prod")
    );
    assert_eq!(s3.uri(), "s3://backups/prod");
    assert_eq!(s3.endpoint, None);
    assert_eq!(s3.max_parallel, 4);
    assert_eq!(s3.part_size, 16 << 20);
    assert_eq!(s3.wal_codec.to_string(), "zstd");
    assert_eq!(s3.base_codec.to_string(), "gzip");
}

#[test]
fn a_trailing_slash_is_no_part_of_the_path() {
    // barman-cloud keeps it, and its annotations end in `path//server`.
    for uri in ["s3://b-1", "s3://b-1/"] {
        assert_eq!(bucket(uri), Ok(("b-1".into(), String::new())));
    }
    assert_eq!(bucket("s3://b-1/x/y/"), Ok(("b-1".into(), "x/y".into())));
    for uri in [
        "b",
        "s3://",
        "s3://AB/x",
        "s3://b-1/x//y",
        "s3://b-1/../x",
        "s3://b-1/ü",
        "https://b-1",
    ] {
        assert!(bucket(uri).is_err(), "{uri}");
    }
}

#[test]
fn amazons_names_are_taken_where_ours_are_not_given() {
    let vars = [
        ("S3_BUCKET_URI", "s3://backups"),
        ("AWS_ACCESS_KEY_ID", "AK"),
        ("AWS_SECRET_ACCESS_KEY_FILE", "/secret"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", "https://other"),
        ("S3_ENDPOINT_URL", "https://ours/"),
    ];
    let vars = vars.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let surroundings = Surroundings {
        read_file: &|path| match path.to_str() {
            Some("/secret") => Ok(b"s3cr3t\n".to_vec()),
            _ => Err("does not exist".into()),
        },
        ..Surroundings::bare("pg1")
    };
    let (config, sources): (_, Sources) = Config::from_vars(vars, &surroundings).unwrap();
    let s3 = config.s3.unwrap();
    assert_eq!(s3.endpoint.as_deref(), Some("https://ours"));
    assert_eq!(s3.region, "eu-central-1");
    let Credentials::Keys { id, secret, .. } = s3.credentials else {
        panic!("no keys");
    };
    assert_eq!((id.as_str(), secret.reveal()), ("AK", "s3cr3t"));
    let of = |var| sources.of(var).to_string();
    assert_eq!(of(&table::S3_REGION), "environment, as AWS_DEFAULT_REGION");
    assert_eq!(of(&table::S3_SECRET_ACCESS_KEY), "file /secret");
    assert_eq!(of(&table::S3_ENDPOINT_URL), "environment");
}

/// The settings with a config file of Amazon's tools that holds this.
fn beside_file(text: &str, more: &[(&str, &str)]) -> Result<(S3, Sources), crate::config::Faults> {
    let fixed = [
        ("S3_BUCKET_URI", "s3://backups"),
        ("AWS_CONFIG_FILE", "/aws/config"),
    ];
    let vars = fixed
        .iter()
        .chain(more)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let read = |path: &std::path::Path| match path.to_str() {
        Some("/aws/config") if !text.is_empty() => Ok(text.as_bytes().to_vec()),
        _ => Err("does not exist".to_owned()),
    };
    let surroundings = Surroundings {
        read_file: &read,
        ..Surroundings::bare("pg1")
    };
    let (config, sources) = Config::from_vars(vars, &surroundings)?;
    Ok((config.s3.unwrap(), sources))
}

#[test]
fn amazons_config_file_says_what_is_not_set() {
    let text = "[default]\nregion = eu-1\nendpoint_url = https://theirs\nca_bundle=/ca.pem\ns3 =\n  addressing_style = virtual\n\
                [profile backup]\naws_access_key_id = AK\naws_secret_access_key = s\ns3 =\n  addressing_style = auto\n";
    let keys = [
        ("S3_ACCESS_KEY_ID", "GK1"),
        ("S3_SECRET_ACCESS_KEY", "s3cr3t"),
    ];
    let (s3, sources) = beside_file(text, &keys).unwrap();
    assert_eq!(s3.region, "eu-1");
    assert_eq!(s3.endpoint.as_deref(), Some("https://theirs"));
    assert_eq!(s3.ca_bundle, Some("/ca.pem".into()));
    assert_eq!(s3.addressing, Addressing::Virtual);
    assert!(matches!(s3.credentials, Credentials::Keys { .. }));
    assert_eq!(
        sources.of(&table::S3_REGION).to_string(),
        "file /aws/config"
    );

    // What is set counts, by whatever name; a profile's keys are read where they are.
    let vars = [("AWS_REGION", "other"), ("AWS_PROFILE", "backup")];
    let (s3, _) = beside_file(text, &vars).unwrap();
    assert_eq!((s3.region.as_str(), s3.endpoint), ("other", None));
    assert_eq!(s3.addressing, Addressing::Path);
    let Credentials::File { path, profile } = s3.credentials else {
        panic!("no file");
    };
    assert_eq!(
        (path.to_str(), profile.as_str()),
        (Some("/aws/config"), "backup")
    );

    let fault = |text, vars: &[_]| beside_file(text, vars).unwrap_err().to_string();
    let said = fault(text, &[("S3_PROFILE", "none")]);
    assert!(
        said.contains("S3_CONFIG_FILE: the file /aws/config has no profile [none], only default, backup (S3_PROFILE)"),
        "{said}"
    );
    let said = fault("", &keys);
    assert!(
        said.contains("S3_CONFIG_FILE: the file /aws/config does not exist"),
        "{said}"
    );
    let said = fault("[default]\nendpoint_url = ftp://x\n", &keys);
    assert!(said.contains("S3_ENDPOINT_URL=\"ftp://x\""), "{said}");
}

#[test]
fn wrong_settings_are_named() {
    for (more, want) in [
        (
            &[("S3_COMPRESSION", "zip")] as &[_],
            "S3_COMPRESSION=\"zip\": is none of none, gzip, bzip2, xz, snappy, zstd, lz4; for example S3_COMPRESSION=lz4",
        ),
        (
            &[("S3_COMPRESSION", "lz4:9")],
            "S3_COMPRESSION=\"lz4:9\": gives a level, and lz4 has none; for example S3_COMPRESSION=lz4",
        ),
        (
            &[("S3_BASE_COMPRESSION", "zstd")],
            "S3_BASE_COMPRESSION=\"zstd\": is none of none, gzip, bzip2, snappy; for example S3_BASE_COMPRESSION=snappy",
        ),
        (
            &[("S3_PART_SIZE", "1MB")],
            "S3_PART_SIZE=\"1MB\": is not a size from 5MB to 5GB; for example S3_PART_SIZE=64MB",
        ),
        (
            &[("S3_ENDPOINT_URL", "https://me:secret@host")],
            "S3_ENDPOINT_URL: carries a user or a password; those have variables of their own; for example S3_ENDPOINT_URL=https://s3.example.com:9000",
        ),
        (
            &[("S3_SSE_KMS_KEY_ID", "alias/x")],
            "S3_SSE_KMS_KEY_ID=\"alias/x\": is set, and S3_SSE is not aws:kms; for example S3_SSE_KMS_KEY_ID=alias/backups",
        ),
        (
            &[("S3_TAGS", "a=1,a=2")],
            "S3_TAGS=\"a=1,a=2\": names the tag a twice; for example S3_TAGS=team=dba,tier=cold",
        ),
        (
            &[("S3_MAX_PARALEL", "2")],
            "S3_MAX_PARALEL: there is no such variable; did you mean S3_MAX_PARALLEL?",
        ),
    ] {
        assert_eq!(
            faults(&with(more)),
            format!("1 setting is wrong:\n  {want}")
        );
    }
}

#[test]
fn keys_under_other_names_are_pointed_at() {
    let text = faults(&[
        ("S3_BUCKET_URI", "s3://backups"),
        ("S3_ENDPOINT_URL", "http://s3:9000"),
        ("ACCESS_KEY", "AK"),
        ("MINIO_ROOT_PASSWORD", "s3cr3t"),
    ]);

    assert_eq!(
        text,
        "2 settings are wrong:\n  \
         S3_ACCESS_KEY_ID: is not set; ACCESS_KEY is, which is not read; give its value the name S3_ACCESS_KEY_ID\n  \
         S3_SECRET_ACCESS_KEY: is not set; MINIO_ROOT_PASSWORD is, which is not read; give its value the name S3_SECRET_ACCESS_KEY"
    );
    // The machine's role is Amazon's alone. The bucket is named, whatever else is wrong.
    let text = faults(&[
        ("BARMAN_MODE", "cloud"),
        ("S3_BUCKET_URI", "s3://backups"),
        ("S3_ENDPOINT_URL", "http://s3:9000"),
    ]);
    assert!(!text.contains("S3_BUCKET_URI: is not set"), "{text}");

    assert!(
        text.contains("S3_ACCESS_KEY_ID: is not set, nor S3_CREDENTIALS_FILE"),
        "{text}"
    );
    let amazon = config(&[("S3_BUCKET_URI", "s3://backups")]).s3.unwrap();
    assert_eq!(amazon.credentials, Credentials::Machine);
}

#[test]
fn what_needs_a_bucket_says_so() {
    for vars in [
        &[("BARMAN_MODE", "cloud")] as &[_],
        &[("PGNODE_RESTORE", "latest"), ("PGNODE_RESTORE_FROM", "s3")],
    ] {
        let text = faults(vars);
        assert!(text.contains("S3_BUCKET_URI: is not set, and"), "{text}");
    }
    let text = faults(&[("S3_ENDPOINT_URL", "http://s3:9000")]);
    assert!(
        text.contains("S3_ENDPOINT_URL: is set, and S3_BUCKET_URI is not"),
        "{text}"
    );
    // Ambient names of another program are no reason.
    assert_eq!(config(&[("AWS_ENDPOINT_URL", "http://s3:9000")]).s3, None);
}

#[test]
fn a_cluster_of_several_nodes_has_one_name_in_the_bucket() {
    let slave = [
        ("BARMAN_MODE", "cloud"),
        ("REPMGR_MASTER", "false"),
        ("REPMGR_PRIMARY_HOST", "pg1"),
    ];
    let text = faults(&with(&slave));
    assert!(
        text.contains("BARMAN_CLOUD_SERVER_NAME: is not set, and this node is one of several"),
        "{text}"
    );
    let master = [("BARMAN_MODE", "cloud"), ("REPMGR_SLAVES", "pg2")];
    assert!(faults(&with(&master)).contains("BARMAN_CLOUD_SERVER_NAME: is not set"));
    for name in ["BARMAN_CLOUD_SERVER_NAME", "BARMAN_SERVER_NAME"] {
        let named = [slave.as_slice(), &[(name, "main")]].concat();
        assert_eq!(config(&with(&named)).barman.cloud_name, "main");
    }
    assert_eq!(
        config(&with(&[("BARMAN_MODE", "cloud")])).barman.cloud_name,
        "node1"
    );
}

#[test]
fn the_place_to_restore_from_is_read() {
    let from = |text: &'static str| {
        let vars = with(&[("PGNODE_RESTORE", "latest"), ("PGNODE_RESTORE_FROM", text)]);
        config(&vars).restore.unwrap().from
    };
    for text in ["s3", "s3/main", "s3://other/main", "s3://other/a/b/main"] {
        assert_eq!(from(text).to_string(), text);
    }
    assert_eq!(
        from("s3://other/a/b/main"),
        RestoreFrom::Bucket {
            place: Some(("other".into(), "a/b".into())),
            server: Some("main".into())
        }
    );
}

#[test]
fn what_is_kept_is_read_back_and_shows_no_secret_otherwise() {
    let config = config(&with(&[("S3_SESSION_TOKEN", "t0k3n"), ("S3_TAGS", "a=1")]));
    let kept = Kept::of(&config).unwrap();
    let text = kept.to_json().unwrap();
    let read = Kept::from_json(&text, std::path::Path::new("/x")).unwrap();
    assert_eq!(read, kept);
    let shown = format!("{kept:?}");
    assert!(
        !shown.contains("s3cr3t") && !shown.contains("t0k3n"),
        "{shown}"
    );
    assert!(Kept::from_json(b"{}", std::path::Path::new("/x")).is_err());
}

#[test]
fn what_is_kept_stands_in_for_the_environment() {
    let node = config(&with(&[
        ("BARMAN_MODE", "cloud"),
        ("BARMAN_CLOUD_SERVER_NAME", "main"),
        ("REPMGR_NODE_NAME", "db7"),
        ("POSTGRES_USER", "boss"),
        ("PGPORT", "6000"),
        ("PGNODE_DATA_DIR", "/srv/pg"),
        ("PGNODE_RUN_DIR", "/run/other"),
        ("PGNODE_SOCKET_DIR", "/run/sockets"),
        ("BARMAN_IMMEDIATE_CHECKPOINT", "false"),
        ("BARMAN_RETENTION", "redundancy 3"),
        ("BARMAN_MINIMUM_REDUNDANCY", "2"),
        ("PGNODE_DRILL_SCHEDULE", "0 5 * * 0"),
    ]));
    let kept = Kept::of(&node).unwrap();
    let bare = config(&[("BARMAN_MODE", "off")]);
    let filled = kept.clone().over(&bare);
    assert_eq!(Kept::of(&filled), Some(kept));
    assert_eq!(filled.barman.mode, node.barman.mode);
}
