//! A drill: the newest backup restored into a scratch directory, started there, replayed to the marker,
//! compared, its checksums verified, removed. It may take its time: everything runs at the lowest priority.

mod base;
pub mod bucket;
mod guard;
mod perform;
mod scratch;
mod server;

pub use perform::run;

use super::ailments::Ailment;
use super::{Doctor, Finding, UnknownServer};
use crate::config::{BarmanMode, Config};
use crate::domain::DrillView;
use crate::sys;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a drill ended early.
#[derive(Debug)]
struct Flaw {
    ailment: &'static Ailment,
    seen: String,
    words: Vec<(&'static str, String)>,
}

impl Flaw {
    fn new(ailment: &'static Ailment, seen: impl Into<String>) -> Self {
        Self {
            ailment,
            seen: seen.into(),
            words: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, word: impl Into<String>) -> Self {
        self.words.push((name, word.into()));
        self
    }

    fn finding(&self, tried: &str, more: &[(&str, &str)]) -> Finding {
        let own = self.words.iter().map(|(name, word)| (*name, word.as_str()));
        let words: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        Finding::of(self.ailment, tried, &self.seen, &words)
    }
}

/// Where results are written: in barman's directory, so that a new container finds them.
#[must_use]
pub fn records(config: &Config) -> PathBuf {
    match config.barman.mode {
        // There is none.
        BarmanMode::Cloud => records_beside(&config.paths.data_dir),
        BarmanMode::Local | BarmanMode::Remote | BarmanMode::Off => {
            records_beside(&config.paths.barman_backup_dir)
        }
    }
}

/// As [`records`]: beside the data, for who knows only where those are.
#[must_use]
pub fn records_beside(data_dir: &Path) -> PathBuf {
    data_dir.join(".drill")
}

/// The last drill of a cluster; `None` when there was none, or its file is not understood.
#[must_use]
pub fn read(dir: &Path, server: &str) -> Option<DrillView> {
    let text = std::fs::read(dir.join(format!("{server}.json"))).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The last drill of every cluster that was ever drilled here.
#[must_use]
pub fn read_all(dir: &Path) -> Vec<DrillView> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let name = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|e| name(&e).strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    names.iter().filter_map(|name| read(dir, name)).collect()
}

/// Backups of a cluster that failed their drill: id and why. `dir` is [`records`].
#[must_use]
pub fn failed_drills(dir: &Path, server: &str) -> BTreeMap<String, String> {
    read(dir, server)
        .map(|view| view.failed)
        .unwrap_or_default()
}

/// Writes a result down; what earlier drills said of backups that are still in the catalogue is kept.
fn record(doctor: &Doctor, view: &mut DrillView, known: &[String]) -> std::io::Result<()> {
    let dir = records(&doctor.config);
    let owner = doctor.owner();
    sys::ensure_dir(&dir, 0o755, owner)?;
    let before = read(&dir, &view.server).unwrap_or_default();
    view.last_success_ms = match view.error {
        None => Some(view.at_ms),
        Some(_) => before.last_success_ms,
    };
    let mut failed = before.failed;
    failed.retain(|id, _| known.contains(id));
    if let Some(id) = &view.backup {
        match &view.error {
            None => drop(failed.remove(id)),
            Some(why) if view.blames() => drop(failed.insert(id.clone(), why.clone())),
            Some(_) => {}
        }
    }
    view.failed = failed;
    let text = serde_json::to_vec_pretty(&view).map_err(std::io::Error::other)?;
    let path = dir.join(format!("{}.json", view.server));
    sys::write_atomic(&path, &text, 0o644, owner)?;
    Ok(())
}

/// Drills on their own, without an examination: the newest complete backup of each cluster, with a
/// marker where the primary can be reached.
///
/// # Errors
/// [`UnknownServer`]; whatever else goes wrong is in the result.
pub async fn drill(
    doctor: &Doctor,
    server: Option<&str>,
) -> Result<Vec<(DrillView, Vec<Finding>)>, UnknownServer> {
    let mut all = Vec::new();
    for cluster in doctor.clusters(server)? {
        if cluster.cloud {
            all.push(Box::pin(bucket::run(doctor, &cluster.name)).await);
            continue;
        }
        let Some(server) = &cluster.server else {
            return Err(UnknownServer::Nothing(
                "barman is not in this container: run it where barman is",
            ));
        };
        let (marker, tablespaces) = Box::pin(doctor.marked(&cluster)).await;
        all.push(Box::pin(run(doctor, server, marker, &tablespaces)).await);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_again_and_strange_files_passed_over() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(read_all(&tmp.path().join("none")), []);
        let mut view = DrillView {
            server: "main".into(),
            at_ms: 7,
            ..DrillView::default()
        };
        view.failed.insert("20261121T080000".into(), "why".into());
        let put = |name: &str, text: &[u8]| std::fs::write(tmp.path().join(name), text).unwrap();
        put("main.json", &serde_json::to_vec(&view).unwrap());
        put("other.json", b"{");
        put("main.lock", b"");
        assert_eq!(read_all(tmp.path()), [view]);
        let failed = failed_drills(tmp.path(), "main");
        assert_eq!(failed["20261121T080000"], "why");
        assert!(failed_drills(tmp.path(), "other").is_empty());
    }
}
