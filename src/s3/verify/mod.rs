//! `pgnode s3 verify`: what of a cluster's place in a bucket can be restored, and what is wrong with the rest. What is
//! there is gathered at the edge ([`look()`], [`deep()`]); what it means is judged by a pure function ([`judge()`]).

mod deep;
mod judge;
mod look;
mod report;
#[cfg(test)]
mod tests;

pub use deep::{Read, deep};
pub use judge::{Seen, Unfinished, judge};
pub use look::look;
pub use report::{BackupView, Gap, Report, TimelineView, UnfinishedView};
