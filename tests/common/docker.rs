//! Real containers for tests: a thin wrapper over the docker command line. Every test has a network and
//! names of its own, and everything is removed when its [`Cluster`] is dropped, also on a panic.

#![allow(dead_code, reason = "shared by test binaries that each use a part")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start docker themselves; the rule is for the product"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness for tests"
)]

use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Generous: the machine is shared.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// For barman's first backup, which syncs 30 MB file by file.
pub(crate) const BACKUP: Duration = Duration::from_secs(300);

/// The image under test.
pub(crate) fn image() -> String {
    std::env::var("PGNODE_IMAGE").unwrap_or_else(|_| "pgnode:local".into())
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its output; the test fails when it failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.trim_end().to_owned()
    }
}

/// Runs `docker …`.
pub(crate) fn docker<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Ran {
    docker_with(words, "")
}

/// Runs `docker …` with standard input.
pub(crate) fn docker_with<S: AsRef<str>>(words: impl IntoIterator<Item = S>, input: &str) -> Ran {
    let mut child = Command::new("docker")
        .args(words.into_iter().map(|w| w.as_ref().to_owned()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let end = child.wait_with_output().unwrap();
    Ran {
        code: end.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&end.stdout).into_owned(),
        err: String::from_utf8_lossy(&end.stderr).into_owned(),
    }
}

/// Polls until `look` gives something. The only place with a pause.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A schedule that does not come in a test's life.
pub(crate) const NEVER: &str = "0 0 29 2 *";

/// One test's network, containers and volumes.
#[derive(Debug)]
pub(crate) struct Cluster {
    id: String,
    containers: RefCell<Vec<String>>,
    volumes: RefCell<Vec<String>>,
    networks: RefCell<Vec<String>>,
}

impl Cluster {
    pub(crate) fn new(test: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("pgt-{test}-{}-{n}", std::process::id());
        docker(["network", "create", "--label", "pgnode-test", &id]).ok();
        Self {
            networks: RefCell::new(vec![id.clone()]),
            id,
            containers: RefCell::default(),
            volumes: RefCell::default(),
        }
    }

    pub(crate) fn network(&self) -> &str {
        &self.id
    }

    /// A volume that lives as long as the test.
    pub(crate) fn volume(&self, name: &str) -> String {
        let full = format!("{}-{name}", self.id);
        if !self.volumes.borrow().contains(&full) {
            docker(["volume", "create", "--label", "pgnode-test", &full]).ok();
            self.volumes.borrow_mut().push(full.clone());
        }
        full
    }

    /// A node of that name with a volume of its own, not yet started.
    pub(crate) fn node(&self, name: &str) -> Plan<'_> {
        Plan {
            cluster: self,
            name: name.to_owned(),
            flags: Vec::new(),
            env: Vec::new(),
            words: Vec::new(),
            volume: Some(self.volume(name)),
            known: true,
        }
    }

    /// The usual master `pg1`, whose slave is `pg2`.
    pub(crate) fn master(&self) -> Plan<'_> {
        self.node("pg1")
            .env("REPMGR_MASTER", "true")
            .env("REPMGR_SLAVES", "pg2")
    }

    /// The usual slave `pg2`.
    pub(crate) fn slave(&self) -> Plan<'_> {
        self.node("pg2")
            .env("REPMGR_MASTER", "false")
            .env("REPMGR_PRIMARY_HOST", "pg1")
    }

    /// A helper container from the same image that runs something else.
    pub(crate) fn helper(&self, name: &str, words: &[&str], more: &[&str]) -> Node {
        let more = [&["--entrypoint", words[0]], more].concat();
        self.container(name, &image(), &more, &words[1..])
    }

    /// HAProxy with the playground's configuration; `PGNODE_HAPROXY_IMAGE` names the image.
    pub(crate) fn haproxy(&self) -> Node {
        let image = std::env::var("PGNODE_HAPROXY_IMAGE")
            .unwrap_or_else(|_| "pgnode-haproxy:trixie".into());
        let mut node = self.container("haproxy", &image, &[], &[]);
        node.port = 5000;
        node
    }

    /// A running container of any image, whose name in the network is `name`.
    pub(crate) fn container(&self, name: &str, image: &str, more: &[&str], words: &[&str]) -> Node {
        let container = format!("{}-{name}", self.id);
        self.containers.borrow_mut().push(container.clone());
        let mut all = vec!["run", "-d", "--name", &container, "--network", &self.id];
        all.extend(["--label", "pgnode-test", "--no-healthcheck"]);
        all.extend(["--network-alias", name]);
        all.extend(more);
        all.push(image);
        all.extend(words);
        docker(all).ok();
        Node {
            container,
            name: name.to_owned(),
            port: 5432,
            superuser: "postgres".into(),
            http: RefCell::default(),
            told: Cell::default(),
        }
    }

    /// Removes a container and keeps its volume.
    pub(crate) fn remove(&self, node: Node) {
        docker(["rm", "-f", &node.container]).ok();
        self.containers
            .borrow_mut()
            .retain(|c| *c != node.container);
    }

    /// What is on a node's volume, by a shell command as root with the volume at `/v`.
    pub(crate) fn on_volume(&self, name: &str, shell: &str) -> Ran {
        let mount = format!("{}:/v", self.volume(name));
        docker([
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "bash",
            "-v",
            &mount,
            &image(),
            "-c",
            shell,
        ])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let containers = self.containers.take();
        if std::thread::panicking() {
            for name in &containers {
                let logs = docker(["logs", "--tail", "40", name]);
                eprintln!("--- {name}\n{}{}", logs.out, logs.err);
            }
        }
        for name in containers {
            docker(["rm", "-f", "-v", &name]);
        }
        for name in self.volumes.take() {
            docker(["volume", "rm", "-f", &name]);
        }
        for name in self.networks.take() {
            docker(["network", "rm", &name]);
        }
    }
}

/// A node to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    cluster: &'a Cluster,
    name: String,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    words: Vec<String>,
    volume: Option<String>,
    known: bool,
}

impl Plan<'_> {
    /// Sets a variable; the last one counts.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// More words for `docker create`.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Words after the image.
    pub(crate) fn words(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|w| (*w).to_owned()));
        self
    }

    /// Another node's volume.
    pub(crate) fn volume_of(mut self, name: &str) -> Self {
        self.volume = Some(self.cluster.volume(name));
        self
    }

    /// Peers cannot find it by its name.
    pub(crate) fn unknown(mut self) -> Self {
        self.known = false;
        self
    }

    /// Makes the container; `docker start` is [`Node::start`].
    pub(crate) fn create(self) -> Node {
        let cluster = self.cluster;
        let n = cluster.containers.borrow().len();
        let container = format!("{}-{}-{n}", cluster.id, self.name);
        let mut words: Vec<String> = ["create", "--label", "pgnode-test", "--name", &container]
            .map(str::to_owned)
            .to_vec();
        words.extend(["--hostname", &self.name, "--network", &cluster.id].map(str::to_owned));
        words.push("--no-healthcheck".into());
        if self.known {
            words.extend(["--network-alias".into(), self.name.clone()]);
        }
        if let Some(volume) = &self.volume {
            words.extend(["-v".into(), format!("{volume}:/var/lib/postgresql")]);
        }
        let mut env = self.env;
        if !env.iter().any(|(n, _)| n == "REPMGR_NODE_NAME") {
            env.push(("REPMGR_NODE_NAME".into(), self.name.clone()));
        }
        // No test may find another backup because it runs at the hour of the daily one.
        if !env.iter().any(|(n, _)| n == "BARMAN_BACKUP_SCHEDULE") {
            env.push(("BARMAN_BACKUP_SCHEDULE".into(), NEVER.into()));
        }
        // As long as `Node::stop` waits. By itself a node expects docker's ten seconds, of which a slow disk needs more.
        if !env.iter().any(|(n, _)| n == "PGNODE_STOP_TIMEOUT") {
            env.push(("PGNODE_STOP_TIMEOUT".into(), "60s".into()));
        }
        for (name, value) in &env {
            words.extend(["-e".into(), format!("{name}={value}")]);
        }
        words.extend(self.flags);
        words.push(image());
        words.extend(self.words);
        docker(words).ok();
        cluster.containers.borrow_mut().push(container.clone());
        let value = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        Node {
            container,
            name: self.name,
            port: value("PGPORT").and_then(|p| p.parse().ok()).unwrap_or(5432),
            superuser: value("POSTGRES_USER").unwrap_or_else(|| "postgres".into()),
            http: RefCell::default(),
            told: Cell::default(),
        }
    }

    /// Makes the container and starts it.
    pub(crate) fn start(self) -> Node {
        let node = self.create();
        node.start();
        node
    }

    /// Starts it and waits until it is open.
    pub(crate) fn open(self) -> Node {
        let node = self.start();
        node.wait_open();
        node
    }
}

/// A container.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) container: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) superuser: String,
    http: RefCell<Option<SocketAddr>>,
    /// When it was last told to start. Docker's `StartedAt` comes after the first lines of a quick program: it is taken
    /// when the daemon hears of the start.
    told: Cell<Duration>,
}

/// What an HTTP request gave.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Node {
    pub(crate) fn start(&self) {
        self.http.replace(None);
        self.told.set(UNIX_EPOCH.elapsed().unwrap());
        docker(["start", &self.container]).ok();
    }

    /// `docker stop` with a grace period that only a hang can use up.
    pub(crate) fn stop(&self) {
        docker(["stop", "-t", "60", &self.container]).ok();
    }

    pub(crate) fn kill(&self, signal: &str) {
        docker(["kill", "-s", signal, &self.container]).ok();
    }

    /// Freezes it. runc gives up on a container in which an exec has just begun or ended.
    pub(crate) fn pause(&self) {
        eventually(&format!("{} is frozen", self.name), LONG, || {
            let ran = docker(["pause", &self.container]);
            (ran.code == 0).then_some(())
        });
    }

    pub(crate) fn unpause(&self) {
        docker(["unpause", &self.container]).ok();
    }

    /// A field of `docker inspect`.
    pub(crate) fn inspect(&self, format: &str) -> String {
        docker(["inspect", "-f", format, &self.container]).ok()
    }

    /// Its address in the test's network, which the host reaches; none while it does not run.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.inspect(format).parse().ok()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    /// Waits for the end; its exit code.
    pub(crate) fn ended(&self) -> i32 {
        eventually(&format!("{} ends", self.name), LONG, || {
            (!self.is_running()).then_some(())
        });
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// Everything that it wrote to both streams.
    pub(crate) fn logs(&self) -> String {
        let ran = docker(["logs", &self.container]);
        format!("{}{}", ran.out, ran.err)
    }

    /// The log since the last start.
    pub(crate) fn logs_since_start(&self) -> String {
        let told = self.told.get();
        let since = format!("{}.{:09}", told.as_secs(), told.subsec_nanos());
        let ran = docker(["logs", "--since", &since, &self.container]);
        format!("{}{}", ran.out, ran.err)
    }

    /// A shell command inside, as root.
    pub(crate) fn sh(&self, shell: &str) -> Ran {
        docker(["exec", &self.container, "bash", "-c", shell])
    }

    /// A shell command inside, as that user.
    pub(crate) fn sh_as(&self, user: &str, shell: &str) -> Ran {
        docker(["exec", "-u", user, &self.container, "bash", "-c", shell])
    }

    /// A statement as the superuser over the socket.
    pub(crate) fn try_psql(&self, sql: &str) -> Ran {
        let port = self.port.to_string();
        docker_with(
            [
                "exec",
                "-i",
                &self.container,
                "psql",
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "/run/postgresql",
                "-p",
                &port,
                "-U",
                &self.superuser,
                "-d",
                "postgres",
            ],
            sql,
        )
    }

    #[track_caller]
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).ok()
    }

    /// A GET at the node's HTTP port, `None` when nobody answers: of one that runs not at the first silence, which a busy
    /// machine explains.
    pub(crate) fn get(&self, path: &str) -> Option<Page> {
        for _ in 0..3 {
            let page = self.ask(path);
            if page.is_some() || !self.is_running() {
                return page;
            }
        }
        None
    }

    fn ask(&self, path: &str) -> Option<Page> {
        let address = *self.http.borrow();
        let address = match address {
            Some(address) => address,
            None => {
                let address = SocketAddr::new(self.ip()?, 8008);
                self.http.replace(Some(address));
                address
            }
        };
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Page {
            code: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// `/status`, `None` while nobody answers.
    pub(crate) fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.get("/status")?.body).ok()
    }

    pub(crate) fn state(&self) -> String {
        self.status().map_or_else(
            || "silent".to_owned(),
            |s| s["state"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// Waits for a status with some property.
    #[track_caller]
    pub(crate) fn wait_status(&self, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{}: {what}", self.name), BACKUP, || {
            let status = self.status();
            if status.is_none() && !self.is_running() {
                panic!("{} ended while waiting: {what}\n{}", self.name, self.logs());
            }
            status.filter(|s| look(s))
        })
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, state: &str) -> Value {
        self.wait_status(state, |s| s["state"] == state)
    }

    #[track_caller]
    pub(crate) fn wait_open(&self) -> Value {
        self.wait_state("open")
    }

    #[track_caller]
    pub(crate) fn wait_streaming(&self) -> Value {
        self.wait_status("streams", |s| {
            s["state"] == "open" && s["streaming"] == true
        })
    }

    /// Waits until a line of the log contains this.
    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str) {
        eventually(&format!("{} logs {text:?}", self.name), BACKUP, || {
            self.logs().contains(text).then_some(())
        });
    }

    /// Waits until a row that `sql` counts is there.
    #[track_caller]
    pub(crate) fn wait_row(&self, sql: &str, want: &str) {
        eventually(&format!("{}: {sql} = {want}", self.name), LONG, || {
            let ran = self.try_psql(sql);
            (ran.code == 0 && ran.out.trim_end() == want).then_some(())
        });
    }

    /// The names of the boot's steps.
    pub(crate) fn boot(&self) -> Vec<String> {
        let status = self.status().unwrap();
        let steps = status["boot"].as_array().unwrap();
        let name = |s: &Value| s["state"].as_str().unwrap().to_owned();
        steps.iter().map(name).collect()
    }

    /// Whether its log contains this.
    pub(crate) fn logged(&self, text: &str) -> bool {
        self.logs().contains(text)
    }
}

/// `pg_controldata`'s word for the cluster on a stopped node's volume.
pub(crate) fn cluster_state(cluster: &Cluster, node: &str) -> String {
    let ran = cluster.on_volume(node, "pg_controldata /v/data");
    let line = ran.out.lines().find_map(|l| {
        l.strip_prefix("Database cluster state:")
            .map(|s| s.trim().to_owned())
    });
    line.unwrap_or_else(|| format!("none: {}", ran.err))
}

/// Lines for a message.
pub(crate) fn lines<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().fold(String::new(), |mut text, item| {
        writeln!(text, "  {item}").ok();
        text
    })
}
