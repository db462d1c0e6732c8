//! A world of its own for `pgnode run`: all directories in a temporary one, and bash scripts in the
//! place of PostgreSQL's programs. Not run as root: everything happens under one foreign uid.

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Generous: a noisy machine with two cores.
const LONG: Duration = Duration::from_secs(120);

/// `nobody`, when the tests run as root.
const UID: u32 = 65534;

/// Polls until there is an answer. The one place of these tests that waits.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The scripts say that they are PostgreSQL 17; what else they do, each test says.
const VERSION: &str =
    "case \"${1-}\" in --version) echo 'postgres (PostgreSQL) 17.12'; exit;; esac";

/// A server: the port of its arguments, a right `postmaster.pid`, TERM-like behaviour by `$STOP`.
const POSTGRES: &str = r#"
dir= port=
while [ $# -gt 0 ]; do
    case $1 in
    -D) dir=$2; shift ;;
    -c) case $2 in port=*) port=${2#port=} ;; esac; shift ;;
    esac
    shift
done
up() {
    printf '%s\n%s\n%s\n%s\n%s\n*\n1 2\n%s\n' $$ "$dir" "$(date +%s)" "$port" "$ROOT/sock" "$1" >"$dir/postmaster.pid"
}
down() { rm -f "$dir/postmaster.pid"; kill -9 $sleeper 2>/dev/null; exit 0; }
hang() { sleep infinity & sleeper=$!; while :; do wait $sleeper; done; }
"#;

/// A server as it should be.
pub(crate) const GOOD_POSTGRES: &str = "trap down INT TERM QUIT; up 'ready   '; hang";

const CONTROL: &str = "
printf '%s\\n' 'Database system identifier:           7000000000000000001' \\
    'Database cluster state:               shut down in recovery' \\
    'Latest checkpoint location:           0/3000028' \\
    \"Latest checkpoint's TimeLineID:       1\" \\
    'Minimum recovery ending location:     0/3000110' \\
    \"Min recovery ending loc's timeline:   0\" \\
    'wal_log_hints setting:                on' \\
    'Data page checksum version:           1' \\
    'Bytes per WAL segment:                16777216'";

/// A cluster, small but complete as far as pgnode looks.
pub(crate) const GOOD_INITDB: &str = "
mkdir -p \"$2/global\"; echo 17 >\"$2/PG_VERSION\"; : >\"$2/global/pg_control\"; : >\"$2/postgresql.conf\"";

/// What a program does that only has to be there.
const HANG: &str = "exec sleep infinity";

/// The directories and programs of one node.
pub(crate) struct Rig {
    root: tempfile::TempDir,
    http: SocketAddrV4,
    vars: Vec<(String, String)>,
}

impl Rig {
    /// An empty volume and well-behaved programs.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let root = tempfile::Builder::new().prefix("pgn").tempdir().unwrap();
        // An address that nobody else has: all of 127/8 is this machine.
        let pid = std::process::id().to_be_bytes();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let host = Ipv4Addr::new(
            127,
            100 + (pid[1] & 63) + (count & 64),
            pid[2] ^ count,
            pid[3],
        );
        let rig = Self {
            http: SocketAddrV4::new(host, 8008),
            vars: Vec::new(),
            root,
        };
        for dir in ["bin", "volume"] {
            fs::create_dir(rig.path(dir)).unwrap();
        }
        rig.program("postgres", &format!("{POSTGRES}{GOOD_POSTGRES}"));
        rig.program("initdb", GOOD_INITDB);
        rig.program("pg_controldata", CONTROL);
        for name in [
            "pg_basebackup",
            "psql",
            "repmgr",
            "repmgrd",
            "barman",
            "cron",
        ] {
            rig.program(name, HANG);
        }
        let pgnode = rig.path("pgnode");
        let built = env!("CARGO_BIN_EXE_pgnode");
        // Where the build is, that uid may not look.
        if fs::hard_link(built, &pgnode).is_err() {
            fs::copy(built, &pgnode).unwrap();
        }
        rig
    }

    /// A volume with a standby that repmgr knows: it opens without a word of SQL.
    pub(crate) fn standby() -> Self {
        let rig = Self::new();
        let data = rig.path("volume/data");
        fs::create_dir_all(data.join("global")).unwrap();
        fs::create_dir_all(rig.path("volume/.pgnode")).unwrap();
        fs::write(data.join("PG_VERSION"), "17\n").unwrap();
        for name in ["global/pg_control", "standby.signal", "postgresql.conf"] {
            fs::write(data.join(name), "").unwrap();
        }
        let memory = serde_json::json!({
            "node_id": 1, "node_name": "pg1", "system_id": 7_000_000_000_000_000_001_u64,
            "role": "standby", "salt": "00", "fingerprint": "00", "registered": true,
        });
        fs::write(rig.path("volume/.pgnode/state.json"), memory.to_string()).unwrap();
        rig
    }

    fn memory(&self) -> Value {
        let text = fs::read_to_string(self.path("volume/.pgnode/state.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// repmgr does not know the node, as far as the node remembers.
    pub(crate) fn unregister(&self) {
        let mut memory = self.memory();
        memory["registered"] = false.into();
        fs::write(self.path("volume/.pgnode/state.json"), memory.to_string()).unwrap();
    }

    /// Whether it remembers that repmgr knows it.
    pub(crate) fn is_registered(&self) -> bool {
        self.memory()["registered"] == true
    }

    /// The text of a program, to put something in front of it.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("bin").join(name)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes one of the programs; `$ROOT` is the rig's directory.
    pub(crate) fn program(&self, name: &str, body: &str) {
        self.script(name, &format!("{VERSION}\n{body}"));
    }

    /// As [`Rig::program`], but not even `--version` is answered.
    pub(crate) fn script(&self, name: &str, body: &str) {
        let root = self.root.path().display();
        let text = format!("#!/bin/bash\nPATH=/usr/bin:/bin ROOT={root}\n{body}\n");
        // A new file, renamed: a script that runs is read on as it goes.
        let (path, new) = (self.path("bin").join(name), self.path("bin/.new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    /// A server that does this instead.
    pub(crate) fn postgres(&self, body: &str) {
        self.program("postgres", &format!("{POSTGRES}{body}"));
    }

    pub(crate) fn var(&mut self, name: &str, value: &str) {
        self.vars.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the node.
    pub(crate) fn start(&self) -> Running<'_> {
        self.start_with(&[])
    }

    /// Starts the node, with more variables.
    pub(crate) fn start_with(&self, more: &[(&str, &str)]) -> Running<'_> {
        let root = nix::unistd::geteuid().is_root();
        if root {
            give(self.root.path());
        }
        let pgnode = self.path("pgnode");
        let mut command = if root {
            let mut command = Command::new("/usr/bin/setpriv");
            let id = |what: &str| format!("--re{what}={UID}");
            command.args([id("uid"), id("gid"), "--clear-groups".into(), "--".into()]);
            command.arg(&pgnode);
            command
        } else {
            Command::new(&pgnode)
        };
        let dir = |name: &str| self.path(name).display().to_string();
        command
            .arg("run")
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", dir("bin")))
            // Passed on to every child: how its processes are known.
            .env(MARK, self.root.path())
            .env("REPMGR_NODE_NAME", "pg1")
            .env("REPMGR_NODE_NETWORK_NAME", "127.0.0.1")
            .env("POSTGRES_PASSWORD", "secret")
            .env("BARMAN_MODE", "off")
            .env("PGNODE_STOP_TIMEOUT", "8s")
            .env("PGNODE_HTTP_ADDR", self.http.to_string())
            .env("PGNODE_DATA_DIR", dir("volume"))
            .env("PGNODE_RUN_DIR", dir("run"))
            .env("PGNODE_SOCKET_DIR", dir("sock"))
            .env("PGNODE_CONFIG_DIR", dir("etc"))
            .env("REPMGR_CONFIG_DIR", dir("repmgr.d"))
            .env("BARMAN_CONFIG_DIR", dir("barman.d"))
            .env("BARMAN_BACKUP_DIR", dir("backups"))
            .envs(self.vars.iter().map(|(k, v)| (k, v)))
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::default();
        log.read(child.stdout.take());
        log.read(child.stderr.take());
        Running {
            rig: self,
            pid: Pid::from_raw(child.id().cast_signed()),
            child,
            log,
        }
    }

    /// Processes that this rig's node started, or that those started, as `pid name`.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}\0", self.root.path().display());
        let mut found = Vec::new();
        for process in pgnode::sys::processes() {
            let environ = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            if environ.windows(mark.len()).any(|w| w == mark.as_bytes()) {
                found.push((process.pid, process.name));
            }
        }
        found
    }
}

const MARK: &str = "LC_PGNODE_TEST";

fn give(path: &Path) {
    chown(path, Some(UID), Some(UID)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            // The binary is a hard link to the build's own.
            if !path.is_symlink() && !path.ends_with("pgnode") {
                give(&path);
            }
        }
    }
}

/// What the node said so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn read(&self, pipe: Option<impl std::io::Read + Send + 'static>) {
        let log = self.0.clone();
        let pipe = BufReader::new(pipe.unwrap());
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A node that runs; dropped, it is killed with all that it started.
pub(crate) struct Running<'a> {
    rig: &'a Rig,
    child: Child,
    log: Log,
    pub(crate) pid: Pid,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("the node's last words:\n{}", last.join("\n"));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        for (pid, _) in self.rig.processes() {
            // It may be gone already.
            let _gone: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Running<'_> {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lines()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|l| l.contains(text)).count()
    }

    /// Until the log holds the text; returns the line.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.await_lines(text, 1)
    }

    /// Until so many lines hold the text; returns the last of them.
    pub(crate) fn await_lines(&self, text: &str, count: usize) -> String {
        let found = eventually(|| {
            let lines = self.lines();
            lines
                .into_iter()
                .filter(|l| l.contains(text))
                .nth(count - 1)
        });
        found.unwrap_or_else(|| panic!("the log never held `{text}` {count} times"))
    }

    /// `GET /status`; `None` while nobody answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut stream = TcpStream::connect(self.rig.http).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        stream
            .write_all(b"GET /status HTTP/1.0\r\nHost: x\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Until `/status` is as wanted.
    pub(crate) fn await_status(&self, what: &str, want: impl Fn(&Value) -> bool) -> Value {
        let found = eventually(|| self.status().filter(&want));
        found.unwrap_or_else(|| panic!("/status never said {what}"))
    }

    pub(crate) fn await_state(&self, state: &str) -> Value {
        self.await_status(state, |s| s["state"] == state)
    }

    /// The pid of a child, from `/status`.
    pub(crate) fn child(&self, name: &str) -> Option<i32> {
        let status = self.status()?;
        let children = status["children"].as_array()?.clone();
        let view = children.into_iter().find(|c| c["name"] == name)?;
        i32::try_from(view["pid"].as_i64()?).ok()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn end(&mut self) -> i32 {
        let status = eventually(|| self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| panic!("it does not end"));
        assert_eq!(status.signal(), None, "it ended by a signal");
        status.code().unwrap()
    }

    /// It has ended with this code and left no process behind.
    #[track_caller]
    pub(crate) fn ends_alone(&mut self, code: i32) {
        assert_eq!(self.end(), code, "exit code");
        // One that was killed is listed until the kernel has taken it apart.
        let left = || self.rig.processes().is_empty().then_some(());
        if eventually(left).is_none() {
            assert_eq!(self.rig.processes(), [], "processes are left");
        }
    }
}
