//! repmgrd may detect, ask and promote; the node's answer is what the votes say (issue 3 §1).

use crate::docker::{Cluster, LONG, Node, eventually};

fn hook(node: &Node, action: &str) -> (i32, String) {
    // As repmgrd calls it: its user, and nothing of the node's environment.
    let ran = node.sh_as(
        "postgres",
        &format!("env -i /usr/local/bin/pgnode hook {action} --http=127.0.0.1:8008"),
    );
    (ran.code, format!("{}{}", ran.out, ran.err))
}

/// The survivor of two would be promoted by repmgrd alone ("wins by default"). It asks its node, which was
/// elected by nobody, and again a few seconds later.
#[test]
fn a_lone_standby_is_not_promoted_by_repmgrd() {
    let c = Cluster::new("hooks");
    let master = c.master().env("BARMAN_MODE", "off").open();
    let slave = c.slave().env("BARMAN_MODE", "off").start();
    slave.wait_streaming();
    for action in ["validate", "promote"] {
        let (code, said) = hook(&master, action);
        assert_eq!((code, said.contains("primary")), (0, true), "{said}");
        let (code, said) = hook(&slave, action);
        assert_eq!((code, said.contains("standby")), (1, true), "{said}");
    }
    assert_eq!(hook(&slave, "follow").0, 0);
    for action in ["start", "stop", "restart", "reload"] {
        let (code, said) = hook(&master, action);
        assert_eq!((code, said.contains("only the node")), (1, true), "{said}");
    }
    master.kill("KILL");
    master.ended();
    eventually("repmgrd has asked twice", LONG, || {
        let asked = "failover validation command returned a non-zero value";
        (slave.logs().matches(asked).count() >= 2).then_some(())
    });
    let status = slave.status().unwrap();
    assert_eq!(status["role"], "standby", "{status}");
    assert_eq!(slave.psql("SELECT pg_is_in_recovery()"), "t");
    master.start();
    slave.wait_streaming();
    assert_eq!(master.wait_open()["role"], "primary");
}
