//! The one owner of child processes: the only file that starts, waits for or signals any.
//!
//! `std::process::Command::spawn` and the registration of the pid happen under one mutex. On
//! SIGCHLD a sweep takes the same mutex and calls `waitpid(-1, WNOHANG)` until nothing is left: a
//! known pid completes its waiter, an unknown one was an orphan that the kernel gave to us. The
//! mutex also covers std's own wait for a child whose exec failed, and a signal is only sent to a
//! pid that is in the table, which as an unreaped child cannot have been recycled. Why every other
//! arrangement loses statuses is in `docs/adr/0001-one-owner-of-children.md`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

use super::Account;
use super::tail::Tail;

/// How a process ended. Real-time signals have no name in `nix`, so the number is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {number} ({signal})"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// What a child reads.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// `/dev/null`.
    #[default]
    Nothing,
    /// These bytes, then end of file. At most a pipe's capacity (64 KiB) may be given: they are
    /// written before anybody waits for the child.
    Bytes(Vec<u8>),
    /// This file.
    File(PathBuf),
}

/// Everything about a process to start. The environment is complete: nothing is inherited, so no
/// secret of ours can leak into a child by accident.
#[derive(Clone, Debug)]
pub struct Spec {
    /// File name (looked up in the PATH of `env`) or path.
    pub program: OsString,
    /// Arguments. Never a secret: `/proc/*/cmdline` is world-readable.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The account to drop to; `None` keeps ours.
    pub account: Option<Account>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Standard input.
    pub input: Input,
}

impl Spec {
    /// A program with arguments, an empty environment and nothing to read.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            account: None,
            cwd: None,
            input: Input::Nothing,
        }
    }

    /// Adds variables; a later one of the same name wins.
    #[must_use]
    pub fn env<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env
            .extend(vars.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Runs as this account (when we may switch; see [`Account`]).
    #[must_use]
    pub fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Reads these bytes.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Input::Bytes(bytes);
        self
    }

    /// Reads this file.
    #[must_use]
    pub fn input_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.input = Input::File(path.into());
        self
    }

    /// The command as a person would type it, for logs.
    #[must_use]
    pub fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        shell_words::join(words.map(|w| w.to_string_lossy()))
    }
}

/// Why a process could not be started or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// fork or exec failed; std does not say which.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not end in time and was killed with its process group.
    #[error("{program} did not end within {limit:?} and was killed; its last words: {last_words}")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
        /// End of its output.
        last_words: String,
    },
    /// The table was dropped or the task cancelled while the runtime shuts down.
    #[error("the process table is gone")]
    Gone,
}

/// A running child. Dropping it without [`Child::release`] or its end sends TERM to its process
/// group and KILL some seconds later: a cancelled operation leaves nothing behind.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    exit: Option<oneshot::Receiver<Exit>>,
    /// Its standard output.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error.
    pub stderr: Option<pipe::Receiver>,
    children: Children,
    leave_alone: bool,
}

impl Child {
    /// Its pid, also the number of its process group.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end. Cancel-safe.
    ///
    /// # Errors
    /// [`ChildError::Gone`] when nobody sweeps any more.
    pub async fn wait(&mut self) -> Result<Exit, ChildError> {
        let Some(exit) = self.exit.as_mut() else {
            return Err(ChildError::Gone);
        };
        let result = exit.await;
        self.exit = None;
        result.map_err(|_| ChildError::Gone)
    }

    /// The child outlives this handle: its exit is received elsewhere.
    #[must_use]
    pub fn release(mut self) -> (i32, Option<oneshot::Receiver<Exit>>) {
        self.leave_alone = true;
        (self.pid, self.exit.take())
    }
}

/// TERM to KILL for a cancelled child.
const CANCEL_PATIENCE: Duration = Duration::from_secs(3);

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none() || self.leave_alone {
            return;
        }
        let (pid, children) = (self.pid, self.children.clone());
        children.signal_group(pid, Signal::SIGTERM);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(CANCEL_PATIENCE).await;
                children.signal_group(pid, Signal::SIGKILL);
            });
        }
    }
}

/// The end of a command that was run to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// Its output, at most 256 KiB: the last ones.
    pub stdout: String,
    /// Its errors, likewise.
    pub stderr: String,
}

impl Finished {
    /// What it said last, errors first: for a message to a person.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(6)..].join("; ")
    }
}

/// How long to read on after a command's own end: a grandchild may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(500);

type Table = HashMap<i32, oneshot::Sender<Exit>>;

/// The table of children. Clones share it.
#[derive(Clone, Debug)]
pub struct Children {
    table: Arc<Mutex<Table>>,
    orphans: Arc<AtomicU64>,
    sweeps: Arc<watch::Sender<u64>>,
}

impl Default for Children {
    fn default() -> Self {
        Self::new()
    }
}

impl Children {
    /// An empty table. Call [`Children::adopt_orphans`] and keep sweeping on SIGCHLD.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Arc::default(),
            orphans: Arc::default(),
            sweeps: Arc::default(),
        }
    }

    /// Makes orphaned descendants ours. PID 1 of a namespace has that already; anybody else
    /// becomes a subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    ///
    /// # Errors
    /// What the kernel said.
    pub fn adopt_orphans(&self) -> Result<(), Errno> {
        if is_pid_1() {
            return Ok(());
        }
        nix::sys::prctl::set_child_subreaper(true)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock is held cannot leave a half-made entry: insert is the last step.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orphans reaped so far.
    #[must_use]
    pub fn orphans_reaped(&self) -> u64 {
        self.orphans.load(Ordering::Relaxed)
    }

    /// Children of ours that have not been reaped yet.
    #[must_use]
    pub fn known(&self) -> usize {
        self.lock().len()
    }

    /// Starts a process in a process group of its own, output through pipes.
    ///
    /// # Errors
    /// [`ChildError::Start`] when fork or exec fails.
    pub async fn spawn(&self, spec: Spec) -> Result<Child, ChildError> {
        let children = self.clone();
        tokio::task::spawn_blocking(move || children.spawn_now(&spec))
            .await
            .map_err(|_| ChildError::Gone)??
            .into_child(self)
    }

    fn spawn_now(&self, spec: &Spec) -> Result<Started, ChildError> {
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(spec.env.iter().map(|(k, v)| (k, v)));
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let failed = |source| ChildError::Start {
            program: spec.program.to_string_lossy().into_owned(),
            source,
        };
        command.stdin(match &spec.input {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) => Stdio::piped(),
            Input::File(path) => std::fs::File::open(path).map_err(failed)?.into(),
        });
        if let Some(dir) = &spec.cwd {
            command.current_dir(dir);
        }
        if let Some(account) = spec.account.as_ref().filter(|a| a.must_switch()) {
            // std clears the supplementary groups before it switches.
            command.gid(account.gid).uid(account.uid);
        }
        let mut table = self.lock();
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that starts processes"
        )]
        let mut child = command.spawn().map_err(failed)?;
        let (tell, exit) = oneshot::channel();
        let pid = child.id().cast_signed();
        table.insert(pid, tell);
        drop(table);
        if let (Input::Bytes(bytes), Some(mut stdin)) = (&spec.input, child.stdin.take()) {
            // A child that does not read loses its input, not us: EPIPE is its affair.
            let _ignored: std::io::Result<()> = stdin.write_all(bytes);
        }
        Ok(Started {
            pid,
            exit,
            stdout: child.stdout.take().map(Into::into),
            stderr: child.stderr.take().map(Into::into),
        })
    }

    /// Runs a command to its end and keeps the end of its output. Its process group is killed when
    /// `limit` passes or the future is dropped.
    ///
    /// # Errors
    /// [`ChildError`]; an exit code other than 0 is not an error here.
    pub async fn run(&self, spec: Spec, limit: Duration) -> Result<Finished, ChildError> {
        self.run_with_lines(spec, limit, |_| {}).await
    }

    /// As [`Children::run`], and gives every line of standard error to `line` as it comes: the
    /// progress of a long command.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub async fn run_with_lines(
        &self,
        spec: Spec,
        limit: Duration,
        mut line: impl FnMut(&str),
    ) -> Result<Finished, ChildError> {
        let program = spec.program.to_string_lossy().into_owned();
        let mut child = self.spawn(spec).await?;
        let pid = child.pid;
        let (mut out, mut err) = (Tail::default(), Tail::default());
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let finished = {
            let mut read = std::pin::pin!(async {
                tokio::join!(
                    out.fill(stdout.as_mut(), |_| {}),
                    err.fill(stderr.as_mut(), &mut line)
                )
            });
            let whole = async {
                let mut drained = false;
                let exit = loop {
                    tokio::select! {
                        exit = child.wait() => break exit,
                        _ = &mut read, if !drained => drained = true,
                    }
                };
                if !drained {
                    // Ends early when the pipes close; else a grandchild holds them.
                    drop(tokio::time::timeout(DRAIN, &mut read).await);
                }
                exit
            };
            tokio::time::timeout(limit, whole).await
        };
        match finished {
            Ok(exit) => Ok(Finished {
                exit: exit?,
                stdout: out.text(),
                stderr: err.text(),
            }),
            Err(_elapsed) => {
                self.signal_group(pid, Signal::SIGKILL);
                let last_words = Finished {
                    exit: Exit::Signal(libc::SIGKILL),
                    stdout: out.text(),
                    stderr: err.text(),
                }
                .last_words();
                // Killed just now: its end must not be mistaken for an orphan's.
                drop(child.wait().await);
                Err(ChildError::Timeout {
                    program,
                    limit,
                    last_words,
                })
            }
        }
    }

    /// Reaps everything that has ended. Blocks only while a spawn holds the lock; run it on the
    /// blocking pool. Returns how many were orphans.
    pub fn sweep(&self) -> u64 {
        let mut orphans = 0;
        let mut table = self.lock();
        loop {
            let mut status: libc::c_int = 0;
            // SAFETY: waitpid writes one c_int to the pointer, which is valid for the call. libc is
            // called directly because nix returns EINVAL for a death by real-time signal after it
            // has consumed the zombie, so the pid would be lost.
            #[expect(unsafe_code, reason = "nix's waitpid loses real-time signals")]
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            match pid {
                0 => break,
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => break, // ECHILD: no children at all.
                pid => {
                    let exit = if libc::WIFSIGNALED(status) {
                        Exit::Signal(libc::WTERMSIG(status))
                    } else {
                        Exit::Code(libc::WEXITSTATUS(status))
                    };
                    if let Some(tell) = table.remove(&pid) {
                        // The waiter may have been dropped; the child is reaped all the same.
                        let _nobody: Result<(), Exit> = tell.send(exit);
                    } else {
                        orphans += 1;
                        tracing::debug!(pid, %exit, "orphan reaped");
                    }
                }
            }
        }
        self.orphans.fetch_add(orphans, Ordering::Relaxed);
        drop(table);
        self.sweeps.send_modify(|count| *count += 1);
        orphans
    }

    /// Changes whenever something may have been reaped: an event to wait for instead of polling.
    #[must_use]
    pub fn reaped(&self) -> watch::Receiver<u64> {
        self.sweeps.subscribe()
    }

    /// Children of ours that still exist, orphans included, zombies not.
    #[must_use]
    pub fn left(&self) -> usize {
        let us = nix::unistd::getpid().as_raw();
        let look = || {
            let all = super::processes();
            all.iter().filter(|p| p.parent == us && !p.zombie).count()
        };
        // A walk through /proc is no snapshot: a parent may end between its children's lines and its own. What was
        // its is ours when we look again.
        match look() {
            0 => look(),
            n => n,
        }
    }

    /// Signals one child of ours; `false` when it is not in the table any more.
    pub fn signal(&self, pid: i32, signal: Signal) -> bool {
        let table = self.lock();
        table.contains_key(&pid) && send(Pid::from_raw(pid), signal)
    }

    /// Signals the process group that a child of ours leads.
    pub fn signal_group(&self, pid: i32, signal: Signal) -> bool {
        let table = self.lock();
        table.contains_key(&pid) && send(Pid::from_raw(-pid), signal)
    }

    /// Signals the process groups that children of ours lead, those for which `which` holds.
    pub fn signal_groups(&self, signal: Signal, which: impl Fn(&super::Process) -> bool) -> usize {
        let table = self.lock();
        let ours = super::processes()
            .into_iter()
            .filter(|p| table.contains_key(&p.pid) && which(p));
        ours.filter(|p| send(Pid::from_raw(-p.pid), signal)).count()
    }

    /// Signals adopted processes: children that the kernel gave to us and that were never in the
    /// table. The lock keeps a sweep from freeing their pids meanwhile.
    pub fn signal_orphans(&self, signal: Signal, which: impl Fn(&super::Process) -> bool) -> usize {
        let table = self.lock();
        let ours = super::processes().into_iter().filter(|p| {
            p.parent == nix::unistd::getpid().as_raw() && !table.contains_key(&p.pid) && which(p)
        });
        ours.filter(|p| send(Pid::from_raw(p.pid), signal)).count()
    }

    /// Orphans alive at the moment for which `which` holds.
    pub fn orphans(&self, which: impl Fn(&super::Process) -> bool) -> Vec<super::Process> {
        let table = self.lock();
        let us = nix::unistd::getpid().as_raw();
        super::processes()
            .into_iter()
            .filter(|p| p.parent == us && !p.zombie && !table.contains_key(&p.pid) && which(p))
            .collect()
    }

    /// Ends whatever is left, for the last moments of our own life: every process of the namespace
    /// when we are PID 1 (never otherwise), else all that descend from us, orphans included. Their
    /// children too: they are somebody else's once we are gone.
    pub fn signal_all(&self, signal: Signal) {
        let _table = self.lock();
        if is_pid_1() {
            send(Pid::from_raw(-1), signal);
            return;
        }
        let us = nix::unistd::getpid().as_raw();
        for pid in super::process::descendants(&super::processes(), us) {
            send(Pid::from_raw(pid), signal);
        }
    }
}

/// Becomes another program, with our standard streams and environment: for a verb that only decides
/// whether and how that program runs. Returns only when it cannot be started.
#[must_use]
pub fn become_program(program: &str, args: &[String]) -> ChildError {
    ChildError::Start {
        program: program.to_owned(),
        source: Command::new(program).args(args).exec(),
    }
}

/// Whether we are the first process of our PID namespace.
#[must_use]
pub fn is_pid_1() -> bool {
    std::process::id() == 1
}

fn send(pid: Pid, signal: Signal) -> bool {
    #[expect(clippy::disallowed_methods, reason = "callers hold the table's lock")]
    nix::sys::signal::kill(pid, signal).is_ok()
}

/// A child as the blocking thread hands it over.
struct Started {
    pid: i32,
    exit: oneshot::Receiver<Exit>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Started {
    fn into_child(self, children: &Children) -> Result<Child, ChildError> {
        // Wrapped first, so that a failure below kills the process instead of losing it.
        let mut child = Child {
            pid: self.pid,
            exit: Some(self.exit),
            stdout: None,
            stderr: None,
            children: children.clone(),
            leave_alone: false,
        };
        let open = |fd: Option<OwnedFd>| fd.map(pipe::Receiver::from_owned_fd).transpose();
        let failed = |source| ChildError::Start {
            program: format!("pid {}", child.pid),
            source,
        };
        let stdout = open(self.stdout).map_err(failed)?;
        let stderr = open(self.stderr).map_err(failed)?;
        child.stdout = stdout;
        child.stderr = stderr;
        Ok(child)
    }
}
