use super::*;
use crate::config::Surroundings;
use crate::domain::{Exposure, Lsn, Timeline};
use crate::plan::{self, Answer, ClusterFacts, Memory};

fn config(kind: &str) -> Config {
    let vars = [
        ("PGNODE_ROLE", kind),
        ("REPMGR_NODE_NAME", "pg3"),
        ("REPMGR_PARTNER_NODES", "pg1,pg2"),
    ];
    let vars = vars.map(|(k, v)| (k.to_owned(), v.to_owned()));
    Config::from_vars(vars, &Surroundings::bare("pg3"))
        .unwrap()
        .0
}

fn memory(role: Role) -> Memory {
    Memory {
        node_id: NodeId(3),
        node_name: NodeName("pg3".into()),
        // The cluster's: its own database has another.
        system_id: SystemId(7),
        role,
        salt: "00".into(),
        fingerprint: "same".into(),
        registered: true,
        members: vec![],
    }
}

fn own(major: u32) -> Disk {
    Disk::Cluster(ClusterFacts {
        major,
        system_id: SystemId(1),
        timeline: Timeline(1),
        lsn: Lsn(1),
        clean: true,
        standby: false,
        recovering: false,
        midway: false,
    })
}

fn facts(disk: Disk, memory: Option<Memory>, fingerprint: &str) -> Facts {
    Facts {
        unfinished: false,
        disk,
        memory,
        peers: vec![],
        pg_major: 17,
        fingerprint: Some(fingerprint.into()),
    }
}

/// provision, bootstrap, register; or the words that the refusal must hold.
type Want = Result<(Provision, bool, bool), &'static str>;

#[test]
fn the_matrix() {
    use Provision::{Adopt, Init};
    let foreign = || Disk::Foreign { why: "x".into() };
    let witness = || Some(memory(Role::Witness));
    let init: Want = Ok((Init, true, true));
    let data: Want = Err("belongs to a data node");
    let cases: Vec<(&str, Disk, Option<Memory>, &str, Want)> = vec![
        ("a first start", Disk::Empty, None, "same", init),
        ("its database is lost", Disk::Empty, witness(), "same", init),
        (
            "a restart",
            own(17),
            witness(),
            "same",
            Ok((Adopt, false, false)),
        ),
        (
            "a new password",
            own(17),
            witness(),
            "new",
            Ok((Adopt, true, false)),
        ),
        (
            "another major",
            own(16),
            witness(),
            "same",
            Err("empty its volume"),
        ),
        (
            "somebody's data",
            own(17),
            None,
            "same",
            Err("did not make"),
        ),
        (
            "something else",
            foreign(),
            None,
            "same",
            Err("nothing in it was touched"),
        ),
        (
            "a swap of a data node",
            Disk::OldOnly,
            None,
            "same",
            Err("right volume"),
        ),
        (
            "a primary's",
            own(17),
            Some(memory(Role::Primary)),
            "same",
            data,
        ),
        (
            "a standby's",
            own(17),
            Some(memory(Role::Standby)),
            "same",
            data,
        ),
        (
            "a lost primary's",
            Disk::Empty,
            Some(memory(Role::Primary)),
            "same",
            data,
        ),
    ];
    for (case, disk, memory, fingerprint, want) in cases {
        let got = plan::plan(&config("witness"), &facts(disk, memory, fingerprint));
        match (got, want) {
            (Ok(got), Ok(want)) => {
                assert_eq!(got.role, Role::Witness, "{case}");
                let got = (got.provision, got.bootstrap, got.register);
                assert_eq!(got, want, "{case}");
            }
            (Err(Fault::NeedsPerson(why)), Err(word)) => {
                assert!(why.contains(word), "{case}: {why}");
            }
            (got, want) => panic!("{case}: {got:?} instead of {want:?}"),
        }
    }
}

#[test]
fn a_data_node_does_not_take_a_witnesss_volume() {
    for disk in [Disk::Empty, own(17)] {
        let facts = facts(disk, Some(memory(Role::Witness)), "same");
        let fault = plan::plan(&config("postgres"), &facts).unwrap_err();
        assert!(fault.why().contains("belongs to a witness"), "{fault}");
    }
}

fn peer(id: i32, role: Role, exposure: Exposure, system: u64, timeline: u32) -> Peer {
    Peer {
        address: format!("pg{id}:5432"),
        answer: Answer::Report(PeerReport {
            node: NodeName(format!("pg{id}")),
            node_id: NodeId(id),
            state: "open".into(),
            role: Some(role),
            exposure,
            system_id: Some(SystemId(system)),
            timeline: Some(Timeline(timeline)),
            lsn: Some(Lsn(1)),
        }),
    }
}

#[test]
fn it_follows_the_open_primary_of_its_cluster_on_the_latest_timeline() {
    use Exposure::{Closed, Consumer, Technical};
    use Role::{Primary, Standby};
    let open = |id, timeline| peer(id, Primary, Consumer, 7, timeline);
    for (case, peers, want) in [
        ("nobody", vec![], None),
        (
            "the primary",
            vec![peer(2, Standby, Consumer, 7, 1), open(1, 1)],
            Some(1),
        ),
        ("a closed one", vec![peer(1, Primary, Closed, 7, 1)], None),
        (
            "one that is made ready",
            vec![peer(1, Primary, Technical, 7, 1)],
            None,
        ),
        (
            "another cluster's",
            vec![peer(1, Primary, Consumer, 8, 9)],
            None,
        ),
        (
            "an old one beside the new",
            vec![open(2, 2), open(1, 1)],
            Some(2),
        ),
        ("in the other order", vec![open(1, 1), open(2, 2)], Some(2)),
        (
            "another witness",
            vec![peer(4, Role::Witness, Consumer, 7, 1)],
            None,
        ),
    ] {
        let got = present_primary(&peers, SystemId(7)).map(|(_, r)| r.node_id.0);
        assert_eq!(got, want, "{case}");
    }
}

fn row(id: i32, kind: &str, upstream: Option<i32>) -> MemberView {
    MemberView {
        node_id: NodeId(id),
        name: NodeName(format!("pg{id}")),
        kind: kind.into(),
        active: true,
        upstream: upstream.map(NodeId),
        host: format!("pg{id}"),
        port: 5432,
        streaming: None,
        lag_bytes: None,
    }
}

fn table() -> Vec<MemberView> {
    vec![
        row(1, "primary", None),
        row(2, "standby", Some(1)),
        row(3, "witness", Some(1)),
    ]
}

#[test]
fn what_a_table_must_say_of_a_witness() {
    let at = |primary| Registration {
        node: NodeId(3),
        primary: NodeId(primary),
        host: "pg3",
        port: 5432,
    };
    assert_eq!(at(1).missing_from(&table()), None);
    let missing = |primary, change: fn(&mut Vec<MemberView>)| {
        let mut table = table();
        change(&mut table);
        at(primary).missing_from(&table).unwrap()
    };
    assert!(missing(2, |_| {}).contains("another primary"));
    assert!(missing(2, |t| t[2].upstream = Some(NodeId(2))).contains("as a standby"));
    assert!(missing(1, |t| t[2].upstream = None).contains("another primary"));
    assert!(missing(1, |t| t[2].active = false).contains("inactive"));
    assert!(missing(1, |t| t[2].port = 5434).contains("pg3:5434"));
    assert!(missing(1, |t| t[2].host = "old".into()).contains("old:5432"));
    assert!(missing(1, |t| t[2].kind = "standby".into()).contains("as a standby"));
    assert!(missing(1, |t| drop(t.remove(2))).contains("no record of this witness"));
    assert!(missing(1, |t| drop(t.remove(0))).contains("no record of the primary"));
}

#[test]
fn a_copy_is_compared_with_its_original() {
    assert!(same_members(&table(), &table()));
    let mut turned = table();
    turned.reverse();
    turned[0].active = false;
    turned[0].streaming = Some(true);
    assert!(same_members(&table(), &turned));
    for change in [
        (|t| drop(t.remove(1))) as fn(&mut Vec<MemberView>),
        |t| t.push(row(4, "standby", Some(1))),
        |t| t[0].kind = "standby".into(),
        |t| t[1].upstream = Some(NodeId(3)),
        |t| t[1].host = "elsewhere".into(),
        |t| t[1].port = 1,
        |t| t[1].name = NodeName("x".into()),
    ] {
        let mut other = table();
        change(&mut other);
        assert!(!same_members(&table(), &other), "{other:?}");
    }
}

#[test]
fn another_nodes_record_is_not_taken() {
    let name = |text: &str| NodeName(text.into());
    assert_eq!(clash(&table(), NodeId(3), &name("pg3")), None);
    assert_eq!(clash(&table(), NodeId(4), &name("pg4")), None);
    // The same witness under a new name.
    assert_eq!(clash(&table(), NodeId(3), &name("w")), None);
    for (id, taken) in [(2, "w"), (1, "w"), (4, "pg2"), (4, "pg3")] {
        let why = clash(&table(), NodeId(id), &name(taken)).unwrap();
        assert!(why.contains("of its own"), "{why}");
    }
}
