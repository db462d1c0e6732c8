//! A barman host for a person: a headline, and a table of its clusters.

use super::{Mood, at, ms, new_table};
use crate::domain::{Exposure, HostView, KeptView, ShippingRun, ShippingView, Status, human_bytes};
use comfy_table::{Attribute, Cell, LineStyle, TableStyle};

/// More than it should be behind for longer than a moment.
const BEHIND: u64 = 64 << 20;

/// Whether it is a barman host and nothing else.
pub(super) fn is_alone(s: &Status) -> bool {
    s.host.is_some() && s.role.is_none() && s.exposure == Exposure::Closed && s.election.is_none()
}

/// `GREEN  barman1, barman host: 2 clusters`.
pub(super) fn headline(s: &Status, host: &HostView, colour: bool) -> String {
    let running = s.state == "running";
    let red = host.servers.iter().filter(|k| !k.is_green()).count();
    let (word, mood) = match (running, host.servers.is_empty(), red) {
        (true, false, 0) => ("GREEN", Mood::Good),
        (true, ..) => ("NOT GREEN", Mood::Fair),
        (false, ..) => ("NOT RUNNING", Mood::Fair),
    };
    let word = match colour {
        true => format!("{}{word}\x1b[0m", mood.escape()),
        false => word.to_owned(),
    };
    let what = match (running, host.servers.len(), red) {
        (false, ..) => format!("{} for {}", s.state, ms(s.state_age_ms())),
        (true, 0, _) => "no cluster has been looked at yet".to_owned(),
        (true, 1, 0) => "the backups of 1 cluster".to_owned(),
        (true, n, 0) => format!("the backups of {n} clusters"),
        (true, n, red) => format!("{red} of {n} clusters need something"),
    };
    format!("{word}  {}, barman host: {what}", s.network_name)
}

/// The clusters, and what each needs.
pub(super) fn text(s: &Status, host: &HostView, colour: bool) -> String {
    let mut table = new_table(colour);
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    let header = [
        "cluster",
        "primary",
        "WAL",
        "check",
        "last backup",
        "backups",
    ];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for k in &host.servers {
        let coloured = |(text, mood): (String, Mood)| match mood {
            Mood::Good => Cell::new(text),
            mood => Cell::new(text).fg(mood.colour()),
        };
        table.add_row([
            Cell::new(&k.name),
            Cell::new(k.primary.as_deref().unwrap_or("none")),
            coloured(wal(k)),
            coloured(check(k)),
            Cell::new(last(s, k)),
            Cell::new(k.backups),
        ]);
    }
    let mut text = String::from("\n");
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for k in &host.servers {
        let age = ms(s.uptime.now_ms.saturating_sub(k.note_since_ms));
        let since = at(k.note_since_ms);
        text.push_str(&format!(
            "\n{}: {} (since {since}, {age})\n",
            k.name, k.note
        ));
        for line in k.check.iter().flat_map(|c| &c.failed) {
            text.push_str(&format!("    barman check: {line}\n"));
        }
        for problem in k.problems.iter().filter(|p| **p != k.note) {
            text.push_str(&format!("    {problem}\n"));
        }
    }
    for shipped in &host.shipping {
        text.push_str(&shipping(shipped, s.uptime.now_ms));
    }
    text
}

/// What is in the bucket of a cluster, and what is not.
fn shipping(shipped: &ShippingView, now_ms: u64) -> String {
    let ago = |then: u64| format!("{} ago", ms(now_ms.saturating_sub(then)));
    let run = |run: &ShippingRun| {
        let last = run.ok_ms.map_or_else(|| "never".to_owned(), ago);
        match &run.error {
            None => format!("{} {last}", run.kind),
            Some(_) => format!("{} FAILED {} (last good {last})", run.kind, ago(run.at_ms)),
        }
    };
    let mut runs: Vec<String> = shipped.runs.iter().map(run).collect();
    if runs.is_empty() {
        runs.push("nothing yet".to_owned());
    }
    if shipped.waiting > 0 {
        runs.push(format!("{} in the queue", shipped.waiting));
    }
    let mut text = format!("\n{} into the bucket: {}\n", shipped.name, runs.join(", "));
    for (kind, error) in shipped
        .runs
        .iter()
        .filter_map(|r| Some((&r.kind, r.error.as_ref()?)))
    {
        text.push_str(&format!("    {kind}: {error}\n"));
    }
    for task in &shipped.failed {
        text.push_str(&format!(
            "    backup {} FAILED: {}; `pgnode s3 base-sync {} --retry-errors` tries again\n",
            task.id, task.why, shipped.name
        ));
    }
    text
}

fn wal(k: &KeptView) -> (String, Mood) {
    match (k.attached_since_ms, k.lag_bytes) {
        (None, _) => ("NOT received".to_owned(), Mood::Bad),
        (Some(_), Some(0)) => ("nothing behind".to_owned(), Mood::Good),
        (Some(_), Some(lag)) => {
            let mood = if lag > BEHIND { Mood::Fair } else { Mood::Good };
            (format!("{} behind", human_bytes(lag)), mood)
        }
        (Some(_), None) => ("received".to_owned(), Mood::Good),
    }
}

fn check(k: &KeptView) -> (String, Mood) {
    match &k.check {
        None => ("not yet".to_owned(), Mood::Fair),
        Some(c) if c.failed.is_empty() => ("all OK".to_owned(), Mood::Good),
        Some(c) => (format!("{} FAILED", c.failed.len()), Mood::Bad),
    }
}

fn last(s: &Status, k: &KeptView) -> String {
    match (&k.last_id, k.last_end_ms) {
        (Some(id), Some(end)) => {
            let age = ms(s.uptime.now_ms.saturating_sub(end));
            let size = k.last_size.map(|n| format!(", {}", human_bytes(n)));
            format!("{id}, {age} ago{}", size.unwrap_or_default())
        }
        (Some(id), None) => id.clone(),
        (None, _) => "none yet".to_owned(),
    }
}
