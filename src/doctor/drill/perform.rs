//! A drill from its beginning to its record.

use super::guard::Life;
use super::scratch::Scratch;
use super::{Flaw, base, record, server};
use crate::barman::{Backup, Server};
use crate::doctor::cluster::Cluster;
use crate::doctor::examine::{Texts, primary};
use crate::doctor::facts::Marker;
use crate::doctor::passwords::Passwords;
use crate::doctor::{Doctor, Finding, ailments, gather, marker};
use crate::domain::{DrillView, Fault, human_bytes, human_duration};
use crate::sys::{self, now_ms};
use std::time::{Duration, Instant};

/// For the marker's segment.
const ARRIVES: Duration = Duration::from_secs(60);

pub(super) fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Restores the newest complete backup, and writes down how that went. `marker` is what must be there
/// afterwards; without one the archive is replayed to its end. `live` are the primary's tablespaces.
pub async fn run(
    doctor: &Doctor,
    server: &Server,
    marker: Option<Marker>,
    live: &[(u32, String)],
) -> (DrillView, Vec<Finding>) {
    let began = Instant::now();
    let mut work = Work {
        doctor,
        server,
        name: server.name(),
        found: Vec::new(),
        view: DrillView {
            server: server.name(),
            ..DrillView::default()
        },
    };
    let ended = Box::pin(work.perform(marker.as_ref(), live)).await;
    let (mut view, mut found, name) = (work.view, work.found, work.name);
    view.at_ms = now_ms();
    view.took_ms = ms(began.elapsed());
    view.peak_memory = sys::largest_child();
    if let Err((flaw, tried)) = ended {
        let paths = Texts::of(&doctor.config);
        let home = paths.place(&name).home.to_owned();
        let id = view.backup.clone().unwrap_or_default();
        let words = [("server", name.as_str()), ("home", &home), ("id", &id)];
        let finding = flaw.finding(&tried, &words);
        view.error = Some(finding.why.clone());
        view.ailment = finding.ailment.map(str::to_owned);
        found.push(finding);
    }
    // Another drill's result is not ours to write over.
    if view.ailment.as_deref() != Some(ailments::DRILL_BUSY.id) {
        let known = server.backups().unwrap_or_default();
        let known: Vec<String> = known.into_iter().map(|b| b.id).collect();
        if let Err(error) = record(doctor, &mut view, &known) {
            let dir = super::records(&doctor.config);
            let why = format!("{}: {error}", dir.display());
            let flaw = Flaw::new(&ailments::DRILL_BROKEN, why);
            found.push(flaw.finding("writing the result down", &[("server", &name)]));
        }
    }
    (view, found)
}

struct Work<'a> {
    doctor: &'a Doctor,
    server: &'a Server,
    name: String,
    found: Vec<Finding>,
    view: DrillView,
}

pub(super) type Ended<T> = Result<T, (Flaw, String)>;

impl Work<'_> {
    fn passed(&mut self, check: &str, tried: &str, what: impl Into<String>) {
        self.found.push(Finding::pass(8, check, tried, what));
    }

    async fn perform(&mut self, marker: Option<&Marker>, live: &[(u32, String)]) -> Ended<()> {
        let (doctor, server) = (self.doctor, self.server);
        let at = |tried: &str| {
            let tried = tried.to_owned();
            move |flaw: Flaw| (flaw, tried)
        };
        let tried = format!(
            "claiming {}",
            doctor.config.drill.dir.join(&self.name).display()
        );
        let scratch = Scratch::claim(doctor, &self.name, Some(&server.dir)).map_err(at(&tried))?;
        let chain = base::choose(server).map_err(at("reading the catalogue"))?;
        let backup = chain.last().cloned();
        self.view.backup = backup.as_ref().map(|b| b.id.clone());
        let ended = match backup {
            Some(backup) => self.restore(&scratch, &chain, &backup, marker, live).await,
            None => Ok(()),
        };
        let tried = format!("removing {}", scratch.dir.display());
        let removed = scratch.remove();
        ended?;
        removed.map_err(|e| (Flaw::new(&ailments::DRILL_BROKEN, e.to_string()), tried))
    }

    async fn restore(
        &mut self,
        scratch: &Scratch,
        chain: &[Backup],
        backup: &Backup,
        marker: Option<&Marker>,
        live: &[(u32, String)],
    ) -> Ended<()> {
        let (doctor, server) = (self.doctor, self.server);
        let at = |tried: &str| {
            let tried = tried.to_owned();
            move |flaw: Flaw| (flaw, tried)
        };
        let broken = |e: std::io::Error| Flaw::new(&ailments::DRILL_BROKEN, e.to_string());
        let newer = live
            .iter()
            .find(|(oid, _)| !backup.tablespaces.iter().any(|t| t.oid == *oid));
        if let Some((oid, place)) = newer {
            let why = format!("tablespace {oid} at {place} is not in {}", backup.id);
            return Err((
                Flaw::new(&ailments::DRILL_TABLESPACE, why),
                "comparing tablespaces".into(),
            ));
        }
        let tried = "looking at the volume of the scratch directory";
        let bytes = base::room(chain, &scratch.dir).map_err(at(tried))?;
        self.passed("room", tried, format!("enough for {}", human_bytes(bytes)));
        let tried = format!("looking for every segment that {} needs", backup.id);
        let segments = base::wal(server, backup, marker).map_err(at(&tried))?;
        self.passed("WAL", &tried, format!("{segments} segments without a gap"));
        let began = Instant::now();
        let life = Life::begin(&scratch.dir, doctor.owner()).map_err(broken);
        let life = life.map_err(at("making a pipe"))?;
        let tried = format!("copying {} to {}", backup.id, scratch.dir.display());
        base::copy(doctor, &life, chain, scratch)
            .await
            .map_err(at(&tried))?;
        let copied = began.elapsed();
        self.passed(
            "base copy",
            &tried,
            format!("after {}", human_duration(copied)),
        );
        let tried = "pg_verifybackup";
        match base::verify(doctor, &life, chain, scratch)
            .await
            .map_err(at(tried))?
        {
            true => self.passed(
                "manifest",
                tried,
                "every file is as it was copied from the server",
            ),
            false => {
                let why = "this backup has none (rsync)";
                self.found.push(Finding::skip(8, "manifest", why));
            }
        }
        let verified = began.elapsed();
        let control = server::Control::read(doctor, &life, scratch).await;
        let control = control.map_err(at("pg_controldata"))?;
        let target = marker.map(|m| m.lsn);
        server::restore_command(&server.dir)
            .and_then(|command| server::prepare(doctor, &command, scratch, control, target))
            .map_err(broken)
            .map_err(at("writing the scratch server's settings"))?;
        let tried = match target {
            Some(lsn) => format!("starting a server on a private socket, replaying to {lsn}"),
            None => "starting a server on a private socket, replaying the whole archive".to_owned(),
        };
        let reached = server::replay(doctor, scratch, life, marker)
            .await
            .map_err(at(&tried))?;
        // Verifying is no part of a restore.
        self.view.restore_ms = Some(ms(copied + reached.up_after));
        self.view.recovery_lsn = reached.lsn;
        self.view.recovery_point_ms = reached.last_ms;
        self.view.rows = reached.rows;
        let up = human_duration(reached.up_after);
        let point = reached
            .lsn
            .map_or_else(String::new, |lsn| format!(", at {lsn}"));
        self.passed("recovery", &tried, format!("up after {up}{point}"));
        match reached.rows {
            Some(rows) => self.passed(
                "rows",
                "comparing the marker rows",
                format!("{rows} rows are as they were written"),
            ),
            None => {
                let why = "the primary could not be asked for a marker";
                self.found.push(Finding::skip(8, "rows", why));
            }
        }
        self.view.bytes = sys::dir_size(&scratch.data()).ok();
        checksums(doctor, scratch, control, &mut self.found).await?;
        tracing::debug!("verified after {}", human_duration(verified));
        Ok(())
    }
}

/// `pg_checksums`, where the cluster has checksums.
pub(super) async fn checksums(
    doctor: &Doctor,
    scratch: &Scratch,
    control: server::Control,
    found: &mut Vec<Finding>,
) -> Ended<()> {
    let tried = "pg_checksums --check";
    if !control.checksums {
        let why = "data checksums are off in this cluster";
        found.push(Finding::skip(8, "checksums", why));
        return Ok(());
    }
    let at = |flaw: Flaw| (flaw, tried.to_owned());
    // The former pipe closed with the server.
    let life = Life::begin(&scratch.dir, doctor.owner())
        .map_err(|e| at(Flaw::new(&ailments::DRILL_BROKEN, e.to_string())))?;
    let words = ["--check".into(), "-D".into(), scratch.data().into()];
    let end = base::run(doctor, &life, "pg_checksums", words)
        .await
        .map_err(at)?;
    if !end.exit.is_success() {
        return Err(at(Flaw::new(&ailments::DRILL_CHECKSUMS, end.last_words())));
    }
    found.push(Finding::pass(8, "checksums", tried, "every page is sound"));
    Ok(())
}

impl Doctor {
    /// A marker in the archive, where a primary can be reached; and its tablespaces.
    pub(in crate::doctor) async fn marked(
        &self,
        cluster: &Cluster,
    ) -> (Option<Marker>, Vec<(u32, String)>) {
        let passwords = Passwords::find(&self.config);
        let mut nodes = Vec::new();
        for address in &cluster.hosts {
            nodes.push(gather::node(address.clone(), &passwords).await);
        }
        let (Some((address, facts)), Some(server)) = (primary(&nodes), &cluster.server) else {
            return (None, Vec::new());
        };
        let spaces = facts.tablespaces.clone();
        if !facts.marker {
            return (None, spaces);
        }
        let written = async {
            let session = gather::session(address, &passwords).await.ok()?;
            let marker = marker::write(&session).await.ok()?;
            crate::barman::push_wal(&session)
                .await
                .map_err(|e| tracing::warn!("{}", Fault::chain(&e)))
                .ok()?;
            Some(marker)
        };
        let Some(marker) = written.await else {
            return (None, spaces);
        };
        self.arrival(server, &marker.segment, ARRIVES).await;
        (Some(marker), spaces)
    }
}
