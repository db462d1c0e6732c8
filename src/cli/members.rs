//! repmgr's table for a person.

use super::{BEHIND, Mood, new_table};
use crate::domain::{MemberView, NodeId, Status, human_bytes};
use comfy_table::{Attribute, Cell, ColumnConstraint, LineStyle, Table, TableStyle};

/// repmgr's table; `*` is this node.
pub(super) fn members(s: &Status, colour: bool) -> Table {
    let mut table = new_table(colour);
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    let header = [
        "",
        "node",
        "id",
        "type",
        "active",
        "follows",
        "replication",
        "address",
    ];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    let name_of = |id: NodeId| {
        let up = s.members.iter().find(|up| up.node_id == id);
        up.map_or_else(|| id.to_string(), |up| up.name.to_string())
    };
    for m in &s.members {
        let (replication, mood) = member(m);
        let coloured = |text: String, mood: Mood| match mood {
            Mood::Good => Cell::new(text),
            mood => Cell::new(text).fg(mood.colour()),
        };
        let active = if m.active {
            ("yes", Mood::Good)
        } else {
            ("NO", Mood::Bad)
        };
        table.add_row([
            Cell::new(if m.node_id == s.node_id { "*" } else { "" }),
            Cell::new(&m.name),
            Cell::new(m.node_id),
            Cell::new(&m.kind),
            coloured(active.0.to_owned(), active.1),
            Cell::new(m.upstream.map_or_else(String::new, name_of)),
            coloured(replication, mood),
            Cell::new(format!("{}:{}", m.host, m.port)),
        ]);
    }
    // The mark needs no room; a closed node knows nothing of replication.
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding(if index == 0 { (1, 0) } else { (1, 1) });
        if index == 6 && s.members.iter().all(|m| m.streaming.is_none()) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    table
}

fn member(m: &MemberView) -> (String, Mood) {
    match (m.streaming, m.lag_bytes) {
        (Some(true), Some(0)) => ("streams, nothing behind".to_owned(), Mood::Good),
        (Some(true), Some(lag)) => {
            let mood = if lag > BEHIND { Mood::Fair } else { Mood::Good };
            (format!("streams, {} behind", human_bytes(lag)), mood)
        }
        (Some(true), None) => ("streams".to_owned(), Mood::Good),
        (Some(false), _) => ("NOT streaming".to_owned(), Mood::Bad),
        (None, _) => (String::new(), Mood::Good),
    }
}
