//! The thin binary.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(pgnode::cli::main(std::env::args()).0)
}
