//! What a barman host leaves for those who ship its catalogues into the bucket.

use crate::config::{Config, Kept};
use crate::domain::{FailedTask, Fault, ShippingRun, ShippingView};
use crate::runtime::survey::blocking;
use crate::runtime::world::World;
use crate::s3::ship::{Kind, Queue, State};
use crate::sys;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the queue.
const LOOK: Duration = Duration::from_secs(5);

/// Writes `s3.json` for cron's jobs and barman's hook; without a bucket there is none.
pub(in crate::runtime) async fn keep_settings(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let path = config.paths.run_dir.join(Kept::FILE);
    let Some(kept) = Kept::of(&config) else {
        return blocking(move || sys::remove(&path)).await.map(drop);
    };
    let text = kept.to_json().map_err(|e| Fault::Bug(e.to_string()))?;
    let owner = world.barman_owner();
    blocking(move || sys::write_volatile(&path, &text, 0o600, owner))
        .await
        .map(drop)
}

/// Shows what the runs came to and what is in the queue: they are processes of cron's and of persons, and leave it in
/// files.
pub(super) async fn watch(
    world: Arc<World>,
    first_look: super::bucket::Shown,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let config = world.config();
        let seen = blocking(move || Ok(look(&config))).await;
        let failed = first_look.borrow().clone();
        let shown = with(seen.unwrap_or_default(), failed.as_ref());
        world.show(move |status| {
            if let Some(host) = &mut status.host {
                host.shipping = shown;
            }
        });
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The bucket does not answer: every cluster's way into it begins with that.
fn with(mut views: Vec<ShippingView>, failed: Option<&ShippingRun>) -> Vec<ShippingView> {
    for view in &mut views {
        view.runs.splice(0..0, failed.cloned());
    }
    views
}

fn look(config: &Config) -> Vec<ShippingView> {
    if config.s3.is_none() {
        return Vec::new();
    }
    let queue = Queue::at(config.shipping.queue_dir.clone());
    let entries = queue.list().unwrap_or_default();
    let of = |name: &str| {
        let name = name.to_owned();
        let mine = entries.iter().filter(move |e| {
            let server = e.task.as_ref().map(|t| t.server.as_str());
            // One that is not ours is everybody's concern.
            server.is_none_or(|server| server == name)
        });
        mine.collect::<Vec<_>>()
    };
    let servers = config.barman.servers.iter().map(|s| s.name.as_str());
    servers
        .map(|name| {
            let mine = of(name);
            let waits = |s: State| matches!(s, State::Run | State::Running);
            let runs = Kind::ALL.into_iter().filter_map(|kind| {
                let record = queue.record(name, kind)?;
                Some(ShippingRun {
                    kind: kind.word().to_owned(),
                    at_ms: record.at_ms,
                    ok_ms: record.ok_ms,
                    bytes: record.bytes,
                    error: record.error,
                })
            });
            let failed = mine.iter().filter(|e| e.state == State::Error);
            ShippingView {
                name: name.to_owned(),
                waiting: mine.iter().filter(|e| waits(e.state)).count() as u64,
                failed: failed
                    .map(|e| FailedTask {
                        id: e.stem.clone(),
                        why: e.why().to_owned(),
                    })
                    .collect(),
                runs: runs.collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_does_not_answer_is_shown_for_every_cluster_until_it_does() {
        let view = |name: &str| ShippingView {
            name: name.into(),
            runs: vec![ShippingRun {
                kind: "wal".into(),
                ..ShippingRun::default()
            }],
            ..ShippingView::default()
        };
        let views = vec![view("a"), view("b")];
        assert_eq!(with(views.clone(), None), views);
        let failed = ShippingRun {
            kind: "look".into(),
            error: Some("no route".into()),
            ..ShippingRun::default()
        };
        for shown in with(views, Some(&failed)) {
            assert_eq!(shown.runs.first(), Some(&failed));
            assert_eq!(shown.runs.len(), 2);
        }
    }
}
