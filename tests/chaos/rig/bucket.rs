//! `CHAOS_BARMAN=cloud`: an S3 server beside the nodes, into which whoever is primary archives. At the end of a run the first
//! backup and the WAL of every failover must make the same rows again, on a node that has nothing else.

use super::Outcome;
use super::cluster::Cluster;
use super::docker::{Network, docker, eventually};
use super::sql::{Door, ask, value};
use std::time::Duration;

/// What the nodes call the cluster in the bucket.
const SERVER: &str = "main";
/// A backup, a replay: as long as a busy machine takes.
const LONG: Duration = Duration::from_secs(300);
const KEY: [(&str, &str); 3] = [
    ("S3_BUCKET", "pgnode"),
    ("S3_ACCESS_KEY_ID", "GK000000000000000000000001"),
    ("S3_SECRET_ACCESS_KEY", "not-a-secret/0123456789+abcdef=="),
];

/// Starts the server; what every node is given.
pub(crate) fn start(network: &Network) -> Outcome<Vec<(String, String)>> {
    let image = std::env::var("PGNODE_GARAGE_IMAGE").unwrap_or("pgnode-garage:local".to_owned());
    let (name, label) = (format!("{}-s3", network.name), network.label());
    let ip = network.address(20);
    let env = KEY.map(|(name, value)| format!("{name}={value}"));
    let mut words = vec!["run", "-d", "--name", &name, "--label", &label];
    words.extend(["--network", &network.name, "--network-alias", "s3"]);
    words.extend(["--ip", &ip]);
    for pair in &env {
        words.extend(["-e", pair]);
    }
    words.push(&image);
    docker(&words)?;
    let vars = [
        ("S3_ENDPOINT_URL", "http://s3:3900"),
        ("S3_BUCKET_URI", "s3://pgnode/chaos"),
        ("S3_REGION", "garage"),
        KEY[1],
        KEY[2],
        ("BARMAN_CLOUD_SERVER_NAME", SERVER),
    ];
    Ok(vars.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec())
}

impl Cluster {
    /// The oldest backup that is complete.
    pub(crate) fn first_backup(&self, primary: usize) -> Outcome<String> {
        let node = &self.nodes[primary];
        let list = node.sh("root", "pgnode backup list --json 2>/dev/null")?;
        let list: serde_json::Value = serde_json::from_str(&list).map_err(|e| e.to_string())?;
        let all = list.as_array().ok_or("no list of backups")?;
        let done = all.iter().filter(|b| b["status"] == "DONE");
        let ids = done.filter_map(|b| b["id"].as_str());
        ids.min()
            .map(str::to_owned)
            .ok_or("no complete backup".to_owned())
    }

    /// Waits for the backup that the first primary makes by itself.
    pub(crate) fn await_backup(&self, primary: usize) -> Outcome<()> {
        eventually(LONG, || self.first_backup(primary)).map(drop)
    }

    /// Restores from the bucket alone and compares the rows. Nobody writes rows meanwhile.
    pub(crate) fn rows_come_back(
        &self,
        primary: usize,
        setup: &super::cluster::Setup,
    ) -> Outcome<()> {
        let door = &self.nodes[primary].door;
        let rows = value(door, "postgres", super::cluster::SUM)?;
        let last = value(door, "postgres", "SELECT pg_walfile_name(pg_switch_wal())")?;
        eventually(LONG, || {
            let sql = format!("SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= '{last}'");
            let there = ask(door, "postgres", &sql)?;
            there
                .first()
                .map(drop)
                .ok_or(format!("{last} is not archived"))
        })?;
        let backup = self.first_backup(primary)?;
        let verified = self.nodes[primary].sh("root", "pgnode s3 verify --json");
        let report: serde_json::Value =
            serde_json::from_str(&verified?).map_err(|e| e.to_string())?;
        if report["wrong"]
            .as_array()
            .is_none_or(|wrong| !wrong.is_empty())
        {
            return Err(format!("pgnode s3 verify: {report}"));
        }

        let (name, label) = (
            format!("{}-restored", self.network.name),
            self.network.label(),
        );
        let restored = Door {
            name: "pg9".to_owned(),
            ip: self.network.address(30),
        };
        let access = format!(
            "{}:/etc/pgnode/pg_hba.d:ro",
            self.access(&setup.dir)?.display()
        );
        let mut vars: Vec<(String, String)> = self.bucket.clone().unwrap_or_default();
        vars.retain(|(name, _)| name != "BARMAN_CLOUD_SERVER_NAME");
        let more = [
            ("BARMAN_MODE", "cloud"),
            ("BARMAN_CLOUD_SERVER_NAME", "restored"),
            ("REPMGR_NODE_NAME", "pg9"),
            ("PGNODE_RESTORE", &backup),
            ("PGNODE_RESTORE_FROM", "s3/main"),
        ];
        vars.extend(more.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let pairs: Vec<String> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut words = vec![
            "run",
            "-d",
            "--name",
            &name,
            "--label",
            &label,
            "--hostname",
            "pg9",
        ];
        words.extend([
            "--network",
            &self.network.name,
            "--ip",
            &restored.ip,
            "-v",
            &access,
        ]);
        for pair in &pairs {
            words.extend(["-e", pair]);
        }
        words.push(&setup.image);
        docker(&words)?;
        let there = eventually(LONG, || {
            match &*value(&restored, "postgres", "SELECT pg_is_in_recovery()")? {
                "f" => value(&restored, "postgres", super::cluster::SUM),
                _ => Err("it still replays".to_owned()),
            }
        });
        let there = there.map_err(|why| {
            let log = docker(&["logs", "--tail", "60", &name]).unwrap_or_else(|why| why);
            format!("the restored node: {why}\n{log}")
        })?;
        if there != rows {
            return Err(format!(
                "{there} came back from {backup} and its WAL, {rows} were there"
            ));
        }
        docker(&["rm", "-f", "-v", &name]).map(drop)
    }
}
