//! What each kind of value must be.

use super::{BarmanServer, Choice, Compression, Method, RestoreFrom, TargetAction, TargetTimeline};
use crate::config::rules::{Ruled, number};
use crate::config::{address, naming, paths};
use crate::domain::{Lsn, Timeline};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use std::path::PathBuf;

/// The port of our own sshd where an address names none.
const SSH_PORT: u16 = 2222;

pub(super) fn method(text: &str) -> Ruled<Method> {
    match text.trim().to_ascii_lowercase().as_str() {
        "streaming" => Ok(Method::Streaming),
        "rsync" => Ok(Method::Rsync),
        _ => Err("is neither streaming nor rsync".to_owned()),
    }
}

pub(super) fn compression(text: &str) -> Ruled<Compression> {
    match text.trim().to_ascii_lowercase().as_str() {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "bzip2" => Ok(Compression::Bzip2),
        _ => Err("is none of none, gzip, bzip2".to_owned()),
    }
}

pub(super) fn servers(text: &str) -> Ruled<Vec<BarmanServer>> {
    let mut out: Vec<BarmanServer> = Vec::new();
    let words = text
        .split(|c: char| c == ';' || c.is_whitespace())
        .filter(|word| !word.is_empty());
    for word in words {
        // A name may carry no `@`, and a host none either: nothing secret is repeated.
        let (name, hosts) = word
            .split_once('=')
            .ok_or("is not name=host[:port],…, clusters separated by ; or spaces")?;
        let name =
            naming::node_name(name).map_err(|rule| format!("names a cluster that {rule}"))?;
        let hosts = address::list(hosts).map_err(|refused| refused.rule)?;
        if hosts.is_empty() {
            return Err(format!("names no host for {name}"));
        }
        if out
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(&name))
        {
            return Err(format!("names {name} twice"));
        }
        out.push(BarmanServer { name, hosts });
    }
    if out.is_empty() {
        return Err("names no cluster".to_owned());
    }
    Ok(out)
}

pub(super) fn choice(text: &str) -> Ruled<Choice> {
    let text = text.trim();
    if ["latest", "last"].contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(Choice::Latest);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.is_empty() || !text.chars().all(plain) {
        return Err("is neither `latest` nor a backup's id such as 20261121T030000".to_owned());
    }
    Ok(Choice::Id(text.to_owned()))
}

pub(super) fn from(text: &str) -> Ruled<RestoreFrom> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("local") {
        return Ok(RestoreFrom::Local);
    }
    if let Some(rest) = text.strip_prefix("ssh://") {
        let bad = || "is not ssh://host[:port]/cluster".to_owned();
        let (at, server) = rest.split_once('/').ok_or_else(bad)?;
        // The account is barman's; people write it by habit.
        let at = at.strip_prefix("barman@").unwrap_or(at);
        let (host, port) = address::address(at).map_err(|_| bad())?;
        return Ok(RestoreFrom::Host {
            host,
            port: port.unwrap_or(SSH_PORT),
            server: naming::node_name(server)
                .map_err(|rule| format!("names a cluster that {rule}"))?,
        });
    }
    if text == "s3" {
        return Ok(RestoreFrom::Bucket {
            place: None,
            server: None,
        });
    }
    let named = |server: &str| {
        naming::node_name(server).map_err(|rule| format!("names a cluster that {rule}"))
    };
    if let Some(server) = text.strip_prefix("s3/") {
        return Ok(RestoreFrom::Bucket {
            place: None,
            server: Some(named(server)?),
        });
    }
    if text.starts_with("s3://") {
        let (place, server) = text
            .rsplit_once('/')
            .filter(|(place, _)| place.len() > "s3://".len())
            .ok_or("is not s3://bucket/path/cluster")?;
        return Ok(RestoreFrom::Bucket {
            place: Some(super::super::s3::bucket(place)?),
            server: Some(named(server)?),
        });
    }
    if text.starts_with('/') {
        return paths::directory(text).map(RestoreFrom::Directory);
    }
    Err("is none of `local`, an absolute directory, ssh://host[:port]/cluster, `s3`, s3/cluster, s3://bucket/path/cluster".to_owned())
}

/// `name=/directory`, separated by commas. A name may hold a `=`: the directory is what begins with `/` behind one.
pub(super) fn tablespaces(text: &str) -> Ruled<Vec<(String, PathBuf)>> {
    let mut out: Vec<(String, PathBuf)> = Vec::new();
    for word in text.split(',') {
        let word = word.trim();
        let at = word.find("=/").or_else(|| word.find('='));
        let (name, dir) = at
            .and_then(|at| word.split_at_checked(at))
            .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_control))
            .ok_or("is not name=/directory,…, separated by commas")?;
        let dir = dir.strip_prefix('=').unwrap_or_default();
        let dir = paths::directory(dir)
            .map_err(|rule| format!("gives {name} a directory that {rule}"))?;
        for (other, theirs) in &out {
            if other == name {
                return Err(format!("names {name} twice"));
            }
            if dir == *theirs {
                return Err(format!("gives {other} and {name} the same directory"));
            }
            if dir.starts_with(theirs) || theirs.starts_with(&dir) {
                return Err(format!(
                    "gives {other} and {name} directories of which one holds the other"
                ));
            }
        }
        out.push((name.to_owned(), dir));
    }
    Ok(out)
}

/// A date with a time, with or without an offset.
pub(super) fn time(text: &str) -> Ruled<DateTime<Utc>> {
    let text = text.trim();
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Ok(time.to_utc());
        }
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    for format in [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
    ] {
        let bare = text.strip_suffix(" UTC").unwrap_or(text);
        if let Ok(time) = NaiveDateTime::parse_from_str(bare, format) {
            return Ok(time.and_utc());
        }
    }
    let midnight = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    if let Some(time) = midnight.and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(time.and_utc());
    }
    Err("is not a time such as 2026-11-21 10:15:00+00".to_owned())
}

pub(super) fn lsn(text: &str) -> Ruled<Lsn> {
    text.trim()
        .parse()
        .map_err(|_| "is not a WAL position such as 0/5000028".to_owned())
}

/// What `pg_create_restore_point` takes: fewer than 64 bytes (`MAXFNAMELEN`).
pub(super) fn point(text: &str) -> Ruled<String> {
    if text.len() > 63 || text.contains(char::is_control) {
        return Err("is not the name of a restore point: at most 63 bytes on one line".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn timeline(text: &str) -> Ruled<TargetTimeline> {
    match text.trim().to_ascii_lowercase().as_str() {
        "latest" => Ok(TargetTimeline::Latest),
        "current" => Ok(TargetTimeline::Current),
        n => number(n, 1, u32::MAX)
            .map(|n| TargetTimeline::Number(Timeline(n)))
            .map_err(|_| "is none of latest, current, a number".to_owned()),
    }
}

pub(super) fn action(text: &str) -> Ruled<TargetAction> {
    match text.trim().to_ascii_lowercase().as_str() {
        "promote" => Ok(TargetAction::Promote),
        "pause" => Ok(TargetAction::Pause),
        "shutdown" => Ok(TargetAction::Shutdown),
        _ => Err("is none of promote, pause, shutdown".to_owned()),
    }
}
