//! Captured lines: postgres 17.12, repmgr 5.5.0 and barman 3.13.3 of Debian trixie.

use super::*;

fn events(format: Format, lines: &[&str]) -> Vec<Said> {
    let mut assembler = Assembler::new(format);
    let mut out = Vec::new();
    for line in lines {
        assembler.feed(line, None, &mut |said| out.push(said));
    }
    assembler.flush(&mut |said| out.push(said));
    out
}

fn repmgrd() -> Format {
    Format::repmgrd()
}

#[test]
fn a_jsonlog_error_keeps_what_a_dba_needs() {
    let line = r#"{"timestamp":"2026-11-21 08:50:05.588 UTC","user":"postgres","dbname":"app","pid":51,"remote_host":"127.0.0.1","remote_port":44890,"session_id":"6b015b3d.33","line_num":2,"ps":"SELECT","session_start":"2026-11-21 08:50:05 UTC","vxid":"2/3","txid":0,"error_severity":"ERROR","state_code":"22012","message":"division by zero","statement":"select 1/0,\n  2","application_name":"psql","backend_type":"client backend","query_id":0}"#;
    let [said] = &events(Format::PostgresJson, &[line])[..] else {
        panic!()
    };
    let mut want = Said::new("postgres", Level::ERROR, "division by zero");
    want.at = Some("2026-11-21T08:50:05.588Z".into());
    want.code = Some("22012".into());
    want.statement = Some("select 1/0,\n  2".into());
    want.user = Some("postgres".into());
    want.db = Some("app".into());
    want.app = Some("psql".into());
    want.pid = Some(51);
    want.backend = Some("client backend".into());
    assert_eq!(*said, want);
}

#[test]
fn a_jsonlog_warning_keeps_detail_hint_and_context() {
    let line = r#"{"timestamp":"2026-11-21 08:50:05.589 UTC","user":"postgres","dbname":"postgres","pid":51,"error_severity":"WARNING","state_code":"01000","message":"careful","detail":"deep","hint":"look","context":"PL/pgSQL function inline_code_block line 1 at RAISE","application_name":"psql","backend_type":"client backend","query_id":0}"#;
    let said = &events(Format::PostgresJson, &[line])[0];
    assert_eq!(said.level, Level::WARN);
    assert_eq!(said.detail.as_deref(), Some("deep"));
    assert_eq!(said.hint.as_deref(), Some("look"));
    assert!(said.context.is_some());
}

#[test]
fn severities_become_levels() {
    for (word, code, level, severity) in [
        ("DEBUG1", None, Level::DEBUG, None),
        ("DEBUG5", None, Level::TRACE, None),
        ("LOG", None, Level::INFO, None),
        ("LOG", Some("XX000"), Level::INFO, None),
        ("INFO", None, Level::INFO, None),
        ("NOTICE", None, Level::INFO, None),
        ("WARNING", Some("01000"), Level::WARN, None),
        ("ERROR", Some("42703"), Level::ERROR, None),
        ("FATAL", Some("28P01"), Level::ERROR, Some("FATAL")),
        ("FATAL", Some("57P03"), Level::INFO, Some("FATAL")),
        ("FATAL", Some("57P01"), Level::INFO, Some("FATAL")),
        ("FATAL", None, Level::ERROR, Some("FATAL")),
        ("PANIC", Some("XX001"), Level::ERROR, Some("PANIC")),
        ("WHATEVER", None, Level::INFO, None),
    ] {
        let code_field = code.map(|c| format!(r#","state_code":"{c}""#));
        let line = format!(
            r#"{{"error_severity":"{word}"{},"message":"m"}}"#,
            code_field.unwrap_or_default()
        );
        let said = &events(Format::PostgresJson, &[&line])[0];
        assert_eq!(said.level, level, "{word} {code:?}");
        assert_eq!(said.severity.as_deref(), severity, "{word}");
        assert_eq!(said.code.as_deref(), code, "{word}");
    }
}

#[test]
fn only_a_time_whose_zone_is_certain_is_taken() {
    assert_eq!(
        postgres_time("2026-11-21 08:50:05.128 UTC").as_deref(),
        Some("2026-11-21T08:50:05.128Z")
    );
    for other in [
        "2026-11-21 09:50:05.128 CET",
        "2026-11-21 08:50:05 UTC",
        "2026-11-21 08:50:05.128",
        "2026-11-21 08:50:05.128 -03",
        "2026-1é-21 08:50:05.12 UTC",
        "UTC",
        "",
    ] {
        assert_eq!(postgres_time(other), None, "{other}");
    }
}

#[test]
fn a_jsonlog_line_that_was_cut_is_still_read() {
    let head = r#"{"timestamp":"2026-11-21 08:50:05.588 UTC","pid":51,"error_severity":"LOG","message":"duration: 1 ms","statement":"insert into t values ('"#;
    for (tail, want) in [
        ("abc", "abc"),
        (r"ab\", "ab"),
        (r"ab\\", r"ab\"),
        (r"a\nb", "a\nb"),
        (r"ab\u", "ab"),
        (r"ab\u00", "ab"),
        (r"ab\u00e", "ab"),
        (r"ab\u00e9", "abé"),
        (r"ab\\u00", r"ab\u00"),
        (r"ab\\\u00", r"ab\"),
        ("é", "é"),
        ("", ""),
    ] {
        let mut assembler = Assembler::new(Format::PostgresJson);
        let mut out = Vec::new();
        assembler.feed(&format!("{head}{tail}"), Some(1000), &mut |s| out.push(s));
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].message, "duration: 1 ms", "{tail}");
        let statement = format!("insert into t values ('{want}");
        assert_eq!(out[0].statement.as_deref(), Some(statement.as_str()));
        assert_eq!(out[0].cut, Some(1000));
    }
}

#[test]
fn a_line_that_is_not_json_is_shown_as_it_is() {
    for line in ["garbage", "{", "[]", "null", r#"{"message":5}"#] {
        let out = events(Format::PostgresJson, &[line]);
        assert_eq!(out[0].message, line);
        assert_eq!(out[0].level, Level::WARN);
    }
}

#[test]
fn postgres_on_standard_error() {
    let out = events(
        Format::PostgresText,
        &[
            "2026-11-21 08:50:05.128 UTC [37] LOG:  redirecting log output to logging collector process",
            "2026-11-21 08:50:05.128 UTC [37] HINT:  Future log output will appear in directory \"/run/x\".",
            "2026-11-21 08:50:05.130 UTC [37] FATAL:  could not create lock file \"postmaster.pid\": Permission denied",
            "\tand a line that goes on",
            "postgres: could not access the server configuration file \"/x\": No such file or directory",
        ],
    );
    assert_eq!(out.len(), 3);
    assert_eq!(
        out[0].message,
        "redirecting log output to logging collector process"
    );
    assert_eq!(out[0].at.as_deref(), Some("2026-11-21T08:50:05.128Z"));
    assert_eq!(out[0].pid, Some(37));
    assert_eq!(
        out[0].hint.as_deref(),
        Some("Future log output will appear in directory \"/run/x\".")
    );
    assert_eq!(out[1].level, Level::ERROR);
    assert_eq!(out[1].severity.as_deref(), Some("FATAL"));
    assert!(out[1].message.ends_with("\n\tand a line that goes on"));
    assert_eq!(out[2].level, Level::WARN);
}

#[test]
fn what_the_collector_writes_beside_json() {
    let out = events(
        Format::PostgresRest,
        &[
            "2026-11-21 08:50:05.128 UTC [37] LOG:  ending log output to stderr",
            "2026-11-21 08:50:05.128 UTC [37] HINT:  Future log output will go to log destination \"jsonlog\".",
            "2026-11-21 08:50:05.128 UTC [37] FATAL:  not in the other one",
            "TRAP: failed Assert(\"x\"), File: \"y.c\"",
        ],
    );
    let levels: Vec<Level> = out.iter().map(|s| s.level).collect();
    assert_eq!(levels, [Level::DEBUG, Level::ERROR, Level::WARN]);
}

/// repmgrd while its database crashes and recovers.
const REPMGRD: &[&str] = &[
    "[2026-11-21 08:50:06] [NOTICE] repmgrd (repmgrd 5.5.0) starting up",
    "INFO:  set_repmgrd_pid(): provided pidfile is ",
    "[2026-11-21 08:50:06] [NOTICE] starting monitoring of node \"pg1\" (ID: 1)",
    "WARNING:  terminating connection because of crash of another server process",
    "DETAIL:  The postmaster has commanded this server process to roll back.",
    "HINT:  In a moment you should be able to reconnect to the database and repeat your command.",
    "[2026-11-21 08:50:11] [WARNING] unable to ping \"host=127.0.0.1 user=repmgr\"",
    "[2026-11-21 08:50:11] [DETAIL] PQping() returned \"PQPING_REJECT\"",
    "[2026-11-21 08:50:11] [WARNING] connection to node \"pg1\" (ID: 1) lost",
    "[2026-11-21 08:50:11] [DETAIL] ",
    "server closed the connection unexpectedly",
    "\tThis probably means the server terminated abnormally",
    "\tbefore or while processing the request.",
    "",
    "[2026-11-21 08:50:11] [ERROR] connection to database failed",
    "[2026-11-21 08:50:11] [DETAIL] ",
    "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  the database system is in recovery mode",
    "",
    "[2026-11-21 08:50:11] [DETAIL] attempted to connect using:",
    "  user=repmgr connect_timeout=2",
    "[2026-11-21 08:50:11] [INFO] checking state of node 1, 1 of 6 attempts",
];

#[test]
fn what_repmgrd_says_in_several_lines_is_one_event() {
    let out = events(repmgrd(), REPMGRD);
    let show: Vec<String> = out
        .iter()
        .map(|s| format!("{} {} | {:?} | {:?}", s.level, s.message, s.detail, s.hint))
        .collect();
    insta::assert_snapshot!(show.join("\n"), @r#"
        INFO repmgrd (repmgrd 5.5.0) starting up | None | None
        INFO set_repmgrd_pid(): provided pidfile is | None | None
        INFO starting monitoring of node "pg1" (ID: 1) | None | None
        WARN terminating connection because of crash of another server process | Some("The postmaster has commanded this server process to roll back.") | Some("In a moment you should be able to reconnect to the database and repeat your command.")
        WARN unable to ping "host=127.0.0.1 user=repmgr" | Some("PQping() returned \"PQPING_REJECT\"") | None
        WARN connection to node "pg1" (ID: 1) lost | Some("server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.") | None
        ERROR connection to database failed | Some("connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  the database system is in recovery mode\nattempted to connect using:\n  user=repmgr connect_timeout=2") | None
        INFO checking state of node 1, 1 of 6 attempts | None | None
        "#);
}

#[test]
fn the_repmgr_command_line() {
    let out = events(
        Format::Repmgr {
            source: "repmgr".into(),
        },
        &[
            "INFO: connecting to primary database...",
            "NOTICE: primary node record (ID: 1) registered",
            "ERROR: this node is already registered",
            "HINT: use -F/--force to overwrite the existing node record",
            "standby clone (using pg_basebackup) complete",
        ],
    );
    assert_eq!(out.len(), 3);
    assert_eq!(out[2].level, Level::ERROR);
    // Text without a word goes on with what came before it: it cannot be told apart.
    assert!(out[2].hint.as_deref().unwrap().contains("--force"));
    assert!(out.iter().all(|s| s.source == "repmgr"));
}

#[test]
fn a_continuation_without_a_beginning_is_not_lost() {
    let out = events(repmgrd(), &["", "  ", "some text", "more of it"]);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].message, "some text\nmore of it");
    let detail = events(repmgrd(), &["[2026-11-21 08:50:11] [DETAIL] late"]);
    assert_eq!(detail[0].message, "late");
}

#[test]
fn brackets_that_are_no_prefix_are_text() {
    for line in [
        "[x] [y] z",
        "[2026-11-21 08:50:11] [lower] z",
        "[2026-11-21 08:50:11]",
        "[[[",
        "ERROR:no space",
        "NOTE: other word",
        "é",
    ] {
        let out = events(repmgrd(), &[line]);
        assert_eq!(out[0].message, line);
        assert_eq!(out[0].level, Level::INFO);
    }
}

#[test]
fn barmans_log_and_console() {
    let out = events(
        Format::Barman,
        &[
            "2026-11-21 07:58:14,220 [123] barman.server WARNING: No backup found for server 'pg1'",
            "2026-11-21 07:58:15,001 [123] Command INFO: pg1: pg_receivewal: starting log streaming at 0/3000000 (timeline 1)",
            "2026-11-21 07:58:16,002 [124] barman.cli CRITICAL: Unhandled exception. See log file for more details.",
            "Traceback (most recent call last):",
            "  File \"/usr/bin/barman\", line 8, in <module>",
            "ERROR: Impossible to start the backup. Check the log for more details",
            "Starting backup using postgres method for server pg1",
        ],
    );
    assert_eq!(out.len(), 4, "{out:#?}");
    assert_eq!(out[0].level, Level::WARN);
    assert_eq!(out[0].message, "No backup found for server 'pg1'");
    assert_eq!(out[0].pid, Some(123));
    assert_eq!(out[0].module.as_deref(), Some("barman.server"));
    assert_eq!(out[1].level, Level::INFO);
    assert_eq!(out[2].level, Level::ERROR);
    assert!(
        out[2]
            .message
            .contains("Traceback (most recent call last):\n  File")
    );
    assert_eq!(out[3].level, Level::ERROR);
    assert_eq!(out[3].at, None, "barman's time has no zone");
}

#[test]
fn plain_lines_are_what_they_are() {
    let out = events(
        Format::Plain {
            source: "initdb".into(),
            level: Level::INFO,
        },
        &["creating subdirectories ... ok\r", "", "  ", "done"],
    );
    let messages: Vec<&str> = out.iter().map(|s| s.message.as_str()).collect();
    assert_eq!(messages, ["creating subdirectories ... ok", "done"]);
}

#[test]
fn an_endless_continuation_is_cut_and_counted() {
    let mut assembler = Assembler::new(repmgrd());
    let mut out = Vec::new();
    let line = "x".repeat(1000);
    for _ in 0..100 {
        assembler.feed(&line, None, &mut |s| out.push(s));
    }
    assembler.flush(&mut |s| out.push(s));
    assert_eq!(out.len(), 1);
    assert!(out[0].message.len() <= PART);
    assert!(out[0].cut.unwrap() >= 100 * 1000 - PART as u64);
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let formats = [
        Format::PostgresJson,
        Format::PostgresText,
        repmgrd(),
        Format::Barman,
    ];
    let mut seeds: Vec<String> = REPMGRD.iter().map(|l| (*l).to_owned()).collect();
    seeds.push(r#"{"timestamp":"2026-11-21 08:50:05.588 UTC","message":"\u00e9é\\"}"#.into());
    seeds.push("2026-11-21 07:58:14,220 [123] barman.server WARNING: é".into());
    seeds.push("2026-11-21 08:50:05.128 UTC [37] LOG:  é".into());
    for seed in seeds {
        let chars: Vec<char> = seed.chars().collect();
        for end in 0..=chars.len() {
            for start in [0, end / 2] {
                let part: String = chars[start..end].iter().collect();
                for format in &formats {
                    let mut assembler = Assembler::new(format.clone());
                    assembler.feed(&part, Some(1), &mut |_| {});
                    assembler.flush(&mut |_| {});
                }
            }
        }
    }
}
