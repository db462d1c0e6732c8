//! `docs/doctor.md`, made from the table: it cannot say anything else than the program.

use super::ailments::ALL;
use super::finding::STEPS;

const HEAD: &str = "\
# What `pgnode doctor` checks

Made from `src/doctor/ailments.rs`: `BLESS=1 cargo test --lib doctor_document`. `pgnode doctor` walks these steps in
order, on a barman host, on a node with BARMAN_MODE=local, or on another node (as far as can be seen from there); with
BARMAN_MODE=cloud the bucket is all there is, and on a barman host with S3_BUCKET_URI it comes last. Without
`--full` it writes one marker row and forces one switch of the WAL segment, and nothing else; `--full` makes a
backup and restores it. Exit code 0: nothing failed; 1: something did. `--json` says the same to machines; the names below are the
field `ailment`. A word in braces stands for the real one.
";

/// The whole document.
#[must_use]
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    for (step, title) in STEPS {
        text.push_str(&format!("\n## {step}. {title}\n\n| failure | likely cause | what mends it |\n| --- | --- | --- |\n"));
        for a in ALL.iter().filter(|a| a.step == step) {
            let cell = |text: &str| text.replace('|', "\\|");
            text.push_str(&format!(
                "| `{}` | {} | {} |\n",
                a.id,
                cell(a.cause),
                cell(a.remedy)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    fn the_doctor_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
        let want = super::document();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == want,
            "stale: BLESS=1 cargo test --lib doctor_document"
        );
    }
}
