//! The docker CLI, containers that end with their owner, and the prober.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// No step of ours takes longer on a machine that is fit for the benchmarks.
const LONGEST: Duration = Duration::from_secs(900);

/// Runs a program and returns what it said; the end of a benchmark when it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let end = Command::new(program).args(args).output().unwrap();
    assert!(
        end.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&end.stderr)
    );
    String::from_utf8_lossy(&end.stdout).trim().to_owned()
}

pub(crate) fn docker(args: &[&str]) -> String {
    run("docker", args)
}

/// A network of its own with addresses that are known before a container starts, and everything
/// that was made in it.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) image: String,
    prefix: String,
    subnet: u8,
    made: std::cell::Cell<u32>,
}

impl Lab {
    pub(crate) fn new(image: String) -> Self {
        let prefix = format!("pgnode-bench-{}", std::process::id());
        let first = u8::try_from(std::process::id() % 200).unwrap();
        let subnet = (0..50).map(|n| first + n).find(|n| {
            let range = format!("10.213.{n}.0/24");
            let args = ["network", "create", "--subnet", &range, &prefix];
            Command::new("docker")
                .args(args)
                .output()
                .unwrap()
                .status
                .success()
        });
        Self {
            image,
            prefix,
            subnet: subnet.expect("a free range of addresses"),
            made: std::cell::Cell::default(),
        }
    }

    /// A fresh named volume, filled from the image by the first container that mounts it.
    pub(crate) fn volume(&self) -> Volume {
        self.made.set(self.made.get() + 1);
        let name = format!("{}-{}", self.prefix, self.made.get());
        docker(&["volume", "create", &name]);
        Volume(name)
    }

    /// A container that is made and not started. `host` is the last byte of its address.
    pub(crate) fn create(
        &self,
        host: u8,
        volume: &Volume,
        options: &[&str],
        command: &[&str],
    ) -> Container {
        let mount = format!("{}:/var/lib/postgresql", volume.0);
        let options = [&["--volume", &mount], options].concat();
        self.create_from(&self.image, host, &options, command)
    }

    /// The same of another image, without a volume.
    pub(crate) fn create_from(
        &self,
        image: &str,
        host: u8,
        options: &[&str],
        command: &[&str],
    ) -> Container {
        self.made.set(self.made.get() + 1);
        let name = format!("{}-{}", self.prefix, self.made.get());
        let ip = Ipv4Addr::new(10, 213, self.subnet, host);
        let address = ip.to_string();
        let mut args = vec![
            "create",
            "--name",
            &name,
            "--network",
            &self.prefix,
            "--ip",
            &address,
        ];
        args.extend(["--shm-size", "256m", "--stop-timeout", "60"]);
        // Before whatever else the machine does, on both sides alike.
        args.extend(["--cpu-shares", "100000"]);
        args.extend(options);
        args.push(image);
        args.extend(command);
        docker(&args);
        Container {
            name,
            ip: ip.into(),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ignored = Command::new("docker")
            .args(["network", "rm", &self.prefix])
            .output();
    }
}

/// Removed when dropped.
#[derive(Debug)]
pub(crate) struct Volume(pub(crate) String);

impl Drop for Volume {
    fn drop(&mut self) {
        let _ignored = Command::new("docker")
            .args(["volume", "rm", "-f", &self.0])
            .output();
    }
}

/// A container, removed when dropped.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = Command::new("docker")
                .args(["logs", "--tail", "20", &self.name])
                .output();
            eprintln!("{}: {log:#?}", self.name);
        }
        let _ignored = Command::new("docker")
            .args(["rm", "-f", "-v", &self.name])
            .output();
    }
}

impl Container {
    /// Starts it and waits until 5432 accepts; wall time from docker's `StartedAt`.
    pub(crate) fn start_to_accepting(&self) -> Start {
        docker(&["start", &self.name]);
        self.await_accepting();
        let end = chrono::Utc::now();
        let facts = docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &self.name]);
        let (id, began) = facts.split_once(' ').unwrap();
        let cpu = cpu_ms(id);
        let began = chrono::DateTime::parse_from_rfc3339(began).unwrap();
        Start {
            wall: millis((end - began.to_utc()).to_std().unwrap()),
            cpu,
        }
    }

    pub(crate) fn await_accepting(&self) {
        let began = Instant::now();
        let mut looked = began;
        while !accepts(self.ip) {
            // The pause is the resolution.
            std::thread::sleep(Duration::from_millis(1));
            if looked.elapsed() > Duration::from_secs(5) {
                looked = Instant::now();
                let running = docker(&["inspect", "-f", "{{.State.Running}}", &self.name]);
                assert_eq!(running, "true", "{} ended", self.name);
            }
            assert!(began.elapsed() < LONGEST, "{} never accepts", self.name);
        }
    }

    /// Waits for `"state":"open"` and returns the whole status.
    pub(crate) fn await_open(&self) -> serde_json::Value {
        self.await_status("open", |s| s["state"] == "open")
    }

    pub(crate) fn await_status(
        &self,
        what: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        eventually(what, Duration::from_millis(50), || {
            self.status().filter(|s| holds(s))
        })
    }

    /// `/status` over HTTP: no process in the container.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::new(self.ip, 8008), PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream
            .write_all(b"GET /status HTTP/1.0\r\nHost: bench\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    pub(crate) fn exec(&self, command: &str) -> String {
        docker(&["exec", "-u", "root", &self.name, "bash", "-c", command])
    }

    /// `docker stop`, in milliseconds as its caller waits.
    pub(crate) fn stop(&self) -> f64 {
        let began = Instant::now();
        docker(&["stop", &self.name]);
        millis(began.elapsed())
    }
}

/// A start until 5432 accepted, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) wall: f64,
    /// CPU time of the whole container; other load hardly changes it.
    pub(crate) cpu: f64,
}

/// From the container's cgroup, version 1 or 2, with either of docker's drivers.
fn cpu_ms(id: &str) -> f64 {
    let read = |path: String| std::fs::read_to_string(path).ok();
    let nanos = read(format!("/sys/fs/cgroup/cpuacct/docker/{id}/cpuacct.usage"))
        .and_then(|text| text.trim().parse::<f64>().ok());
    nanos.map(|n| n / 1e6).unwrap_or_else(|| {
        [
            format!("docker/{id}"),
            format!("system.slice/docker-{id}.scope"),
        ]
        .into_iter()
        .find_map(|group| read(format!("/sys/fs/cgroup/{group}/cpu.stat")))
        .and_then(|text| {
            text.lines()
                .next()?
                .strip_prefix("usage_usec ")?
                .parse::<f64>()
                .ok()
        })
        .expect("the container's cgroup")
            / 1e3
    })
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Asks again and again; the pause is what the measurement's resolution costs in CPU.
pub(crate) fn eventually<T>(what: &str, pause: Duration, mut get: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = get() {
            return found;
        }
        assert!(began.elapsed() < LONGEST, "never: {what}");
        std::thread::sleep(pause);
    }
}

const PATIENCE: Duration = Duration::from_secs(2);

/// What `pg_isready` asks, without its process: a startup packet, and any answer but "starting up".
fn accepts(ip: IpAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, 5432), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
        packet.extend(b"user\0postgres\0database\0postgres\0\0");
        packet[3] = u8::try_from(packet.len()).unwrap();
        stream.write_all(&packet)?;
        let mut answer = [0_u8; 512];
        let got = stream.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..got]);
        // 57P03: cannot_connect_now.
        Ok(got > 0 && !(answer[0] == b'E' && text.contains("57P03")))
    };
    ask().unwrap_or(false)
}
