//! A thin wrapper over the docker command: containers on a network of their own, all of it labelled
//! and removed in the end, also after a panic.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Generous: a noisy machine with two cores.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// What went wrong, for a person.
pub(crate) type Outcome<T> = Result<T, String>;

pub(crate) fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().unwrap()
}

/// The command's output; a failure is an error with all that it said.
pub(crate) fn must(args: &[&str]) -> Outcome<String> {
    let end = docker(args);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if end.status.success() {
        Ok(said(&end.stdout))
    } else {
        let (out, err) = (said(&end.stdout), said(&end.stderr));
        Err(format!("docker {}: {out} {err}", args.join(" ")))
    }
}

/// Polls until there is an answer. The one place of these tests that waits.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(answer) = ask().map_err(|why| format!("waiting for {what}: {why}"))? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {LONG:?} in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

static BUSY: Mutex<u32> = Mutex::new(0);
static FREE: Condvar = Condvar::new();
/// Tests with containers at a time.
const AT_ONCE: u32 = 2;

/// A network, and everything that is started on it.
pub(crate) struct Site {
    name: String,
}

impl Site {
    pub(crate) fn new(test: &str) -> Self {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        while *busy >= AT_ONCE {
            busy = FREE.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        *busy += 1;
        drop(busy);
        let name = format!("pgnode-kill-{}-{test}", std::process::id());
        must(&["network", "create", "--label", &label(&name), &name]).unwrap();
        Self { name }
    }

    /// A name for a volume that nobody had before.
    pub(crate) fn volume(&self) -> Outcome<String> {
        let name = format!("{}-v{}", self.name, next());
        must(&["volume", "create", "--label", &label(&self.name), &name])
    }

    /// Starts a node on a volume. `script` is copied to `/docker-entrypoint-initdb.d`.
    pub(crate) fn start(
        &self,
        host: &str,
        volume: &str,
        vars: &[(&str, &str)],
        script: Option<&str>,
    ) -> Outcome<Container> {
        let name = format!("{}-c{}", self.name, next());
        let container = Container { name };
        let (label, mount) = (label(&self.name), format!("{volume}:/var/lib/postgresql"));
        let image = std::env::var("PGNODE_IMAGE").unwrap_or_else(|_| "pgnode:local".to_owned());
        let vars: Vec<String> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut args = vec!["create", "--name", &container.name, "--label", &label];
        args.extend(["--hostname", host, "--network", &self.name]);
        args.extend(["--network-alias", host, "-v", &mount]);
        for var in &vars {
            args.extend(["-e", var]);
        }
        args.push(&image);
        must(&args)?;
        if let Some(script) = script {
            let to = format!("{}:/docker-entrypoint-initdb.d/", container.name);
            must(&["cp", script, &to])?;
        }
        must(&["start", &container.name])?;
        Ok(container)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mine = format!("label={}", label(&self.name));
        for (list, remove) in [
            (["ps", "-aq"], ["rm", "-f", "-v"].as_slice()),
            (["volume", "ls"], ["volume", "rm", "-f"].as_slice()),
            (["network", "ls"], ["network", "rm"].as_slice()),
        ] {
            let found = docker(&[list[0], list[1], "-q", "--filter", &mine]);
            let ids = String::from_utf8_lossy(&found.stdout).into_owned();
            let args: Vec<&str> = remove
                .iter()
                .copied()
                .chain(ids.split_whitespace())
                .collect();
            if args.len() > remove.len() {
                docker(&args);
            }
        }
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREE.notify_one();
    }
}

fn label(site: &str) -> String {
    format!("pgnode-test={site}")
}

fn next() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Gone when dropped, killed if need be: to the node that is one more `kill -9`.
pub(crate) struct Container {
    name: String,
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.name]);
    }
}

impl Container {
    pub(crate) fn logs(&self) -> String {
        String::from_utf8_lossy(&docker(&["logs", &self.name]).stdout).into_owned()
    }

    /// An error once it has ended: nothing more is to be expected of it.
    pub(crate) fn lives(&self) -> Outcome<()> {
        let state = "{{.State.Running}} {{.State.ExitCode}}";
        let said = must(&["inspect", "-f", state, &self.name])?;
        match said.strip_prefix("false ") {
            Some(code) => Err(format!("the container has ended with {code}")),
            None => Ok(()),
        }
    }

    /// `kill -9` of everything in the container at once.
    pub(crate) fn kill(&self) -> Outcome<()> {
        must(&["kill", "-s", "KILL", &self.name])?;
        must(&["wait", &self.name]).map(drop)
    }

    pub(crate) fn exec(&self, args: &[&str]) -> Outcome<String> {
        let mut all = vec!["exec", &self.name];
        all.extend(args);
        must(&all)
    }

    /// What the node says of itself; `None` while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let said = self.exec(&["pgnode", "status", "--json"]).ok()?;
        serde_json::from_str(&said).ok()
    }

    /// As the superuser over the socket.
    pub(crate) fn psql(&self, port: &str, db: &str, sql: &str) -> Outcome<String> {
        let at = format!("host=/run/postgresql port={port} user=postgres dbname={db}");
        self.exec(&[
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &at,
            "-c",
            sql,
        ])
    }

    /// Over TCP with a password, as a client does it.
    pub(crate) fn greet(&self, host: &str, password: &str) -> Outcome<String> {
        let at = format!("host={host} port=5432 user=postgres dbname=postgres");
        let secret = format!("PGPASSWORD={password}");
        let name = &self.name;
        must(&[
            "exec", "-e", &secret, name, "psql", "-XAtq", "-d", &at, "-c", "SELECT 1",
        ])
    }

    /// Follows the log until so many lines were seen, or one that holds `end`.
    pub(crate) fn follow(&self, lines: usize, end: &str) -> usize {
        let mut child = Command::new("docker")
            .args(["logs", "-f", &self.name])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                seen += 1;
                if seen >= lines || line.contains(end) {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen
    }
}
