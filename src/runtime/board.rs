//! The board: the one place where the published [`Status`] is written, and where transitions become
//! log lines.

use crate::domain::{BootStep, ExitCode, Exposure, Fault, Role, Status, human_duration};
use crate::fsm::{Kind, Note, Rung, host};
use crate::sys::now_ms;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The writer's end.
#[derive(Debug)]
pub(super) struct Board {
    status: Status,
    publish: watch::Sender<Arc<Status>>,
    kind: Kind,
    entered: Instant,
    started: Instant,
    /// When the operator last heard that the state goes on.
    reminded: Instant,
    opened_once: bool,
    /// What the state waits for, told by its operation.
    progress: Option<String>,
}

impl Board {
    pub(super) fn new(mut status: Status) -> (Self, watch::Receiver<Arc<Status>>) {
        let now = Instant::now();
        let kind = Kind::Preflight;
        status.state = kind.name().to_owned();
        status.sentence = kind.sentence().to_owned();
        status.uptime.started_ms = now_ms();
        status.uptime.state_since_ms = status.uptime.started_ms;
        let (publish, watch) = watch::channel(Arc::new(status.clone()));
        let board = Self {
            status,
            publish,
            kind,
            entered: now,
            started: now,
            reminded: now,
            opened_once: false,
            progress: None,
        };
        (board, watch)
    }

    /// Changes the status and publishes it.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status);
        self.status.uptime.now_ms = now_ms();
        self.publish.send_replace(Arc::new(self.status.clone()));
    }

    pub(super) const fn status(&self) -> &Status {
        &self.status
    }

    /// Tells the operator.
    pub(super) fn say(&mut self, note: &Note) {
        match note {
            Note::Entered {
                to, why, detail, ..
            } => self.enter(*to, why, detail.as_deref()),
            Note::Rung(rung) => tracing::info!(state = self.kind.name(), "{}", rung_words(*rung)),
            Note::Failed { fault, next, after } => self.failed(fault, next, *after),
            Note::Remark(text) => tracing::info!(state = self.kind.name(), "{text}"),
        }
    }

    fn enter(&mut self, to: Kind, why: &str, detail: Option<&str>) {
        let took = self.entered.elapsed();
        let from = self.kind;
        self.kind = to;
        self.entered = Instant::now();
        self.reminded = self.entered;
        self.progress = None;
        let why = detail.map_or_else(|| why.to_owned(), |d| format!("{why}: {d}"));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let since = now_ms();
        let booting = !self.opened_once && from.is_boot();
        self.update(|status| {
            status.state = to.name().to_owned();
            status.sentence = to.sentence().to_owned();
            if matches!(
                to,
                Kind::Fenced | Kind::Rejoin | Kind::Recover | Kind::Closing
            ) {
                status.sentence = format!("{}: {why}", to.sentence());
            }
            status.uptime.state_since_ms = since;
            if booting {
                status.boot.push(BootStep {
                    state: from.name().to_owned(),
                    took_ms,
                });
            }
            if to == Kind::Open {
                status.fault = None;
            }
        });
        let sentence = to.sentence();
        let (state, from) = (to.name(), from.name());
        match to {
            Kind::Fenced | Kind::Rejoin | Kind::Demote | Kind::Recover | Kind::Closing => {
                tracing::warn!(state, from, took_ms, "{sentence}: {why}");
            }
            Kind::Preflight
            | Kind::Survey
            | Kind::Configure
            | Kind::Decide
            | Kind::Handover
            | Kind::AwaitPrimary
            | Kind::Init
            | Kind::Clone
            | Kind::Restore
            | Kind::Replay
            | Kind::Launch
            | Kind::Bootstrap
            | Kind::Scripts
            | Kind::Register
            | Kind::Settle
            | Kind::Commit
            | Kind::Opening
            | Kind::Open
            | Kind::Stopping
            | Kind::Halted => tracing::info!(state, from, took_ms, "{sentence} ({why})"),
        }
        if to == Kind::Open && !self.opened_once {
            self.opened_once = true;
            self.boot_is_over();
        }
    }

    fn boot_is_over(&mut self) {
        let total = self.started.elapsed();
        let total_ms = u64::try_from(total.as_millis()).unwrap_or(u64::MAX);
        self.update(|status| status.boot_total_ms = Some(total_ms));
        let mut steps: Vec<&BootStep> = self.status.boot.iter().collect();
        steps.sort_by_key(|s| std::cmp::Reverse(s.took_ms));
        let longest: Vec<String> = steps
            .iter()
            .take(3)
            .map(|s| format!("{} {} ms", s.state, s.took_ms))
            .collect();
        let role = self
            .status
            .role
            .map_or_else(|| "node".to_owned(), |r: Role| r.to_string());
        tracing::info!(
            total_ms,
            "{} is open as {role} on port {} after {}; longest: {}",
            self.status.node,
            self.status.port,
            human_duration(total),
            longest.join(", ")
        );
    }

    fn failed(&mut self, fault: &Fault, next: &str, after: Option<Duration>) {
        let why = fault.why().to_owned();
        let state = self.kind.name();
        match after {
            Some(pause) => {
                tracing::warn!(state, "{why}; {next} in {}", human_duration(pause));
            }
            None => {
                let exit = fault.exit_code().0;
                tracing::error!(state, exit, "{why}; {next}");
            }
        }
        self.update(|status| status.fault = Some(why));
    }

    /// What the state's operation waits for or how far it is.
    pub(super) fn progress(&mut self, text: String) {
        let shown = format!("{}: {text}", self.kind.sentence());
        self.progress = Some(text);
        self.update(|status| status.sentence = shown);
    }

    /// Every state that lasts says so: after 10 s, then every 10 s, then every minute.
    pub(super) fn remind(&mut self) {
        if matches!(self.kind, Kind::Open | Kind::Halted) {
            return;
        }
        let age = self.entered.elapsed();
        let pause = Duration::from_secs(if age < Duration::from_secs(120) {
            10
        } else {
            60
        });
        if self.reminded.elapsed() < pause {
            return;
        }
        self.reminded = Instant::now();
        let what = self
            .progress
            .clone()
            .unwrap_or_else(|| self.status.sentence.clone());
        tracing::info!(
            state = self.kind.name(),
            elapsed_s = age.as_secs(),
            "still {} after {}: {what}",
            self.kind.name(),
            human_duration(age)
        );
    }

    pub(super) fn exposure(&mut self, exposure: Exposure) {
        if self.status.exposure != exposure {
            self.update(|status| status.exposure = exposure);
        }
    }

    /// A child started (`Some`) or ended.
    pub(super) fn child(&mut self, name: &str, pid: Option<i32>, again: bool) {
        let since_ms = now_ms();
        self.update(|status| status.child(name, pid, again, since_ms));
    }

    /// A transition of a barman host's machine, which has states of its own.
    pub(super) fn entered(&mut self, to: host::Kind, from: host::Kind, why: &str) {
        let took_ms = u64::try_from(self.entered.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.entered = Instant::now();
        let since_ms = now_ms();
        self.update(|status| {
            status.state = to.name().to_owned();
            status.sentence = to.sentence().to_owned();
            status.uptime.state_since_ms = since_ms;
            if to == host::Kind::Running {
                status.fault = None;
                status.boot_total_ms = Some(since_ms.saturating_sub(status.uptime.started_ms));
            }
        });
        let (state, from) = (to.name(), from.name());
        tracing::info!(state, from, took_ms, "{} ({why})", to.sentence());
    }

    /// Something of a barman host failed.
    pub(super) fn troubled(&mut self, fault: &Fault, next: &str) {
        let why = fault.why().to_owned();
        tracing::warn!(state = self.status.state, "{why}; {next}");
        self.update(|status| status.fault = Some(why));
    }

    pub(super) fn ended(&mut self, code: ExitCode) {
        let total = human_duration(self.started.elapsed());
        tracing::info!(exit = code.0, "pgnode ends after {total}");
    }
}

const fn rung_words(rung: Rung) -> &'static str {
    match rung {
        Rung::Daemons => "repmgrd and crond are told to stop",
        Rung::Fast => "postgres is told to shut down fast: clients are cut, everything is written",
        Rung::Immediate => {
            "postgres is told to shut down at once: the next start will recover from the WAL"
        }
        Rung::Kill => "postgres did not stop and is killed: the next start will recover",
        Rung::Reap => "ending what is left",
    }
}
