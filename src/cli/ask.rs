//! Verbs that ask the running node: over its control socket, else over its HTTP port.

use super::{complain, say, show};
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::Connect)?;
    runtime.block_on(async {
        let socket = RunFiles::of(config).control_socket;
        let by_socket = ask_node(Target::Socket(&socket), method.clone(), path, PATIENCE).await;
        match by_socket {
            // The socket belongs to whoever runs the node; anybody may read over TCP.
            Err(AskError::Connect(_)) if method == Method::GET => {
                let host = if config.http.ip().is_unspecified() {
                    "127.0.0.1".to_owned()
                } else {
                    config.http.ip().to_string()
                };
                ask_node(
                    Target::Tcp(&host, config.http.port()),
                    method,
                    path,
                    PATIENCE,
                )
                .await
            }
            other => other,
        }
    })
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
            say(&show::status(&status, std::io::stdout().is_terminal()));
            ExitCode::STOPPED
        }
        Err(error) => complain(&format!("the node's answer is not understood: {error}")),
    }
}

pub(super) fn health(config: &Config, endpoint: &str, json: bool) -> ExitCode {
    let answer = match ask(config, Method::GET, &format!("/{endpoint}")) {
        Ok(answer) if answer.status == 404 => {
            return complain(&format!("there is no health endpoint `{endpoint}`"));
        }
        Ok(answer) => answer,
        Err(error) => return unreachable(&error),
    };
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let why = serde_json::from_str::<crate::domain::Health>(&body).map(|h| h.why);
    match why {
        Ok(why) if !json => say(&format!("{why}\n")),
        Ok(_) | Err(_) => say(&format!("{body}\n")),
    }
    if answer.status == 200 {
        ExitCode::STOPPED
    } else {
        UNKNOWN
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

/// repmgr wants something done to postgres that only the node may do. Nothing of this scope
/// calls it; refusing is the safe answer.
pub(super) fn hook(action: &str) -> ExitCode {
    drop(writeln!(
        std::io::stderr().lock(),
        "pgnode: repmgr asked for `{action}`; only the node itself starts, stops and promotes \
         postgres, and automatic failover is not there yet"
    ));
    UNKNOWN
}
