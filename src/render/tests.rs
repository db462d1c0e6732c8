pub(super) mod example;

use super::*;
use crate::config::*;
use crate::domain::{NodeId, NodeName};
use example::{config, facts};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SECRETS: [&str; 4] = ["rp '\"\\$%:@ pw", "rs:pw\\", "bp pw'%", "bs\"pw$"];

fn cases() -> Vec<(&'static str, Config, RenderFacts)> {
    let bare = |role| RenderFacts {
        memory_limit: None,
        user_conf_dir_exists: false,
        user_hba: Vec::new(),
        user_preload: None,
        ..facts(role)
    };
    let mut plain = config("pg1", BarmanMode::Off);
    plain.postgres.settings.clear();
    plain.postgres.max_slot_wal = Some(3 << 30);
    let mut hourly = config("pg1", BarmanMode::Local);
    hourly.barman.habits.incremental_schedule = Some("45 * * * *".into());
    vec![
        (
            "master",
            config("pg1", BarmanMode::Local),
            facts(Role::Primary),
        ),
        (
            "slave",
            config("pg2", BarmanMode::Local),
            facts(Role::Standby),
        ),
        ("barman-off", plain, bare(Role::Primary)),
        (
            "barman-remote",
            config("pg1", BarmanMode::Remote),
            bare(Role::Primary),
        ),
        (
            "barman-cloud",
            config("pg1", BarmanMode::Cloud),
            bare(Role::Standby),
        ),
        ("witness", witness(), facts(Role::Witness)),
        ("barman-host", host(NodeKind::Barman), bare(Role::Witness)),
        (
            "barman-witness",
            host(NodeKind::BarmanWitness),
            bare(Role::Witness),
        ),
        ("drills", drilled(), facts(Role::Primary)),
        (
            "non-root",
            hourly,
            RenderFacts {
                root: false,
                our_account: "uid12345".into(),
                postgres_account: "uid12345".into(),
                barman_account: "uid12345".into(),
                ..bare(Role::Primary)
            },
        ),
    ]
}

fn drilled() -> Config {
    let mut config = config("pg1", BarmanMode::Local);
    config.drill.schedule = Some("30 4 * * 6".into());
    config
}

fn witness() -> Config {
    let mut witness = config("pg3", BarmanMode::Off);
    witness.kind = NodeKind::Witness;
    witness.postgres.settings.clear();
    witness
}

fn host(kind: NodeKind) -> Config {
    let mut host = config("pg3", BarmanMode::Off);
    host.kind = kind;
    host.postgres.settings.clear();
    let address = |host: &str, port| Address {
        host: host.into(),
        port,
    };
    host.barman.servers = vec![
        BarmanServer {
            name: "main".into(),
            hosts: vec![address("pg1", 5432), address("fd00::2", 5433)],
        },
        BarmanServer {
            name: "other".into(),
            hosts: vec![address("db1", 5432)],
        },
    ];
    host.drill.schedule = Some("0 5 * * 0".into());
    host.barman.habits = Habits {
        retention_policy: "REDUNDANCY 2".into(),
        minimum_redundancy: 2,
        compression: Compression::None,
        bandwidth: Some(10 << 20),
        parallel_jobs: 4,
        immediate_checkpoint: false,
        backup_schedule: "0 2 * * 0".into(),
        incremental_schedule: Some("0 2 * * 1-6".into()),
        max_age: Duration::from_secs(5000),
    };
    host
}

/// Without postgres there is nothing of it; beside a witness both are there.
#[test]
fn a_barman_host_has_a_file_for_each_cluster() {
    let names = |kind| -> Vec<String> {
        let files = render(&host(kind), &facts(Role::Witness)).unwrap();
        files
            .iter()
            .map(|f| f.path.to_string_lossy().into_owned())
            .collect()
    };
    let alone = names(NodeKind::Barman);
    for file in ["/etc/barman.d/main.conf", "/etc/barman.d/other.conf"] {
        assert!(alone.iter().any(|f| f == file), "{alone:?}");
    }
    assert!(
        !alone
            .iter()
            .any(|f| f.contains("pg_hba") || f.contains("repmgr"))
    );
    let both = names(NodeKind::BarmanWitness);
    assert!(both.iter().any(|f| f.contains("pg_hba")));
    assert!(alone.iter().all(|f| both.contains(f)));
    let unwanted = unwanted(&host(NodeKind::Barman));
    assert!(
        unwanted
            .iter()
            .all(|p| !alone.contains(&p.to_string_lossy().into_owned()))
    );
}

#[test]
fn rsync_is_told_to_barman() {
    let mut host = host(NodeKind::Barman);
    host.barman.method = Method::Rsync;
    let files = render(&host, &facts(Role::Witness)).unwrap();
    let main = files
        .iter()
        .find(|f| f.path.ends_with("main.conf"))
        .unwrap();
    assert!(main.text.contains("backup_method = rsync\n") && main.text.contains("archiver = on"));
    assert!(!main.text.contains("streaming_archiver") && !main.text.contains("slot"));
    assert!(is_ours(&main.text));
}

fn templates_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates")
}

#[test]
fn each_file_of_templates_is_in_the_table() {
    let mut on_disk: Vec<String> = std::fs::read_dir(templates_dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    on_disk.sort();
    let mut in_table: Vec<String> = TEMPLATES
        .iter()
        .map(|t| format!("{}.tera", t.name))
        .collect();
    in_table.sort();
    assert_eq!(on_disk, in_table);
}

/// Each `{{ … }}` ends in one of our filters: nothing gets into a file unquoted.
#[test]
fn each_placeholder_ends_in_a_filter() {
    for t in TEMPLATES {
        let mut seen = 0;
        for part in t.text.split("{{").skip(1) {
            let inside = part.split("}}").next().unwrap().trim_matches(['-', ' ']);
            let last = inside.rsplit('|').next().unwrap().trim();
            assert!(
                inside.contains('|')
                    && (last == filters::NUMBER || filters::TEXT.iter().any(|(n, _)| *n == last)),
                "{}: {{{{ {inside} }}}}",
                t.name
            );
            seen += 1;
        }
        assert!(seen > 0, "{}", t.name);
        assert!(!t.text.contains("| safe"), "{}", t.name);
    }
}

#[test]
fn every_role_and_barman_mode_renders() {
    for mode in [BarmanMode::Local, BarmanMode::Remote, BarmanMode::Off] {
        for role in [Role::Primary, Role::Standby] {
            let config = config("pg1", mode);
            let files = render(&config, &facts(role)).unwrap();
            let local = mode == BarmanMode::Local;
            assert_eq!(files.iter().any(|f| f.owner == Owner::Barman), local);
            assert_eq!(files.len() + unwanted(&config).len(), TEMPLATES.len());
            assert!(
                unwanted(&config)
                    .iter()
                    .all(|p| files.iter().all(|f| f.path != *p))
            );
            for file in &files {
                assert!(file.text.ends_with('\n'), "{}", file.path.display());
                assert!(file.path.is_absolute());
                assert!(!file.text.contains("\n\n\n"), "{}", file.path.display());
            }
        }
    }
}

#[test]
fn wal_is_summarized_where_postgresql_can() {
    let text = |mode, pg_major| {
        let facts = RenderFacts {
            pg_major,
            ..facts(Role::Primary)
        };
        let files = render(&config("pg1", mode), &facts).unwrap();
        files[0].text.contains("summarize_wal = on\n")
    };
    assert!(text(BarmanMode::Local, 17) && text(BarmanMode::Remote, 18));
    assert!(!text(BarmanMode::Local, 16) && !text(BarmanMode::Off, 17));
}

/// A configuration that data nodes share must not make it large.
#[test]
fn a_witness_is_small_whatever_the_memory() {
    let mut large = facts(Role::Witness);
    large.memory_limit = Some(64 << 30);
    let files = render(&witness(), &large).unwrap();
    let text = &files[0].text;
    assert!(text.contains("shared_buffers = 16MB\n") && text.contains("max_wal_senders = 0\n"));
    assert_eq!(text.matches("shared_buffers").count(), 1);
    assert!(text.contains("shared_preload_libraries = 'repmgr,pg_stat_statements'"));
    assert!(files.iter().all(|f| f.owner != Owner::Barman));
    let crontab = files.iter().find(|f| f.path.ends_with("crontab")).unwrap();
    assert!(!crontab.text.contains("barman"));
}

#[test]
fn postgresql_conf_does_not_change_with_the_role() {
    let config = config("pg1", BarmanMode::Local);
    let text = |role| render(&config, &facts(role)).unwrap()[0].text.clone();
    assert_eq!(text(Role::Primary), text(Role::Standby));
}

#[test]
fn passwords_are_in_the_password_files_only() {
    let files = render(&config("pg1", BarmanMode::Local), &facts(Role::Primary)).unwrap();
    for file in &files {
        let holds = SECRETS
            .iter()
            .any(|s| file.text.contains(s) || file.text.contains(&quote::pgpass(s).unwrap()));
        assert_eq!(holds, file.secret, "{}", file.path.display());
        assert!(!file.text.contains("super secret"));
        if file.secret {
            assert_eq!(file.mode, 0o600);
            assert!(
                !format!("{file:?}").contains(":repmgr:")
                    && !format!("{file:?}").contains(":barman:")
            );
        }
    }
}

#[test]
fn what_cannot_be_written_is_a_fault_of_the_configuration() {
    let ok = || (config("pg1", BarmanMode::Local), facts(Role::Primary));
    let refused = |config: &Config, facts: &RenderFacts| {
        let error = render(config, facts).unwrap_err();
        assert!(matches!(error, RenderError::Unwritable { .. }), "{error:?}");
        let fault = error.fault();
        assert!(matches!(fault, Fault::Config(_)), "{fault:?}");
        fault.why().to_owned()
    };
    let (mut c, f) = ok();
    c.repmgr.password = Secret::new("two\nlines".into());
    let why = refused(&c, &f);
    assert_eq!(
        why,
        "pgpass cannot be written: a password file cannot hold a line break or NUL"
    );

    let (mut c, f) = ok();
    c.postgres
        .settings
        .push(("include_dir".into(), "/tmp".into()));
    refused(&c, &f);
    let (mut c, f) = ok();
    c.postgres.superuser = "/regex".into();
    refused(&c, &f);
    let (mut c, f) = ok();
    c.paths.barman_backup_dir = "/data/%(x)s".into();
    refused(&c, &f);
    let (mut c, f) = ok();
    c.paths.run_dir = "/run/with space".into();
    refused(&c, &f);
    let (mut c, f) = ok();
    c.barman.server_name = "../x".into();
    c.identity.name = NodeName("../x".into());
    refused(&c, &f);
    let (mut c, f) = ok();
    c.barman.habits.backup_schedule = "@reboot; rm".into();
    refused(&c, &f);
}

#[test]
fn a_users_fragment_cannot_swallow_what_follows() {
    let mut facts = facts(Role::Primary);
    facts.user_hba = vec![("x.conf".into(), "host a b all trust \\".into())];
    let files = render(&config("pg1", BarmanMode::Off), &facts).unwrap();
    assert!(files[1].text.contains("trust \\\n\n# Everyone else"));
    let reject = files[1].text.find("reject").unwrap();
    assert!(reject < files[1].text.find("host a b").unwrap());
}

/// `BLESS=1 cargo test golden` writes them; read the diff before committing it.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the tests, not of the program"
)]
fn golden() {
    let bless = std::env::var_os("BLESS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (case, config, facts) in cases() {
        let dir = root.join(case);
        let mut want = BTreeMap::new();
        for file in render(&config, &facts).unwrap() {
            let name = file
                .path
                .to_str()
                .unwrap()
                .trim_start_matches('/')
                .replace('/', "_");
            let head = format!(
                "{} {:04o} {:?}\n",
                file.path.display(),
                file.mode,
                file.owner
            );
            want.insert(name, head + &file.text);
        }
        if bless {
            std::fs::remove_dir_all(&dir).ok();
            std::fs::create_dir_all(&dir).unwrap();
            for (name, text) in &want {
                std::fs::write(dir.join(name), text).unwrap();
            }
        }
        let have: BTreeMap<String, String> = std::fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .map(|e| e.unwrap())
            .map(|e| {
                let text = std::fs::read_to_string(e.path()).unwrap();
                (e.file_name().into_string().unwrap(), text)
            })
            .collect();
        for (name, text) in &want {
            assert_eq!(
                have.get(name),
                Some(text),
                "{case}/{name}: see BLESS in this test"
            );
        }
        assert!(
            have.keys().all(|name| want.contains_key(name)),
            "{case}: too many files"
        );
    }
}

/// Off, the setting is the user's own; else ours comes after theirs.
#[test]
fn what_a_commit_waits_for_is_included_on_request() {
    let conf = |quorum| {
        let mut config = config("pg1", BarmanMode::Off);
        config.synchronous.quorum = quorum;
        let files = render(&config, &facts(Role::Standby)).unwrap();
        let path = RunFiles::of(&config).postgresql_conf;
        let file = files.into_iter().find(|f| f.path == path);
        file.unwrap().text
    };
    assert!(!conf(Quorum::Off).contains("synchronous"));
    let text = conf(Quorum::On);
    let at = |what: &str| text.find(what).unwrap();
    let ours = at("\ninclude_if_exists = '/run/pgnode/synchronous.conf'\n");
    assert!(at("include_dir") < ours && at("max_connections") < ours && ours < at("hba_file"));
}
