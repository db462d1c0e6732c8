//! Three voting data nodes on a network of their own, and what *converged* means.

use super::Outcome;
use super::docker::{Network, docker, eventually, run};
use super::nodes::Node;
use super::sql::{Door, ask, value};
use super::volumes::Volume;
use super::{bucket, prober, writers};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a first start with two clones on a busy machine.
const FIRST: Duration = Duration::from_secs(300);

/// repmgr by hand finds the passwords where pgnode put them.
const SHOW: &str = "PGPASSFILE=/run/pgnode/pgpass repmgr -f /etc/repmgr.conf cluster show";

/// The writers' rows in one line.
pub(super) const SUM: &str = "SELECT format('%s rows, sum %s', count(*), \
     coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)) FROM chaos_rows t";

/// What runs in the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Pgnode,
    Patroni,
}

/// How the nodes are set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) image: String,
    /// `BARMAN_MODE`.
    pub(crate) barman: String,
    /// More settings for every node; names that the image does not know are left out.
    pub(crate) vars: Vec<(String, String)>,
    /// Logs, volumes and reports go here.
    pub(crate) dir: PathBuf,
    /// File systems that can be filled, instead of docker's volumes.
    pub(crate) small: bool,
}

/// Fields drop in order: the containers go before the volumes that they use.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) flavour: Flavour,
    pub(crate) can_switch_over: bool,
    pub(crate) barman: bool,
    /// What the nodes are told of the bucket that they archive into, where there is one.
    pub(crate) bucket: Option<Vec<(String, String)>>,
}

/// The image under test.
pub(crate) fn image() -> String {
    std::env::var("PGNODE_IMAGE").unwrap_or_else(|_| "pgnode:local".into())
}

/// The names of all settings that an image knows.
pub(crate) fn settings(image: &str) -> Outcome<BTreeSet<String>> {
    let text = docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "config",
        "--json",
    ])?;
    let page: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let list = page["settings"].as_array().ok_or("no settings")?;
    let name = |s: &serde_json::Value| s["name"].as_str().map(str::to_owned);
    Ok(list.iter().filter_map(name).collect())
}

impl Cluster {
    /// Starts `pg1` as the master and two standbys, and waits until they converged.
    pub(crate) fn pgnode(prefix: &str, setup: &Setup) -> Outcome<Self> {
        let known = settings(&setup.image)?;
        let verb = [
            "run",
            "--rm",
            "--network",
            "none",
            &setup.image,
            "switchover",
            "--help",
        ];
        let mut cluster = Self {
            network: Network::new(prefix)?,
            nodes: Vec::new(),
            flavour: Flavour::Pgnode,
            can_switch_over: run("docker", &verb).status.success(),
            barman: setup.barman == "local",
            bucket: None,
        };
        if setup.barman == "cloud" {
            cluster.bucket = Some(bucket::start(&cluster.network)?);
        }
        // Of this process alone: what an interrupted run left mounted is nobody's to remove.
        let volumes = setup.dir.join(format!("volumes-{}", std::process::id()));
        let access = cluster.access(&setup.dir)?;
        for number in 1..=3_u8 {
            let name = format!("pg{number}");
            let mut vars: Vec<(String, String)> = [
                ("POSTGRES_PASSWORD", "chaos"),
                ("REPMGR_PASSWORD", "chaos-repmgr"),
                ("REPMGR_STREAMING_PASSWORD", "chaos-streaming"),
                ("BARMAN_PASSWORD", "chaos-barman"),
                ("BARMAN_STREAMING_PASSWORD", "chaos-barman-s"),
                ("BARMAN_MODE", &setup.barman),
                ("REPMGR_NODE_NAME", &name),
                ("REPMGR_PARTNER_NODES", "pg1,pg2,pg3"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .to_vec();
            let more = match number {
                1 => [("REPMGR_MASTER", "true"), ("REPMGR_SLAVES", "pg2,pg3")],
                _ => [("REPMGR_MASTER", "false"), ("REPMGR_PRIMARY_HOST", "pg1")],
            };
            vars.extend(more.map(|(k, v)| (k.to_owned(), v.to_owned())));
            vars.extend(cluster.bucket.iter().flatten().cloned());
            vars.extend(
                setup
                    .vars
                    .iter()
                    .filter(|(k, _)| known.contains(k))
                    .cloned(),
            );
            let volume = match setup.small {
                true => Some(Volume::new(&volumes, &name)?),
                false => None,
            };
            let flags = vec![
                "-v".to_owned(),
                format!("{}:/etc/pgnode/pg_hba.d:ro", access.display()),
            ];
            cluster.add(&setup.image, number, &vars, volume, &flags, &[])?;
        }
        for node in &cluster.nodes {
            node.start()?;
        }
        cluster.first_start()?;
        Ok(cluster)
    }

    /// The test's own connections come without a password: a scrypt of a debug build is slower than a failover.
    pub(super) fn access(&self, dir: &Path) -> Outcome<PathBuf> {
        let access = dir.join("pg_hba.d");
        let line = format!("host all postgres {}/32 trust\n", self.network.gateway());
        std::fs::create_dir_all(&access)
            .and_then(|()| std::fs::write(access.join("chaos.conf"), line))
            .map_err(|e| format!("{}: {e}", access.display()))?;
        access.canonicalize().map_err(|e| e.to_string())
    }

    /// A container that is made and not started.
    pub(crate) fn add(
        &mut self,
        image: &str,
        number: u8,
        vars: &[(String, String)],
        volume: Option<Volume>,
        flags: &[String],
        words: &[String],
    ) -> Outcome<()> {
        let name = format!("pg{number}");
        let container = format!("{}-{name}", self.network.name);
        let (label, ip) = (self.network.label(), self.network.address(10 + number));
        let data = match &volume {
            Some(volume) => volume
                .mount
                .canonicalize()
                .map_err(|e| e.to_string())?
                .display()
                .to_string(),
            None => docker(&[
                "volume",
                "create",
                "--label",
                &label,
                &format!("{container}-data"),
            ])?,
        };
        let mount = format!("{data}:/var/lib/postgresql");
        let mut args = vec![
            "create",
            "--name",
            &container,
            "--label",
            &label,
            "--hostname",
            &name,
        ];
        args.extend([
            "--network",
            &self.network.name,
            "--network-alias",
            &name,
            "--ip",
            &ip,
        ]);
        args.extend(["-v", &mount, "--no-healthcheck", "--shm-size", "256m"]);
        let pairs: Vec<String> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        for pair in &pairs {
            args.extend(["-e", pair]);
        }
        args.extend(flags.iter().map(String::as_str));
        args.push(image);
        args.extend(words.iter().map(String::as_str));
        docker(&args)?;
        self.nodes.push(Node {
            container,
            door: Door { name, ip },
            volume,
        });
        Ok(())
    }

    /// Waits for the whole cluster and makes the tables.
    pub(crate) fn first_start(&self) -> Outcome<()> {
        let primary = eventually(FIRST, || self.converged())
            .map_err(|why| format!("{why}\n{}", self.tails()))?;
        for table in [prober::TABLE, writers::TABLE] {
            ask(&self.nodes[primary].door, "postgres", table)?;
        }
        match self.bucket {
            Some(_) => self.await_backup(primary),
            None => Ok(()),
        }
    }

    pub(crate) fn doors(&self) -> Vec<Door> {
        self.nodes.iter().map(|n| n.door.clone()).collect()
    }

    /// The primary's index when everything is as it should be, else what is not.
    pub(crate) fn converged(&self) -> Outcome<usize> {
        for node in &self.nodes {
            if !node.is_running() {
                return Err(format!("{} does not run", node.name()));
            }
            let (code, _) = node.get("/readiness")?;
            if code != 200 {
                return Err(format!("{}: /readiness {code}", node.name()));
            }
            match node.zombies()? {
                n if n > 0 && self.flavour == Flavour::Pgnode => {
                    return Err(format!("{}: {n} zombies", node.name()));
                }
                _ => {}
            }
        }
        let primary = self.one_primary()?;
        if self.flavour == Flavour::Pgnode {
            // What a commit waits for is what was asked for, or the next fault is a second one.
            let status = self.nodes[primary].status()?;
            let wanted = &status["synchronous"]["required"];
            if *wanted != status["synchronous"]["in_force"] {
                return Err(format!(
                    "{wanted} standbys are required of a commit, and not in force"
                ));
            }
        }
        let streaming = ask(
            &self.nodes[primary].door,
            "postgres",
            "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'",
        )?;
        for (n, node) in self.nodes.iter().enumerate() {
            if n != primary && !streaming.iter().any(|s| s == node.name()) {
                let from = self.nodes[primary].name();
                return Err(format!("{} does not stream from {from}", node.name()));
            }
        }
        if self.flavour == Flavour::Pgnode {
            self.registered(primary)?;
        }
        Ok(primary)
    }

    fn one_primary(&self) -> Outcome<usize> {
        let mut primaries = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            if value(&node.door, "postgres", "SELECT pg_is_in_recovery()")? == "f" {
                primaries.push(n);
            }
        }
        match primaries[..] {
            [one] => Ok(one),
            _ => Err(format!("{} primaries", primaries.len())),
        }
    }

    /// repmgr sees the cluster as it is, from every node; barman as well where there is one, and the archive gets its WAL.
    fn registered(&self, primary: usize) -> Outcome<()> {
        let rows = ask(
            &self.nodes[primary].door,
            "repmgr",
            "SELECT format('%s %s %s', node_name, type, active) FROM repmgr.nodes ORDER BY 1",
        )?;
        for (n, node) in self.nodes.iter().enumerate() {
            let role = if n == primary { "primary" } else { "standby" };
            let want = format!("{} {role} t", node.name());
            if !rows.contains(&want) {
                return Err(format!("repmgr.nodes: no {want:?} in {rows:?}"));
            }
            node.sh("postgres", SHOW)?;
        }
        if self.barman {
            let node = &self.nodes[primary];
            node.sh("barman", &format!("barman check {}", node.name()))?;
        }
        if self.bucket.is_some() {
            let archiving = &self.nodes[primary].status()?["archiving"];
            if !archiving["failing_since_ms"].is_null() {
                return Err(format!("WAL is not archived: {archiving}"));
            }
        }
        Ok(())
    }

    /// Whether all nodes hold the same rows, once nobody writes.
    pub(crate) fn same_rows(&self) -> Outcome<()> {
        let mut sums = Vec::new();
        for node in &self.nodes {
            sums.push(value(&node.door, "postgres", SUM)?);
        }
        if sums.iter().all(|s| *s == sums[0]) {
            return Ok(());
        }
        Err(format!("different rows: {sums:?}"))
    }

    /// `pgnode switchover` (or Patroni's) away from this node, which is the primary.
    pub(crate) fn switchover(&self, from: &Node) -> Outcome<()> {
        match self.flavour {
            Flavour::Pgnode => docker(&["exec", &from.container, "pgnode", "switchover"]).map(drop),
            Flavour::Patroni => from
                .sh(
                    "postgres",
                    &format!(
                        "patronictl -c /tmp/patroni.yml switchover --leader {} --force",
                        from.name()
                    ),
                )
                .map(drop),
        }
    }

    /// The end of every log, for a message.
    fn tails(&self) -> String {
        self.nodes.iter().fold(String::new(), |mut text, node| {
            writeln!(text, "--- {}\n{}", node.name(), node.logs(30)).ok();
            text
        })
    }

    /// Everything that helps to understand a failure, into a directory.
    pub(crate) fn dump(&self, dir: &Path) {
        std::fs::create_dir_all(dir).ok();
        for node in &self.nodes {
            let put = |kind: &str, text: String| {
                std::fs::write(dir.join(format!("{}.{kind}", node.name())), text).ok();
            };
            put("log", node.logs(4000));
            let page = node.get("/status").map_or_else(|why| why, |(_, body)| body);
            put("status.json", page);
            let show = |words: &str| node.sh("postgres", words).unwrap_or_else(|why| why);
            put("repmgr", show(SHOW));
            let replication = ask(
                &node.door,
                "postgres",
                "SELECT to_jsonb(r)::text FROM pg_stat_replication r",
            );
            put(
                "replication",
                replication.map_or_else(|why| why, |rows| rows.join("\n")),
            );
            put(
                "inspect",
                docker(&["inspect", &node.container]).unwrap_or_default(),
            );
            put(
                "processes",
                docker(&["top", &node.container, "-eo", "pid,ppid,stat,args"])
                    .unwrap_or_else(|w| w),
            );
        }
    }
}
