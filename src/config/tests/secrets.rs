//! No secret is ever shown.

use super::*;

const PASSWORDS: [&str; 7] = [
    "POSTGRES_PASSWORD",
    "REPMGR_PASSWORD",
    "REPMGR_STREAMING_PASSWORD",
    "BARMAN_PASSWORD",
    "BARMAN_STREAMING_PASSWORD",
    "S3_SECRET_ACCESS_KEY",
    "S3_SESSION_TOKEN",
];

#[test]
fn the_table_knows_all_secrets() {
    let secret: Vec<_> = TABLE
        .iter()
        .filter(|v| v.secret())
        .map(|v| v.name)
        .collect();
    assert_eq!(secret, PASSWORDS);
}

#[test]
fn no_output_shows_a_secret() {
    let mut vars = Vec::new();
    for (at, name) in PASSWORDS.iter().enumerate() {
        vars.push(((*name).to_owned(), format!("hunter2-{at}")));
    }
    let (config, sources) = Config::from_vars(vars.clone(), &machine()).unwrap();
    let shown = format!(
        "{config:?} {config:#?} {sources:?} {} {}",
        show::text(&config, &sources),
        show::json(&config, &sources)
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    // The scripts' environment has it, and does not say so.
    assert!(
        config
            .environment
            .scripts
            .iter()
            .any(|(_, v)| v == "hunter2-0")
    );

    // Everything that can be wrong around a secret.
    for name in PASSWORDS {
        for wrong in [
            vec![(name.to_owned(), "hunter2\n".to_owned())],
            vec![
                (name.to_owned(), "hunter2".to_owned()),
                (format!("{name}_FILE"), "/hunter2".to_owned()),
            ],
            vec![(format!("{name}_FILE"), "hunter2".to_owned())],
            vec![
                (format!("{name}S"), "hunter2".to_owned()),
                (format!("REPMGR_{name}"), "hunter2".to_owned()),
            ],
            vec![(
                "REPMGR_SLAVES".to_owned(),
                "postgres://x:hunter2@h".to_owned(),
            )],
            vec![(
                "REPMGR_PRIMARY_HOST".to_owned(),
                "postgres://x:hunter2@h".to_owned(),
            )],
        ] {
            let ctx = Surroundings {
                arguments: [
                    "hunter2",
                    "--hunt=er2",
                    "-c",
                    "primary_conninfo=password=hunter2",
                ]
                .map(Into::into)
                .to_vec(),
                ..machine()
            };
            let mut all = vars.clone();
            all.retain(|(k, _)| k != name);
            all.extend(wrong.clone());
            let faults = Config::from_vars(all, &ctx).unwrap_err();
            // The path of a file is not a secret; the fault that it is set twice does not need it.
            let shown = format!("{faults} {faults:?} {}", faults.fault());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let ctx = Surroundings {
        arguments: [
            "-c",
            "ssl_passphrase_command=echo hunter2",
            "-c",
            "my.token=hunter2",
        ]
        .map(Into::into)
        .to_vec(),
        ..machine()
    };
    let (config, sources) = Config::from_vars(vars, &ctx).unwrap();
    let shown = format!(
        "{} {}",
        show::text(&config, &sources),
        show::json(&config, &sources)
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}
