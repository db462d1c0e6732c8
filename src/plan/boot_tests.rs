use super::*;
use crate::config::Surroundings;
use crate::domain::{Exposure, Lsn, NodeId, NodeName, PeerReport, SystemId, Timeline};
use crate::plan::{Answer, Memory, Peer};

fn config(master: bool) -> Config {
    let vars = [
        ("REPMGR_NODE_NAME", "pg1"),
        ("REPMGR_MASTER", if master { "true" } else { "false" }),
        ("REPMGR_PRIMARY_HOST", "pg9"),
    ];
    let vars = vars.map(|(k, v)| (k.to_owned(), v.to_owned()));
    Config::from_vars(vars, &Surroundings::bare("pg1"))
        .unwrap()
        .0
}

fn memory() -> Memory {
    Memory {
        node_id: NodeId(1),
        node_name: NodeName("pg1".into()),
        system_id: SystemId(7),
        role: Role::Primary,
        salt: "00".into(),
        fingerprint: "same".into(),
        registered: true,
        members: vec![],
    }
}

fn cluster(standby: bool) -> ClusterFacts {
    ClusterFacts {
        major: 17,
        system_id: SystemId(7),
        timeline: Timeline(1),
        lsn: Lsn(1),
        clean: true,
        standby,
        recovering: false,
        midway: false,
    }
}

fn facts(disk: Disk, memory: Option<Memory>) -> Facts {
    Facts {
        disk,
        memory,
        peers: vec![],
        pg_major: 17,
        unfinished: false,
        fingerprint: Some("same".into()),
    }
}

fn peer(system: u64) -> Peer {
    Peer {
        address: "pg2:5432".into(),
        answer: Answer::Report(PeerReport {
            node: NodeName("pg2".into()),
            node_id: NodeId(2),
            state: "open".into(),
            role: Some(Role::Primary),
            exposure: Exposure::Consumer,
            system_id: Some(SystemId(system)),
            timeline: Some(Timeline(1)),
            lsn: Some(Lsn(1)),
        }),
    }
}

/// provision, role, bootstrap, register; or the word that the refusal must hold.
type Want = Result<(Provision, Role, bool, bool), &'static str>;

#[test]
fn the_matrix() {
    use Provision::{Adopt, Clone, Init};
    use Role::{Primary, Standby};
    let other = |change: fn(&mut Memory)| {
        let mut memory = memory();
        change(&mut memory);
        Some(memory)
    };
    let foreign = Disk::Foreign {
        why: "it has no PG_VERSION".into(),
    };
    let of_16 = ClusterFacts {
        major: 16,
        ..cluster(false)
    };
    let restoring = ClusterFacts {
        recovering: true,
        ..cluster(false)
    };
    let crashed = ClusterFacts {
        clean: false,
        ..cluster(false)
    };
    let cases: Vec<(&str, bool, Disk, Option<Memory>, Want)> = vec![
        (
            "first start of a master",
            true,
            Disk::Empty,
            None,
            Ok((Init, Primary, true, true)),
        ),
        (
            "first start of a slave",
            false,
            Disk::Empty,
            None,
            Ok((Clone, Standby, false, true)),
        ),
        (
            "a slave that lost its data",
            false,
            Disk::Empty,
            Some(memory()),
            Ok((Clone, Standby, false, true)),
        ),
        (
            "a master that lost its data",
            true,
            Disk::Empty,
            Some(memory()),
            Err("mounted"),
        ),
        ("only the old copy", true, Disk::OldOnly, None, Err("old")),
        ("something else", true, foreign, None, Err("PG_VERSION")),
        (
            "a master again",
            true,
            Disk::Cluster(cluster(false)),
            Some(memory()),
            Ok((Adopt, Primary, false, false)),
        ),
        (
            "after a crash",
            true,
            Disk::Cluster(crashed),
            Some(memory()),
            Ok((Adopt, Primary, false, false)),
        ),
        (
            "the flag is only a hint",
            false,
            Disk::Cluster(cluster(false)),
            Some(memory()),
            Ok((Adopt, Primary, false, false)),
        ),
        (
            "a slave again",
            false,
            Disk::Cluster(cluster(true)),
            other(|m| m.role = Standby),
            Ok((Adopt, Standby, false, false)),
        ),
        (
            "a slave with the master's flag",
            true,
            Disk::Cluster(cluster(true)),
            other(|m| m.role = Standby),
            Ok((Adopt, Standby, false, false)),
        ),
        (
            "a primary that became a standby, which repmgr may not know",
            true,
            Disk::Cluster(cluster(true)),
            Some(memory()),
            Ok((Adopt, Standby, false, true)),
        ),
        (
            "somebody else's volume, primary",
            true,
            Disk::Cluster(cluster(false)),
            None,
            Ok((Adopt, Primary, true, true)),
        ),
        (
            "somebody else's volume, standby",
            true,
            Disk::Cluster(cluster(true)),
            None,
            Ok((Adopt, Standby, false, true)),
        ),
        (
            "settings changed",
            true,
            Disk::Cluster(cluster(false)),
            other(|m| m.fingerprint = "old".into()),
            Ok((Adopt, Primary, true, false)),
        ),
        (
            "settings changed on a standby",
            false,
            Disk::Cluster(cluster(true)),
            other(|m| {
                m.role = Standby;
                m.fingerprint = "old".into();
            }),
            Ok((Adopt, Standby, false, false)),
        ),
        (
            "killed before its data became a candidate's",
            true,
            Disk::Cluster(cluster(false)),
            other(|m| m.role = Standby),
            Ok((Adopt, Primary, false, false)),
        ),
        (
            "killed before repmgr heard that it is a standby",
            true,
            Disk::Cluster(cluster(true)),
            Some(memory()),
            Ok((Adopt, Standby, false, true)),
        ),
        (
            "not registered yet",
            true,
            Disk::Cluster(cluster(false)),
            other(|m| m.registered = false),
            Ok((Adopt, Primary, true, true)),
        ),
        (
            "another node's volume",
            true,
            Disk::Cluster(cluster(false)),
            other(|m| m.node_id = NodeId(2)),
            Err("REPMGR_NODE_ID=2"),
        ),
        (
            "another node's empty volume",
            false,
            Disk::Empty,
            other(|m| m.node_id = NodeId(2)),
            Err("REPMGR_NODE_ID=2"),
        ),
        (
            "replaced data",
            true,
            Disk::Cluster(cluster(false)),
            other(|m| m.system_id = SystemId(8)),
            Err("replaced"),
        ),
        (
            "another major version",
            true,
            Disk::Cluster(of_16),
            Some(memory()),
            Err("PostgreSQL 16"),
        ),
        (
            "an unfinished restore",
            true,
            Disk::Cluster(restoring),
            Some(memory()),
            Err("recovery.signal"),
        ),
    ];
    for (case, master, disk, memory, want) in cases {
        let got = plan(&config(master), &facts(disk, memory));
        match (got, want) {
            (Ok(got), Ok((provision, role, bootstrap, register))) => {
                assert_eq!(
                    got,
                    BootPlan {
                        provision,
                        role,
                        bootstrap,
                        register
                    },
                    "{case}"
                );
            }
            (Err(Fault::NeedsPerson(why)), Err(word)) => {
                assert!(why.contains(word), "{case}: {why}")
            }
            (got, want) => panic!("{case}: {got:?}, expected {want:?}"),
        }
    }
}

#[test]
fn a_standby_among_strangers_is_stopped() {
    let mut facts = facts(Disk::Cluster(cluster(true)), Some(memory()));
    facts.peers = vec![peer(8)];
    let why = plan(&config(false), &facts).unwrap_err();
    assert!(
        why.to_string().contains("different clusters") || why.to_string().contains("different")
    );
    // One of its own among them is enough to go on; nobody at all says nothing.
    facts.peers.push(peer(7));
    assert!(plan(&config(false), &facts).is_ok());
    facts.peers.clear();
    assert!(plan(&config(false), &facts).is_ok());
}

#[test]
fn a_half_rewound_directory_is_only_ever_finished() {
    for disk in [
        Disk::Cluster(cluster(false)),
        Disk::Cluster(cluster(true)),
        Disk::Foreign { why: "x".into() },
        Disk::Empty,
    ] {
        let mut facts = facts(disk, Some(memory()));
        facts.unfinished = true;
        assert_eq!(plan(&config(true), &facts), Ok(BootPlan::REJOIN));
    }
}

#[test]
fn a_backup_is_restored_on_the_empty_disk_of_a_master_and_nowhere_else() {
    let asked = |master: bool| {
        let mut config = config(master);
        let vars = [("PGNODE_RESTORE".to_owned(), "latest".to_owned())];
        let loaded = Config::from_vars(vars, &Surroundings::bare("pg1")).unwrap();
        config.restore = loaded.0.restore;
        config
    };
    let planned = |config: &Config, disk, memory| plan(config, &facts(disk, memory));
    let restored = planned(&asked(true), Disk::Empty, None).unwrap();
    assert_eq!(restored, BootPlan::RESTORE);
    assert!(restored.bootstrap && restored.register);
    assert_eq!(restored.to_string(), "restore from a backup, as primary");
    let cloned = planned(&asked(false), Disk::Empty, None).unwrap();
    assert_eq!(cloned.provision, Provision::Clone);
    let used = planned(&asked(true), Disk::Cluster(cluster(false)), None).unwrap();
    assert_eq!(used.provision, Provision::Adopt);
    // A volume whose data went away is a person's business first.
    let gone = planned(&asked(true), Disk::Empty, Some(memory())).unwrap_err();
    assert!(gone.why().contains("or to restore a backup here"), "{gone}");
    let foreign = Disk::Foreign { why: "x".into() };
    planned(&asked(true), foreign, None).unwrap_err();
    planned(&asked(true), Disk::OldOnly, None).unwrap_err();
}
