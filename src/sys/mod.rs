//! The edge to Linux: child processes, signals, files, disks, pipes. The only room that spawns.

mod account;
mod children;
pub mod cronrun;
pub mod crontab;
mod limit;
pub mod log;
mod outlet;
mod parse;
mod process;
mod pump;
mod said;
pub mod syslog;

pub use account::{Account, Accounts};
pub use children::{Child, ChildError, Children, Exit, Finished, Input, Spec, is_pid_1};
pub use limit::{Admit, Flood, Limiter, Rate};
pub use outlet::{Full, Outlet};
pub use parse::{Assembler, Format, Piece};
pub use process::{Process, process, processes};
pub use pump::{LONGEST, open_fifo, pump};
pub use said::Said;
