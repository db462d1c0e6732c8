//! Statuses for tests.

use crate::domain::{
    BackupView, BootStep, ChildView, Exposure, Lsn, MemberView, NodeId, NodeName, Role, Status,
    SystemId, Timeline, Uptime,
};

pub(crate) fn standby() -> Status {
    let child = |name: &str, pid, restarts| ChildView {
        name: name.into(),
        pid,
        restarts,
        since_ms: 400_000,
    };
    let step = |state: &str, took_ms| BootStep {
        state: state.into(),
        took_ms,
    };
    let member = |id, name: &str, kind: &str, upstream: Option<i32>| MemberView {
        node_id: NodeId(id),
        name: NodeName(name.into()),
        kind: kind.into(),
        active: true,
        upstream: upstream.map(NodeId),
        host: name.into(),
        port: 5432,
        streaming: None,
        lag_bytes: None,
    };
    Status {
        version: "0.1.0".into(),
        node: NodeName("pg2".into()),
        node_id: NodeId(2),
        network_name: "pg2".into(),
        state: "open".into(),
        sentence: "open to clients, supervising".into(),
        role: Some(Role::Standby),
        exposure: Exposure::Consumer,
        port: 5432,
        technical_port: 5434,
        uptime: Uptime {
            started_ms: 390_000,
            state_since_ms: 400_000,
            now_ms: 900_000,
        },
        system_id: Some(SystemId(7_268_616_322_854_375_442)),
        timeline: Some(Timeline(1)),
        lsn: Some(Lsn(0x0300_0148)),
        lag_bytes: Some(0),
        lag_ms: Some(0),
        streaming: Some(true),
        upstream: Some("pg1".into()),
        members: vec![
            member(1, "pg1", "primary", None),
            member(2, "pg2", "standby", Some(1)),
        ],
        children: vec![
            child("postgres", Some(40), 0),
            child("repmgrd", Some(52), 1),
            child("crond", None, 0),
        ],
        restarts: 0,
        orphans_reaped: 3,
        boot: vec![step("preflight", 12), step("clone", 1_600)],
        boot_total_ms: Some(2_750),
        backup: BackupView {
            mode: "local".into(),
            count: Some(1),
            last_id: Some("20261121T080000".into()),
            last_end_ms: Some(640_000),
            last_size: Some(30_722_752),
            note: None,
            drills: Vec::new(),
        },
        archiving: None,
        verified: None,
        rejoin: None,
        election: None,
        synchronous: None,
        host: None,
        fault: None,
    }
}
