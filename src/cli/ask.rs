//! Verbs that ask the running node: over its control socket, else over its HTTP port.

use super::status::status_text;
use super::{complain, say};
use crate::config::Config;
use crate::domain::{ExitCode, Fault, Status};
use crate::http::client::{Answer, AskError, Target, ask_node};
use crate::render::RunFiles;
use hyper::Method;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// No answer, no verdict.
const UNKNOWN: ExitCode = ExitCode(1);

fn ask(config: &Config, method: Method, path: &str) -> Result<Answer, AskError> {
    ask_within(config, method, path, PATIENCE)
}

fn ask_within(
    config: &Config,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<Answer, AskError> {
    let socket = RunFiles::of(config).control_socket;
    let by_socket = ask_at(Target::Socket(&socket), method.clone(), path, patience);
    match by_socket {
        // The socket belongs to whoever runs the node; anybody may read over TCP.
        Err(AskError::Connect(_)) if method == Method::GET => {
            let address = config.http_locally();
            let host = address.ip().to_string();
            ask_at(Target::Tcp(&host, address.port()), method, path, patience)
        }
        other => other,
    }
}

fn ask_at(
    target: Target<'_>,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<Answer, AskError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::Connect)?
        .block_on(ask_node(target, method, path, patience))
}

fn unreachable(error: &AskError) -> ExitCode {
    let why = Fault::chain(error);
    drop(writeln!(
        std::io::stderr().lock(),
        "pgnode: the node does not answer: {why}"
    ));
    UNKNOWN
}

pub(super) fn status(config: &Config, json: bool) -> ExitCode {
    let answer = match ask(config, Method::GET, "/status") {
        Ok(answer) => answer,
        Err(error) => return unreachable(&error),
    };
    if json {
        say(&format!("{}\n", String::from_utf8_lossy(&answer.body)));
        return ExitCode::STOPPED;
    }
    match serde_json::from_slice::<Status>(&answer.body) {
        Ok(status) => {
            say(&status_text(&status, std::io::stdout().is_terminal()));
            ExitCode::STOPPED
        }
        Err(error) => complain(&format!("the node's answer is not understood: {error}")),
    }
}

pub(super) fn health(config: &Config, endpoint: &str, json: bool) -> ExitCode {
    match ask(config, Method::GET, &format!("/{endpoint}")) {
        Ok(answer) if answer.status == 404 => {
            complain(&format!("there is no health endpoint `{endpoint}`"))
        }
        answer => said(answer, json),
    }
}

pub(super) fn reload(config: &Config) -> ExitCode {
    match ask(config, Method::POST, "/reload") {
        Ok(answer) => {
            say(&String::from_utf8_lossy(&answer.body));
            if answer.status == 200 {
                ExitCode::STOPPED
            } else {
                UNKNOWN
            }
        }
        Err(error) => unreachable(&error),
    }
}

/// A dry run asks the new primary and reads WAL.
const DRY_RUN: Duration = Duration::from_secs(300);

pub(super) fn rejoin(config: &Config, dry_run: bool, json: bool) -> ExitCode {
    let (path, patience) = match dry_run {
        true => ("/rejoin/dry-run", DRY_RUN),
        false => ("/rejoin", PATIENCE),
    };
    command(config, path, patience, json)
}

/// Some wait for the other voters, or for a disk.
const DECISION: Duration = Duration::from_secs(30);

/// A command whose answer is one sentence.
pub(super) fn order(config: &Config, path: &str, json: bool) -> ExitCode {
    command(config, path, DECISION, json)
}

fn command(config: &Config, path: &str, patience: Duration, json: bool) -> ExitCode {
    said(ask_within(config, Method::POST, path, patience), json)
}

/// The old primary has to become a standby again.
const SWITCHOVER: Duration = Duration::from_secs(200);

pub(super) fn switchover(config: &Config, to: Option<&str>, dry_run: bool, json: bool) -> ExitCode {
    let mut query = Vec::new();
    if let Some(to) = to {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !to.chars().all(plain) {
            return complain(&format!("`{to}` is not a node name"));
        }
        query.push(format!("to={to}"));
    }
    if dry_run {
        query.push("dry_run=true".to_owned());
    }
    let path = format!("/switchover?{}", query.join("&"));
    said(ask_within(config, Method::POST, &path, SWITCHOVER), json)
}

/// Prints what the node said; 0 when it did what was asked.
fn said(answer: Result<Answer, AskError>, json: bool) -> ExitCode {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return unreachable(&error),
    };
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    match serde_json::from_str::<crate::domain::Health>(&body) {
        Ok(health) if !json => say(&format!("{}\n", health.why)),
        Ok(_) | Err(_) => say(&format!("{body}\n")),
    }
    if answer.status == 200 {
        ExitCode::STOPPED
    } else {
        UNKNOWN
    }
}

/// Asks the node at `http` whether it is an open primary: 0 or 1.
pub(super) fn is_primary(http: std::net::SocketAddr) -> ExitCode {
    let host = http.ip().to_string();
    let target = Target::Tcp(&host, http.port());
    said(ask_at(target, Method::GET, "/primary", PATIENCE), false)
}

/// What repmgr calls: validate and promote are allowed to a node that the votes have made the primary, and to
/// no other; whom to follow is known already; only the node itself starts and stops postgres.
pub(super) fn hook(action: &str, http: std::net::SocketAddr) -> ExitCode {
    match action {
        "validate" | "promote" => is_primary(http),
        "follow" => {
            say("the node follows whoever is elected\n");
            ExitCode::STOPPED
        }
        _ => {
            drop(writeln!(
                std::io::stderr().lock(),
                "pgnode: repmgr asked for `{action}`; only the node itself starts and stops postgres"
            ));
            UNKNOWN
        }
    }
}
