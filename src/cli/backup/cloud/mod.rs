//! `pgnode backup` where backups go to a bucket (`BARMAN_MODE=cloud`). The verbs and what they show are those of a
//! barman host.

mod change;
mod look;
mod take;
mod verify;

use super::{Occasion, Verb, Words};
use crate::barman::{Backup, Server};
use crate::cli::{note, work};
use crate::config::Kept;
use crate::domain::{ExitCode, Fault};
use crate::s3::S3Error;
use crate::s3::base::{Catalogue, Primary, Where, claim};
use crate::s3::source::Bucket;
use crate::s3::store::Store;
use crate::s3::verify as place;
use crate::sys::{Received, Signals};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// What a verb works with.
#[derive(Debug)]
struct Counter {
    kept: Kept,
    catalogue: Catalogue,
    /// Turns true when a person or a supervisor stops us.
    stop: watch::Receiver<bool>,
}

/// Does what the words say.
pub(super) fn perform(kept: Kept, words: Words) -> ExitCode {
    work::run(supervised(kept, async |counter| {
        let Some(verb) = words.verb else {
            counter.meant(words.server.as_deref())?;
            if words.incremental {
                return Err(Fault::Config(
                    "no incremental backup: BARMAN_MODE is cloud, and barman-cloud's format has none; \
                     `pgnode backup` makes a full one"
                        .to_owned(),
                ));
            }
            let wish = take::Wish {
                occasion: words.occasion,
                longest: words.max_archive_size,
                json: words.json,
            };
            return take::take(counter, wish).await;
        };
        match verb {
            Verb::List { server, json } => {
                counter.meant(server.as_deref())?;
                look::list(counter, json).await
            }
            Verb::Show { which, json } => {
                counter.meant(which.server.as_deref())?;
                look::show(counter, &which.id, json).await
            }
            Verb::Verify {
                id, server, json, ..
            } => {
                counter.meant(server.as_deref())?;
                verify::verify(counter, id.as_deref(), json).await
            }
            Verb::Keep {
                which,
                target,
                release,
                json,
            } => {
                counter.meant(which.server.as_deref())?;
                let keep = (!release).then(|| target.into());
                change::keep(counter, &which.id, keep, json).await
            }
            Verb::Delete {
                which,
                dry_run,
                json,
            } => {
                counter.meant(which.server.as_deref())?;
                change::delete(counter, &which.id, dry_run, json).await
            }
        }
    }))
}

impl Counter {
    /// Only one cluster is in reach.
    fn meant(&self, server: Option<&str>) -> Result<(), Fault> {
        match server {
            Some(name) if name != self.kept.server => Err(Fault::Config(format!(
                "no cluster `{name}` is kept here, only {}",
                self.kept.server
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// By id, name, or barman's words.
    fn choose<'a>(&self, all: &'a [Backup], wanted: &str) -> Result<&'a Backup, Fault> {
        let server = Server::at(self.kept.server.clone().into());
        server.choose(all, wanted).map_err(super::fault)
    }

    /// Our own server, when it is the primary.
    async fn primary(&self) -> Result<Option<Primary>, Fault> {
        let place = Where {
            socket_dir: self.kept.socket_dir.clone(),
            port: self.kept.port,
            user: self.kept.superuser.clone(),
        };
        Primary::find(&place).await.map_err(|e| fault(&e))
    }

    /// Takes the lock, and with it the place; or who holds the lock. Nothing is changed in a place that is not this
    /// cluster's: what looks like a leftover there is somebody's backup.
    async fn lock(&self, primary: &Primary) -> Result<Option<String>, Fault> {
        let holder = primary.lock().await.map_err(|e| fault(&e))?;
        if holder.is_none() {
            let claimed = claim(&self.catalogue, primary, &self.kept.pgdata).await;
            claimed.map_err(|e| fault(&e))?;
        }
        Ok(holder)
    }

    /// The ids of the backups that cannot be restored, by a look at every list.
    async fn broken(&self) -> Result<BTreeSet<String>, Fault> {
        let server = self.catalogue.layout.server();
        let bucket = Bucket::new(self.catalogue.store.clone(), server);
        let seen = place::look(&bucket).await.map_err(|e| fault(&e))?;
        let report = place::judge(&seen);
        let broken = report.backups.into_iter().filter(|b| b.why_not.is_some());
        Ok(broken.map(|b| b.id).collect())
    }

    /// The primary, with the lock that keeps two from changing the bucket at once.
    async fn locked(&self, what: &str) -> Result<Primary, Fault> {
        let primary = self.primary().await?.ok_or_else(|| {
            Fault::NeedsPerson(format!(
                "no {what}: {} is a standby, and only the primary changes the backups in the bucket. Run it there",
                self.kept.node
            ))
        })?;
        match self.lock(&primary).await? {
            None => Ok(primary),
            Some(holder) => Err(Fault::Transient(format!(
                "no {what}: a backup of {} is under way ({holder})",
                self.kept.server
            ))),
        }
    }
}

fn fault(error: &S3Error) -> Fault {
    error.fault()
}

/// Runs `work` to its end. A stop is told to it, and what it leaves behind is its own matter.
async fn supervised(
    kept: Kept,
    work: impl AsyncFnOnce(&Counter) -> Result<ExitCode, Fault>,
) -> Result<ExitCode, Fault> {
    let mut signals = Signals::register()
        .map_err(|e| Fault::Transient(format!("cannot register the signals: {e}")))?;
    let store = Store::open(&kept.s3).map_err(|e| fault(&e))?;
    let (tell, stop) = watch::channel(false);
    let counter = Counter {
        catalogue: Catalogue::of(store, &kept.server),
        kept,
        stop,
    };
    let mut work = std::pin::pin!(work(&counter));
    let mut stopped = None;
    loop {
        tokio::select! {
            ended = &mut work => return match (ended, stopped) {
                (Err(fault), Some(number)) => {
                    note(fault.why());
                    Ok(ExitCode::signal(number))
                }
                (ended, _) => ended,
            },
            signal = signals.next() => match (signal, stopped) {
                (Received::Stop(number), None) => {
                    stopped = Some(number);
                    tell.send_replace(true);
                }
                // A second time is meant so.
                (Received::Stop(number), Some(_)) => return Ok(ExitCode::signal(number)),
                (Received::Child | Received::Reload, _) => {}
            }
        }
    }
}
