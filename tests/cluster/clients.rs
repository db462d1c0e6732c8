//! Clients: HAProxy by `/primary` and `/replica`, and libpq's lists of hosts (issue 3 §5).

use crate::docker::{Cluster, LONG, Node, docker, eventually};
use crate::witness::promote_by_hand;

/// Where a session is: `f|pg1` on the primary pg1.
const WHERE: &str = "SELECT pg_is_in_recovery(), current_setting('cluster_name')";

/// psql with this connection string, as a client in a container of its own.
fn psql(conninfo: &str, sql: &str) -> String {
    format!(
        "PGPASSWORD=mysecretpassword psql -XAtq -c \"{sql}\" \
         \"user=postgres dbname=postgres connect_timeout=3 {conninfo}\""
    )
}

fn reached(client: &Node, conninfo: &str) -> Result<String, String> {
    let ran = client.sh(&psql(conninfo, WHERE));
    match ran.code {
        0 => Ok(ran.out.trim().to_owned()),
        _ => Err(ran.err),
    }
}

#[track_caller]
fn wait_reached(client: &Node, conninfo: &str, want: &str) {
    eventually(&format!("{conninfo} reaches {want}"), LONG, || {
        (reached(client, conninfo).ok()? == want).then_some(())
    });
}

const PRIMARY: &str = "host=haproxy port=5000";
const REPLICAS: &str = "host=haproxy port=5001";

/// Begins a session that lasts; it writes how it ended.
fn session(client: &Node, name: &str, conninfo: &str, on: &Node) {
    let sleep = psql(conninfo, &format!("/* {name} */ SELECT pg_sleep(3600)"));
    let shell = format!("{sleep} >/tmp/{name}.out 2>&1; echo $? >/tmp/{name}.end");
    docker(["exec", "-d", &client.container, "bash", "-c", &shell]).ok();
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '/* {name} */%'");
    on.wait_row(&sql, "1");
}

fn is_open(client: &Node, name: &str) -> bool {
    client.sh(&format!("test -e /tmp/{name}.end")).code != 0
}

#[track_caller]
fn wait_cut(client: &Node, name: &str) {
    eventually(&format!("session {name} is cut"), LONG, || {
        (!is_open(client, name)).then_some(())
    });
    let said = client
        .sh(&format!("cat /tmp/{name}.out /tmp/{name}.end"))
        .ok();
    assert!(said.contains("closed the connection"), "{said}");
    assert!(
        said.ends_with('2'),
        "psql's code for a lost connection: {said}"
    );
}

#[test]
fn clients_find_the_primary_and_the_replicas() {
    let c = Cluster::new("clients");
    // Before there is a node to resolve.
    let haproxy = c.haproxy();
    let client = c.helper("client", &["sleep", "infinity"], &[]);
    let healthy = || docker(["exec", &haproxy.container, "bash", "-c", HEALTHY]).code == 0;
    let master = c.master().env("BARMAN_MODE", "off").open();
    let slave = c.slave().env("BARMAN_MODE", "off").start();
    slave.wait_streaming();
    wait_reached(&client, PRIMARY, "f|pg1");
    wait_reached(&client, REPLICAS, "t|pg2");
    assert!(healthy());
    for _ in 0..5 {
        wait_reached(&client, PRIMARY, "f|pg1");
        wait_reached(&client, REPLICAS, "t|pg2");
    }
    lists_of_hosts(&client);

    session(&client, "writer", PRIMARY, &master);
    session(&client, "reader", REPLICAS, &slave);
    // A frozen primary says nothing more, and its connections stay open: HAProxy must cut them.
    master.pause();
    wait_cut(&client, "writer");
    assert!(is_open(&client, "reader"), "the replica is what it was");
    eventually("nowhere to write to", LONG, || (!healthy()).then_some(()));

    // The end of it, and a promotion by hand.
    docker(["rm", "-f", &master.container]).ok();
    promote_by_hand(&slave, 2, 1);
    wait_reached(&client, PRIMARY, "f|pg2");
    assert!(healthy());
    // It goes on running, and is no replica any more.
    wait_cut(&client, "reader");
    reached(&client, REPLICAS).unwrap_err();
    wait_reached(
        &client,
        "host=pg1,pg2 target_session_attrs=read-write",
        "f|pg2",
    );
    wait_reached(
        &client,
        "host=pg1,pg2 target_session_attrs=prefer-standby",
        "f|pg2",
    );
}

/// The image's own check.
const HEALTHY: &str = "exec 3<>/dev/tcp/127.0.0.1/8404; printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; \
     head -n 1 <&3 | grep -q ' 200 '";

/// libpq by itself, as README says it.
fn lists_of_hosts(client: &Node) {
    for (attributes, want) in [
        ("read-write", "f|pg1"),
        ("primary", "f|pg1"),
        ("standby", "t|pg2"),
        ("prefer-standby", "t|pg2"),
    ] {
        for hosts in ["pg1,pg2", "pg2,pg1", "nobody,pg2,pg1"] {
            let conninfo = format!("host={hosts} target_session_attrs={attributes}");
            assert_eq!(reached(client, &conninfo).unwrap(), want, "{conninfo}");
        }
    }
    let random = "host=pg1,pg2 load_balance_hosts=random target_session_attrs=any";
    for want in ["f|pg1", "t|pg2"] {
        wait_reached(client, random, want);
    }
}
