//! barman: its commands, run as its own account, and its catalogue.

mod catalogue;
mod commands;

pub use catalogue::{Backup, catalogue};
pub use commands::{BarmanError, archive_wal, backup, check_backup, cron};
