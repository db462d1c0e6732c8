//! One container, whatever software runs in it.

use super::Outcome;
use super::docker::{docker, eventually, must, run};
use super::links::Link;
use super::sql::Door;
use super::volumes::Volume;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A node's container. Its address stays over restarts.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) container: String,
    pub(crate) door: Door,
    /// What can be filled, where the machine can mount one.
    pub(crate) volume: Option<Volume>,
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        &self.door.name
    }

    pub(crate) fn inspect(&self, format: &str) -> Outcome<String> {
        docker(&["inspect", "-f", format, &self.container])
    }

    pub(crate) fn is_running(&self) -> bool {
        self.inspect("{{.State.Running}}")
            .is_ok_and(|s| s == "true")
    }

    /// The host's pid of PID 1.
    pub(crate) fn pid(&self) -> Outcome<String> {
        let pid = self.inspect("{{.State.Pid}}")?;
        if pid == "0" {
            return Err(format!("{} does not run", self.name()));
        }
        Ok(pid)
    }

    pub(crate) fn link<'a>(&self, gateway: &'a str) -> Outcome<Link<'a>> {
        Ok(Link {
            pid: self.pid()?,
            gateway,
        })
    }

    pub(crate) fn start(&self) -> Outcome<()> {
        docker(&["start", &self.container]).map(drop)
    }

    /// A freeze that the engine refuses is asked for again: runc gives up on a busy container.
    pub(crate) fn freeze(&self) -> Outcome<()> {
        eventually(Duration::from_secs(10), || {
            docker(&["pause", &self.container]).map(drop)
        })
    }

    /// When its processes ran again: the kernel says so some milliseconds before docker does. Where the
    /// control group cannot be found, the moment of asking: whatever is counted from it is not too little.
    pub(crate) fn thaw(&self) -> Outcome<Instant> {
        let asked = Instant::now();
        let state = self.freezer();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let state = state?;
                while !done.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&state).unwrap_or_default();
                    if text.starts_with("THAWED") || text.contains("frozen 0") {
                        return Some(Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                None
            });
            let end = eventually(Duration::from_secs(10), || {
                docker(&["unpause", &self.container]).map(drop)
            });
            done.store(true, Ordering::Relaxed);
            let seen = watcher.join().ok().flatten();
            end.map(|()| seen.unwrap_or(asked))
        })
    }

    /// Where the kernel says whether the container is frozen.
    fn freezer(&self) -> Option<PathBuf> {
        let id = self.inspect("{{.Id}}").ok()?;
        let places = [
            format!("freezer/docker/{id}/freezer.state"),
            format!("docker/{id}/cgroup.events"),
            format!("system.slice/docker-{id}.scope/cgroup.events"),
        ];
        let root = Path::new("/sys/fs/cgroup");
        places.iter().map(|p| root.join(p)).find(|p| p.exists())
    }

    pub(crate) fn sh(&self, user: &str, script: &str) -> Outcome<String> {
        docker(&["exec", "-u", user, &self.container, "bash", "-c", script])
    }

    /// SIGKILL of a process inside, from the host: nothing else is started in the container.
    pub(crate) fn kill_from_host(&self, which: impl Fn(&str) -> bool) -> Outcome<()> {
        let table = docker(&["top", &self.container, "-eo", "pid,args"])?;
        let found = table.lines().skip(1).find_map(|line| {
            let (pid, args) = line.trim().split_once(' ')?;
            which(args.trim()).then(|| pid.to_owned())
        });
        let pid = found.ok_or_else(|| format!("{}: no such process:\n{table}", self.name()))?;
        must("kill", &["-KILL", &pid]).map(drop)
    }

    /// Processes that nobody reaped.
    pub(crate) fn zombies(&self) -> Outcome<usize> {
        let table = docker(&["top", &self.container, "-eo", "pid,stat,comm"])?;
        let is_zombie = |line: &&str| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|s| s.starts_with('Z'))
        };
        Ok(table.lines().skip(1).filter(is_zombie).count())
    }

    /// What the node says of itself.
    pub(crate) fn status(&self) -> Outcome<serde_json::Value> {
        let (_, body) = self.get("/status")?;
        serde_json::from_str(&body).map_err(|e| format!("/status: {e}"))
    }

    /// The code of a GET at the node's HTTP port, and the body.
    pub(crate) fn get(&self, path: &str) -> Outcome<(u16, String)> {
        let said = |e: std::io::Error| format!("{}: {path}: {e}", self.name());
        let address: SocketAddr = format!("{}:8008", self.door.ip)
            .parse()
            .map_err(|e| format!("{e}"))?;
        let mut stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(said)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .map_err(said)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").map_err(said)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(said)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no page")?;
        let code = head.split(' ').nth(1).and_then(|c| c.parse().ok());
        Ok((code.ok_or("no code")?, body.to_owned()))
    }

    /// Everything that it logged of late.
    pub(crate) fn logs(&self, lines: u32) -> String {
        let end = run(
            "docker",
            &["logs", "-t", "--tail", &lines.to_string(), &self.container],
        );
        let (out, err) = (
            String::from_utf8_lossy(&end.stdout),
            String::from_utf8_lossy(&end.stderr),
        );
        format!("{out}{err}")
    }
}
