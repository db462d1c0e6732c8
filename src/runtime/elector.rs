//! The node's part in the cluster's elections: the pure [`Voter`] with its disk, its clock and its
//! letters. Three tasks run as long as the process: beats while this node leads, the watch over the
//! lease, and the candidacy while it is a standby. The machine is told of what they find.

mod beats;
mod campaign;
mod letters;
mod view;

pub(super) use beats::{beat, guard, lead, release};
pub(super) use campaign::stand;
pub(super) use letters::{holds, listen};

use super::survey::blocking;
use super::world::World;
use crate::config::Address;
use crate::domain::{Fault, Moment, NodeId};
use crate::plan::Member;
use crate::plan::authority::Reason;
use crate::plan::vote::{Ballot, Heard, Holds, Lease, Term, Voter};
use crate::sys;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// What the machine makes of the node at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// Neither: it only votes.
    #[default]
    Idle,
    /// A primary on its way to the consumer port: the lease is kept.
    Preparing,
    /// A primary whose consumer port is not closed.
    Serving {
        /// Whether it accepts clients.
        open: bool,
    },
    /// An open standby: it may be a candidate.
    Standby,
}

/// How the right to open was earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earned {
    /// The term is ours, and enough voters say so.
    Lease,
    /// By an election: in a new term, which needs a new timeline.
    Election,
}

/// The voter with what belongs to it.
#[derive(Debug)]
pub(super) struct Elector {
    voter: Mutex<Option<Kept>>,
    part: watch::Sender<Part>,
    lease: watch::Sender<Lease>,
    /// Counts up when something happened that a candidate waits for.
    news: watch::Sender<u64>,
    /// Elected, and not yet the primary.
    promoting: AtomicBool,
}

#[derive(Debug)]
struct Kept {
    voter: Voter,
    /// What is on the disk.
    saved: Ballot,
    /// What was shown last.
    seen: Option<view::Seen>,
}

impl Default for Elector {
    fn default() -> Self {
        Self {
            voter: Mutex::default(),
            part: watch::Sender::new(Part::Idle),
            lease: watch::Sender::new(Lease::None),
            news: watch::Sender::new(0),
            promoting: AtomicBool::new(false),
        }
    }
}

/// Now, on the clock of leases.
pub(super) fn now() -> Moment {
    Moment(u64::try_from(sys::boot_time().as_millis()).unwrap_or(u64::MAX))
}

impl Elector {
    /// The machine has moved. Whether it promotes is known before the part is seen: a candidate that opens to be promoted
    /// would stand a second time, for a term without a lease.
    pub(super) fn set_part(&self, part: Part, promotes: bool) {
        if promotes {
            self.promoting.store(true, Ordering::Relaxed);
        } else if matches!(part, Part::Idle | Part::Serving { .. }) {
            self.promoting.store(false, Ordering::Relaxed);
        }
        self.part.send_if_modified(|old| {
            let changed = *old != part;
            *old = part;
            changed
        });
    }

    pub(super) fn part(&self) -> Part {
        *self.part.borrow()
    }

    /// Whether this node is elected and about to be the primary.
    pub(super) fn is_promoting(&self) -> bool {
        self.promoting.load(Ordering::Relaxed)
    }

    pub(super) fn set_promoting(&self, promoting: bool) {
        self.promoting.store(promoting, Ordering::Relaxed);
        self.bump();
    }

    /// Whether beats are due.
    fn leads(&self) -> bool {
        match self.part() {
            Part::Preparing | Part::Serving { .. } => true,
            Part::Standby => self.is_promoting(),
            Part::Idle => false,
        }
    }

    /// Whether this node accepts writes, or may at any moment.
    pub(super) fn is_primary(&self) -> bool {
        self.is_exposed() || self.part() == Part::Preparing
    }

    /// Whether clients could write without a lease if it were not watched.
    fn is_exposed(&self) -> bool {
        matches!(self.part(), Part::Serving { .. }) || self.is_promoting()
    }

    /// Changes whenever something happened that may matter to an election.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn bump(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Whether this node has taken part in any election yet.
    pub(super) async fn is_blank(&self, world: &World) -> bool {
        self.with(world, |v| v.ballot().is_blank())
            .await
            .unwrap_or(false)
    }

    /// Whether the lease holds at this moment.
    pub(super) fn holds(&self) -> bool {
        self.lease.borrow().holds(now())
    }

    /// Whether so many voters have answered what was sent after that moment that the others could not
    /// elect anybody.
    pub(super) async fn confirmed_since(&self, world: &World, at: Moment) -> bool {
        let seen = |v: &mut Voter| (v.lease(), v.timing().lease);
        match self.with(world, seen).await {
            Ok((Lease::Unlimited, _)) => true,
            Ok((Lease::Until(end), lease)) => end > at.after(lease),
            Ok((Lease::None, _)) | Err(_) => false,
        }
    }

    /// Works on the voter. When its ballot changed it is on the disk before this returns.
    pub(super) async fn with<T>(
        &self,
        world: &World,
        work: impl FnOnce(&mut Voter) -> T,
    ) -> Result<T, Fault> {
        let mut kept = self.voter.lock().await;
        let Some(kept) = kept.as_mut() else {
            return Err(Fault::Transient(
                "this node has not looked at its disk yet".into(),
            ));
        };
        let result = work(&mut kept.voter);
        // A shorter lease counts at once, a longer one only when the ballot is on the disk.
        self.lease.send_if_modified(|old| {
            let shorter = kept.voter.lease().min(*old);
            let changed = *old != shorter;
            *old = shorter;
            changed
        });
        if *kept.voter.ballot() != kept.saved {
            let ballot = kept.voter.ballot().clone();
            write(world, &ballot).await?;
            kept.saved = ballot;
        }
        self.lease.send_if_modified(|old| {
            let new = kept.voter.lease();
            let changed = *old != new;
            *old = new;
            changed
        });
        let seen = view::Seen::of(&kept.voter);
        if kept.seen.as_ref() != Some(&seen) {
            let view = seen.view();
            kept.seen = Some(seen);
            world.show(move |status| status.election = Some(view));
        }
        Ok(result)
    }

    /// Reads the ballot, once a life.
    pub(super) async fn begin(&self, world: &World) -> Result<(), Fault> {
        let mut kept = self.voter.lock().await;
        if kept.is_some() {
            return Ok(());
        }
        let saved = read(world).await?;
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed)
            .map_err(|e| Fault::Transient(format!("no random numbers from the system: {e}")))?;
        let config = world.config();
        let (me, timing) = (config.identity.id, config.timing);
        let voter = Voter::new(me, timing, saved.clone(), now(), u64::from_le_bytes(seed));
        *kept = Some(Kept {
            voter,
            saved,
            seen: None,
        });
        drop(kept);
        self.bump();
        // Shown from the beginning: a maintenance outlasts a restart.
        self.with(world, |_| ()).await
    }

    /// The primary that was heard within the last promise, if it serves clients.
    pub(super) async fn leader(&self, world: &World) -> Option<(Heard, Member)> {
        let me = world.config().identity.id;
        self.with(world, |v| {
            let heard = v.heard().filter(|h| h.open && h.primary != me)?;
            let fresh = heard.at.after(v.timing().promise) > now();
            let member = v.ballot().roster.voter(heard.primary)?.clone();
            fresh.then_some((heard, member))
        })
        .await
        .ok()
        .flatten()
    }

    /// Earns the right to open: beats that enough voters answer, or an election where a later term
    /// than ours is known, or where the term that this node leads has no timeline: opened after a promotion that was cut
    /// short between the end of standby.signal and the first record of the new timeline, PostgreSQL writes on
    /// the old one, beside whatever the old primary wrote there.
    pub(super) async fn acquire(&self, world: &std::sync::Arc<World>) -> Result<Earned, Reason> {
        let failed = |fault: Fault| Reason::NotElected {
            why: fault.to_string(),
        };
        let members = match world.memory() {
            Some(memory) if !memory.members.is_empty() => memory.members,
            Some(_) | None => vec![ourselves(world)],
        };
        self.with(world, |v| {
            v.closed(now());
            v.found(&members);
        })
        .await
        .map_err(failed)?;
        let midway = world.observed().midway;
        for _ in 0..3 {
            let leads = move |v: &mut Voter| v.ballot().leads() && v.deposed().is_none() && !midway;
            if self.with(world, leads).await.map_err(failed)? {
                beats::round(world, false)
                    .await
                    .map_err(failed)?
                    .all()
                    .await;
                if self.holds() {
                    return Ok(Earned::Lease);
                }
            } else {
                match campaign::campaign(world, 0).await.map_err(failed)? {
                    campaign::Outcome::Won => return Ok(Earned::Election),
                    campaign::Outcome::Lost { why, .. } => return Err(Reason::NotElected { why }),
                }
            }
        }
        Err(self.too_few(world).await)
    }

    /// Why there is no lease.
    pub(super) async fn too_few(&self, world: &World) -> Reason {
        let found = self
            .with(world, |v| {
                if let Some(term) = v.deposed() {
                    return Err(Reason::LaterTerm { term: term.0 });
                }
                let members = v.ballot().roster.voters.len();
                Ok((v.reached(now()), members))
            })
            .await;
        match found {
            Ok(Err(reason)) => reason,
            Ok(Ok((reached, members))) => Reason::TooFewReached {
                reached,
                members,
                silent: "the others".into(),
            },
            Err(fault) => Reason::NotElected {
                why: fault.to_string(),
            },
        }
    }

    /// A person puts this node in the place of all that cannot be reached. The term is later than every
    /// timeline that is known here, so that it can be the new one's number.
    pub(super) async fn seize(&self, world: &World) -> Result<Term, Fault> {
        let least = match letters::holds(world, false).await {
            Holds::Upto(position) => position.term.next(),
            Holds::Nothing | Holds::Unknown => {
                let why = "it is not known how far this node's WAL goes";
                return Err(Fault::Transient(why.into()));
            }
        };
        let term = self
            .with(world, |v| {
                v.seize(&ourselves(world), least);
                v.ballot().term
            })
            .await?;
        self.set_promoting(self.part() == Part::Standby);
        Ok(term)
    }

    /// A person promoted this node, or says that it is to be: a new term without anybody's grant.
    pub(super) async fn usurp(&self, world: &World) -> Result<(), Fault> {
        let members = world.memory().map(|m| m.members).unwrap_or_default();
        let timeline = world.observed().timeline.unwrap_or_default();
        self.with(world, |v| {
            if !v.ballot().leads() {
                v.usurp(&members, Term(timeline.0.into()));
            }
        })
        .await
    }
}

/// This node as a member.
pub(super) fn ourselves(world: &World) -> Member {
    let config = world.config();
    Member {
        node_id: config.identity.id,
        name: config.identity.name.clone(),
        host: config.identity.network_name.clone(),
        port: config.postgres.port,
    }
}

/// Where a member's letters go. The settings know better where a host's HTTP is: one port for all.
fn mailbox(world: &World, member: &Member) -> Address {
    Address {
        host: member.host.clone(),
        port: world.config().http.port(),
    }
}

async fn read(world: &World) -> Result<Ballot, Fault> {
    let path = world.layout.ballot_json.clone();
    let text = blocking({
        let path = path.clone();
        move || match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    })
    .await?;
    let Some(text) = text else {
        return Ok(Ballot::default());
    };
    serde_json::from_str(&text).map_err(|error| {
        Fault::NeedsPerson(format!(
            "{} is not readable ({error}): it is written atomically, so somebody else changed it; a \
             node that forgets its votes is not safe. Remove it only while every other node is up and \
             one of them is the primary",
            path.display()
        ))
    })
}

async fn write(world: &World, ballot: &Ballot) -> Result<(), Fault> {
    let (path, anchor) = (
        world.layout.ballot_json.clone(),
        world.layout.anchor.clone(),
    );
    let owner = world.file_owner();
    let text = serde_json::to_vec_pretty(ballot)
        .map_err(|e| Fault::Bug(format!("a ballot cannot be written: {e}")))?;
    blocking(move || {
        sys::ensure_dir(&anchor, 0o700, owner)?;
        sys::write_atomic(&path, &text, 0o600, owner).map(|_| ())
    })
    .await
}

/// Between `least` and twice that, so that two candidates do not meet again and again.
fn jitter(least: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without random numbers the pause is only less random.
    let _without = getrandom::fill(&mut byte).is_err();
    least + least * u32::from(byte[0]) / 256
}

/// For the log: a node of the roster by its name.
fn name_of(voter: &Voter, id: NodeId) -> String {
    voter
        .ballot()
        .roster
        .voter(id)
        .map_or_else(|| format!("node {id}"), |m| m.name.to_string())
}
