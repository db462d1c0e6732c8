//! The docker command, and a network of its own with addresses that stay over restarts.

use super::Outcome;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs a program, at most for two minutes: an engine that hangs must not hang the run.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    Command::new("timeout")
        .args(["--kill-after=5", "120", program])
        .args(args)
        .output()
        .unwrap()
}

/// What it said; an error holds all of it.
pub(crate) fn must(program: &str, args: &[&str]) -> Outcome<String> {
    let end = run(program, args);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if end.status.success() {
        return Ok(said(&end.stdout));
    }
    let (out, err) = (said(&end.stdout), said(&end.stderr));
    Err(format!("{program} {}: {out} {err}", args.join(" ")))
}

pub(crate) fn docker(args: &[&str]) -> Outcome<String> {
    must("docker", args)
}

/// Polls until there is an answer; `look` says what it still waits for.
pub(crate) fn eventually<T>(
    patience: Duration,
    mut look: impl FnMut() -> Outcome<T>,
) -> Outcome<T> {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if began.elapsed() > patience => {
                return Err(format!("not within {patience:?}: {why}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(150)),
        }
    }
}

/// A network, and whatever was labelled as made in it.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    range: u8,
}

impl Network {
    /// `prefix` names everything; the process's number keeps two runs apart.
    pub(crate) fn new(prefix: &str) -> Outcome<Self> {
        sweep();
        let name = format!("{prefix}-{}", std::process::id());
        let mut refusal = String::new();
        for range in 0..100 {
            let subnet = format!("10.215.{range}.0/24");
            let label = format!("pgnode-chaos={name}");
            match docker(&[
                "network", "create", "--label", &label, "--subnet", &subnet, &name,
            ]) {
                Ok(_) => return Ok(Self { name, range }),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    pub(crate) fn label(&self) -> String {
        format!("pgnode-chaos={}", self.name)
    }

    pub(crate) fn address(&self, host: u8) -> String {
        format!("10.215.{}.{host}", self.range)
    }

    /// Where connections from this machine come from.
    pub(crate) fn gateway(&self) -> String {
        self.address(1)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Everything that was labelled as made in a network, and the network.
fn remove(name: &str) {
    let filter = format!("label=pgnode-chaos={name}");
    for (list, remove) in [
        (["ps", "-aq"], ["rm", "-f", "-v"].as_slice()),
        (["volume", "ls"], ["volume", "rm", "-f"].as_slice()),
        (["network", "ls"], ["network", "rm"].as_slice()),
    ] {
        let found = docker(&[list[0], list[1], "-q", "--filter", &filter]).unwrap_or_default();
        for id in found.split_whitespace() {
            // A paused container cannot be removed by every engine.
            if list[0] == "ps" {
                run("docker", &["unpause", id]);
            }
            run("docker", &[remove, &[id]].concat());
        }
    }
}

/// What runs left behind that were killed: of processes, by the number at the end of the name, that are gone.
fn sweep() {
    let gone = |pid: &str| !Path::new("/proc").join(pid).exists();
    let format = "{{.Name}}";
    let list = [
        "network",
        "ls",
        "--filter",
        "label=pgnode-chaos",
        "--format",
        format,
    ];
    for name in docker(&list).unwrap_or_default().lines() {
        if name.rsplit('-').next().is_some_and(gone) {
            remove(name);
        }
    }
    for line in std::fs::read_to_string("/proc/mounts")
        .unwrap_or_default()
        .lines()
    {
        let mount = line.split(' ').nth(1).unwrap_or_default();
        let ours = mount.contains("/chaos/").then_some(mount);
        let owner = ours.and_then(|mount| mount.split("/volumes-").nth(1));
        let pid = owner.and_then(|rest| rest.split('/').next());
        if pid.is_some_and(gone) && run("umount", &[mount]).status.success() {
            // Mounted by name: the image lies beside it.
            std::fs::remove_dir(mount).ok();
            std::fs::remove_file(format!("{mount}.img")).ok();
        }
    }
}
