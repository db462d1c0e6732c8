//! Which states a boot goes through, asked of the machine itself: each operation succeeds, each
//! postmaster becomes ready. A state that is new in the machine is thereby new in the matrix.

use pgnode::domain::{Role, SystemId};
use pgnode::fsm::{Action, Event, Kind, Node, Op, OpId, Outcome, Policy, step};
use pgnode::plan::authority::{Reason, Verdict};
use pgnode::plan::{BootPlan, Provision};
use std::collections::VecDeque;
use std::time::Duration;

/// A boot that the matrix kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// A master on an empty volume.
    MasterFirst,
    /// A master on its own volume, with another password.
    MasterUsed,
    /// A master whose postgres is killed while it is open.
    MasterCrashed,
    /// A slave on an empty volume.
    SlaveFirst,
    /// A slave on its own volume.
    SlaveUsed,
    /// A slave whose postgres is killed while it is open.
    SlaveCrashed,
    /// Told to be a master on an empty volume, while the cluster has one.
    SecondMaster,
}

impl Boot {
    pub(crate) const ALL: [Self; 7] = [
        Self::MasterFirst,
        Self::MasterUsed,
        Self::MasterCrashed,
        Self::SlaveFirst,
        Self::SlaveUsed,
        Self::SlaveCrashed,
        Self::SecondMaster,
    ];

    const fn crashes(self) -> bool {
        matches!(self, Self::MasterCrashed | Self::SlaveCrashed)
    }

    const fn plan(self) -> BootPlan {
        let (provision, role, bootstrap, register) = match self {
            Self::MasterFirst | Self::SecondMaster => (Provision::Init, Role::Primary, true, true),
            Self::MasterUsed => (Provision::Adopt, Role::Primary, true, false),
            Self::MasterCrashed => (Provision::Adopt, Role::Primary, false, false),
            Self::SlaveFirst => (Provision::Clone, Role::Standby, false, true),
            Self::SlaveUsed | Self::SlaveCrashed => (Provision::Adopt, Role::Standby, false, false),
        };
        BootPlan {
            provision,
            role,
            bootstrap,
            register,
        }
    }

    fn outcome(self, op: Op) -> Outcome {
        match op {
            Op::Survey => Outcome::Planned(self.plan()),
            Op::Ask if self == Self::SecondMaster => {
                Outcome::Verdict(Verdict::Closed(Reason::ClusterExists {
                    peer: "pg1:5432".into(),
                    system_id: SystemId(1),
                }))
            }
            Op::Ask => Outcome::Verdict(Verdict::Open),
            _ => Outcome::Ok,
        }
    }

    /// Every state on the way until the node is open, open again, or fenced.
    pub(crate) fn path(self) -> Vec<Kind> {
        let mut node = Node::new(Policy::new(
            Duration::from_secs(10),
            Duration::from_secs(1),
            None,
            true,
        ));
        let mut path = vec![node.state.kind()];
        let mut events = VecDeque::from([Event::Begin]);
        let mut crash = self.crashes();
        while let Some(event) = events.pop_front() {
            let (next, actions) = step(node, event);
            node = next;
            let here = node.state.kind();
            if path.last() != Some(&here) {
                path.push(here);
            }
            if here == Kind::Fenced || here == Kind::Open && !crash {
                return path;
            }
            if here == Kind::Open {
                crash = false;
                let launch = node.postmaster.map_or(OpId(0), |p| p.launch);
                events = VecDeque::from([exited(launch, false)]);
                continue;
            }
            events.extend(actions.into_iter().filter_map(|action| match action {
                Action::Run(id, op) => Some(Event::Done(id, self.outcome(op))),
                Action::Launch(id, ..) => Some(Event::Ready(id)),
                Action::StopPostmaster(id, _) => Some(exited(id, true)),
                _ => None,
            }));
        }
        panic!("{self:?} ends nowhere: {path:?}");
    }

    /// The states to kill this boot in. A hold catches a state's first visit: of a crash only what
    /// comes after it, the rest belongs to the boot without it.
    pub(crate) fn points(self) -> Vec<Point> {
        let path = self.path();
        let from = if self.crashes() {
            1 + path.iter().position(|k| *k == Kind::Open).unwrap_or(0)
        } else {
            0
        };
        // A second master is a first one until it is fenced.
        let shared = match self {
            Self::SecondMaster => Self::MasterFirst.path(),
            _ => Vec::new(),
        };
        let new = |at: usize| {
            let kind = path[at];
            kind.is_boot() && !path[..at].contains(&kind) && !shared.contains(&kind)
        };
        (from..path.len())
            .filter(|at| new(*at))
            .flat_map(|at| {
                [false, true].map(|after| Point {
                    kind: path[at],
                    after,
                })
            })
            .collect()
    }
}

fn exited(launch: OpId, clean: bool) -> Event {
    Event::PostmasterExited {
        launch,
        clean,
        how: "test".into(),
    }
}

/// Before or after a state's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) kind: Kind,
    pub(crate) after: bool,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = if self.after { "after" } else { "before" };
        write!(f, "{}:{when}", self.kind.name())
    }
}
