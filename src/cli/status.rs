//! The status for a person: first whether it is open, as what, how far behind and what it waits
//! for; then the rest.

#[path = "copies.rs"]
mod copies;
#[path = "kept.rs"]
mod kept;
#[path = "members.rs"]
mod members;

use crate::domain::{
    ChildView, ElectionView, Exposure, MemberView, RejoinView, Role, Status, human_bytes,
    human_duration,
};
use chrono::{DateTime, SecondsFormat};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use std::time::Duration;

/// Fits any terminal, and a line of it fits any chat.
const WIDTH: u16 = 80;
/// WAL that a healthy standby may be behind.
const BEHIND: u64 = 16 * 1024 * 1024;
/// Longer than any promise: a primary would have been elected.
const UNHEARD: u64 = 20_000;
/// A full backup is made each day.
const OLD_BACKUP: u64 = 26 * 3600 * 1000;

/// The whole text; escape sequences for colours only when asked for.
#[must_use]
pub fn status_text(s: &Status, colour: bool) -> String {
    let mut text = headline(s, colour);
    text.push('\n');
    if s.election.as_ref().is_some_and(|e| e.paused) {
        let word = match colour {
            true => format!("{}PAUSED\x1b[0m", Mood::Bad.escape()),
            false => "PAUSED".to_owned(),
        };
        text.push_str(&format!(
            "{word}  nobody is elected until `pgnode resume` on the primary\n"
        ));
    }
    for line in details(s, colour).lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(host) = &s.host {
        text.push_str(&kept::text(s, host, colour));
    }
    if !s.members.is_empty() {
        text.push('\n');
        for line in members::members(s, colour).lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// How things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mood {
    Good,
    /// On its way, or not as it should be.
    Fair,
    Bad,
}

impl Mood {
    const fn colour(self) -> Color {
        match self {
            Self::Good => Color::Green,
            Self::Fair => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }

    const fn escape(self) -> &'static str {
        match self {
            Self::Good => "\x1b[1;32m",
            Self::Fair => "\x1b[1;33m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// `OPEN  pg2, standby: streams from pg1, nothing behind`.
fn headline(s: &Status, colour: bool) -> String {
    if let Some(host) = s.host.as_ref().filter(|_| kept::is_alone(s)) {
        return kept::headline(s, host, colour);
    }
    let (word, mood) = match s.exposure {
        Exposure::Consumer => ("OPEN", Mood::Good),
        Exposure::Technical | Exposure::Closed if s.fault.is_some() || s.state == "fenced" => {
            ("CLOSED", Mood::Bad)
        }
        Exposure::Technical | Exposure::Closed => ("NOT OPEN", Mood::Fair),
    };
    let role = s.role.map_or("role not known yet", |role| match role {
        Role::Primary => "primary",
        Role::Standby => "standby",
        Role::Witness => "witness",
    });
    let paint = |mood: Mood, text: &str| match colour {
        true => format!("{}{text}\x1b[0m", mood.escape()),
        false => text.to_owned(),
    };
    let what = match (s.is_open(), replication(s)) {
        (true, Some((text, Mood::Good))) => text,
        (true, Some((text, mood))) => paint(mood, &text),
        (true, None) => "no standby is registered".to_owned(),
        (false, _) => format!("{} for {}", s.state, ms(s.state_age_ms())),
    };
    format!("{}  {}, {role}: {what}", paint(mood, word), s.node)
}

/// `by rewind from pg2:5432; 125.4 KiB of WAL from 0/30233B8 on given up`.
fn rejoined(view: &RejoinView) -> String {
    let lost = match (view.fork, view.lost_bytes) {
        (Some(fork), Some(bytes)) => {
            format!("; {} of WAL from {fork} on given up", human_bytes(bytes))
        }
        (Some(fork), None) => format!("; WAL from {fork} on given up"),
        (None, _) => String::new(),
    };
    let kept = match &view.kept {
        Some(dir) => format!(", kept in {dir}"),
        None => String::new(),
    };
    format!("by {} from {}{lost}{kept}", view.how, view.from)
}

fn details(s: &Status, colour: bool) -> Table {
    let mut table = new_table(colour);
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String, mood: Mood| {
        let mut cell = Cell::new(value);
        if mood != Mood::Good {
            cell = cell.fg(mood.colour());
        }
        table.add_row([Cell::new(name).add_attribute(Attribute::Dim), cell]);
    };
    row("state", format!("{}: {}", s.state, s.sentence), Mood::Good);
    let since = format!(
        "{}, {} ago",
        at(s.uptime.state_since_ms),
        ms(s.state_age_ms())
    );
    row("since", since, Mood::Good);
    if let Some(fault) = &s.fault {
        row("fault", fault.clone(), Mood::Bad);
    }
    if let Some(view) = &s.rejoin {
        let mood = match view.how == "follow" {
            true => Mood::Good,
            false => Mood::Fair,
        };
        row("rejoined", rejoined(view), mood);
    }
    if !kept::is_alone(s) {
        row("clients", clients(s), Mood::Good);
    }
    if let Some(lsn) = s.lsn {
        let timeline = s.timeline.map(|t| format!(" on timeline {t}"));
        let of = s.system_id.map(|id| format!(" of cluster {id}"));
        let text = format!(
            "{lsn}{}{}",
            timeline.unwrap_or_default(),
            of.unwrap_or_default()
        );
        row("wal", text, Mood::Good);
    }
    if let Some((text, mood)) = s.election.as_ref().map(|e| election(s, e)) {
        row("election", text, mood);
    }
    if let Some(v) = &s.synchronous {
        let mood = if v.short_since_ms.is_some() {
            Mood::Bad
        } else {
            Mood::Good
        };
        let since = v.short_since_ms.map(|since| {
            let age = ms(s.uptime.now_ms.saturating_sub(since));
            format!(" (since {}, {age} ago)", at(since))
        });
        let text = format!("{}{}", v.sentence, since.unwrap_or_default());
        row("commits", text, mood);
    }
    if let Some(v) = &s.archiving {
        let (text, mood) = copies::archiving(v, s.uptime.now_ms);
        row("archiving", text, mood);
    }
    if let Some((text, mood)) = copies::backup(s) {
        row("backup", text, mood);
    }
    for view in &s.backup.drills {
        let (text, mood) = copies::drill(view, s.uptime.now_ms);
        row("drill", text, mood);
    }
    let (text, mood) = processes(s);
    row("processes", text, mood);
    match s.restarts {
        0 => {}
        1 => row(
            "restarts",
            "postgres ended unexpectedly once".to_owned(),
            Mood::Fair,
        ),
        n => row(
            "restarts",
            format!("postgres ended unexpectedly {n} times"),
            Mood::Fair,
        ),
    }
    if let Some(total) = s.boot_total_ms {
        row("boot", boot(s, total), Mood::Good);
    }
    let up = ms(s.uptime.now_ms.saturating_sub(s.uptime.started_ms));
    row("up", format!("{up}, pgnode {}", s.version), Mood::Good);
    table
}

fn new_table(colour: bool) -> Table {
    let mut table = Table::new();
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// A duration in words.
pub(super) fn ms(n: u64) -> String {
    human_duration(Duration::from_millis(n))
}

/// `2026-11-21T19:58:11Z`.
pub(super) fn at(epoch_ms: u64) -> String {
    i64::try_from(epoch_ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .map_or_else(
            || "an impossible time".to_owned(),
            |t| t.to_rfc3339_opts(SecondsFormat::Secs, true),
        )
}

fn clients(s: &Status) -> String {
    let Status {
        network_name: host,
        port,
        ..
    } = s;
    match s.exposure {
        Exposure::Consumer => format!("{host}:{port} is open"),
        Exposure::Technical => format!(
            "{host}:{port} is closed; postgres runs on the technical port {}",
            s.technical_port
        ),
        Exposure::Closed => format!("{host}:{port} is closed"),
    }
}

/// What there is to say of it in one phrase; nothing where there is no replication.
fn replication(s: &Status) -> Option<(String, Mood)> {
    match s.role? {
        Role::Standby => Some(follows(s)),
        Role::Primary => followed(s),
        Role::Witness => Some(votes(s)),
    }
}

fn follows(s: &Status) -> (String, Mood) {
    let from = s.upstream.as_deref().unwrap_or("its primary");
    let lag = match (s.lag_bytes, s.lag_ms) {
        (Some(0), _) => ", nothing behind".to_owned(),
        (Some(bytes), Some(time)) => format!(", {} and {} behind", human_bytes(bytes), ms(time)),
        (Some(bytes), None) => format!(", {} behind", human_bytes(bytes)),
        (None, _) => String::new(),
    };
    match s.streaming {
        Some(true) if s.lag_bytes.unwrap_or(0) > BEHIND => {
            (format!("streams from {from}{lag}"), Mood::Fair)
        }
        Some(true) => (format!("streams from {from}{lag}"), Mood::Good),
        Some(false) => (format!("does NOT stream from {from}{lag}"), Mood::Bad),
        None => ("not known yet".to_owned(), Mood::Good),
    }
}

/// The term, who leads, and whether that may last.
fn election(s: &Status, e: &ElectionView) -> (String, Mood) {
    if e.voters == 0 {
        return ("this node has not voted yet".to_owned(), Mood::Good);
    }
    let changes = if e.roster_changes { ", changing" } else { "" };
    let voters = match e.voters {
        1 => format!("1 voter{changes}"),
        n => format!("{n} voters{changes}, {} elect", e.majority),
    };
    let now = s.uptime.now_ms;
    let (who, mood) = match (e.leads, e.reached) {
        (true, Some(reached)) if s.role == Some(Role::Primary) => {
            let (lease, mood) = match e.lease.left_ms(now) {
                None => ("lease without end".to_owned(), Mood::Good),
                Some(0) => ("NO lease".to_owned(), Mood::Bad),
                Some(left) => (format!("lease for {}", ms(left)), Mood::Good),
            };
            let mood = if reached < e.voters {
                mood.max(Mood::Fair)
            } else {
                mood
            };
            (format!("leads, {reached} answer, {lease}"), mood)
        }
        _ => match (&e.primary, e.heard_at_ms) {
            (Some(name), Some(at)) => {
                let age = now.saturating_sub(at);
                let mood = if age > UNHEARD { Mood::Bad } else { Mood::Good };
                (format!("{name} heard {} ago", ms(age)), mood)
            }
            _ => ("no primary heard since the start".to_owned(), Mood::Fair),
        },
    };
    (format!("term {}: {who}; {voters}", e.term), mood)
}

fn votes(s: &Status) -> (String, Mood) {
    let primary = |m: &&MemberView| m.kind == "primary" && m.active;
    match s.members.iter().find(primary) {
        Some(primary) => (
            format!("votes with {} as the primary", primary.name),
            Mood::Good,
        ),
        None => ("knows of no primary".to_owned(), Mood::Fair),
    }
}

fn followed(s: &Status) -> Option<(String, Mood)> {
    let standbys: Vec<&MemberView> = s.members.iter().filter(|m| m.kind == "standby").collect();
    let streaming = standbys.iter().filter(|m| m.streaming == Some(true));
    let (all, stream) = (standbys.len(), streaming.count());
    if all == 0 {
        return None;
    }
    let plural = if all == 1 { "standby" } else { "standbys" };
    Some(match stream {
        0 => (format!("NONE of {all} {plural} streams"), Mood::Bad),
        n if n < all => (format!("only {n} of {all} {plural} streams"), Mood::Fair),
        1 => {
            let lag = match standbys.first().and_then(|m| m.lag_bytes) {
                Some(0) => ", nothing behind".to_owned(),
                Some(lag) => format!(", {} behind", human_bytes(lag)),
                None => String::new(),
            };
            (format!("1 standby streams{lag}"), Mood::Good)
        }
        n => (format!("{n} standbys stream"), Mood::Good),
    })
}

fn child(c: &ChildView, now_ms: u64) -> String {
    let since = ms(now_ms.saturating_sub(c.since_ms));
    let restarted = match c.restarts {
        0 => String::new(),
        n => format!(", restarted {n}×"),
    };
    match (c.pid, restarted.is_empty()) {
        (Some(pid), true) => format!("{} {pid}", c.name),
        (Some(pid), false) => format!("{} {pid} (for {since}{restarted})", c.name),
        (None, _) => format!("{} DOWN (for {since}{restarted})", c.name),
    }
}

fn processes(s: &Status) -> (String, Mood) {
    let now = s.uptime.now_ms;
    let down = s.children.iter().filter(|c| c.pid.is_none()).count();
    if down == s.children.len() {
        let mood = if s.is_open() { Mood::Bad } else { Mood::Good };
        return ("none runs".to_owned(), mood);
    }
    let each: Vec<String> = s.children.iter().map(|c| child(c, now)).collect();
    let mood = if down > 0 && s.is_open() {
        Mood::Bad
    } else {
        Mood::Good
    };
    (each.join(", "), mood)
}

/// The total, and where most of it went.
fn boot(s: &Status, total: u64) -> String {
    let mut steps: Vec<_> = s.boot.iter().filter(|b| b.took_ms > 0).collect();
    steps.sort_by_key(|b| std::cmp::Reverse(b.took_ms));
    let slow: Vec<String> = steps
        .iter()
        .take(3)
        .map(|b| format!("{} {}", b.state, ms(b.took_ms)))
        .collect();
    if slow.is_empty() {
        return ms(total);
    }
    format!("{}, of it {}", ms(total), slow.join(", "))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
