//! Every variable with every kind of text: never a panic, and nothing of the machine is touched.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Pieces that the grammars know, to get past their first check.
const PIECES: [&str; 40] = [
    "1",
    "0",
    "65535",
    "99999999999999999999",
    "true",
    "pg1",
    "node",
    ":",
    "::",
    "[",
    "]",
    "//",
    "/",
    "..",
    ".",
    ",",
    ";",
    " ",
    "\n",
    "\0",
    "=",
    "-",
    "--",
    "-c",
    "'",
    "\"",
    "\\",
    "*",
    "*/",
    "@",
    "days",
    "redundancy",
    "MB",
    "h",
    "é",
    "\u{202e}",
    "٣",
    "tcp://",
    "before",
    "%",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => any::<String>(),
        4 => prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8).prop_map(|p| p.concat()),
        1 => ".{0,400}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(TABLE).prop_map(|var| var.name.to_owned()),
        3 => prop::sample::select(TABLE).prop_map(|var| var.file_name()),
        2 => "(PGNODE|REPMGR|BARMAN|S3)_[A-Z_]{0,12}(_PORT|_FILE|_SERVICE_HOST|_PORT_[0-9]_TCP)?",
        1 => any::<String>(),
    ]
}

/// Loads, with a machine that counts which files are read; checks what must hold for any input.
fn check(vars: Vec<(String, String)>, hostname: &str, arguments: Vec<String>, file: &[u8]) {
    let reads = RefCell::new(Vec::new());
    let read = |path: &Path| {
        reads.borrow_mut().push(path.to_owned());
        Ok(file.to_vec())
    };
    let ctx = Surroundings {
        hostname: hostname.to_owned(),
        arguments,
        not_text: Vec::new(),
        read_file: &read,
    };
    let loaded = Config::from_vars(vars.clone(), &ctx);
    // Nothing but the named files was asked for, and each once.
    let named: BTreeSet<PathBuf> = vars
        .iter()
        .filter(|(name, _)| name.ends_with("_FILE"))
        .map(|(_, path)| path.into())
        .collect();
    let reads = reads.into_inner();
    assert!(reads.iter().all(|path| named.contains(path)), "{reads:?}");
    assert!(reads.len() <= vars.len());
    match loaded {
        Err(faults) => {
            assert!(!faults.list().is_empty());
            let text = faults.to_string();
            assert_eq!(
                text.lines().count(),
                faults.list().len() + 1,
                "a forged line: {text}"
            );
            assert!(
                !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text:?}"
            );
        }
        Ok((config, sources)) => {
            assert!(show::json(&config, &sources)["settings"].is_array());
            let text = show::text(&config, &sources);
            assert!(
                !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text:?}"
            );
            let (pg, http) = (&config.postgres, config.http.port());
            assert!(pg.port != 0 && pg.technical_port != 0 && http != 0);
            assert!(pg.port != pg.technical_port && pg.port != http && pg.technical_port != http);
            assert!(config.identity.id.0 > 0);
            assert!(config.paths.pgdata.is_absolute() && config.paths.pgdata != Path::new("/"));
            assert!(!config.identity.network_name.is_empty());
            assert!(config.limits.stop_grace >= Duration::from_secs(3));
            assert!(
                !config
                    .environment
                    .base
                    .iter()
                    .any(|(k, _)| k.contains("PASSWORD"))
            );
        }
    }
}

proptest! {
    #[test]
    fn any_environment_is_loaded_or_refused(
        vars in prop::collection::vec((name(), value()), 0..30),
        hostname in "[a-z]{0,4}|.{0,8}",
        arguments in prop::collection::vec(value(), 0..5),
        file in prop_oneof![any::<Vec<u8>>(), value().prop_map(String::into_bytes)],
    ) {
        check(vars, &hostname, arguments, &file);
    }

    #[test]
    fn one_bad_variable_is_one_variable_in_the_faults(at in 0..TABLE.len(), text in value(), by_file: bool) {
        let var = TABLE[at];
        let name = if by_file { var.file_name() } else { var.name.to_owned() };
        let given = if by_file { "/x".to_owned() } else { text.clone() };
        check(vec![(name.clone(), given.clone())], "box", Vec::new(), text.as_bytes());
        let read = |_: &Path| Ok(text.clone().into_bytes());
        let ctx = Surroundings { read_file: &read, ..Surroundings::bare("box") };
        if let Err(faults) = Config::from_vars([(name, given)], &ctx) {
            // It, or what follows from it.
            let may = |wrong: &str| wrong == var.name || wrong == format!("{}_FILE", var.name) || matches!(
                (var.name, wrong),
                ("REPMGR_NODE_NAME", "REPMGR_NODE_ID")
                    | ("POSTGRES_USER", "POSTGRES_DB")
                    | ("REPMGR_MASTER", "REPMGR_PRIMARY_HOST")
                    | ("PGPORT", "PGNODE_TECHNICAL_PORT" | "PGNODE_HTTP_ADDR")
                    | ("PGNODE_TECHNICAL_PORT", "PGNODE_HTTP_ADDR")
                    | ("PGNODE_DATA_DIR", _)
                    | ("PGDATA", _)
            );
            prop_assert!(faults.list().iter().all(|w| may(&w.name)), "{}", faults);
        }
    }
}
