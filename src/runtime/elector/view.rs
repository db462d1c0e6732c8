//! What is shown of the elections.

use super::now;
use crate::domain::{ElectionView, LeaseView, Moment, NodeName};
use crate::plan::vote::{Lease, Voter};
use crate::sys::now_ms;

/// What changes by itself as time goes by is kept as moments, so that it is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    view: ElectionView,
    heard: Option<Moment>,
    lease: Lease,
}

impl Seen {
    pub(super) fn of(voter: &Voter) -> Self {
        let ballot = voter.ballot();
        let heard = voter.heard();
        let name = |id| -> Option<NodeName> { Some(ballot.roster.voter(id)?.name.clone()) };
        let view = ElectionView {
            term: ballot.term.0,
            leads: ballot.leads(),
            primary: heard.and_then(|h| name(h.primary)),
            heard_at_ms: None,
            lease: LeaseView::None,
            voters: ballot.roster.voters.len(),
            majority: ballot.roster.majority(),
            reached: ballot.leads().then(|| voter.reached(now())),
            paused: ballot.paused,
            roster_changes: ballot.former.is_some(),
        };
        Self {
            view,
            heard: heard.map(|h| h.at),
            lease: voter.lease(),
        }
    }

    /// With times as a person reads them.
    pub(super) fn view(&self) -> ElectionView {
        let (moment, wall) = (now(), now_ms());
        ElectionView {
            heard_at_ms: self.heard.map(|at| {
                let age = crate::domain::millis(at.until(moment));
                wall.saturating_sub(age)
            }),
            lease: match self.lease {
                Lease::None => LeaseView::None,
                Lease::Unlimited => LeaseView::Unlimited,
                Lease::Until(end) => LeaseView::Until {
                    until_ms: wall + crate::domain::millis(moment.until(end)),
                },
            },
            ..self.view.clone()
        }
    }
}
