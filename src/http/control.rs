//! The control socket: the same pages over a Unix socket, and the commands that change something.
//! Who may open the socket may command; its mode is 0600, and it is never reachable over TCP.

use super::server::{HttpError, Shown, reply, router};
use crate::domain::Health;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use tokio::net::{UnixListener, UnixSocket};
use tokio::sync::{mpsc, oneshot};

/// The socket's name in the run directory.
pub const SOCKET: &str = "control.sock";

/// Where the runtime's answer goes: whether it worked, and one sentence.
pub type Reply = oneshot::Sender<Health>;

/// What a person asks the running node to do.
#[derive(Debug)]
pub enum Command {
    /// Render the configuration again and reload what changed, as HUP does.
    Reload {
        /// The answer.
        reply: Reply,
    },
}

/// The pages of [`router`], and `POST /reload`.
pub fn control_router(shown: Shown, commands: mpsc::Sender<Command>) -> Router {
    let route = |make: fn(Reply) -> Command| {
        let commands = commands.clone();
        post(move || {
            let commands = commands.clone();
            async move { ask(&commands, make).await }
        })
    };
    router(shown).route("/reload", route(|reply| Command::Reload { reply }))
}

async fn ask(commands: &mpsc::Sender<Command>, make: fn(Reply) -> Command) -> Response {
    let gone = || Health {
        ok: false,
        why: "the node is stopping".to_owned(),
    };
    let (reply_to, answer) = oneshot::channel();
    if commands.send(make(reply_to)).await.is_err() {
        return reply(StatusCode::SERVICE_UNAVAILABLE, &gone());
    }
    match answer.await {
        Ok(health) if health.ok => reply(StatusCode::OK, &health),
        Ok(health) => reply(StatusCode::CONFLICT, &health),
        Err(_) => reply(StatusCode::SERVICE_UNAVAILABLE, &gone()),
    }
}

/// Makes the socket, 0600. One that an earlier run left is replaced; anything else in its place is
/// an error.
///
/// # Errors
/// [`HttpError::Socket`].
pub fn bind(path: &Path) -> Result<UnixListener, HttpError> {
    let make = || {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(std::io::ErrorKind::AlreadyExists.into()),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Nobody can connect before listen(2), so nobody can through the wider mode of a moment ago.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(64)
    };
    make().map_err(|source| HttpError::Socket {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
