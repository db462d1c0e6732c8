//! Walks the whole machine: every node that can be reached, every event in it. The tests look at
//! each step; the documentation's diagram is made from the transitions that were seen.

use super::{
    Action, Daemon, Door, End, Event, Finding, Kind, Node, Note, Op, OpId, Outcome, Policy,
    Rejoined, Site, State, Timer, step,
};
use crate::domain::{Fault, NodeId, Role, SystemId, Timeline};
use crate::plan::authority::{Reason, Verdict};
use crate::plan::{BootPlan, Provision};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

/// A node with what the world around it would know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) node: Node,
    /// Alarms that are set.
    pub(super) timers: BTreeSet<Timer>,
    /// repmgr knows the data that is (or will be) in place.
    pub(super) registered: bool,
    /// The authority's last word was yes.
    pub(super) allowed: bool,
    /// Daemons that were told to stop.
    pub(super) told: BTreeSet<Daemon>,
}

/// One step of the walk.
#[derive(Debug)]
pub(super) struct Edge<'a> {
    pub(super) before: &'a Place,
    pub(super) event: &'a Event,
    pub(super) after: &'a Place,
    pub(super) actions: &'a [Action],
}

impl Place {
    pub(super) fn start(backups: bool) -> Self {
        let mut policy = Policy::new(
            Duration::from_secs(10),
            Duration::from_secs(1),
            Some(Duration::from_secs(60)),
            backups,
        );
        // Small limits keep the walk small and change nothing else.
        policy.crash_limit = 1;
        policy.retries = 1;
        Self {
            node: Node::new(policy),
            timers: BTreeSet::new(),
            registered: false,
            allowed: false,
            told: BTreeSet::new(),
        }
    }

    /// The place after an event, and what the machine asked for.
    pub(super) fn hear(&self, event: &Event) -> (Self, Vec<Action>) {
        let mut next = self.clone();
        if let Event::Timer(timer) = event {
            next.timers.remove(timer);
        }
        let op = match event {
            Event::Done(id, _) => next
                .node
                .ops
                .iter()
                .find(|(known, _)| known == id)
                .map(|o| o.1),
            _ => None,
        };
        match (op, event) {
            (Some(Op::Survey), Event::Done(_, Outcome::Planned(plan))) => {
                next.registered = !plan.register;
                next.allowed = false;
            }
            (Some(Op::Rejoin), Event::Done(_, Outcome::Rejoined(_))) => next.registered = false,
            (Some(Op::Register), Event::Done(_, Outcome::Ok)) => next.registered = true,
            (Some(Op::Ask), Event::Done(_, Outcome::Verdict(verdict))) => {
                next.allowed = *verdict == Verdict::Open;
            }
            (Some(Op::Look), Event::Done(_, Outcome::Saw(Finding::MustClose(_)))) => {
                next.allowed = false;
            }
            (Some(Op::Look), Event::Done(_, Outcome::Saw(Finding::CloneAnew(_)))) => {
                next.registered = false;
            }
            (Some(Op::Promote), Event::Done(_, Outcome::Ok))
            | (Some(Op::Look), Event::Done(_, Outcome::Saw(Finding::Promoted))) => {
                next.allowed = true;
            }
            _ => {}
        }
        let (node, actions) = step(next.node, event.clone());
        next.node = node;
        if matches!(next.node.state, State::Stopping(_, End::Fence(_))) {
            next.allowed = false;
        }
        for action in &actions {
            match action {
                Action::Arm(timer, _) => {
                    next.timers.insert(*timer);
                }
                Action::Disarm(timer) => {
                    next.timers.remove(timer);
                }
                Action::StopDaemon { daemon, .. } => {
                    next.told.insert(*daemon);
                }
                Action::StartDaemon(_, daemon) => {
                    next.told.remove(daemon);
                }
                _ => {}
            }
        }
        (next, actions)
    }

    /// The same place with numbers as small as possible, so that the walk ends.
    fn normal(mut self) -> Self {
        let mut next = 1;
        let mut fresh = || {
            next += 1;
            OpId(next - 1)
        };
        if let Some(postmaster) = &mut self.node.postmaster {
            postmaster.launch = fresh();
        }
        for daemon in &mut self.node.daemons {
            daemon.launch = daemon.launch.map(|_| fresh());
            // Only the length of a pause depends on it.
            daemon.failures = 0;
        }
        self.node.ops.sort_by_key(|(_, op)| *op);
        for (id, _) in &mut self.node.ops {
            *id = fresh();
        }
        let forget = |t: &Timer| matches!(t, Timer::Forget(_));
        let crashes = self.timers.iter().filter(|t| forget(t)).count();
        self.timers.retain(|t| !forget(t));
        self.timers
            .extend((0..crashes).map(|_| Timer::Forget(fresh())));
        self.node.next = next;
        self.node.stop_signals = self.node.stop_signals.min(2);
        self
    }

    /// Every event that can reach the node here, late and doubled ones included.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = vec![
            Event::Begin,
            Event::StopSignal(15),
            Event::ReloadSignal,
            Event::LeaseLost(reason(1)),
            Event::Elected,
            Event::Handover(NodeId(2)),
            Event::Nudge,
            Event::Fence,
            Event::Unfence,
            Event::Done(STALE, Outcome::Ok),
            Event::Ready(STALE),
            Event::PostmasterExited {
                launch: STALE,
                clean: true,
                how: String::new(),
            },
        ];
        for (id, op) in &self.node.ops {
            events.extend(
                outcomes(*op)
                    .into_iter()
                    .map(|outcome| Event::Done(*id, outcome)),
            );
        }
        if let Some(postmaster) = self.node.postmaster {
            let launch = postmaster.launch;
            events.push(Event::Ready(launch));
            for clean in [true, false] {
                events.push(Event::PostmasterExited {
                    launch,
                    clean,
                    how: "x".into(),
                });
            }
        }
        for daemon in [Daemon::Repmgrd, Daemon::Crond] {
            let how = || "x".to_owned();
            events.push(Event::DaemonExited {
                daemon,
                launch: STALE,
                how: how(),
            });
            if let Some(launch) = self.node.daemon(daemon) {
                events.push(Event::DaemonExited {
                    daemon,
                    launch,
                    how: how(),
                });
            }
        }
        events.extend(self.timers.iter().map(|t| Event::Timer(*t)));
        events
    }
}

/// A number that nothing waits for.
pub(super) const STALE: OpId = OpId(0);

fn outcomes(op: Op) -> Vec<Outcome> {
    let mut all = match op {
        Op::Survey => plans()
            .into_iter()
            .map(Outcome::Planned)
            .chain([Outcome::Verdict(Verdict::Closed(Reason::Operator))])
            .collect(),
        Op::Ask => vec![
            Outcome::Verdict(Verdict::Open),
            Outcome::Verdict(Verdict::Elected),
            Outcome::Verdict(Verdict::Closed(reason(1))),
            Outcome::Verdict(Verdict::Closed(reason(2))),
            Outcome::Verdict(Verdict::Closed(superseded())),
            Outcome::Verdict(Verdict::Closed(Reason::NotElected { why: "x".into() })),
        ],
        Op::Rejoin => vec![
            Outcome::Rejoined(Rejoined::Standby),
            Outcome::Rejoined(Rejoined::CloneAnew("x".into())),
            Outcome::Rejoined(Rejoined::NoSource("x".into())),
        ],
        Op::Look => [
            Finding::Fine,
            Finding::Promoted,
            Finding::Follows("x".into()),
            Finding::CloneAnew("x".into()),
            Finding::MustClose(reason(1)),
            Finding::MustClose(superseded()),
            Finding::Diverged(superseded()),
        ]
        .map(Outcome::Saw)
        .to_vec(),
        Op::Replay => vec![Outcome::Ok, Outcome::Shutdown],
        _ => vec![Outcome::Ok],
    };
    all.push(Outcome::Failed(Fault::Transient("x".into())));
    all.push(Outcome::Failed(Fault::NeedsPerson("x".into())));
    all
}

fn reason(id: u64) -> Reason {
    Reason::ClusterExists {
        peer: "x".into(),
        system_id: SystemId(id),
    }
}

fn superseded() -> Reason {
    Reason::Superseded {
        peer: "x".into(),
        theirs: Timeline(2),
        ours: Timeline(1),
    }
}

/// Every plan that `plan::plan` can make.
fn plans() -> Vec<BootPlan> {
    let plan = |provision, role, bootstrap, register| BootPlan {
        provision,
        role,
        bootstrap,
        register,
    };
    use Provision::{Adopt, Clone, Init, Restore};
    use Role::{Primary, Standby, Witness};
    vec![
        plan(Init, Primary, true, true),
        plan(Clone, Standby, false, true),
        plan(Restore, Primary, true, true),
        plan(Adopt, Primary, false, false),
        plan(Adopt, Primary, true, false),
        plan(Adopt, Primary, true, true),
        plan(Adopt, Standby, false, false),
        plan(Adopt, Standby, false, true),
        BootPlan::REJOIN,
        plan(Init, Witness, true, true),
        plan(Adopt, Witness, false, false),
        plan(Adopt, Witness, true, false),
    ]
}

/// Visits every place that can be reached; returns how many there are.
pub(super) fn walk(mut see: impl FnMut(&Edge<'_>)) -> usize {
    let mut known = HashSet::new();
    let mut open = VecDeque::new();
    for backups in [true, false] {
        open.push_back(Place::start(backups));
    }
    while let Some(before) = open.pop_front() {
        for event in before.events() {
            let (after, actions) = before.hear(&event);
            see(&Edge {
                before: &before,
                event: &event,
                after: &after,
                actions: &actions,
            });
            let after = after.normal();
            if known.insert(after.clone()) {
                open.push_back(after);
            }
        }
    }
    known.len()
}

/// The transitions that exist, with their sentences: from, to, why.
pub(super) fn transitions() -> BTreeSet<(Kind, Kind, &'static str)> {
    let mut seen = BTreeSet::new();
    walk(|edge| {
        for action in edge.actions {
            if let Action::Say(Note::Entered { from, to, why, .. }) = action {
                seen.insert((*from, *to, *why));
            }
        }
    });
    seen
}

/// `docs/state-machine.md`.
pub(super) fn document() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# The state machine\n\n\
         Made from the machine itself: every reachable state was visited with every event. Do not edit;\n\
         `BLESS=1 cargo test --lib state_machine_document` writes it anew.\n\n\
         ## States\n\n| state | what the node does | reachable by clients |\n| --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            kind.name(),
            kind.sentence(),
            kind.exposure()
        )
        .unwrap();
    }
    text.push_str("\n## Transitions\n\nEvery one is a log line with this sentence.\n\n| from | to | because |\n| --- | --- | --- |\n");
    let transitions = transitions();
    for (from, to, why) in &transitions {
        writeln!(text, "| `{}` | `{}` | {why} |", from.name(), to.name()).unwrap();
    }
    text.push_str("\n## Picture\n\nThe way down (`stopping`, `halted`) is open from every state and left out here.\n\n```mermaid\nstateDiagram-v2\n");
    text.push_str("    [*] --> preflight\n");
    let plain = |k: &Kind| k.name().replace('-', "_");
    let mut drawn = BTreeSet::new();
    for (from, to, _) in &transitions {
        if !matches!(to, Kind::Stopping | Kind::Halted) && drawn.insert((from, to)) {
            writeln!(text, "    {} --> {}", plain(from), plain(to)).unwrap();
        }
    }
    text.push_str("```\n");
    text.push_str(&super::host::tests::document());
    text
}

/// Where postgres listens, at most, given the postmaster.
pub(super) fn listens(node: &Node) -> Option<(Door, Site)> {
    node.postmaster.map(|p| (p.door, p.site))
}

/// Whether the node is at its end.
pub(super) fn halted(node: &Node) -> bool {
    matches!(node.state, State::Halted(_))
}
