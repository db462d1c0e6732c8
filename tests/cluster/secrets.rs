//! Passwords that need quoting everywhere, and none of them anywhere it can be read (§10, §4).

use crate::docker::{BACKUP, Cluster, Node, docker_with, eventually};

const NASTY: [(&str, &str, &str); 5] = [
    (
        "POSTGRES_PASSWORD",
        "postgres",
        r#"pg1 ' " \ $HOME %h : @ #;x"#,
    ),
    (
        "REPMGR_PASSWORD",
        "repmgr",
        r#"rm2 '' "" \\ $$ %% :: @@ =y"#,
    ),
    (
        "REPMGR_STREAMING_PASSWORD",
        "repmgr_streaming",
        r#"rs3 \' \" `id` %s :a: @h z"#,
    ),
    (
        "BARMAN_PASSWORD",
        "barman",
        r#"bm4 ' " \ $(id) % : @ {{x}}"#,
    ),
    (
        "BARMAN_STREAMING_PASSWORD",
        "barman_streaming",
        r#"bs5 '\:" %(a)s $1 @ : w"#,
    ),
];

/// Files that anybody may read, and what processes were started with, that contain a secret.
fn exposed(node: &Node) -> String {
    let patterns: String = NASTY.iter().map(|(_, _, p)| format!("{p}\n")).collect();
    let put = "umask 077; cat > /tmp/.patterns";
    docker_with(
        ["exec", "-i", &node.container, "bash", "-c", put],
        &patterns,
    )
    .ok();
    let shell = "
        find / /var/lib/postgresql /home/barman /run /tmp -xdev -type f -perm -o=r \
            ! -path '/usr/*' -print0 | xargs -0 grep -l -F -f /tmp/.patterns 2>/dev/null
        for p in /proc/[0-9]*/cmdline; do
            tr '\\0' ' ' < $p 2>/dev/null | grep -q -F -f /tmp/.patterns && echo $p
        done
        rm -f /tmp/.patterns; true";
    node.sh(shell).ok()
}

/// Every command line that was ever seen in `/proc` while the node boots, by a helper in its pid namespace.
const WATCHER: &str = r#"
import os, sys, time
seen = set()
while True:
    time.sleep(0.002)
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                line = open(f"/proc/{pid}/cmdline", "rb").read()
            except OSError:
                continue
            if line not in seen:
                seen.add(line)
                print(line.replace(b"\0", b" ").decode("utf8", "replace"), flush=True)
"#;

/// §10: such passwords work everywhere, and show nowhere at the most talkative log level.
#[test]
fn passwords_that_need_quoting_work_and_never_show() {
    let c = Cluster::new("secrets");
    let mut master = c.master();
    let mut slave = c.slave();
    for (variable, _, password) in NASTY {
        master = master.env(variable, password);
        slave = slave.env(variable, password);
    }
    let master = master.env("RUST_LOG", "debug").start();
    let pids = format!("container:{}", master.container);
    let watcher = c.helper("watcher", &["python3", "-c", WATCHER], &["--pid", &pids]);
    let slave = slave.env("RUST_LOG", "debug").start();
    master.wait_open();
    slave.wait_streaming();
    eventually("barman check is green", BACKUP, || {
        (master.sh_as("barman", "barman check pg1").code == 0).then_some(())
    });
    master.wait_status("a backup", |s| s["backup"]["last_id"].is_string());

    // Over TCP, each where it may go.
    for (_, user, password) in NASTY {
        let options = match user {
            "repmgr" => "dbname=repmgr",
            "repmgr_streaming" | "barman_streaming" => "dbname=postgres replication=1",
            _ => "dbname=postgres",
        };
        let sql = if options.contains("replication") {
            "IDENTIFY_SYSTEM"
        } else {
            "SELECT 1"
        };
        let shell = format!(
            "IFS= read -r PGPASSWORD; export PGPASSWORD; psql -XAtqc '{sql}' 'host=127.0.0.1 user={user} {options}'"
        );
        let words = ["exec", "-i", &master.container, "bash", "-c", &shell];
        let ran = docker_with(words, &format!("{password}\n"));
        assert_eq!(ran.code, 0, "{user}: {ran:?}");
        let ran = docker_with(words, &format!("{password}x\n"));
        assert_ne!(ran.code, 0, "{user} with a wrong password");
    }

    for node in [&master, &slave] {
        assert_eq!(exposed(node), "", "{}: a secret can be read", node.name);
        let log = node.logs();
        assert!(log.contains(" DEBUG "), "the log is at debug");
        for (variable, _, password) in NASTY {
            assert!(
                !log.contains(password),
                "{variable} is in the log of {}",
                node.name
            );
        }
    }
    let nodes = master.psql("\\c repmgr\nSELECT * FROM repmgr.nodes");
    let processes = watcher.logs();
    assert!(
        processes.contains("postgres") && processes.contains("repmgr"),
        "{processes}"
    );
    for (variable, _, password) in NASTY {
        assert!(!nodes.contains(password), "{variable} is in repmgr.nodes");
        assert!(
            !processes.contains(password),
            "{variable} was an argument of a process"
        );
    }
    // `pgnode config` masks them.
    let shown = master.sh("pgnode config").ok();
    for (variable, _, password) in NASTY {
        assert!(
            shown.contains(variable) && !shown.contains(password),
            "{variable}"
        );
    }
}
