//! PostgreSQL: its programs' command lines, its files, sessions, the SQL that provisions it.

mod argv;
mod bootstrap;
mod controldata;
mod datadir;
mod error;
mod follow;
mod login;
mod probe;
mod ready;
mod receiver;
mod restored;
mod rewind;
mod scripts;
mod session;
mod standby;
mod stopping;

pub use argv::{Listen, initdb, pg_rewind, pg_waldump, postgres};
pub use bootstrap::{PROVISION, Visit, bootstrap};
pub use controldata::{ClusterState, ControlData, control_data};
pub use datadir::{DirFacts, PidFile, ServerStatus, clear_stale_locks, is_standby, look, pid_file};
pub use error::PgError;
pub use follow::{
    Repair, SlotFacts, Standing, follow_port, forget_slot, make_slot, repair, slot_facts, slot_name,
};
pub use login::{Refusal, replication_login};
pub use probe::{PgView, conninfo_value, members, probe};
pub use ready::wait_ready;
pub use receiver::{deafen, follow, followed, position, promote, receive_follower, write_position};
pub use restored::{Recovery, last_records, recovery_limits, strip};
pub use rewind::{SourceFacts, keep_wal, rewind, source_facts, starts_with_wal, wal_end};
pub use scripts::{run_scripts, scripts, scripts_readable};
pub use session::Session;
pub use standby::{become_candidate, become_standby, release_timelines, reserve_timelines};
pub use stopping::waits_for_archiver;
