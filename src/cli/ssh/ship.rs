//! ssh from here: to the primary of a cluster, wherever that is, and to the barman host with WAL.

use super::failed;
use crate::barman::ssh::Files;
use crate::cli::work;
use crate::config;
use crate::domain::{ExitCode, Fault};
use crate::sys::{Children, Spec};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node that does not say within this that it is the primary is taken for none.
const ASK: Duration = Duration::from_secs(10);
/// A segment over a slow line.
const SEGMENT: Duration = Duration::from_secs(600);

/// barman's `ssh_command`: as `ssh <primary> args…`. Which node that is, is asked each time, so that nothing has
/// to be changed in barman's configuration after a failover.
pub(in crate::cli) fn hop(run_dir: &Path, cluster: &str, args: &[String]) -> ExitCode {
    let run = Files::run_of(run_dir);
    let hosts = match hosts(&run, cluster) {
        Ok(hosts) => hosts,
        Err(why) => return failed(&why),
    };
    let config = Files::ssh_config_in(&run).to_string_lossy().into_owned();
    let primary = match hosts.as_slice() {
        [only] => only.clone(),
        _ => match find(&config, &hosts) {
            Ok(Some(host)) => host,
            Ok(None) => {
                let all = hosts.join(", ");
                return failed(&format!(
                    "none of {all} says that it is the primary of {cluster}"
                ));
            }
            Err(code) => return code,
        },
    };
    let mut words = vec!["-F".to_owned(), config, primary];
    words.extend_from_slice(args);
    failed(&Fault::chain(&crate::sys::become_program("ssh", &words)))
}

fn hosts(run: &Path, cluster: &str) -> Result<Vec<String>, String> {
    let path = run.join("clusters.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let all: BTreeMap<String, Vec<String>> = serde_json::from_str(&text)
        .map_err(|e| format!("{} is not understood: {e}", path.display()))?;
    all.get(cluster)
        .cloned()
        .ok_or_else(|| format!("BARMAN_SERVERS names no cluster {cluster}"))
}

/// An error is the exit code of a search that was stopped.
fn find(config: &str, hosts: &[String]) -> Result<Option<String>, ExitCode> {
    let mut found = None;
    let code = work::perform(async |children| {
        found = primary(children, config, hosts).await;
        Ok(ExitCode::STOPPED)
    });
    match code {
        ExitCode::STOPPED => Ok(found),
        code => Err(code),
    }
}

/// The first that says so; all are asked at once.
async fn primary(children: Children, config: &str, hosts: &[String]) -> Option<String> {
    let mut asked = JoinSet::new();
    for host in hosts {
        let spec =
            Spec::new("ssh", ["-F", config, host.as_str(), "is-primary"]).env(config::inherited());
        let (children, host) = (children.clone(), host.clone());
        asked.spawn(async move {
            let end = children.run(spec, ASK).await.ok()?;
            end.exit.is_success().then_some(host)
        });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(host)) = answer {
            return Some(host);
        }
    }
    None
}

/// `archive_command`: one file to the barman host. 0 when it is complete and on disk there.
pub(in crate::cli) fn ship(
    run_dir: &Path,
    host: &str,
    cluster: &str,
    into: &str,
    path: &Path,
) -> ExitCode {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
        return failed(&format!("{} is no WAL file", path.display()));
    };
    let bytes = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) => return failed(&format!("{} cannot be read: {error}", path.display())),
    };
    let run = Files::run_of(run_dir);
    let config = Files::ssh_config_in(&run).to_string_lossy().into_owned();
    let request = format!("put-wal {cluster} {name} {bytes} {into}");
    let spec = Spec::new("ssh", ["-F", &config, host, &request])
        .env(config::inherited())
        .input_file(path);
    work::perform(async |children| {
        let end = children.run(spec, SEGMENT).await;
        let end = end.map_err(|e| Fault::Transient(Fault::chain(&e)))?;
        Ok(match end.exit.is_success() {
            true => ExitCode::STOPPED,
            false => failed(&format!(
                "{name} was not taken by {host} ({}): {}",
                end.exit,
                end.last_words()
            )),
        })
    })
}
