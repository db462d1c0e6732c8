//! Who the node is, and who the others are.

use super::*;

#[test]
fn the_node_knows_who_it_is() {
    let (config, sources) = load(&[("REPMGR_NODE_NAME", "db-12")]).unwrap();
    assert_eq!(config.identity.id, NodeId(12));
    assert_eq!(config.identity.network_name, "box");
    assert_eq!(
        sources.of(&table::REPMGR_NODE_ID),
        Source::Derived("REPMGR_NODE_NAME")
    );
    assert_eq!(
        self::config(&[("REPMGR_NODE_NAME", "db"), ("REPMGR_NODE_ID", "3")])
            .identity
            .id,
        NodeId(3)
    );
    insta::assert_snapshot!(faults(&[("REPMGR_NODE_NAME", "db")]), @r"
    1 setting is wrong:
      REPMGR_NODE_ID: is not set, and the name db does not end in a number from 1 to 2147483647; set it, or give the node a name such as pg1
    ");
    for hostname in ["", "a b", "ü"] {
        let ctx = Surroundings::bare(hostname);
        let faults = Config::from_vars(Vec::new(), &ctx).unwrap_err();
        assert_eq!(
            faults.list()[0].name,
            "REPMGR_NODE_NETWORK_NAME",
            "{faults}"
        );
    }
}

#[test]
fn a_witness_joins_a_cluster_and_backs_up_nothing() {
    let vars = [
        ("PGNODE_ROLE", "witness"),
        ("REPMGR_NODE_NAME", "pg3"),
        ("BARMAN_MODE", "local"),
        ("REPMGR_PARTNER_NODES", "pg1,pg2,pg3"),
    ];
    let (config, sources) = load(&vars).unwrap();
    assert_eq!(config.kind, NodeKind::Witness);
    assert_eq!(config.start_as, StartAs::Slave);
    assert_eq!(config.barman.mode, BarmanMode::Off);
    assert_eq!(
        sources.of(&table::BARMAN_MODE),
        Source::Derived("PGNODE_ROLE")
    );
    // REPMGR_MASTER may be anything, the environment is often shared.
    let master = [&vars[..], &[("REPMGR_MASTER", "true")]].concat();
    assert_eq!(self::config(&master).start_as, StartAs::Slave);
    insta::assert_snapshot!(faults(&vars[..3]), @"
    1 setting is wrong:
      REPMGR_PARTNER_NODES: names no other node, and a witness (PGNODE_ROLE=witness) needs a cluster to vote in; name the data nodes, for example REPMGR_PARTNER_NODES=pg1,pg2,pg3
    ");
    // A witness that keeps backups too is a witness all the same.
    let both = [
        ("PGNODE_ROLE", "barman,witness"),
        ("BARMAN_SERVERS", "main=pg1"),
    ];
    let both = self::config(&[&both[..], &vars[1..]].concat());
    assert!(both.kind.is_witness() && both.kind.keeps_backups());
    assert_eq!(both.start_as, StartAs::Slave);
}

/// Primary, slaves and partners as one line.
fn peers(vars: &[(&str, &str)]) -> String {
    let peers = config(vars).peers;
    let list = |list: &[Address]| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let primary = peers
        .primary
        .map_or_else(|| "-".to_owned(), |p| p.to_string());
    format!(
        "{primary} {} {}",
        list(&peers.slaves),
        list(&peers.partners)
    )
}

#[test]
fn the_node_knows_the_others_and_not_itself() {
    for (vars, want) in [
        (
            &[("REPMGR_SLAVES", "pg2,pg3")][..],
            "- pg2:5432,pg3:5432 pg2:5432,pg3:5432",
        ),
        (&[("REPMGR_PRIMARY_HOST", "pg1")], "pg1:5432  pg1:5432"),
        (&[("REPMGR_PRIMARY_HOST", "pg1:6432")], "pg1:6432  pg1:6432"),
        (
            &[
                ("REPMGR_PRIMARY_HOST", "pg1"),
                ("REPMGR_PRIMARY_PORT", "6432"),
            ],
            "pg1:6432  pg1:6432",
        ),
        (
            &[
                ("REPMGR_PRIMARY_HOST", "pg1:6432"),
                ("REPMGR_PRIMARY_PORT", "6432"),
            ],
            "pg1:6432  pg1:6432",
        ),
        (
            &[("REPMGR_PRIMARY_HOST", "[fd00::1]:6432")],
            "[fd00::1]:6432  [fd00::1]:6432",
        ),
        (
            &[("REPMGR_PRIMARY_HOST", "PG2"), ("REPMGR_SLAVES", "pg2;pg3")],
            "PG2:5432 pg2:5432,pg3:5432 pg2:5432,pg3:5432",
        ),
        (
            &[
                ("REPMGR_PARTNER_NODES", "pg1 box,pg2"),
                ("REPMGR_SLAVES", "pg9"),
            ],
            "- pg9:5432 pg1:5432,pg2:5432",
        ),
        (&[("REPMGR_PARTNER_NODES", "box:6432")], "-  box:6432"),
        (
            &[("REPMGR_PARTNER_NODES", "box:6432"), ("PGPORT", "6432")],
            "-  ",
        ),
        (
            &[
                ("REPMGR_NODE_NETWORK_NAME", "pg1.lan"),
                ("REPMGR_PRIMARY_HOST", "PG1.lan"),
            ],
            "-  ",
        ),
        (
            &[("REPMGR_MASTER", "false"), ("REPMGR_PRIMARY_HOST", "pg1")],
            "pg1:5432  pg1:5432",
        ),
        (
            &[("REPMGR_MASTER", "no"), ("REPMGR_PARTNER_NODES", "box,pg1")],
            "-  pg1:5432",
        ),
    ] {
        assert_eq!(peers(vars), want, "{vars:?}");
    }
}

#[test]
fn a_slave_must_know_somebody() {
    insta::assert_snapshot!(faults(&[("REPMGR_MASTER", "false")]), @r"
    1 setting is wrong:
      REPMGR_PRIMARY_HOST: is not set, and a slave (REPMGR_MASTER=false) needs a node to clone from; set REPMGR_PRIMARY_HOST to the master's address, for example REPMGR_PRIMARY_HOST=pg1
    ");
    insta::assert_snapshot!(faults(&[("REPMGR_MASTER", "false"), ("REPMGR_PRIMARY_HOST", "box")]), @r"
    1 setting is wrong:
      REPMGR_PRIMARY_HOST: names this node itself, which is a slave (REPMGR_MASTER=false) and knows no other node; set REPMGR_PRIMARY_HOST to the master's address, for example REPMGR_PRIMARY_HOST=pg1
    ");
    let (config, sources) = load(&[("REPMGR_PRIMARY_HOST", "pg1")]).unwrap();
    insta::assert_snapshot!(sources.warnings(&config)[1], @r"
    REPMGR_PRIMARY_HOST names another node (pg1:5432), but REPMGR_MASTER is not set and means true: on an empty disk this node would create a cluster of its own; a slave says REPMGR_MASTER=false
    ");
}

#[test]
fn a_kubernetes_service_may_have_our_variables_name() {
    let (config, sources) = load(&[
        ("REPMGR_PRIMARY_HOST", "pg1"),
        ("REPMGR_PRIMARY_PORT", "tcp://10.0.0.7:5433"),
        ("REPMGR_MASTER", "false"),
    ])
    .unwrap();
    assert_eq!(config.peers.primary.unwrap().port, 5432);
    let (other, _) = load(&[]).unwrap();
    assert!(
        sources.warnings(&other)[1]
            .starts_with("REPMGR_PRIMARY_PORT=tcp://10.0.0.7:5433 is passed over")
    );
}
