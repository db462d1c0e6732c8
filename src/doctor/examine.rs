//! The protocol: gathers what it can at once, judges, and goes on to what needs the former.

use super::cluster::{Cluster, UnknownServer};
use super::facts::{NodeLogin, ServerFacts};
use super::finding::{Diagnosis, Finding};
use super::judge::{self, Place};
use super::passwords::Passwords;
use super::{ailments, drill, gather, keeper};
use crate::barman::{BarmanError, CheckLine};
use crate::config::{Address, Config, Method};
use crate::domain::Fault;
use crate::render::RunFiles;
use crate::s3::ship::{Kind, Queue};
use crate::sys::{Account, Children, now_ms};
use std::sync::Arc;

/// What an examination works with.
#[derive(Clone, Debug)]
pub struct Doctor {
    /// The settings.
    pub config: Arc<Config>,
    /// Starts barman, ssh, the scratch server.
    pub children: Children,
    /// Runs barman and owns the backups.
    pub account: Account,
    /// Runs postgres.
    pub postgres: Account,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// This cluster only.
    pub server: Option<String>,
    /// A backup and a drill as well.
    pub full: bool,
    /// This step only.
    pub step: Option<u8>,
}

impl Order {
    pub(super) fn wants(&self, step: u8) -> bool {
        self.step.is_none_or(|only| only == step)
    }
}

/// Examines every cluster that was asked for.
///
/// # Errors
/// [`UnknownServer`]; whatever else goes wrong is a finding.
pub async fn examine(doctor: &Doctor, order: &Order) -> Result<Vec<Diagnosis>, UnknownServer> {
    let mut all = Vec::new();
    for mut cluster in doctor.clusters(order.server.as_deref())? {
        if cluster.cloud {
            let mut findings = Box::pin(doctor.bucket(&cluster.name, order)).await;
            if order.wants(8) {
                findings.extend(doctor.drilled(&cluster.name, order).await);
            }
            all.push(Diagnosis::new(&cluster.name, findings));
            continue;
        }
        if cluster.server.is_none() {
            doctor.leave_out_witnesses(&mut cluster.hosts).await;
        }
        let mut findings = Box::pin(doctor.examine(&cluster, order)).await;
        if doctor.config.kind.keeps_backups() {
            findings.extend(Box::pin(doctor.bucket(&cluster.name, order)).await);
        }
        all.push(Diagnosis::new(&cluster.name, findings));
    }
    Ok(all)
}

impl Doctor {
    async fn examine(&self, cluster: &Cluster, order: &Order) -> Vec<Finding> {
        let config = &self.config;
        let passwords = Passwords::find(config);
        let logins = async {
            let asked = cluster.hosts.iter().cloned();
            let mut tasks = Vec::new();
            for address in asked {
                let passwords = passwords.clone();
                tasks.push(tokio::spawn(async move {
                    gather::node(address, &passwords).await
                }));
            }
            let mut nodes = Vec::new();
            for task in tasks {
                nodes.extend(task.await.ok());
            }
            nodes
        };
        let own = async {
            let ask_check = order.wants(4) && cluster.server.is_some();
            let ask_list = order.wants(3) && cluster.server.is_some();
            let check = async {
                match ask_check {
                    true => Some(self.client(&cluster.name).check().await),
                    false => None,
                }
            };
            let list = async {
                match ask_list {
                    true => Some(self.barman_json(&["list-servers"]).await),
                    false => None,
                }
            };
            tokio::join!(check, list)
        };
        let ssh = async {
            match order.wants(1) {
                true => self.ssh(&cluster.hosts).await,
                false => Vec::new(),
            }
        };
        let sql = async {
            let nodes = logins.await;
            let round = self.round_trip(cluster, &nodes, &passwords, order).await;
            (nodes, round)
        };
        let ((nodes, mut found), (check, list), ssh) = tokio::join!(sql, own, ssh);
        found.extend(ssh);
        if order.wants(2) {
            let pgpass = passwords.path.display().to_string();
            if cluster.server.is_some() {
                found.push(judge::password_file(
                    &pgpass,
                    self.account.uid,
                    passwords.file,
                ));
            }
            found.extend(judge::logins(&nodes, &pgpass));
        }
        let primary = primary(&nodes);
        found.extend(self.said_by_barman(cluster, list, check, primary.is_some()));
        if order.wants(5) {
            found.push(self.destination(cluster, primary.map(|(_, f)| f)).await);
        }
        if order.wants(7) {
            found.extend(
                self.backups(cluster, order, primary.map(|(a, _)| a), &passwords)
                    .await,
            );
        }
        if order.wants(8) {
            found.extend(self.restores(cluster, order).await);
        }
        found
    }

    fn said_by_barman(
        &self,
        cluster: &Cluster,
        list: Option<Result<serde_json::Value, String>>,
        check: Option<Result<Vec<CheckLine>, BarmanError>>,
        primary: bool,
    ) -> Vec<Finding> {
        let paths = Texts::of(&self.config);
        let place = paths.place(&cluster.name);
        let broken = |step: u8, command: &str, why: &str| {
            let mut f = Finding::of(&ailments::BARMAN, command, why, &[("command", command)]);
            f.step = step;
            f
        };
        let mut found = Vec::new();
        if cluster.server.is_none() {
            let host = self.config.barman.host.as_deref();
            let there = host.unwrap_or("the barman host");
            for (step, check) in [(3, "listed"), (4, "barman check")] {
                let why =
                    format!("barman is not in this container: run `pgnode doctor` at {there}");
                found.push(Finding::skip(step, check, why));
            }
            return found;
        }
        let mut listed = true;
        match list {
            None => {}
            Some(Err(why)) => found.push(broken(3, "barman list-servers", &why)),
            Some(Ok(json)) => {
                listed = json.get(&cluster.name).is_some();
                found.push(judge::listed(&json, place, primary));
            }
        }
        match check {
            None => {}
            Some(_) if !listed => {
                let why = "barman does not know the cluster: see step 3";
                found.push(Finding::skip(4, "barman check", why));
            }
            Some(_) if !primary && !self.config.kind.keeps_backups() => {
                let why = "the barman of a standby rests: run `pgnode doctor` on the primary";
                found.push(Finding::skip(4, "barman check", why));
            }
            Some(Err(error)) => found.push(broken(4, "barman check", &Fault::chain(&error))),
            Some(Ok(lines)) => found.extend(judge::check_lines(&lines, place)),
        }
        found
    }

    /// Step 5. barman is asked for its directory only where WAL is shipped.
    async fn destination(&self, cluster: &Cluster, primary: Option<&ServerFacts>) -> Finding {
        if self.config.barman.method == Method::Streaming {
            let why = "not needed: BARMAN_METHOD is streaming";
            return Finding::skip(5, "destination", why);
        }
        let Some(primary) = primary else {
            return Finding::skip(5, "destination", "no primary could be asked: see step 2");
        };
        let mut incoming = None;
        if cluster.server.is_some() {
            let json = self.barman_json(&["show-servers", &cluster.name]).await;
            let dir = json.ok().and_then(|json| {
                let value = json.get(&cluster.name)?.get("incoming_wals_directory")?;
                Some(value.as_str()?.to_owned())
            });
            incoming = dir;
        }
        let rendered = RunFiles::of(&self.config).postgresql_conf;
        let ours = (!self.config.kind.keeps_backups()).then(|| rendered.display().to_string());
        judge::archive(
            &primary.archiver,
            &cluster.name,
            incoming.as_deref(),
            ours.as_deref(),
        )
    }

    async fn backups(
        &self,
        cluster: &Cluster,
        order: &Order,
        primary: Option<&Address>,
        passwords: &Passwords,
    ) -> Vec<Finding> {
        let Some(server) = &cluster.server else {
            let why = "barman is not in this container";
            return vec![Finding::skip(7, "last backup", why)];
        };
        if primary.is_none() && !self.config.kind.keeps_backups() {
            let why = "the primary takes the backups: run `pgnode doctor` there";
            return vec![Finding::skip(7, "last backup", why)];
        }
        let mut found = Vec::new();
        if order.full {
            found.push(match primary {
                Some(address) => self.new_backup(server, address, passwords).await,
                None => Finding::skip(7, "a new backup", "no primary could be asked: see step 2"),
            });
        }
        match keeper::backups(server).await {
            Ok(all) => {
                let now = now_ms();
                let limit = self.config.barman.habits.max_age;
                let running = lock_is_held(&self.config, &cluster.name);
                found.extend(judge::last_backup(&all, &cluster.name, limit, now, running));
                if self.config.kind.keeps_backups() && self.config.s3.is_some() {
                    let queue = Queue::at(self.config.shipping.queue_dir.clone());
                    let tasks = queue.list().unwrap_or_default();
                    let name = cluster.name.as_str();
                    let runs = Kind::ALL.map(|kind| (kind, queue.record(name, kind)));
                    found.extend(judge::shipped(&tasks, &runs, name, queue.dir(), now));
                }
            }
            Err(error) => {
                let command = format!("barman list-backups {}", cluster.name);
                let why = Fault::chain(&error);
                let mut f = Finding::of(
                    &ailments::BARMAN,
                    "reading the catalogue",
                    &why,
                    &[("command", &command)],
                );
                f.step = 7;
                found.push(f);
            }
        }
        found
    }

    /// Step 8 where the backups are in a bucket.
    async fn drilled(&self, name: &str, order: &Order) -> Vec<Finding> {
        if order.full {
            let (_, findings) = Box::pin(drill::bucket::run(self, name)).await;
            return findings;
        }
        let last = drill::read(&drill::records(&self.config), name);
        let now = now_ms();
        vec![judge::drill_record(last.as_ref(), name, now)]
    }

    async fn restores(&self, cluster: &Cluster, order: &Order) -> Vec<Finding> {
        let Some(server) = &cluster.server else {
            let why = "barman is not in this container";
            return vec![Finding::skip(8, "last drill", why)];
        };
        let dir = drill::records(&self.config);
        if !order.full {
            let now = now_ms();
            let last = drill::read(&dir, &cluster.name);
            return vec![judge::drill_record(last.as_ref(), &cluster.name, now)];
        }
        // A backup that was made just now begins behind the marker of step 6: another is written. That one is
        // looked for as well.
        let (marker, tablespaces) = Box::pin(self.marked(cluster)).await;
        let (_, findings) = Box::pin(drill::run(self, server, marker, &tablespaces)).await;
        findings
    }
}

/// barman's own lock of a backup that runs (flock(2), `.<server>-backup.lock` in its home).
fn lock_is_held(config: &Config, server: &str) -> bool {
    let path = config
        .paths
        .barman_backup_dir
        .join(format!(".{server}-backup.lock"));
    crate::sys::is_locked(&path)
}

pub(super) fn primary(nodes: &[NodeLogin]) -> Option<(&Address, &ServerFacts)> {
    let facts = nodes.iter().map(|n| (&n.address, n.plain.as_ref()));
    facts
        .filter_map(|(a, f)| Some((a, f.ok()?)))
        .find(|(_, f)| !f.standby)
}

/// Paths as texts, for messages.
pub(super) struct Texts {
    home: String,
    dir: String,
}

impl Texts {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            home: config.paths.barman_backup_dir.display().to_string(),
            dir: config.paths.barman_config_dir.display().to_string(),
        }
    }

    pub(super) fn place<'a>(&'a self, server: &'a str) -> Place<'a> {
        Place {
            server,
            home: &self.home,
            dir: &self.dir,
        }
    }
}
