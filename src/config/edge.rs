//! Where the configuration meets the machine: the one file of this room that is not pure, and the
//! one place of the program that reads the environment.

use super::fault::Faults;
use super::given::Surroundings;
use super::source::Sources;
use super::types::Config;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Most bytes of a `NAME_FILE`: far more than any value, and `/dev/zero` has an end.
const FILE_MAX: u64 = 64 * 1024;

/// Reads the environment, the hostname and the files that `NAME_FILE` names. `arguments` is the
/// container's command after the verb. Changes nothing on the machine.
///
/// # Errors
/// Everything that is wrong with the settings.
pub fn load(arguments: Vec<String>) -> Result<(Config, Sources), Faults> {
    load_over(arguments, Vec::new())
}

/// As [`load`], with variables of the command line that win over the environment's; `None` unsets one.
///
/// # Errors
/// Everything that is wrong with the settings.
pub fn load_over(
    arguments: Vec<String>,
    over: Vec<(String, Option<String>)>,
) -> Result<(Config, Sources), Faults> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is read here and nowhere else"
    )]
    let given = std::env::vars_os();
    let mut vars = Vec::new();
    let mut not_text = Vec::new();
    for (name, value) in given {
        // A name that is not text is none of ours.
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => vars.push((name, value)),
            Err(_) => not_text.push(name),
        }
    }
    for (name, value) in over {
        let file = format!("{name}_FILE");
        vars.retain(|(known, _)| *known != name && *known != file);
        vars.extend(value.map(|value| (name, value)));
    }
    let ctx = Surroundings {
        hostname: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default(),
        arguments,
        not_text,
        read_file: &read_file,
    };
    Config::from_vars(vars, &ctx)
}

/// What somebody who logged in by ssh asks for: sshd puts it there beside the command that the key opens
/// (sshd(8), `command=`).
#[must_use]
pub fn ssh_request() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is read here and nowhere else"
    )]
    let given = std::env::var_os("SSH_ORIGINAL_COMMAND");
    given
        .and_then(|text| text.into_string().ok())
        .unwrap_or_default()
}

/// The environment as it is, for a child that is to have it whole: of a verb that somebody else than a
/// container's runtime has started.
#[must_use]
pub fn inherited() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is read here and nowhere else"
    )]
    let given = std::env::vars_os();
    given.collect()
}

/// Reads a small regular file; opening a pipe or a device could block for ever.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err("is longer than 64 kB".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_small_regular_and_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "x\n").unwrap();
        assert_eq!(read_file(&path), Ok(b"x\n".to_vec()));
        std::fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert_eq!(read_file(&path), Err("is longer than 64 kB".into()));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, want) in [
            (dir.path(), "regular"),
            (&pipe, "regular"),
            (Path::new("/dev/zero"), "regular"),
            (&dir.path().join("none"), "No such file"),
        ] {
            let why = read_file(path).unwrap_err();
            assert!(why.contains(want), "{}: {why}", path.display());
        }
    }

    #[test]
    fn the_machine_is_read_without_a_panic() {
        // What it says depends on where the test runs; a fault is never an empty one.
        if let Err(faults) = load(Vec::new()) {
            assert!(!faults.list().is_empty());
        }
    }
}
