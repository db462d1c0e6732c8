//! From a backup to a primary: what is wanted is checked before anything is touched, the files are
//! copied into the staging directory, a postmaster recovers them there on the technical port, and is
//! promoted when recovery is where it was asked to go. Then the boot goes on as after initdb.

mod ahead;
mod bucket;
mod check;
mod copy;
mod feed;
mod find;
mod source;
mod spaces;
mod watch;

pub use check::check;
pub(super) use watch::{Reached, explain, replay};

use super::survey::blocking;
use super::world::World;
use super::{postmaster, provision};
use crate::barman::Recipe;
use crate::config::{Config, Restore, Target};
use crate::domain::{Fault, human_bytes, human_duration};
use crate::fsm::Site;
use crate::{barman, pg, sys};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A restore that is under way.
#[derive(Debug)]
pub(super) struct Restoring {
    wanted: Restore,
    recipe: Recipe,
    end: barman::ArchiveEnd,
    feed: feed::Feed,
    resume: tokio::sync::Notify,
    /// Recovery stands at its target and waits for a person.
    waiting: AtomicBool,
}

impl Restoring {
    /// What its postmaster gets on the command line.
    pub(super) async fn settings(&self, world: &World) -> Result<Vec<(String, String)>, Fault> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pgnode"));
        let program = program.to_string_lossy();
        let socket = feed::socket(&world.config());
        let command = shell_words::join([
            program.as_ref(),
            "wal-fetch",
            "--socket",
            &socket.to_string_lossy(),
        ]);
        let recovery = pg::Recovery {
            target: self.wanted.target.clone(),
            inclusive: self.wanted.inclusive,
            timeline: self.recipe.history.timeline,
            // A percent sign in a path would be read as one of PostgreSQL's.
            command: format!("{} %f %p", command.replace('%', "%%")),
        };
        let mut all = recovery.settings();
        all.extend(limits(world).await?);
        Ok(all)
    }

    /// `pgnode restore --resume`.
    pub(super) fn resume(&self) -> Result<String, String> {
        if !self.waiting.load(Ordering::Relaxed) {
            return Err("recovery is still on its way to its target".to_owned());
        }
        self.resume.notify_one();
        Ok("recovery ends here: the node is promoted and opens".to_owned())
    }
}

async fn limits(world: &World) -> Result<Vec<(String, String)>, Fault> {
    let (config, account) = (world.config(), &world.accounts.postgres);
    pg::recovery_limits(&world.children, &config, account, &world.layout.staging)
        .await
        .map_err(|e| e.fault())
}

/// What the questions before a restore need; `pgnode restore --check` has no node.
pub(super) struct Tools<'a> {
    pub(super) children: &'a sys::Children,
    pub(super) config: &'a Config,
    pub(super) account: &'a sys::Account,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) major: u32,
    pub(super) anchor: PathBuf,
    pub(super) layout: &'a sys::Layout,
}

/// What came of the questions.
pub(super) struct Prepared {
    pub(super) source: source::Source,
    pub(super) recipe: Recipe,
    pub(super) end: barman::ArchiveEnd,
    pub(super) found: barman::Found,
    pub(super) files: source::Files,
    pub(super) spaces: Vec<spaces::Placed>,
    pub(super) need: u64,
    pub(super) available: u64,
}

/// Recovery keeps about as much WAL as `max_wal_size` (1 GB) between two restart points.
const WAL_AT_ONCE: u64 = 2 << 30;

/// What the questions are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To restore.
    Restore,
    /// To tell a person.
    Tell,
}

/// Everything that can be known before the first byte is written.
pub(super) async fn prepare(
    tools: &Tools<'_>,
    wanted: &Restore,
    need: Need,
) -> Result<Prepared, Fault> {
    let source = find::source(tools, wanted).await?;
    find::guard(tools.config, &source).await?;
    let found = find::found(&source).await?;
    let recipe = barman::choose(wanted, &found, tools.major)?;
    let end = match wanted.target {
        // It costs a look into the last segments, and nothing would come of it.
        Target::End | Target::Immediate if need == Need::Restore => barman::ArchiveEnd::default(),
        _ => find::archive_end(tools, &source, &recipe).await?,
    };
    recipe.covers(wanted, &end)?;
    let Some(backup) = recipe.backup() else {
        return Err(Fault::Bug("a recipe without a backup".into()));
    };
    let placed = spaces::places(wanted, backup)?;
    spaces::check(tools, backup, &placed).await?;
    let files = source.files(backup).await.map_err(|e| e.fault())?;
    let with_some = |size: u64| size + size / 50;
    let need = with_some(files.unpacked(backup, None)) + recipe.wal_bytes().min(WAL_AT_ONCE);
    let beside = placed.iter().map(|p| {
        let size = files.unpacked(backup, Some(p.space.oid));
        (p.space.at.clone(), with_some(size))
    });
    let needs = [(tools.anchor.clone(), need)].into_iter().chain(beside);
    let available = spaces::room(backup, needs.collect()).await?;
    Ok(Prepared {
        source,
        recipe,
        end,
        found,
        files,
        spaces: placed,
        need,
        available,
    })
}

/// Chooses, checks, copies and makes the copy ready to recover.
pub(super) async fn restore(world: &Arc<World>) -> Result<(), Fault> {
    world.set_restoring(None);
    let config = world.config();
    let Some(wanted) = config.restore.clone() else {
        return Err(Fault::Bug("a restore that nobody asked for".into()));
    };
    world.progress("reading the catalogue");
    let tools = Tools {
        children: &world.children,
        config: &config,
        account: &world.accounts.postgres,
        owner: world.file_owner(),
        major: world.pg_major(),
        anchor: world.layout.anchor.clone(),
        layout: &world.layout,
    };
    let mut again = 0;
    loop {
        let prepared = patiently(world, &tools, &wanted).await?;
        match build(world, prepared, &wanted).await {
            Err(fault) if fault.is_transient() && again < COPIES => {
                again += 1;
                tracing::warn!("the backup is copied again: {}", fault.why());
            }
            other => return other,
        }
    }
}

/// How often a copy is begun again whose source went away meanwhile.
const COPIES: u32 = 5;

/// The copy, ready to recover.
async fn build(world: &Arc<World>, prepared: Prepared, wanted: &Restore) -> Result<(), Fault> {
    let (config, recipe) = (world.config(), prepared.recipe.clone());
    let backup = recipe.backup().map_or("", |b| b.id.as_str()).to_owned();
    tracing::info!(
        "restoring backup {backup} of {} to {}: {} to copy, WAL from {} to {} on timeline {}",
        prepared.source,
        wanted.target,
        human_bytes(prepared.files.bytes()),
        recipe.first,
        recipe.last,
        recipe.history.timeline
    );
    for placed in &prepared.spaces {
        let dir = placed.space.at.display();
        tracing::info!("tablespace {} goes to {dir}", placed.name);
    }
    provision::prepare(world).await?;
    let began = Instant::now();
    copy::copy(world, &prepared).await?;
    let (staging, owner) = (world.layout.staging.clone(), world.file_owner());
    let dir = staging.clone();
    blocking(move || Ok(pg::strip(&dir, owner)))
        .await?
        .map_err(|e| Fault::NeedsPerson(format!("backup {backup}: {e}")))?;
    let system_id = the_right_one(world, &recipe).await?;
    provision::include_line(world, Site::Staging).await?;
    provision::write_ahead(world);
    tracing::info!(
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the backup is copied"
    );
    let feed = feed::Feed::open(
        feed::Terms {
            source: prepared.source,
            anchor: recipe.backup().map(|b| b.id.clone()).unwrap_or_default(),
            system_id,
            history: recipe.history.clone(),
            last: recipe.last,
            histories: prepared.found.archive.histories,
            budget: wanted.retry,
        },
        &config,
        owner,
    )?;
    world.set_restoring(Some(Arc::new(Restoring {
        wanted: wanted.clone(),
        recipe,
        end: prepared.end,
        feed,
        resume: tokio::sync::Notify::new(),
        waiting: AtomicBool::new(false),
    })));
    Ok(())
}

/// A source that cannot be read is asked again within the budget.
async fn patiently(world: &World, tools: &Tools<'_>, wanted: &Restore) -> Result<Prepared, Fault> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match prepare(tools, wanted, Need::Restore).await {
            Err(fault) if fault.is_transient() && began.elapsed() < wanted.retry => {
                let why = fault.why();
                if pause == FIRST_PAUSE {
                    let budget = human_duration(wanted.retry);
                    tracing::warn!("the source is asked again for up to {budget}: {why}");
                }
                let waited = human_duration(began.elapsed());
                world.progress(format!("waiting for the source for {waited}: {why}"));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // What is left of a budget that is spent.
            Err(Fault::Transient(why)) => {
                return Err(Fault::Transient(format!(
                    "{why}; asked for {} (PGNODE_RESTORE_RETRY)",
                    human_duration(began.elapsed())
                )));
            }
            other => return other,
        }
    }
}

/// The copy is of the cluster that the catalogue names.
async fn the_right_one(world: &World, recipe: &Recipe) -> Result<crate::domain::SystemId, Fault> {
    let config = world.config();
    let dir = postmaster::data_dir(world, Site::Staging);
    let account = &world.accounts.postgres;
    let control = pg::control_data(&world.children, &config, account, &dir)
        .await
        .map_err(|e| e.fault())?;
    let wrong = |what: String| {
        Err(Fault::NeedsPerson(format!(
            "the backup's files are not what its metadata say: {what}; nothing was opened"
        )))
    };
    if let Some(id) = recipe.system_id
        && id != control.system_id
    {
        let ours = control.system_id;
        return wrong(format!("cluster {ours}, where barman says {id}"));
    }
    if control.segment_size != recipe.first.segment_size {
        return wrong(format!(
            "WAL segments of {} bytes, where barman says {}",
            control.segment_size, recipe.first.segment_size
        ));
    }
    Ok(control.system_id)
}

/// Pauses between two questions to a source that is lost.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
