//! Tables as they are shown.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// One whose columns are as wide as they need to be: a narrow terminal breaks long lines better than narrow columns break
/// ids.
pub(super) fn wide(colour: bool) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Disabled);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table
}

/// Without the blanks at the ends of the lines.
pub(super) fn lines(table: &Table) -> String {
    let text = table.to_string();
    text.lines().fold(String::new(), |mut all, line| {
        all.push_str(line.trim_end());
        all.push('\n');
        all
    })
}
