//! Step 6: a marker written, its WAL switched, archived and received; and what could stop that.

use super::cluster::Cluster;
use super::examine::{Order, Texts, primary};
use super::facts::{Arrival, Marker, NodeLogin, ServerFacts};
use super::passwords::Passwords;
use super::{Doctor, Finding, ailments, gather, judge, keeper, marker};
use crate::barman::{self, Server};
use crate::config::{Address, Method};
use crate::domain::Fault;
use crate::pg::Session;
use crate::sys::fs_facts;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a segment may be on its way: a busy disk is no fault.
const ARRIVES: Duration = Duration::from_secs(20);
/// Between two looks.
const PACE: Duration = Duration::from_millis(50);
/// Between two attempts to archive.
const AGAIN: Duration = Duration::from_secs(2);
/// With one of these nothing will arrive: there is no use in waiting for it.
const DEAF: [&str; 3] = ["slot-missing", "slot-inactive", "slot-lost"];

impl Doctor {
    /// Step 6.
    pub(super) async fn round_trip(
        &self,
        cluster: &Cluster,
        nodes: &[NodeLogin],
        passwords: &Passwords,
        order: &Order,
    ) -> Vec<Finding> {
        if !order.wants(6) {
            return Vec::new();
        }
        let mut found = self.disks(cluster).await;
        for node in nodes {
            if let Ok(facts) = &node.plain {
                let host = node.address.to_string();
                found.push(judge::clock(&host, facts.skew_ms, facts.asked_ms));
            }
        }
        let Some((address, facts)) = primary(nodes) else {
            let why =
                match self.config.kind.keeps_backups() || nodes.iter().all(|n| n.plain.is_err()) {
                    true => "no primary could be asked: see step 2",
                    false => "this node is a standby: run `pgnode doctor` on the primary",
                };
            found.push(Finding::skip(6, "round trip", why));
            return found;
        };
        let streams = self.config.barman.method == Method::Streaming;
        let slots = judge::slots(facts, &cluster.name, streams);
        let deaf = streams
            && slots
                .iter()
                .any(|f| f.ailment.is_some_and(|id| DEAF.contains(&id)));
        found.extend(slots);
        found.push(judge::wal_archiver(&facts.archiver));
        found.extend(self.sent(cluster, address, facts, passwords, deaf).await);
        found
    }

    async fn sent(
        &self,
        cluster: &Cluster,
        address: &Address,
        facts: &ServerFacts,
        passwords: &Passwords,
        deaf: bool,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let tried = "inserting into pgnode.marker as barman";
        let written = async {
            let session = gather::session(address, passwords)
                .await
                .map_err(|r| r.words().to_owned())?;
            if !facts.marker {
                return Ok((session, None));
            }
            let marker = marker::write(&session)
                .await
                .map_err(|e| Fault::chain(&e))?;
            Ok::<_, String>((session, Some(marker)))
        };
        let (session, marker) = match written.await {
            Ok((session, Some(marker))) => (session, marker),
            Ok((_, None)) => {
                found.push(Finding::of(&ailments::MARKER_TABLE, tried, "", &[]));
                return found;
            }
            Err(why) => {
                found.push(Finding::of(&ailments::MARKER_TABLE, tried, &why, &[]));
                return found;
            }
        };
        found.push(Finding::pass(
            6,
            "marker",
            tried,
            format!("written at {}", marker.lsn),
        ));
        if let Err(error) = crate::barman::push_wal(&session).await {
            let why = Fault::chain(&error);
            found.push(Finding::of(
                &ailments::SWITCH,
                "SELECT pg_switch_wal()",
                &why,
                &[],
            ));
            return found;
        }
        let began = Instant::now();
        let paths = Texts::of(&self.config);
        let place = paths.place(&cluster.name);
        match &cluster.server {
            Some(server) => {
                let patience = if deaf { Duration::ZERO } else { ARRIVES };
                let arrival = self.arrival(server, &marker.segment, patience).await;
                let took = began.elapsed();
                found.push(judge::round_trip(&marker.segment, arrival, took, place));
            }
            None => found.push(self.received(&session, &marker).await),
        }
        found
    }

    /// Waits until a segment is in the archive; a segment that has come in is archived at once rather than
    /// by cron.
    pub(super) async fn arrival(
        &self,
        server: &Server,
        segment: &str,
        patience: Duration,
    ) -> Arrival {
        let began = Instant::now();
        let mut last = None::<Instant>;
        loop {
            let seen = match server.wal_file(segment) {
                Ok(Some(file)) => match file.place {
                    barman::Place::Archived => Arrival::Archived,
                    barman::Place::Incoming | barman::Place::Streaming => Arrival::Received,
                    barman::Place::Partial | barman::Place::ArchivedPartial => Arrival::Missing,
                },
                Ok(None) | Err(_) => Arrival::Missing,
            };
            if seen == Arrival::Archived || began.elapsed() >= patience {
                return seen;
            }
            if seen == Arrival::Received && last.is_none_or(|at| at.elapsed() >= AGAIN) {
                last = Some(Instant::now());
                if let Err(error) = self.client(&server.name()).archive_wal().await {
                    tracing::debug!("{}", Fault::chain(&error));
                }
                continue;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Where barman is elsewhere: whether the primary has sent the marker, or archived it.
    async fn received(&self, session: &Session, marker: &Marker) -> Finding {
        let tried = format!(
            "a marker written at {}, a switch forced, asking what was sent to barman",
            marker.lsn
        );
        let streams = self.config.barman.method == Method::Streaming;
        let sql = if streams {
            "SELECT coalesce(max(sent_lsn) >= $1::text::pg_lsn, false) FROM pg_stat_replication \
             WHERE usename = 'barman_streaming'"
        } else {
            "SELECT coalesce(max(last_archived_wal) >= $1, false) FROM pg_stat_archiver"
        };
        let wanted = if streams {
            marker.lsn.to_string()
        } else {
            marker.segment.clone()
        };
        let began = Instant::now();
        let host = self
            .config
            .barman
            .host
            .as_deref()
            .unwrap_or("the barman host");
        loop {
            let row = session.one("asking what was sent", sql, &[&wanted]).await;
            if row.is_ok_and(|row| row.get(0)) {
                let what = format!("sent; whether it is archived is seen at {host}");
                return Finding::pass(6, "round trip", &tried, what);
            }
            if began.elapsed() >= ARRIVES / 5 {
                let words = [("server", "<server>"), ("home", "BARMAN_BACKUP_DIR")];
                return Finding::of(&ailments::NOT_RECEIVED, &tried, "", &words);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn disks(&self, cluster: &Cluster) -> Vec<Finding> {
        let paths = &self.config.paths;
        let (name, mut found) = (cluster.name.as_str(), Vec::new());
        let mut look = |what: &str, path: &Path| {
            let facts = fs_facts(path).ok()?;
            let shown = path.display().to_string();
            found.push(judge::disk(
                what,
                &shown,
                name,
                facts.total,
                facts.available,
            ));
            Some((shown, facts.available))
        };
        if !self.config.kind.keeps_backups() {
            look("PGDATA", &paths.pgdata);
        }
        let Some(server) = &cluster.server else {
            return found;
        };
        if let Some((path, free)) = look("backups", &paths.barman_backup_dir) {
            let last = keeper::backups(server).await.unwrap_or_default();
            let size = last.iter().rfind(|b| b.is_done()).and_then(|b| b.size);
            found.extend(judge::room_for_backup(
                &path,
                name,
                free,
                size.unwrap_or_default(),
            ));
        }
        found
    }
}
