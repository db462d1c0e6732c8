//! The edge to Linux: child processes, signals, files, disks, pipes. The only room that spawns.

mod account;
mod children;
mod lines;
mod log;
mod process;
mod pump;
mod signals;

pub use account::{Account, Accounts};
pub use children::{Child, ChildError, Children, Exit, Finished, Input, Spec, is_pid_1};
pub use lines::{LogLine, LogSource, understand};
pub use log::{BadFilter, init as init_log};
/// Signals by name, for the rooms that must not import nix's sending functions.
pub use nix::sys::signal::Signal;
pub use process::{Process, process, processes};
pub use pump::{Admit, Limiter, pump, write as write_event};
pub use signals::{Received, Signals};
