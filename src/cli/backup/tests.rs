use super::*;
use crate::config::Surroundings;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    words: Words,
}

fn parse(text: &str) -> Result<Words, clap::Error> {
    Line::try_parse_from(text.split(' ')).map(|l| l.words)
}

#[test]
fn a_cluster_and_a_verb_are_told_apart() {
    let words = parse("backup").unwrap();
    assert!(words.verb.is_none() && words.server.is_none() && !words.wait);
    let words = parse("backup pg1 --incremental --wait --json").unwrap();
    assert_eq!(words.server.as_deref(), Some("pg1"));
    assert!(words.incremental && words.wait && words.json);
    assert!(matches!(
        parse("backup list").unwrap().verb,
        Some(Verb::List { server: None, .. })
    ));
    assert!(matches!(
        parse("backup list pg1 --json").unwrap().verb,
        Some(Verb::List {
            server: Some(_),
            json: true
        })
    ));
    assert!(matches!(
        parse("backup show latest --server pg1").unwrap().verb,
        Some(Verb::Show { .. })
    ));
    assert!(matches!(
        parse("backup verify --all").unwrap().verb,
        Some(Verb::Verify {
            id: None,
            all: true,
            ..
        })
    ));
}

#[test]
fn words_that_contradict_each_other_are_refused() {
    for text in [
        "backup verify",
        "backup verify latest --all",
        "backup show",
        "backup delete --dry-run",
        "backup keep latest --release --target full",
        "backup keep latest --target wal",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(matches!(
        parse("backup keep latest").unwrap().verb,
        Some(Verb::Keep {
            target: Target::Full,
            release: false,
            ..
        })
    ));
}

fn config(vars: &[(&str, &str)]) -> Config {
    let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::from_vars(vars, &Surroundings::bare("box"))
        .unwrap()
        .0
}

#[test]
fn the_cluster_may_be_left_out_where_there_is_only_one() {
    let config = config(&[("REPMGR_NODE_NAME", "pg1")]);
    assert_eq!(pick(&config, None).unwrap().name(), "pg1");
    assert_eq!(pick(&config, Some("pg1")).unwrap().name(), "pg1");
    let fault = pick(&config, Some("pg9")).unwrap_err();
    assert_eq!(fault.why(), "no cluster `pg9` is kept here, only pg1");
    assert_eq!(fault.exit_code(), ExitCode::CONFIG);
}

#[test]
fn where_no_backups_are_kept_it_says_where_they_are() {
    for (mode, part) in [
        ("off", "Set BARMAN_MODE=local"),
        ("remote", "on the barman host"),
    ] {
        let config = config(&[("REPMGR_NODE_NAME", "pg1"), ("BARMAN_MODE", mode)]);
        let fault = pick(&config, None).unwrap_err();
        assert!(fault.why().contains(part), "{fault}");
    }
}
