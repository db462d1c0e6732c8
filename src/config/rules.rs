//! The rule of each kind of value. A rule says what a value must be, in words that follow the
//! variable's name; it never repeats the value, which may be a secret.

use super::types::{BarmanMode, FOR_EVER, LogFormat, NodeKind, TestHold};
use super::{Secret, StartAs};
use crate::domain::NodeId;
use std::net::SocketAddr;
use std::time::Duration;

/// What came of a rule: the value, or the rule that was broken.
pub(super) type Ruled<T> = Result<T, String>;

pub(super) fn secret(text: &str) -> Ruled<Secret> {
    if text.contains(['\0', '\n', '\r']) {
        // .pgpass is read by lines, and no protocol carries a NUL.
        return Err("holds a line break or a NUL, which no password file can carry".to_owned());
    }
    Ok(Secret::new(text.to_owned()))
}

pub(super) fn boolean(text: &str) -> Ruled<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub(super) fn start_as(text: &str) -> Ruled<StartAs> {
    boolean(text).map(|master| {
        if master {
            StartAs::Master
        } else {
            StartAs::Slave
        }
    })
}

/// A whole number in decimal digits only: `parse` alone would also take a sign.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

pub(super) fn port(text: &str) -> Ruled<u16> {
    digits(text.trim())
        .filter(|port| *port != 0)
        .ok_or_else(|| "is not a port: a number from 1 to 65535".to_owned())
}

pub(super) fn node_id(text: &str) -> Ruled<NodeId> {
    digits(text.trim())
        .filter(|id| *id > 0)
        .map(NodeId)
        .ok_or_else(|| "is not a node id: a number from 1 to 2147483647".to_owned())
}

/// Splits `512MB` into its number and its unit.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = digits(text.get(..text.len() - unit.len())?)?;
    Some((number, unit.trim_start()))
}

/// A whole number within these bounds.
pub(super) fn number<T>(text: &str, least: T, most: T) -> Ruled<T>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = text.trim();
    Some(text)
        .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|t| t.parse().ok())
        .filter(|n| (&least..=&most).contains(&n))
        .ok_or_else(|| format!("is not a number from {least} to {most}"))
}

/// Seconds unless it says otherwise.
pub(super) fn duration(text: &str) -> Ruled<Duration> {
    let seconds = quantity(text).and_then(|(n, unit)| {
        let scale = match unit {
            "" | "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        n.checked_mul(scale)
    });
    match seconds.map(Duration::from_secs) {
        Some(time) if time <= FOR_EVER => Ok(time),
        Some(_) => Err("is longer than a century".to_owned()),
        None => Err("is not a duration: a whole number with s, m, h or d".to_owned()),
    }
}

/// As [`duration`], with milliseconds too; not zero.
pub(super) fn short_duration(text: &str) -> Ruled<Duration> {
    let time = match quantity(text) {
        Some((n, "ms")) => Duration::from_millis(n),
        _ => duration(text)
            .map_err(|_| "is not a duration: a whole number with ms, s, m, h or d".to_owned())?,
    };
    if time.is_zero() || time > Duration::from_secs(3600) {
        return Err("is not between 1ms and 1h".to_owned());
    }
    Ok(time)
}

pub(super) fn patience(text: &str) -> Ruled<Duration> {
    duration(text).map(|time| if time.is_zero() { FOR_EVER } else { time })
}

pub(super) fn grace(text: &str) -> Ruled<Duration> {
    let time = duration(text)?;
    if time < Duration::from_secs(3) {
        return Err("is too short for a clean stop of PostgreSQL: at least 3s".to_owned());
    }
    Ok(time)
}

/// Units are PostgreSQL's: `MB` is 1024 kB; `MiB` says the same. `None` is no size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (n, unit) = quantity(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    n.checked_mul(1 << shift)
}

/// Bytes a second; barman counts whole kB.
pub(super) fn rate(text: &str) -> Ruled<u64> {
    match bytes(text) {
        Some(n) if n >= 1024 => Ok(n),
        Some(_) => Err("is less than 1kB a second".to_owned()),
        None => Err("is not a size: a whole number with kB, MB, GB or TB".to_owned()),
    }
}

/// `None` for `auto`.
pub(super) fn slot_wal(text: &str) -> Ruled<Option<u64>> {
    // max_slot_wal_keep_size counts megabytes in 31 bits; below four segments of 16 MB a slot is
    // lost in ordinary work.
    const LEAST: u64 = 64 << 20;
    const MOST: u64 = 0x7FFF_FFFF << 20;
    if text.trim().eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match bytes(text) {
        Some(n) if (LEAST..=MOST).contains(&n) => Ok(Some(n)),
        Some(_) => Err("is out of range: 64MB to 2047TB".to_owned()),
        None => Err("is not a size: a whole number with kB, MB, GB or TB, or auto".to_owned()),
    }
}

pub(super) fn listen(text: &str) -> Ruled<SocketAddr> {
    text.trim()
        .parse::<SocketAddr>()
        .ok()
        .filter(|addr| addr.port() != 0)
        .ok_or_else(|| {
            "is not an IP address and a port, such as 0.0.0.0:8008 or [::]:8008".to_owned()
        })
}

pub(super) fn log_filter(text: &str) -> Ruled<String> {
    // Its grammar is the log library's, and checked where that is set up.
    if text.contains(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(text.trim().to_owned())
}

/// The choices of a table entry as a sentence.
fn one_of(words: &[&str]) -> String {
    format!("is none of {}", words.join(", "))
}

pub(super) fn kind(text: &str) -> Ruled<NodeKind> {
    let mut words: Vec<_> = text.split(',').map(str::trim).collect();
    words.sort_unstable();
    match words.as_slice() {
        ["postgres"] => Ok(NodeKind::Postgres),
        ["barman"] => Ok(NodeKind::Barman),
        ["witness"] => Ok(NodeKind::Witness),
        ["barman", "witness"] => Ok(NodeKind::BarmanWitness),
        _ => Err("is none of postgres; barman; witness; barman,witness".to_owned()),
    }
}

pub(super) fn barman_mode(text: &str) -> Ruled<BarmanMode> {
    match text.trim() {
        "local" => Ok(BarmanMode::Local),
        "remote" => Ok(BarmanMode::Remote),
        "cloud" => Ok(BarmanMode::Cloud),
        "off" => Ok(BarmanMode::Off),
        _ => Err(one_of(&["local", "remote", "cloud", "off"])),
    }
}

pub(super) fn log_format(text: &str) -> Ruled<LogFormat> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(one_of(&["text", "json"])),
    }
}

pub(super) fn test_hold(text: &str) -> Ruled<TestHold> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match text.split_once(':') {
        Some((state, when @ ("before" | "after")))
            if !state.is_empty() && state.chars().all(word) =>
        {
            Ok(TestHold {
                state: state.to_owned(),
                after: when == "after",
            })
        }
        _ => Err("is not <state>:before or <state>:after".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("10", s(10)),
            ("10s", s(10)),
            ("5m", s(300)),
            ("5 min", s(300)),
            ("1h", s(3600)),
            ("2d", s(172_800)),
            (" 7 ", s(7)),
            ("0", s(0)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("+1", None),
            ("1.5h", None),
            ("1h30m", None),
            ("10S", None),
            ("10ms", None),
            ("٣", None),
            ("99999999999999999999", None),
            ("18446744073709551615d", None),
            ("40000d", None),
        ] {
            assert_eq!(duration(text).ok(), want, "{text}");
        }
        assert_eq!(patience("0").ok(), Some(FOR_EVER));
        assert_eq!(grace("2s").ok(), None);
        assert_eq!(grace("3s").ok(), s(3));
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("64MB", Some(Some(64 << 20))),
            ("512MB", Some(Some(512 << 20))),
            ("4GB", Some(Some(4 << 30))),
            ("4GiB", Some(Some(4 << 30))),
            ("4 g", Some(Some(4 << 30))),
            ("67108864", Some(Some(64 << 20))),
            ("1TB", Some(Some(1 << 40))),
            ("auto", Some(None)),
            ("AUTO", Some(None)),
            ("63MB", None),
            ("0", None),
            ("-1", None),
            ("4PB", None),
            ("4 G B", None),
            ("99999999TB", None),
            ("GB", None),
        ] {
            assert_eq!(slot_wal(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn numbers_and_words() {
        for (text, want) in [
            ("1", Some(1)),
            (" 5432 ", Some(5432)),
            ("65535", Some(65535)),
            ("0", None),
            ("65536", None),
            ("+5432", None),
            ("0x10", None),
            ("", None),
        ] {
            assert_eq!(port(text).ok(), want, "{text}");
        }
        for (text, want) in [
            ("1", Some(1)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("0", None),
            ("-3", None),
            ("x", None),
        ] {
            assert_eq!(node_id(text).ok().map(|id| id.0), want, "{text}");
        }
        for (text, want) in [
            ("true", Some(true)),
            ("YES", Some(true)),
            ("1", Some(true)),
            ("off", Some(false)),
            ("False", Some(false)),
            ("maybe", None),
            ("", None),
        ] {
            assert_eq!(boolean(text).ok(), want, "{text}");
        }
        for (text, want) in [
            ("postgres", Some(NodeKind::Postgres)),
            ("witness, barman", Some(NodeKind::BarmanWitness)),
            ("postgres,barman", None),
            ("", None),
        ] {
            assert_eq!(kind(text).ok(), want, "{text}");
        }
        for good in ["0.0.0.0:8008", "[::]:8008", "127.0.0.1:1"] {
            assert!(listen(good).is_ok(), "{good}");
        }
        for bad in [
            "8008",
            ":8008",
            "localhost:8008",
            "0.0.0.0:0",
            "::8008",
            "1.2.3.4",
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        assert_eq!(
            test_hold("a-b_2:after").ok(),
            Some(TestHold {
                state: "a-b_2".into(),
                after: true
            })
        );
        for bad in [
            "",
            ":",
            "x",
            "x:",
            ":before",
            "x:Before",
            "x y:before",
            "x:y:after",
        ] {
            assert!(test_hold(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_may_be_anything_on_one_line() {
        for good in [r#"' " \ $ % : @ #"#, "ünï", "\t", "a"] {
            assert!(secret(good).is_ok(), "{good}");
        }
        for bad in ["a\nb", "a\0", "a\r"] {
            assert!(secret(bad).is_err(), "{bad:?}");
        }
    }
}
