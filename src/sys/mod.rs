//! The edge to Linux: child processes, signals, files, disks, pipes. The only room that spawns.

mod account;
mod children;
mod cronrun;
mod disk;
mod files;
mod lines;
mod log;
mod names;
mod process;
mod pump;
mod signals;
mod stage;
mod syslog;

pub use account::{Account, Accounts};
pub use children::{Child, ChildError, Children, Exit, Finished, Input, Spec, is_pid_1};
pub use cronrun::{Crontab, CrontabError, Job, run_crontab};
pub use disk::{
    FsFacts, cgroup_memory_limit, dir_size, fs_facts, is_mount_point, mounts_below, same_mount,
    sync_tree,
};
pub use files::{
    Changed, LockError, VolumeLock, ensure_dir, fifo, fix_ownership, io_fault, remove, sync_dir,
    write_atomic, write_volatile,
};
pub use lines::{LogLine, LogSource, understand};
pub use log::{BadFilter, init as init_log};
pub use names::name_ourselves;
/// Signals by name, for the rooms that must not import nix's sending functions.
pub use nix::sys::signal::Signal;
pub use process::{Process, process, processes};
pub use pump::{Admit, Limiter, pump, write as write_event};
pub use signals::{Received, Signals};
pub use stage::{Layout, Pgdata, Resumed, Stage, StageError, layout};
pub use syslog::listen_syslog;
