//! Which cluster of which bucket a restore reads, and where the restored one must not archive.

use super::source::Source;
use crate::config::{BarmanMode, Config, Restore, RestoreFrom, S3};
use crate::domain::Fault;
use crate::s3::source::{Bucket, clusters};
use crate::s3::{Layout, Store};
use std::time::Duration;

/// A question that is asked again by whoever waits for its answer gives up after so long by itself.
const SHORT: Duration = Duration::from_secs(10);

/// The source that `PGNODE_RESTORE_FROM=s3…` names.
pub(super) async fn source(config: &Config, wanted: &Restore) -> Result<Source, Fault> {
    let (settings, server) = settings(config, wanted)?;
    let open = |retry: Duration| {
        let settings = S3 {
            retry,
            ..settings.clone()
        };
        Store::open(&settings).map_err(|e| e.fault())
    };
    let store = open(wanted.retry.min(SHORT))?;
    let server = match server {
        Some(server) => server,
        None => only(config, &settings, &store).await?,
    };
    Ok(Source::Bucket {
        bucket: Bucket::new(store, &server),
        patient: Bucket::new(open(wanted.retry)?, &server),
    })
}

/// `S3_BUCKET_URI`'s, or the place that `PGNODE_RESTORE_FROM` names, with the same keys.
fn settings(config: &Config, wanted: &Restore) -> Result<(S3, Option<String>), Fault> {
    let RestoreFrom::Bucket { place, server } = &wanted.from else {
        return Err(Fault::Bug(format!("{} is no bucket", wanted.from)));
    };
    let Some(mut settings) = config.s3.clone() else {
        return Err(Fault::Config(
            "PGNODE_RESTORE_FROM names a bucket, and S3_BUCKET_URI is not set: the endpoint, the region and the \
             keys go with it"
                .to_owned(),
        ));
    };
    if let Some((bucket, prefix)) = place.clone() {
        (settings.bucket, settings.prefix) = (bucket, prefix);
    }
    Ok((settings, server.clone()))
}

/// Whether the node that is restored archives to that place of the bucket.
fn is_own(config: &Config, settings: &S3, server: &str) -> bool {
    let same = |own: &S3| {
        (&own.endpoint, &own.bucket, &own.prefix)
            == (&settings.endpoint, &settings.bucket, &settings.prefix)
    };
    config.barman.mode == BarmanMode::Cloud
        && config.barman.cloud_name == server
        && config.s3.as_ref().is_some_and(same)
}

/// The only cluster but the one that this node archives to.
async fn only(config: &Config, settings: &S3, store: &Store) -> Result<String, Fault> {
    let uri = settings.uri();
    let names = clusters(store).await.map_err(|e| e.fault())?;
    let mut others = names.iter().filter(|name| !is_own(config, settings, name));
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(Fault::Config(format!(
            "PGNODE_RESTORE_FROM=s3: {uri} holds the backups of several clusters ({}): name one, \
             PGNODE_RESTORE_FROM=s3/<cluster>",
            names.join(", ")
        ))),
        (None, _) => Err(match names.first() {
            Some(own) => same_place(&format!("{uri}/{own}")),
            None => Fault::Config(format!(
                "PGNODE_RESTORE_FROM=s3: {uri} holds no backups: is it the right S3_BUCKET_URI? A place below it or \
                 elsewhere is named as PGNODE_RESTORE_FROM=s3://bucket/path/<cluster>"
            )),
        }),
    }
}

fn same_place(place: &str) -> Fault {
    Fault::Config(format!(
        "the restored node would archive into {place}, where its own backup is: both would write WAL of the same \
         cluster identity there; set BARMAN_CLOUD_SERVER_NAME to another name"
    ))
}

/// The restored node starts an archive of its own, in a place of its own.
pub(super) async fn guard(config: &Config, source: &Source) -> Result<(), Fault> {
    if config.barman.mode != BarmanMode::Cloud {
        return Ok(());
    }
    if let Source::Bucket { bucket, .. } = source
        && is_own(config, bucket.store().settings(), bucket.layout().server())
    {
        return Err(same_place(&bucket.to_string()));
    }
    let Some(own) = &config.s3 else {
        return Ok(());
    };
    let settings = S3 {
        retry: own.retry.min(SHORT),
        ..own.clone()
    };
    let store = Store::open(&settings).map_err(|e| e.fault())?;
    let layout = Layout::of(&config.barman.cloud_name);
    for prefix in [layout.bases(), layout.wals()] {
        let empty = store.is_empty(&prefix).await.map_err(|e| e.fault())?;
        if !empty {
            return Err(Fault::Config(format!(
                "expected an empty archive for the restored node, but {} already holds objects: set \
                 BARMAN_CLOUD_SERVER_NAME to another name, or empty it",
                store.uri(&prefix)
            )));
        }
    }
    Ok(())
}
