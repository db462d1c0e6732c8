//! From a validated configuration to a running loop.

use super::board::Board;
use super::host;
use super::machine::{self, Started};
use super::world::World;
use crate::config::{Config, NodeKind};
use crate::domain::{BackupView, ExitCode, Exposure, Fault, HostView, Status, Uptime};
use crate::fsm::Kind;
use crate::http::{self, Beat, PeerKey, Shown, SystemClock};
use crate::render::RunFiles;
use crate::sys::{
    Accounts, Children, Layout, Received, Signal, Signals, Spec, ensure_dir, is_pid_1, now_ms,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Why the node did not even begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The async runtime, the signals or the subreaper.
    #[error("cannot {doing}")]
    System {
        /// What.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// HTTP or the control socket.
    #[error(transparent)]
    Bind(#[from] http::HttpError),
    /// Something else, with its class.
    #[error("{0}")]
    Fault(Fault),
}

impl StartError {
    /// Its exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::System { .. } => ExitCode::TRANSIENT,
            Self::Bind(error) => error.fault().exit_code(),
            Self::Fault(fault) => fault.exit_code(),
        }
    }
}

/// A loop that has not turned for so long hangs: it turns every second.
const LOOP_LIMIT: Duration = Duration::from_secs(30);

/// How long the last lines of the children may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Every state's name, for `/metrics`.
const STATE_NAMES: [&str; Kind::ALL.len()] = {
    let mut names = [""; Kind::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Kind::ALL[i].name();
        i += 1;
    }
    names
};

fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}

/// Runs the node until it halts.
///
/// # Errors
/// [`StartError`]: the loop has not begun.
pub fn run(config: Config) -> Result<ExitCode, StartError> {
    // One thread: the loop and its tasks wait far more than they work. Blocking work (fork, fsync)
    // has a small pool of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .map_err(system("start the async runtime"))?;
    let code = runtime.block_on(begin(config));
    // Detached work (a read of a slow disk) must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn begin(config: Config) -> Result<ExitCode, StartError> {
    // Before the first child: PID 1 has no default actions.
    let signals = Signals::register().map_err(system("register the signals"))?;
    let children = Children::new();
    children
        .adopt_orphans()
        .map_err(|e| system("become a subreaper")(e.into()))?;
    let accounts = Accounts::find().map_err(StartError::Fault)?;
    let (config, environment_note) = match crate::sys::name_ourselves(&config.paths.run_dir) {
        Ok(vars) => with_environment(config, vars),
        Err(error) => (config, Some(error.to_string())),
    };
    let ours = accounts.root.then_some((0, 0));
    ensure_dir(&config.paths.run_dir, 0o755, ours).map_err(|source| {
        StartError::Fault(crate::sys::io_fault(
            "make PGNODE_RUN_DIR",
            &config.paths.run_dir,
            &source,
        ))
    })?;
    let layout = Layout::find(&config.paths).map_err(system("look at the volume"))?;
    // Without postgres there is nobody to vote for or with.
    let alone = config.kind == NodeKind::Barman;
    let (beat, clock) = (Beat::default(), SystemClock::start());
    let (board, status) = Board::new(first_status(&config));
    let key = PeerKey::derive(&config.repmgr.password);
    let shown = Shown {
        status,
        beat: beat.clone(),
        clock: Arc::new(clock),
        key: key.clone(),
        liveness_limit: LOOP_LIMIT,
        states: if alone {
            &host::STATE_NAMES
        } else {
            &STATE_NAMES
        },
    };
    let (to_loop, messages) = mpsc::unbounded_channel();
    let (operator, commands) = mpsc::channel(4);
    let (to_voter, letters) = mpsc::channel(64);
    let tcp = http::bind(config.http).await?;
    let socket = http::control::bind(&RunFiles::of(&config).control_socket)?;
    let control = http::control::control_router(shown.clone(), operator);
    let pages = if alone {
        http::router(shown)
    } else {
        http::router(shown).merge(http::vote::voting(key.clone(), to_voter))
    };
    // Both end with the process: a node that stops still says so.
    tokio::spawn(http::serve(tcp, pages, std::future::pending()));
    tokio::spawn(http::serve(socket, control, std::future::pending()));
    greet(&config, &accounts);
    if let Some(note) = environment_note {
        tracing::warn!("{note}");
    }
    if accounts.root {
        // Debian's cron and what its jobs pipe into logger(1) speak syslog.
        if let Err(error) = crate::sys::listen_syslog(std::path::Path::new("/dev/log")) {
            tracing::warn!("cannot listen on /dev/log, cron's messages are lost: {error}");
        }
    }
    let mut started = Started {
        world: Arc::new(World::new(
            config, key, children, accounts, layout, 0, to_loop,
        )),
        messages,
        commands,
        letters,
        signals,
        board,
        beat,
        clock,
    };
    let Some(major) = version(&mut started).await.map_err(StartError::Fault)? else {
        tracing::info!("asked to stop before anything has begun");
        started.world.children.signal_all(Signal::SIGKILL);
        return Ok(ExitCode::STOPPED);
    };
    started.world.set_major(major);
    // It lives as long as the process.
    drop(tokio::spawn(super::ssh::keep(started.world.clone())));
    drop(tokio::spawn(super::archiver::keep(started.world.clone())));
    drop(tokio::spawn(super::proof::keep(started.world.clone())));
    let code = if alone {
        host::run(started).await
    } else {
        super::operator::foretell(&started.world);
        machine::run(started).await
    };
    // What postgres said last is still in its pipe.
    crate::sys::end_log(LAST_WORDS).await;
    Ok(code)
}

fn with_environment(mut config: Config, vars: Vec<(String, String)>) -> (Config, Option<String>) {
    config.environment.base.extend(vars.clone());
    config.environment.scripts.extend(vars);
    (config, None)
}

/// `postgres --version`, swept by hand: the loop that sweeps has not begun. `None`: asked to stop.
async fn version(started: &mut Started) -> Result<Option<u32>, Fault> {
    let world = started.world.clone();
    let config = world.config();
    let mut asking = std::pin::pin!(major_version(&world.children, &config, &world.accounts));
    loop {
        tokio::select! {
            major = &mut asking => return major.map(Some),
            signal = started.signals.next() => match signal {
                Received::Stop(_) => return Ok(None),
                Received::Child | Received::Reload => {
                    world.children.sweep();
                }
            }
        }
    }
}

/// The major version of the image's PostgreSQL.
pub(super) async fn major_version(
    children: &Children,
    config: &Config,
    accounts: &Accounts,
) -> Result<u32, Fault> {
    let spec = Spec::new("postgres", ["--version"])
        .env(config.environment.base.clone())
        .account(Some(accounts.postgres.clone()));
    let end = children.run(spec, Duration::from_secs(30)).await;
    let end = end.map_err(|e| Fault::NeedsPerson(Fault::chain(&e)))?;
    // `postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)`, or `18beta1`.
    let text = end.stdout.split("PostgreSQL) ").nth(1).unwrap_or_default();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| {
        Fault::NeedsPerson(format!(
            "`postgres --version` says {:?}: no version",
            end.stdout.trim()
        ))
    })
}

fn greet(config: &Config, accounts: &Accounts) {
    tracing::info!(
        node = %config.identity.name,
        id = config.identity.id.0,
        pid = std::process::id(),
        "pgnode {} begins{}{}",
        env!("CARGO_PKG_VERSION"),
        if is_pid_1() { " as PID 1" } else { " as a subreaper" },
        if accounts.root { "" } else { ", not as root: everything runs under this uid" },
    );
    if let Some(hold) = &config.test_hold {
        tracing::warn!(
            state = hold.state,
            "PGNODE_TEST_HOLD is set: this node will stop on its way"
        );
    }
}

fn first_status(config: &Config) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: config.identity.name.clone(),
        node_id: config.identity.id,
        network_name: config.identity.network_name.clone(),
        state: String::new(),
        sentence: String::new(),
        role: None,
        exposure: Exposure::Closed,
        port: config.postgres.port,
        technical_port: config.postgres.technical_port,
        uptime: Uptime {
            now_ms: now_ms(),
            ..Uptime::default()
        },
        system_id: None,
        timeline: None,
        lsn: None,
        lag_bytes: None,
        lag_ms: None,
        streaming: None,
        upstream: None,
        members: Vec::new(),
        children: Vec::new(),
        restarts: 0,
        orphans_reaped: 0,
        boot: Vec::new(),
        boot_total_ms: None,
        backup: BackupView {
            mode: config.barman.mode.to_string(),
            ..BackupView::default()
        },
        archiving: None,
        verified: None,
        rejoin: None,
        election: None,
        synchronous: None,
        host: config.kind.keeps_backups().then(HostView::default),
        fault: None,
    }
}
