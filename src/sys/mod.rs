//! The edge to Linux: child processes, signals, files, disks, pipes. The only room that spawns.

mod account;
mod children;
mod process;
mod signals;

pub use account::{Account, Accounts};
pub use children::{Child, ChildError, Children, Exit, Finished, Input, Spec, is_pid_1};
/// Signals by name, for the rooms that must not import nix's sending functions.
pub use nix::sys::signal::Signal;
pub use process::{Process, process, processes};
pub use signals::{Received, Signals};
