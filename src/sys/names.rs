//! An arbitrary uid (`docker run --user 12345`) has no name, and initdb, repmgr and barman want one:
//! nss_wrapper gives it one in the eyes of our children.

use super::Account;
use std::io;
use std::path::{Path, PathBuf};

/// Where Debian has the library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libnss_wrapper.so";

/// The variables that children need to see a name for our uid; none when it has one.
///
/// # Errors
/// When the files cannot be written, or the library is missing.
pub fn name_ourselves(run_dir: &Path) -> io::Result<Vec<(String, String)>> {
    let uid = nix::unistd::geteuid();
    if has_name() {
        return Ok(Vec::new());
    }
    let library = library().ok_or_else(|| {
        let why = format!("uid {uid} has no name and libnss_wrapper.so is not installed");
        io::Error::new(io::ErrorKind::NotFound, why)
    })?;
    let account = Account::ours();
    let gid = account.gid;
    let (passwd, group) = files(run_dir);
    std::fs::create_dir_all(run_dir)?;
    let home = run_dir.display();
    std::fs::write(
        &passwd,
        format!("{}:x:{uid}:{gid}::{home}:/bin/sh\n", account.name),
    )?;
    std::fs::write(&group, format!("{}:x:{gid}:\n", account.name))?;
    Ok(variables(library, run_dir))
}

/// The same variables for another process of the container, once the node has written the files.
#[must_use]
pub fn our_name(run_dir: &Path) -> Vec<(String, String)> {
    match library() {
        Some(library) if !has_name() && files(run_dir).0.exists() => variables(library, run_dir),
        Some(_) | None => Vec::new(),
    }
}

fn has_name() -> bool {
    matches!(
        nix::unistd::User::from_uid(nix::unistd::geteuid()),
        Ok(Some(_))
    )
}

fn library() -> Option<&'static str> {
    [LIBRARY, "/usr/lib/aarch64-linux-gnu/libnss_wrapper.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
}

fn files(run_dir: &Path) -> (PathBuf, PathBuf) {
    (run_dir.join("passwd"), run_dir.join("group"))
}

fn variables(library: &str, run_dir: &Path) -> Vec<(String, String)> {
    let (passwd, group) = files(run_dir);
    let var = |name: &str, value: String| (name.to_owned(), value);
    vec![
        var("LD_PRELOAD", library.to_owned()),
        var("NSS_WRAPPER_PASSWD", passwd.display().to_string()),
        var("NSS_WRAPPER_GROUP", group.display().to_string()),
    ]
}
