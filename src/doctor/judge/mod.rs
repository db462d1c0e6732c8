//! The judgements: pure functions from what was gathered to findings.

mod archive;
mod backups;
mod check;
mod login;
mod wal;

pub use archive::{Destination, archive, destination};
pub use backups::{drill_record, last_backup, shipped};
pub use check::{Place, check_lines, listed};
pub use login::{logins, password_file, ssh};
pub use wal::{clock, disk, room_for_backup, round_trip, slots, wal_archiver};
