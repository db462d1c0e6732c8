//! The old primary comes back. Nothing is written before the course is decided, and the data are
//! neither a primary's nor a standby's while `.pgnode/rewind.json` stands beside them: a kill at any
//! moment leads to the next try.
//!
//! WAL that waits for an archiver (`.ready` files, only with an `archive_command` of the user's) stays
//! where it is: Follow keeps `archive_status`, and what pg_rewind or a clone drops is of the timeline
//! that was lost. Ours streams to barman and has none.

mod by_hand;
mod case;
mod marker;

pub(super) use by_hand::by_hand;
pub(super) use case::diverged;
pub(super) use marker::unfinished;

use super::survey::blocking;
use super::world::World;
use super::{configure, provision};
use crate::domain::{Fault, RejoinView, human_bytes};
use crate::fsm::{Rejoined, Site};
use crate::pg::{self, Session};
use crate::plan::rejoin::{Course, Lost, Phase};
use crate::plan::{BootPlan, Provision};
use crate::sys::now_ms;
use crate::{repmgr, sys};
use case::{Case, Trouble, examine, ours, theirs};
use marker::{begin, forget, write_marker};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checkpoint of a busy primary takes its time.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);

/// [`crate::fsm::Op::Rejoin`].
pub(super) async fn rejoin(world: &World) -> Result<Rejoined, Fault> {
    world.progress("asking the new primary for its timelines");
    let attempt = async {
        let case = examine(world).await?;
        perform(world, case).await
    };
    match attempt.await {
        Ok(how) => Ok(how),
        Err(Trouble::Source(why)) => Ok(Rejoined::NoSource(why)),
        Err(Trouble::Here(fault)) => Err(fault),
    }
}

async fn perform(world: &World, case: Case) -> Result<Rejoined, Trouble> {
    match case.course.clone() {
        Course::Refuse(why) => Err(Trouble::Source(format!(
            "{} is not to be followed: {why}",
            case.source
        ))),
        Course::Follow => {
            tracing::info!(
                "all of this node's WAL is on {}: it only has to follow",
                case.source
            );
            prepare(world, &case).await?;
            report(world, &case, "follow", None, None);
            stand_by(world, &case).await
        }
        Course::Rewind(lost) => rewind(world, case, lost).await,
        Course::Finish(lost) => {
            tracing::info!("the interrupted rewind was through: what follows it is done again");
            prepare(world, &case).await?;
            report(world, &case, "rewind", Some(lost), None);
            stand_by(world, &case).await
        }
        Course::Clone(why, lost) => {
            let kept = keep(world, &case, lost).await?;
            report(world, &case, "clone", lost, kept);
            Ok(Rejoined::CloneAnew(why))
        }
    }
}

/// From now on the new primary holds the WAL back that we need, and repmgr knows it as the primary.
async fn prepare(world: &World, case: &Case) -> Result<(), Trouble> {
    let us = world.config().identity.id;
    if !case.slot.exists || case.slot.lost {
        pg::make_slot(&case.primary, us, case.slot.lost)
            .await
            .map_err(theirs)?;
    }
    repmgr::record_primary(&case.primary, &case.source, us)
        .await
        .map_err(|e| Trouble::Source(Fault::chain(&e)))
}

async fn rewind(world: &World, case: Case, lost: Lost) -> Result<Rejoined, Trouble> {
    let config = world.config();
    prepare(world, &case).await?;
    let kept = keep(world, &case, Some(lost)).await?;
    report(world, &case, "rewind", Some(lost), kept);
    // Its control file may still show the old timeline; from 16 on pg_rewind looks at the end of
    // recovery as well, before it finds nothing to do then.
    if world.pg_major() < 16 && case.facts.checkpoint_timeline != case.facts.timeline {
        world.progress(format!("waiting for a checkpoint of {}", case.source));
        let password = &config.repmgr.password;
        Session::remote(&case.source, "repmgr", password, "repmgr")
            .await
            .map_err(theirs)?
            .patient(CHECKPOINT_LIMIT)
            .execute("a checkpoint of the new primary", "CHECKPOINT")
            .await
            .map_err(theirs)?;
    }
    let (dir, sockets, port) = (
        config.paths.pgdata.clone(),
        config.paths.socket_dir.clone(),
        config.postgres.port,
    );
    blocking(move || Ok(pg::clear_stale_locks(&dir, &sockets, port)))
        .await?
        .map_err(ours)?;
    begin(world, &case, lost).await?;
    let progress = |text: String| world.progress(text);
    let (children, account) = (&world.children, &world.accounts.postgres);
    let end = pg::rewind(children, &config, account, &case.source, false, progress).await;
    if let Err(error) = end {
        let why = Fault::chain(&error);
        // Its own fault, or the primary's that went away?
        return match pg::source_facts(&case.primary).await {
            Ok(facts) if !facts.recovering => Err(Fault::Transient(why).into()),
            Ok(_) | Err(_) => Err(Trouble::Source(why)),
        };
    }
    let pgdata = config.paths.pgdata.clone();
    world.progress("writing what was rewound to the disk");
    let whole = blocking(move || {
        sync_all(&pgdata)?;
        pg::starts_with_wal(&pgdata)
    })
    .await?;
    if !whole {
        return Ok(Rejoined::CloneAnew(
            "the WAL that the rewound data begin with is gone from both nodes".into(),
        ));
    }
    if let Some(mut marker) = unfinished(world).await? {
        marker.phase = Phase::Rewound;
        write_marker(world, &marker).await?;
    }
    stand_by(world, &case).await
}

/// The files of a standby; then nothing is unfinished any more.
async fn stand_by(world: &World, case: &Case) -> Result<Rejoined, Trouble> {
    let (config, owner) = (world.config(), world.file_owner());
    let source = case.source.clone();
    blocking(move || pg::become_standby(&config, &source, owner)).await?;
    // pg_rewind took the primary's postgresql.conf along; and only a primary archives and backs up.
    provision::include_line(world, Site::Live).await?;
    let plan = BootPlan {
        provision: Provision::Adopt,
        ..BootPlan::REJOIN
    };
    configure::configure(world, Some(plan)).await?;
    if case.unfinished.is_some() || matches!(case.course, Course::Rewind(_)) {
        forget(world).await?;
    }
    world.observe(|o| {
        o.upstream = Some(case.source.clone());
        o.not_streaming = 0;
    });
    Ok(Rejoined::Standby)
}

/// `PGNODE_KEEP_DIVERGED`: the WAL that only we have, copied before anything can overwrite it.
async fn keep(world: &World, case: &Case, lost: Option<Lost>) -> Result<Option<PathBuf>, Trouble> {
    let config = world.config();
    let Some(lost) = lost.filter(|_| config.postgres.keep_diverged) else {
        return Ok(None);
    };
    let at = lost.fork.lsn.to_string().replace('/', "-");
    let name = format!("timeline-{}-from-{at}", case.timeline);
    let target = world.layout.anchor.join("diverged").join(name);
    let Some(control) = &case.control else {
        // Half rewound beyond recognition: the copy is that of the first try.
        return Ok(target.is_dir().then_some(target));
    };
    world.progress(format!("copying WAL to {}", target.display()));
    let (from, owner, segment) = (lost.fork, world.file_owner(), control.segment_size);
    let (to, timelines) = (target.clone(), from.timeline..=case.timeline);
    let (files, bytes) = blocking(move || {
        pg::keep_wal(
            &config.paths.pgdata,
            timelines,
            from.lsn,
            segment,
            &to,
            owner,
        )
    })
    .await?;
    tracing::info!(
        "kept {files} WAL segments ({}) in {}",
        human_bytes(bytes),
        target.display()
    );
    Ok(Some(target))
}

/// Tells the operator what is lost, before it is.
fn report(
    world: &World,
    case: &Case,
    how: &'static str,
    lost: Option<Lost>,
    kept: Option<PathBuf>,
) {
    if let Some(lost) = lost {
        let (fork, timeline) = (lost.fork.lsn, lost.fork.timeline);
        let amount = match (lost.end, lost.bytes()) {
            (Some(end), Some(bytes)) => format!("{} up to {end}", human_bytes(bytes)),
            _ => "an amount that could not be found out".to_owned(),
        };
        let copy = match &kept {
            Some(dir) => format!("a copy is in {}", dir.display()),
            None => "no copy is kept (PGNODE_KEEP_DIVERGED=true would)".to_owned(),
        };
        tracing::warn!(
            fork = %fork,
            lost_bytes = lost.bytes(),
            "WAL that only this node had, from {fork} on timeline {timeline}: {amount}. What was \
             committed in it is not on {} and is given up; {copy}",
            case.source
        );
    }
    let view = RejoinView {
        at_ms: now_ms(),
        from: case.source.to_string(),
        how: how.to_owned(),
        fork: lost.map(|l| l.fork.lsn),
        end: lost.and_then(|l| l.end),
        lost_bytes: lost.and_then(|l| l.bytes()),
        kept: kept.map(|dir| dir.display().to_string()),
    };
    world.show(move |status| status.rejoin = Some(view));
}

/// Also where a link leads to another filesystem: `initdb --waldir`, tablespaces.
fn sync_all(pgdata: &Path) -> std::io::Result<()> {
    sys::sync_tree(pgdata)?;
    sys::sync_tree(&pgdata.join("pg_wal"))?;
    for entry in std::fs::read_dir(pgdata.join("pg_tblspc"))? {
        let path = entry?.path();
        if path.is_dir() {
            sys::sync_tree(&path)?;
        }
    }
    Ok(())
}
