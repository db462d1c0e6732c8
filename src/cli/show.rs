//! The status for a person: first whether it is open, as what, and what it waits for.

use crate::domain::{MemberView, Role, Status, human_bytes, human_duration};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use std::time::Duration;

fn ms(n: u64) -> String {
    human_duration(Duration::from_millis(n))
}

/// The table; colours only on a terminal.
pub(super) fn status(s: &Status, colour: bool) -> String {
    let mut table = new_table();
    let mut row = |name: &str, value: String| {
        table.add_row([Cell::new(name), Cell::new(value)]);
    };
    let role = s
        .role
        .map_or_else(|| "not known yet".to_owned(), |r| r.to_string());
    row("node", format!("{} (id {}), {role}", s.node, s.node_id));
    row(
        "state",
        format!("{}, for {}", s.state, ms(s.state_age_ms())),
    );
    row("", s.sentence.clone());
    row("clients", clients(s));
    if let Some(lsn) = s.lsn {
        let timeline = s.timeline.map_or_else(|| "?".to_owned(), |t| t.to_string());
        row("wal", format!("{lsn} on timeline {timeline}"));
    }
    if s.role == Some(Role::Standby) && s.is_open() {
        row("replication", replication(s));
    }
    row("backup", backup(s));
    if let Some(fault) = &s.fault {
        row("last fault", fault.clone());
    }
    let children: Vec<String> = s
        .children
        .iter()
        .map(|c| match (c.pid, c.restarts) {
            (Some(pid), 0) => format!("{} {pid}", c.name),
            (Some(pid), n) => format!("{} {pid} (restarted {n}×)", c.name),
            (None, _) => format!("{} down", c.name),
        })
        .collect();
    if !children.is_empty() {
        row("processes", children.join(", "));
    }
    let since = s.uptime.now_ms.saturating_sub(s.uptime.started_ms);
    let boot = s
        .boot_total_ms
        .map_or_else(String::new, |b| format!(", opened after {}", ms(b)));
    row("up", format!("{}{boot}, pgnode {}", ms(since), s.version));
    let mut text = format!("{}\n{table}\n", headline(s, colour));
    if !s.members.is_empty() {
        text.push_str(&format!("\n{}\n", members(&s.members)));
    }
    text
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(100);
    }
    table
}

fn headline(s: &Status, colour: bool) -> String {
    let (word, shade) = match (s.is_open(), s.state.as_str()) {
        (true, _) => ("OPEN", Color::Green),
        (false, "fenced" | "recover" | "halted") => ("CLOSED", Color::Red),
        (false, _) => ("NOT OPEN YET", Color::Yellow),
    };
    if !colour {
        return word.to_owned();
    }
    let code = match shade {
        Color::Green => 32,
        Color::Red => 31,
        _ => 33,
    };
    format!("\x1b[1;{code}m{word}\x1b[0m")
}

fn clients(s: &Status) -> String {
    if s.is_open() {
        format!("port {} of {} is open", s.port, s.network_name)
    } else {
        format!("port {} is closed ({})", s.port, s.exposure)
    }
}

fn replication(s: &Status) -> String {
    let from = s.upstream.as_deref().unwrap_or("its primary");
    let lag = match (s.lag_bytes, s.lag_ms) {
        (Some(0), _) => ", nothing behind".to_owned(),
        (Some(bytes), Some(time)) => format!(", {} and {} behind", human_bytes(bytes), ms(time)),
        (Some(bytes), None) => format!(", {} behind", human_bytes(bytes)),
        (None, _) => String::new(),
    };
    match s.streaming {
        Some(true) => format!("streams from {from}{lag}"),
        Some(false) => format!("does NOT stream{lag}"),
        None => "not known yet".to_owned(),
    }
}

fn backup(s: &Status) -> String {
    let b = &s.backup;
    let last = match (&b.last_id, b.last_end_ms) {
        (Some(id), Some(end)) => {
            let size = b
                .last_size
                .map_or_else(String::new, |n| format!(", {}", human_bytes(n)));
            let age = ms(s.uptime.now_ms.saturating_sub(end));
            format!(
                "last {id}, {age} ago{size}; {} in all",
                b.count.unwrap_or(0)
            )
        }
        _ if b.mode == "off" => "nobody takes backups (BARMAN_MODE=off)".to_owned(),
        _ if b.mode == "remote" => "a barman host takes them".to_owned(),
        _ if s.role == Some(Role::Standby) => "the primary takes them".to_owned(),
        _ => "none yet".to_owned(),
    };
    b.note
        .as_ref()
        .map_or(last.clone(), |note| format!("{last}; {note}"))
}

fn members(members: &[MemberView]) -> Table {
    let mut table = new_table();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "id",
        "node",
        "type",
        "active",
        "upstream",
        "host",
        "replication",
    ]);
    for m in members {
        let replication = match (m.streaming, m.lag_bytes) {
            (Some(true), Some(lag)) => format!("streams, {} behind", human_bytes(lag)),
            (Some(true), None) => "streams".to_owned(),
            (Some(false), _) => "NOT streaming".to_owned(),
            (None, _) => String::new(),
        };
        table.add_row([
            m.node_id.to_string(),
            m.name.to_string(),
            m.kind.clone(),
            if m.active { "yes" } else { "NO" }.to_owned(),
            m.upstream.map_or_else(String::new, |u| u.to_string()),
            format!("{}:{}", m.host, m.port),
            replication,
        ]);
    }
    table
}
