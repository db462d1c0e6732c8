//! Directories into the bucket: what `pgnode s3 wal-sync` does with a barman host's archive.

use crate::place::{Place, Took};
use crate::report::{Report, Series};
use std::collections::BTreeMap;

const WHO: [&str; 3] = ["ours", "rclone", "aws"];

/// Name, files, KiB each.
const KINDS: [(&str, &str, &str); 2] = [("small", "2000", "8"), ("large", "64", "16384")];

/// Each round has directories of its own; the second call of each finds nothing to do.
pub(crate) fn measure(place: &Place, report: &mut Report, runs: usize) {
    let mut took: BTreeMap<(String, &str), Series> = BTreeMap::new();
    for round in 0..runs {
        for (kind, count, kib) in KINDS {
            let name = format!("{kind}-{round}");
            place.shipper(&name);
            place.as_barman(&["files", &name, count, kib]);
            for turn in 0..WHO.len() {
                let who = WHO[(turn + round) % WHO.len()];
                for what in [kind.to_owned(), format!("{kind} again")] {
                    let one = Took::read(&place.as_barman(&["sync", who, &name]));
                    println!("{name} {what} {who}: {one:?}");
                    took.entry((what, who)).or_default().0.push(one.seconds);
                }
            }
        }
    }
    for (what, text, aws, rclone) in [
        ("small", "2,000 files of 8 KiB", 4.0, 1.0),
        ("large", "1 GiB in files of 16 MiB", 1.1, 1.0),
        ("small again", "nothing to do, 2,000 files", 8.0, 1.0),
    ] {
        let of = |who: &'static str| &took[&(what.to_owned(), who)];
        for (who, name, aim) in [
            ("aws", "`aws s3 sync`", aws),
            ("rclone", "rclone, 16 at once", rclone),
        ] {
            let ratio = of(who).median() / of("ours").median();
            report.row(
                &format!("{text}; {name}"),
                &format!("{} s", of("ours").shown_to(2)),
                &format!("{} s", of(who).shown_to(2)),
                &format!("{ratio:.1}"),
                &format!("≥ {aim} ×"),
                Some(ratio >= aim),
            );
        }
    }
}
