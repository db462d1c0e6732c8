//! `/dev/log`: Debian's cron logs only by syslog(3), and its jobs' output comes through logger(1).

use super::lines::{LogSource, understand};
use super::pump;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::net::UnixDatagram;

/// Binds the socket, open to every account, and makes events of its datagrams in a task.
///
/// # Errors
/// What the system said.
pub fn listen_syslog(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    tokio::spawn(async move {
        let mut buffer = vec![0_u8; 8192];
        while let Ok(n) = socket.recv(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..n]);
            pump::write(LogSource::Crond, &understand(LogSource::Crond, &text));
        }
    });
    Ok(())
}
