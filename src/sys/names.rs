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
    if matches!(nix::unistd::User::from_uid(uid), Ok(Some(_))) {
        return Ok(Vec::new());
    }
    let library = [LIBRARY, "/usr/lib/aarch64-linux-gnu/libnss_wrapper.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| {
            let why = format!("uid {uid} has no name and libnss_wrapper.so is not installed");
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
    let account = Account::ours();
    let gid = account.gid;
    let (passwd, group): (PathBuf, PathBuf) = (run_dir.join("passwd"), run_dir.join("group"));
    std::fs::create_dir_all(run_dir)?;
    let home = run_dir.display();
    std::fs::write(
        &passwd,
        format!("{}:x:{uid}:{gid}::{home}:/bin/sh\n", account.name),
    )?;
    std::fs::write(&group, format!("{}:x:{gid}:\n", account.name))?;
    let var = |name: &str, value: String| (name.to_owned(), value);
    Ok(vec![
        var("LD_PRELOAD", library.to_owned()),
        var("NSS_WRAPPER_PASSWD", passwd.display().to_string()),
        var("NSS_WRAPPER_GROUP", group.display().to_string()),
    ])
}
