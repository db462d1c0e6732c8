//! The control socket: the same pages over a Unix socket, and the commands that change something.
//! Who may open the socket may command; its mode is 0600, and it is never reachable over TCP.

use super::server::{HttpError, Shown, reply, router};
use crate::domain::Health;
use axum::Router;
use axum::extract::Query;
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
    /// Hand over to another node.
    Switchover {
        /// Its name; the best standby when there is none.
        to: Option<String>,
        /// Change nothing.
        dry_run: bool,
        /// The answer.
        reply: Reply,
    },
    /// Try to become the new primary's standby now, or only say what would happen.
    Rejoin {
        /// Change nothing.
        dry_run: bool,
        /// The answer.
        reply: Reply,
    },
    /// Maintenance begins or ends: while it lasts nobody is elected.
    Pause {
        /// Begins.
        paused: bool,
        /// The answer.
        reply: Reply,
    },
    /// A restore that is paused at its target goes on.
    ResumeRestore {
        /// The answer.
        reply: Reply,
    },
    /// Close this node until a person opens it again, or let it open again.
    Fence {
        /// Close.
        closed: bool,
        /// The answer.
        reply: Reply,
    },
    /// Make this node the primary without an election.
    Promote {
        /// Whether the person knows what that may cost.
        force: bool,
        /// The answer.
        reply: Reply,
    },
}

/// The pages of [`router`], and `POST` for each command.
pub fn control_router(shown: Shown, commands: mpsc::Sender<Command>) -> Router {
    let route = |make: fn(Reply) -> Command| {
        let commands = commands.clone();
        post(move || {
            let commands = commands.clone();
            async move { ask(&commands, make).await }
        })
    };
    let switchover = {
        let commands = commands.clone();
        post(move |Query(query): Query<Vec<(String, String)>>| {
            let commands = commands.clone();
            async move {
                let find = |name: &str| query.iter().find(|(n, _)| n == name);
                let to = find("to").map(|(_, value)| value.clone());
                let dry_run = find("dry_run").is_some();
                let make = |reply| Command::Switchover { to, dry_run, reply };
                ask(&commands, make).await
            }
        })
    };
    router(shown)
        .route("/switchover", switchover)
        .route("/reload", route(|reply| Command::Reload { reply }))
        .route(
            "/rejoin",
            route(|reply| Command::Rejoin {
                dry_run: false,
                reply,
            }),
        )
        .route(
            "/rejoin/dry-run",
            route(|reply| Command::Rejoin {
                dry_run: true,
                reply,
            }),
        )
        .route(
            "/pause",
            route(|reply| Command::Pause {
                paused: true,
                reply,
            }),
        )
        .route(
            "/resume",
            route(|reply| Command::Pause {
                paused: false,
                reply,
            }),
        )
        .route(
            "/restore/resume",
            route(|reply| Command::ResumeRestore { reply }),
        )
        .route(
            "/fence",
            route(|reply| Command::Fence {
                closed: true,
                reply,
            }),
        )
        .route(
            "/unfence",
            route(|reply| Command::Fence {
                closed: false,
                reply,
            }),
        )
        .route(
            "/promote",
            route(|reply| Command::Promote {
                force: false,
                reply,
            }),
        )
        .route(
            "/promote/force",
            route(|reply| Command::Promote { force: true, reply }),
        )
}

async fn ask(commands: &mpsc::Sender<Command>, make: impl FnOnce(Reply) -> Command) -> Response {
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
