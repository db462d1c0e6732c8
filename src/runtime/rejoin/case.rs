//! What the new primary and the disk say, and what follows from it. Changes nothing.

use super::super::conversion;
use super::super::survey::{self, blocking};
use super::super::world::World;
use super::marker::unfinished;
use crate::config::Address;
use crate::domain::{Fault, Timeline};
use crate::pg::{self, ControlData, PgError, Session, SlotFacts, SourceFacts, Standing};
use crate::plan::authority::Reason;
use crate::plan::rejoin::{self as plan, Course, History, Left, Ours, Theirs, Unfinished};

/// What stops an attempt.
pub(in crate::runtime) enum Trouble {
    /// The new primary cannot be used.
    Source(String),
    /// Something here.
    Here(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Here(fault)
    }
}

/// Whatever a session with the new primary ends in, it is the source's trouble.
pub(super) fn theirs(error: PgError) -> Trouble {
    Trouble::Source(Fault::chain(&error))
}

pub(super) fn ours(error: PgError) -> Trouble {
    Trouble::Here(error.fault())
}

/// Everything that was found out, nothing changed yet.
pub(in crate::runtime) struct Case {
    pub(super) source: Address,
    pub(super) primary: Session,
    pub(super) facts: SourceFacts,
    pub(super) slot: SlotFacts,
    pub(super) control: Option<ControlData>,
    pub(super) unfinished: Option<Unfinished>,
    pub(super) timeline: Timeline,
    pub(super) course: Course,
}

/// Asks the new primary and the disk.
pub(in crate::runtime) async fn examine(world: &World) -> Result<Case, Trouble> {
    let config = world.config();
    let source = source(world).await?;
    let (password, account) = (&config.repmgr.password, &world.accounts.postgres);
    let asked = async {
        let primary = Session::remote(&source, "repmgr", password, "repmgr").await?;
        let facts = pg::source_facts(&primary).await?;
        Ok((primary, facts))
    };
    // A switchover waits for this: both sides at once.
    let (asked, control) = tokio::join!(
        asked,
        pg::control_data(&world.children, &config, account, &config.paths.pgdata)
    );
    let (primary, facts) = asked.map_err(theirs)?;
    if facts.recovering {
        return Err(Trouble::Source(format!("{source} is a standby")));
    }
    let unfinished = unfinished(world).await?;
    let control = match (control, &unfinished) {
        (Ok(control), _) => Some(control),
        // A half rewound directory may be unreadable; then it is cloned anew.
        (Err(_), Some(_)) => None,
        (Err(error), None) => return Err(ours(error)),
    };
    let theirs_history = facts
        .history
        .as_deref()
        .and_then(|text| History::parse(facts.timeline, text).ok());
    let mut state = Theirs {
        system_id: facts.system_id,
        history: theirs_history,
        lacking: facts.lacking.clone(),
        has_segment: true,
    };
    let mut mine = match (&unfinished, &control) {
        (None, Some(control)) => Some(look_at(world, control).await?),
        (Some(_), _) | (None, None) => None,
    };
    let fork = match (&mine, &unfinished) {
        (Some(mine), _) => plan::fork(mine, &state).map(|f| f.lsn),
        (None, left) => left.as_ref().map(|l| l.fork.lsn),
    };
    // Where reading at the new primary begins: pg_rewind's own look goes no further back than a
    // checkpoint, and what it needs of that is checked once it is through.
    let need = match (&mine, fork) {
        (Some(mine), Some(fork)) => mine.checkpoint.max(mine.replayed).min(fork),
        (Some(mine), None) => mine.checkpoint,
        (None, fork) => fork.unwrap_or_default(),
    };
    let timeline = match (&unfinished, &control) {
        (Some(left), _) => left.timeline,
        (None, Some(control)) => control.timeline,
        (None, None) => Timeline(0),
    };
    let standing = Standing {
        node: config.identity.id,
        system_id: Some(facts.system_id),
        timeline,
        position: need,
    };
    let slot = pg::slot_facts(&primary, &standing).await.map_err(theirs)?;
    state.has_segment = slot.has_segment;
    if let (Some(mine), Some(fork)) = (&mut mine, fork)
        && (mine.left != Left::Stopped || mine.checkpoint >= fork)
    {
        let children = &world.children;
        mine.end = pg::wal_end(children, &config, account, timeline, mine.checkpoint, fork).await;
    }
    let course = match (&mine, &unfinished) {
        (Some(mine), _) => plan::course(mine, &state),
        (None, Some(left)) => {
            let rewritten = control.as_ref().map(|c| conversion::is_rewritten(c, left));
            plan::resume(left, rewritten, &state)
        }
        (None, None) => return Err(Fault::Bug("neither data nor a marker".into()).into()),
    };
    Ok(Case {
        source,
        primary,
        facts,
        slot,
        control,
        unfinished,
        timeline,
        course,
    })
}

/// The node that the authority has just named, else whoever is open now.
async fn source(world: &World) -> Result<Address, Trouble> {
    let mut named = None;
    world.observe(|o| named = o.source.take());
    if let Some(address) = named {
        return Ok(address);
    }
    let peers = survey::ask(world).await;
    let open = survey::open_primary(&peers).map(|(p, _)| p.address.clone());
    survey::addresses(world)
        .into_iter()
        .find(|a| Some(a.to_string()) == open)
        .ok_or_else(|| Trouble::Source("no node serves clients as the primary".into()))
}

/// Our disk.
async fn look_at(world: &World, control: &ControlData) -> Result<Ours, Fault> {
    let pgdata = world.config().paths.pgdata.clone();
    let timeline = control.timeline;
    let (dir, history) = blocking(move || {
        let dir = pg::look(&pgdata)?;
        let path = pgdata.join(format!("pg_wal/{:08X}.history", timeline.0));
        let text = match timeline {
            Timeline(0 | 1) => Ok(String::new()),
            _ => std::fs::read_to_string(path),
        };
        Ok((dir, text.ok()))
    })
    .await?;
    let history = history.and_then(|text| History::parse(timeline, &text).ok());
    Ok(conversion::rejoining(
        control,
        dir.standby_signal,
        history,
        world.layout.in_place,
    ))
}

/// A standby that cannot stream: whether it holds WAL that this primary never had.
pub(in crate::runtime) async fn diverged(
    world: &World,
    primary: &Session,
    upstream: &Address,
    facts: &SlotFacts,
    ours: &Standing,
) -> Result<Option<Reason>, Fault> {
    let same = world
        .memory()
        .is_some_and(|m| m.system_id == facts.system_id);
    if facts.recovering || !same || facts.timeline <= ours.timeline {
        return Ok(None);
    }
    let source = pg::source_facts(primary).await.map_err(|e| e.fault())?;
    let history = source
        .history
        .and_then(|text| History::parse(source.timeline, &text).ok());
    let apart = history.is_some_and(|h| plan::diverged(ours.timeline, ours.position, &h));
    Ok(apart.then(|| {
        world.observe(|o| o.source = Some(upstream.clone()));
        Reason::Superseded {
            peer: upstream.to_string(),
            theirs: source.timeline,
            ours: ours.timeline,
        }
    }))
}
