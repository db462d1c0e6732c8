//! Containers with less (§2): another uid, a read-only root, few capabilities; two for one volume.

use crate::docker::{BACKUP, Cluster, Node, cluster_state, eventually};

fn green(node: &Node, user: Option<&str>) {
    let check = format!("barman check {}", node.name);
    let ask = || match user {
        Some(user) => node.sh_as(user, &check),
        // A uid without a name: barman gets one as the node's children do.
        None => node.sh(&format!(
            "export LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=/run/pgnode/passwd \
             NSS_WRAPPER_GROUP=/run/pgnode/group HOME=/run/pgnode; {check}"
        )),
    };
    let out = eventually("barman check is green", BACKUP, || {
        let ran = ask();
        (ran.code == 0).then_some(ran.out)
    });
    assert!(out.contains("OK") && !out.contains("FAILED"), "{out}");
    node.wait_status("a complete backup", |s| s["backup"]["last_id"].is_string());
}

/// What `barman cron` logs once the first backup's WAL is archived: then only the schedule calls it.
const THE_JOB: &str = "No xlog segments found from streaming";

fn second_boot(c: &Cluster, node: &Node) {
    node.stop();
    assert_eq!(node.inspect("{{.State.ExitCode}}"), "0", "{}", node.logs());
    assert_eq!(cluster_state(c, &node.name), "shut down");
    node.start();
    node.wait_open();
    let log = node.logs_since_start();
    assert!(log.contains("begins as PID 1"), "{log}");
    assert!(
        !log.contains("gave "),
        "the second boot changes no owner: {log}"
    );
    assert!(!node.boot().contains(&"init".to_owned()));
}

/// §2: an arbitrary uid: no crond, the in-process scheduler reads the same crontab, barman is green.
#[test]
fn an_arbitrary_uid() {
    let c = Cluster::new("uid");
    let barman = format!("{}:/home/barman/data", c.volume("backups"));
    for volume in ["pg1", "backups"] {
        c.on_volume(volume, "chown 12345:0 /v && chmod 770 /v").ok();
    }
    let node = c
        .master()
        .flags(&["--user", "12345:0", "-v", &barman])
        .open();
    green(&node, None);
    let owners = node.sh("stat -c %u /proc/[0-9]*/ | sort -u").ok();
    assert_eq!(owners, "12345", "everything runs under this uid");
    assert!(
        node.sh("cat /run/pgnode/crontab")
            .ok()
            .contains("barman -q cron")
    );
    assert_ne!(
        node.sh("ls /proc/[0-9]*/exe -l 2>/dev/null | grep -q /usr/sbin/cron")
            .code,
        0
    );
    // The scheduler does what crond does: the minute's job runs by itself.
    node.wait_log(THE_JOB);
    second_boot(&c, &node);
}

/// §2: a read-only root filesystem with tmpfs on /run and /tmp, and the volumes.
#[test]
fn a_read_only_root() {
    let c = Cluster::new("readonly");
    let barman = format!("{}:/home/barman/data", c.volume("backups"));
    let node = c
        .master()
        .flags(&[
            "--read-only",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/tmp",
            "-v",
            &barman,
        ])
        .open();
    assert_ne!(node.sh("touch /etc/x").code, 0, "the root is read-only");
    green(&node, Some("barman"));
    second_boot(&c, &node);
}

/// What the node needs as root: files of its accounts, their processes, and becoming them.
const NEEDED: [&str; 6] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "SETGID",
    "SETUID",
];

/// §2: no capability but the needed ones: first start, cron, kill -9 inside, stop, second boot.
#[test]
fn few_capabilities() {
    let c = Cluster::new("caps");
    let barman = format!("{}:/home/barman/data", c.volume("backups"));
    let mut flags = vec![
        "--cap-drop=ALL".to_owned(),
        "--security-opt=no-new-privileges".to_owned(),
    ];
    flags.extend(NEEDED.iter().map(|n| format!("--cap-add={n}")));
    flags.extend(["-v".to_owned(), barman]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = c.master().flags(&flags).open();
    green(&node, Some("barman"));
    // cron's own job, by crond as root.
    node.wait_log(THE_JOB);
    assert!(!node.logged("Operation not permitted"), "{}", node.logs());
    second_boot(&c, &node);
}

/// §2: a second container on the same volume is refused and told who holds it; the first one goes on.
#[test]
fn a_second_container_on_the_same_volume() {
    let c = Cluster::new("lock");
    let node = c.master().open();
    let second = c.node("pg1").unknown().start();
    assert_eq!(second.ended(), 75, "{}", second.logs());
    let log = second.logs();
    let error = log
        .lines()
        .find(|l| l.contains("ERROR"))
        .unwrap_or_default();
    let id = node.inspect("{{.Config.Hostname}}");
    assert!(
        error.contains(&id) && error.contains("lock"),
        "it names the holder {id}: {error}"
    );
    assert_eq!(node.psql("SELECT 1"), "1");
    node.stop();
    second.start();
    second.wait_open();
}

/// §2: a `postmaster.pid` that is stale, empty or garbage does not keep the node from starting.
#[test]
fn a_wrong_postmaster_pid() {
    let c = Cluster::new("pidfile");
    let node = c.master().env("BARMAN_MODE", "off").open();
    node.psql("CREATE TABLE t AS SELECT 1 AS n");
    node.stop();
    for content in [
        // A process that lives in the new container: pgnode itself, or a child of it.
        "1\\n/var/lib/postgresql/data\\n1700000000\\n5432\\n/run/postgresql\\n*\\n  5432001 12\\nready   \\n",
        "17\\n/var/lib/postgresql/data\\n1700000000\\n5432\\n",
        "",
        "garbage\\n\\xff\\xfe",
        "-5",
    ] {
        let write = format!(
            "printf '{content}' > /v/data/postmaster.pid; chown 999:999 /v/data/postmaster.pid; chmod 600 /v/data/postmaster.pid"
        );
        c.on_volume("pg1", &write).ok();
        node.start();
        node.wait_open();
        assert_eq!(node.psql("SELECT n FROM t"), "1", "{content:?}");
        node.stop();
        assert_eq!(node.inspect("{{.State.ExitCode}}"), "0");
    }
}
