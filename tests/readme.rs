//! The README says what the code does. `PGNODE_BLESS=1 cargo test --test readme` writes it anew.

use std::path::Path;

const BEGIN: &str = "<!-- env:begin -->";
const END: &str = "<!-- env:end -->";

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switch, not the program's configuration"
)]
fn the_environment_table_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (head, rest) = readme.split_once(BEGIN).expect("the begin marker");
    let (_, tail) = rest.split_once(END).expect("the end marker");
    let table = pgnode::config::table::readme_table();
    let want = format!("{head}{BEGIN}\n{table}{END}{tail}");
    if std::env::var_os("PGNODE_BLESS").is_some() {
        std::fs::write(&path, want).expect("README.md is writable");
    } else {
        assert!(
            readme == want,
            "README.md is stale: PGNODE_BLESS=1 cargo test --test readme"
        );
    }
}
