//! `pgnode s3 verify`.

use super::super::{note, say, work};
use crate::config::{self, Kept, S3};
use crate::domain::{ExitCode, Fault};
use crate::s3::Store;
use crate::s3::source::{Bucket, clusters};
use crate::s3::verify::{deep, judge, look};
use clap::Args;
use std::path::{Path, PathBuf};

/// Something is wrong.
const WRONG: ExitCode = ExitCode(1);

/// Looks at a cluster's place in the bucket: backups, WAL, gaps, what cannot be restored and why
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The cluster's name in the bucket [default: the one that this node archives to, or the only one]
    server: Option<String>,
    /// Read every byte too: unpack every archive and every segment, compare SHA-256
    #[arg(long)]
    deep: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Where the node's run-time files are
    #[arg(long, default_value = super::RUN_DIR, hide = true)]
    run_dir: PathBuf,
}

pub(super) fn verify(words: Verify) -> ExitCode {
    work::perform(|_| async move {
        let (settings, own) = settings(&words.run_dir)?;
        let store = Store::open(&settings).map_err(|e| e.fault())?;
        let server = match words.server.clone() {
            Some(server) => known(&store, server).await?,
            None => chosen(&store, own).await?,
        };
        let bucket = Bucket::new(store, &server);
        let seen = look(&bucket).await.map_err(|e| e.fault())?;
        let mut report = judge(&seen);
        if words.deep {
            deep(&bucket, &seen, &mut report, &|text| note(&text))
                .await
                .map_err(|e| e.fault())?;
        }
        if words.json {
            let value = serde_json::to_value(&report)
                .map_err(|e| Fault::Bug(format!("a report that is no JSON: {e}")))?;
            say(&format!("{value:#}\n"));
        } else {
            say(&report.text());
        }
        Ok(match report.is_wrong() {
            true => WRONG,
            false => ExitCode::STOPPED,
        })
    })
}

/// The node's, as it wrote them down; else those of the environment.
fn settings(run_dir: &Path) -> Result<(S3, Option<String>), Fault> {
    let kept = run_dir.join(Kept::FILE);
    if kept.exists() {
        let kept = super::kept(run_dir)?;
        return Ok((kept.s3, Some(kept.server)));
    }
    let (config, _) =
        config::load(Vec::new()).map_err(|faults| Fault::Config(faults.to_string()))?;
    let own = config.barman.cloud_name.clone();
    let settings = config.s3.ok_or_else(|| {
        Fault::Config("S3_BUCKET_URI is not set: there is no bucket to look at".to_owned())
    })?;
    Ok((settings, Some(own)))
}

async fn known(store: &Store, server: String) -> Result<String, Fault> {
    let layout = crate::s3::Layout::of(&server);
    if !store.is_empty(&layout.all()).await.map_err(|e| e.fault())? {
        return Ok(server);
    }
    let names = clusters(store).await.map_err(|e| e.fault())?;
    let uri = store.settings().uri();
    Err(Fault::Config(match names.as_slice() {
        [] => format!("{uri} holds no backups of any cluster"),
        names => format!("{uri} has no cluster {server}, only {}", names.join(", ")),
    }))
}

/// The node's own where it has one, else the only one.
async fn chosen(store: &Store, own: Option<String>) -> Result<String, Fault> {
    if let Some(own) = own {
        let layout = crate::s3::Layout::of(&own);
        if !store.is_empty(&layout.all()).await.map_err(|e| e.fault())? {
            return Ok(own);
        }
    }
    let uri = store.settings().uri();
    let mut names = clusters(store).await.map_err(|e| e.fault())?;
    match (names.pop(), names.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => Err(Fault::Config(format!(
            "{uri} holds several clusters: name one of {}, {last}",
            names.join(", ")
        ))),
        (None, _) => Err(Fault::Config(format!(
            "{uri} holds no backups of any cluster"
        ))),
    }
}
