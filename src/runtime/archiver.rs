//! Archiving straight into a bucket (`BARMAN_MODE=cloud`): the settings that the postmaster's commands read, the worker
//! that they ask, and how it goes.
//!
//! The worker is no daemon of the machine's: it is wanted from the first postmaster to the last, in whatever state, because a
//! postmaster archives until its very end, and a standby that rejoins fetches. It is killed with whatever is left when
//! everything ends, which is after the postmaster.

use super::survey::blocking;
use super::world::World;
use crate::config::{BarmanMode, Config, Kept};
use crate::domain::{ArchiveHealth, ArchivingView, Fault, human_duration, millis};
use crate::s3::layout::Layout;
use crate::s3::wal::{Answer, DIRECTORY, Errand, ask, socket};
use crate::sys::{self, Changed, Format, Spec, now_ms};
use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The worker's name in logs, status and metrics.
const NAME: &str = "s3";
/// Pauses between a worker's end and the next one.
const AGAIN: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_secs(5);
/// Between two warnings that nothing is archived.
const REMIND: Duration = Duration::from_secs(600);
/// Between two looks whether this is a primary now, and two tries to have the archive claimed.
const SOON: Duration = Duration::from_secs(1);
const CLAIM: Duration = Duration::from_secs(10);
const CLAIM_REFUSED: Duration = Duration::from_secs(300);
/// Files that wait are worth one, each time that they are twice as many.
const MANY: u64 = 64;

/// Whether this node archives into a bucket.
pub(super) fn archives(config: &Config) -> bool {
    config.barman.mode == BarmanMode::Cloud && !config.kind.is_witness() && config.s3.is_some()
}

/// Writes the settings for whoever has none of the node's environment.
pub(super) async fn prepare(world: &World) -> Result<Changed, Fault> {
    let config = world.config();
    let Some(kept) = Kept::of(&config).filter(|_| archives(&config)) else {
        return Ok(Changed::No);
    };
    let text = kept
        .to_json()
        .map_err(|e| Fault::Config(format!("the settings of S3 cannot be written: {e}")))?;
    let owner = world.file_owner();
    let dir = config.paths.run_dir.join(DIRECTORY);
    let path = config.paths.run_dir.join(Kept::FILE);
    blocking(move || {
        sys::ensure_dir(&dir, 0o700, owner)?;
        sys::write_volatile(&path, &text, 0o600, owner)
    })
    .await
}

/// Keeps a worker as long as the process lives; ends at once where none is wanted.
pub(super) async fn keep(world: Arc<World>) {
    if !archives(&world.config()) {
        return;
    }
    while let Err(fault) = prepare(&world).await {
        tracing::warn!(source = NAME, "{}", fault.why());
        tokio::time::sleep(LONGEST).await;
    }
    // It lives as long as the process.
    drop(tokio::spawn(watch(world.clone())));
    let mut pause = AGAIN;
    let mut again = false;
    loop {
        let began = tokio::time::Instant::now();
        let how = run(&world, again).await;
        again = true;
        if began.elapsed() > LONGEST {
            pause = AGAIN;
        }
        tokio::time::sleep(pause).await;
        // After the pause: at the end of everything there is nobody left to say it.
        tracing::warn!(
            source = NAME,
            "the worker ended with {how} and is started again"
        );
        pause = (pause * 2).min(LONGEST);
    }
}

async fn run(world: &World, again: bool) -> String {
    let config = world.config();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pgnode"));
    let run_dir = config.paths.run_dir.clone();
    let spec = Spec::new(
        program,
        [
            "s3".as_ref(),
            "worker".as_ref(),
            "--run-dir".as_ref(),
            run_dir.as_os_str(),
        ],
    )
    .env(config.environment.base.clone())
    .account(Some(world.accounts.postgres.clone()));
    let mut child = match world.children.spawn(spec).await {
        Ok(child) => child,
        Err(error) => return Fault::chain(&error),
    };
    let pid = child.pid();
    world.show(move |status| status.child(NAME, Some(pid), again, now_ms()));
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        let format = Format::Repmgr {
            source: Cow::Borrowed(NAME),
        };
        drop(tokio::spawn(sys::pump(pipe, format)));
    }
    let ended = tokio::select! {
        ended = child.wait() => ended,
        never = claim(world) => match never {},
    };
    let how = match ended {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    };
    world.show(|status| status.child(NAME, None, false, now_ms()));
    how
}

/// Has the worker claim the archive as soon as this node is the primary: a place that holds another cluster's WAL shows at
/// the start, and not with the first segment, which may be hours away. A standby claims nothing: its primary does.
async fn claim(world: &World) -> Infallible {
    loop {
        if !(world.is_open() && world.is_primary()) {
            tokio::time::sleep(SOON).await;
            continue;
        }
        let at = socket(&world.config().paths.run_dir);
        let asked = blocking(move || Ok(ask(&at, &Errand::Claim).ok())).await;
        let pause = match asked {
            // It is ours as long as this worker lives: it remembers.
            Ok(Some(Answer::Done)) => std::future::pending().await,
            Ok(Some(Answer::Failed(fault))) if !fault.is_transient() => CLAIM_REFUSED,
            // Two clusters that claim at the same moment both withdraw: they should not meet again.
            Ok(Some(_)) => {
                let id = world.memory().map_or(0, |m| m.system_id.0);
                CLAIM + Duration::from_millis(id % 7 * 500)
            }
            // It does not listen yet.
            Ok(None) | Err(_) => SOON,
        };
        tokio::time::sleep(pause).await;
    }
}

/// A backup into the bucket, where there is none or the last one failed. Nothing is said where there is.
pub(super) async fn first_backup(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pgnode"));
    let words = ["backup", "--occasion", "owed", "--run-dir"].map(OsStr::new);
    let run_dir = config.paths.run_dir.as_os_str();
    let spec = Spec::new(program, words.into_iter().chain([run_dir]))
        .env(config.environment.base.clone())
        .account(Some(world.accounts.postgres.clone()));
    let failed = |what: String| Fault::Transient(format!("the first backup: {what}"));
    let spawned = world.children.spawn(spec).await;
    let mut child = spawned.map_err(|e| failed(Fault::chain(&e)))?;
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        drop(tokio::spawn(sys::pump(pipe, Format::plain("backup"))));
    }
    match child.wait().await {
        Ok(exit) if exit.is_success() => Ok(()),
        Ok(exit) => Err(failed(format!("it ended with {exit}, and said why above"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Looks at how it goes, shows it, and says what a person should know.
async fn watch(world: Arc<World>) {
    let mut told = Told::default();
    let mut pace = tokio::time::interval(LOOK);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let config = world.config();
        let seen = blocking(move || Ok(look(&config))).await;
        let Ok(mut view) = seen else { continue };
        let config = world.config();
        if let Some(s3) = &config.s3 {
            let all = Layout::of(&config.barman.cloud_name).all();
            view.place = format!("{}/{all}", s3.uri());
        }
        // What an old primary has left waits for nobody on a standby.
        if !world.is_primary() {
            view.waiting_since_ms = None;
        }
        told.of(&view);
        world.show(move |status| status.archiving = Some(view));
    }
}

fn look(config: &Config) -> ArchivingView {
    // A worker that does not answer is restarted; what it knew is gone then.
    let health = match ask(&socket(&config.paths.run_dir), &Errand::Health) {
        Ok(Answer::Health(health)) => health,
        Ok(_) | Err(_) => ArchiveHealth::default(),
    };
    let pg_wal = config.paths.pgdata.join("pg_wal");
    let mut view = ArchivingView {
        health,
        wal_bytes: sys::dir_size(&pg_wal).unwrap_or_default(),
        free_bytes: sys::fs_facts(&pg_wal).ok().map(|f| f.available),
        ..ArchivingView::default()
    };
    waiting(&pg_wal, &mut view);
    view
}

/// What PostgreSQL has marked as ready to be archived.
fn waiting(pg_wal: &Path, view: &mut ArchivingView) {
    let entries = std::fs::read_dir(pg_wal.join("archive_status"));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready")) else {
            continue;
        };
        view.waiting += 1;
        let bytes = std::fs::metadata(pg_wal.join(name)).map_or(0, |m| m.len());
        view.waiting_bytes += bytes;
        let since = entry.metadata().and_then(|m| m.modified()).ok();
        let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let since = since.map(millis).into_iter().chain(view.waiting_since_ms);
        view.waiting_since_ms = since.min();
    }
}

/// What was said.
#[derive(Debug, Default)]
struct Told {
    failing_ms: Option<u64>,
    waiting: u64,
}

impl Told {
    fn of(&mut self, view: &ArchivingView) {
        let now = now_ms();
        let kept = view.kept(now);
        let ago = |then: u64| Duration::from_millis(now.saturating_sub(then));
        match view.stuck_since_ms() {
            Some(since) if ago(since) >= ArchivingView::PATIENCE => {
                if self.failing_ms.is_none_or(|at| ago(at) >= REMIND) {
                    self.failing_ms = Some(now);
                    tracing::warn!(
                        source = NAME,
                        "nothing was archived for {}: {}; WAL is kept here meanwhile: {kept}",
                        human_duration(ago(since)),
                        view.health
                            .why
                            .as_deref()
                            .unwrap_or("the bucket has not taken the first one yet"),
                    );
                }
            }
            Some(_) if view.health.failing_since_ms.is_some() => {}
            Some(_) | None => {
                if self.failing_ms.take().is_some() {
                    tracing::info!(source = NAME, "archives again: {kept}");
                }
            }
        }
        if view.waiting >= MANY && view.waiting >= self.waiting * 2 {
            self.waiting = view.waiting;
            tracing::warn!(source = NAME, "archiving falls behind: {kept}");
        } else if view.waiting < MANY / 4 && self.waiting > 0 {
            self.waiting = 0;
            tracing::info!(source = NAME, "archiving has caught up: {kept}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Limits;
    use crate::fsm::Policy;
    use std::time::Duration;

    #[test]
    fn a_server_that_stops_has_archived_before_the_ladder_loses_its_patience() {
        for seconds in [3, 10, 60, 600] {
            let limits = Limits {
                primary_wait: Duration::ZERO,
                stop_grace: Duration::from_secs(seconds),
            };
            let fast = Policy::new(limits.stop_grace, Duration::ZERO, None, true).rungs[1];
            assert_eq!(limits.closing(), fast * 3 / 4);
        }
    }
}
