//! Lines as they come out.

use super::*;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// 2026-11-21 08:00:00.123 UTC.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_248_000_123)
}

fn lines(format: LogFormat, colour: bool, rust_log: &str, work: impl FnOnce()) -> String {
    let sink = Sink::default();
    let outlet = Outlet::start(sink.clone()).unwrap();
    let layer = Lines {
        format,
        colour,
        now,
        outlet: outlet.clone(),
    };
    tracing::subscriber::with_default(subscriber(filter(rust_log).unwrap(), layer), work);
    assert!(outlet.flush(Duration::from_secs(60)));
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn some_events() {
    tracing::info!(port = 5432, open = true, "open to clients");
    tracing::warn!(source = "repmgrd", dropped = 37_u64, "unable to ping");
    tracing::error!(
        source = "postgres",
        at = "2026-11-21T07:59:59.999Z",
        code = "42703",
        statement = "select a =\n  \"b\"",
        hint = None::<&str>,
        "column \"b\" does not exist"
    );
    tracing::info!(path = %"/run/x y", lag = 0.5, none = f64::NAN, "two\nlines\u{1b}[31m\tend\n");
    tracing::debug!("not shown");
}

#[test]
fn text_is_for_a_person() {
    insta::assert_snapshot!(lines(LogFormat::Text, false, "info", some_events), @r#"
        2026-11-21T08:00:00.123Z INFO  pgnode    open to clients port=5432 open=true
        2026-11-21T08:00:00.123Z WARN  repmgrd   unable to ping dropped=37
        2026-11-21T07:59:59.999Z ERROR postgres  column "b" does not exist code=42703 statement="select a =\n  \"b\""
        2026-11-21T08:00:00.123Z INFO  pgnode    two
            lines\u{1b}[31m	end path="/run/x y" lag=0.5 none=NaN
        "#);
}

#[test]
fn json_carries_the_same_fields() {
    let text = lines(LogFormat::Json, false, "info", some_events);
    for line in text.lines() {
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        for name in ["time", "level", "source", "message"] {
            assert!(read[name].is_string(), "{name} in {line}");
        }
    }
    insta::assert_snapshot!(text, @r#"
        {"time":"2026-11-21T08:00:00.123Z","level":"INFO","source":"pgnode","message":"open to clients","port":5432,"open":true}
        {"time":"2026-11-21T08:00:00.123Z","level":"WARN","source":"repmgrd","message":"unable to ping","dropped":37}
        {"time":"2026-11-21T07:59:59.999Z","level":"ERROR","source":"postgres","message":"column \"b\" does not exist","code":"42703","statement":"select a =\n  \"b\""}
        {"time":"2026-11-21T08:00:00.123Z","level":"INFO","source":"pgnode","message":"two\nlines\u001b[31m\tend","path":"/run/x y","lag":0.5,"none":"NaN"}
        "#);
}

#[test]
fn colours_only_when_asked_and_only_around_our_own_words() {
    let text = lines(LogFormat::Text, true, "info", || {
        tracing::warn!(a = 1, "careful");
    });
    insta::assert_snapshot!(text.escape_debug(), @r#"\u{1b}[2m2026-11-21T08:00:00.123Z\u{1b}[0m \u{1b}[33mWARN \u{1b}[0m pgnode    careful \u{1b}[2ma=\u{1b}[0m1\n"#);
}

#[test]
fn errors_are_shown_with_their_sources() {
    let text = lines(LogFormat::Text, false, "info", || {
        let error = LogError::Output(std::io::Error::other("disk on fire"));
        tracing::error!(error = &error as &dyn std::error::Error, "cannot log");
    });
    assert!(
        text.ends_with("cannot log error=\"cannot write the log: disk on fire\"\n"),
        "{text}"
    );
}

#[test]
fn the_filter_knows_sources_as_targets() {
    let text = lines(LogFormat::Text, false, "warn,postgres=debug", || {
        tracing::debug!(target: "postgres", source = "postgres", "shown");
        tracing::info!(target: "repmgrd", source = "repmgrd", "not shown");
        tracing::warn!(target: "repmgrd", source = "repmgrd", "shown as well");
    });
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_filter_that_is_none_is_a_fault_that_names_the_variable() {
    for good in [
        "",
        "info",
        "WARN",
        "off",
        "debug,hyper=off",
        "pgnode::sys=trace,info",
        "0",
    ] {
        assert!(filter(good).is_ok(), "{good}");
    }
    for bad in [
        "inof",
        "info,postgres=loud",
        "info=a=b",
        "warn,pstgres",
        "[{",
    ] {
        let Fault::Config(why) = filter(bad).unwrap_err().fault() else {
            panic!("{bad}")
        };
        assert!(why.contains("RUST_LOG"), "{bad}: {why}");
    }
}

#[test]
fn every_value_is_one_line_whatever_is_in_it() {
    for nasty in [
        "",
        "a b",
        "a=b",
        "\"",
        "\\",
        "\n",
        "\r\n2026-11-21T08:00:00.123Z ERROR",
        "\0",
        "é",
    ] {
        for format in [LogFormat::Text, LogFormat::Json] {
            let out = lines(format, false, "info", || tracing::info!(key = nasty, "m"));
            assert_eq!(out.lines().count(), 1, "{nasty:?} {out:?}");
            assert!(!out.contains(['\r', '\0']), "{out:?}");
        }
    }
}

#[test]
fn a_lost_line_is_counted() {
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _closed: Result<(), _> = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (go, wait) = std::sync::mpsc::channel();
    let outlet = Outlet::start(Stuck(wait)).unwrap();
    let layer = Lines {
        format: LogFormat::Text,
        colour: false,
        now,
        outlet: outlet.clone(),
    };
    let long = "x".repeat(100_000);
    tracing::subscriber::with_default(subscriber(filter("info").unwrap(), layer), || {
        for _ in 0..100 {
            tracing::info!("{long}");
        }
    });
    drop(go);
    assert!(outlet.flush(Duration::from_secs(60)));
    assert!(outlet.push(b"next\n").unwrap() > 0);
}
