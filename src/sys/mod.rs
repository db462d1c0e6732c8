//! The edge to Linux: child processes, signals, files, disks, pipes. The only room that spawns.

mod account;
mod children;
mod clock;
mod cronrun;
mod crontab;
mod disk;
mod files;
mod helper;
mod limit;
mod log;
mod names;
mod outlet;
mod parse;
mod process;
mod pump;
mod readers;
mod said;
mod signals;
mod stage;
mod syslog;
mod tail;

pub use account::{Account, Accounts};
pub use children::{
    Child, ChildError, Children, Exit, Finished, Input, Spec, become_program, is_pid_1,
};
pub use clock::{boot_time, now_ms, wall_time};
pub use cronrun::{CrontabError, Surroundings, run_crontab};
pub use crontab::{BadLine, Job, Schedule, next_after, parse as parse_crontab};
pub use disk::{
    FsFacts, cgroup_memory_limit, dir_size, fs_facts, is_mount_point, largest_child, mounts_below,
    same_mount, sync_tree,
};
pub use files::{
    Changed, LockError, VolumeLock, ensure_dir, fifo, fix_ownership, io_fault, is_locked,
    is_writable, overlap, remove, sync_dir, write_atomic, write_volatile,
};
pub use helper::init_helper_log;
pub use limit::{Admit, Flood, Limiter, Rate};
pub use log::{
    LogError, end as end_log, flush as flush_log, init as init_log, init_on as init_log_on,
};
pub use names::{name_ourselves, our_name};
/// Signals by name, for the rooms that must not import nix's sending functions.
pub use nix::sys::signal::Signal;
pub use outlet::{Full, Outlet};
pub use parse::{Assembler, Format, Piece};
pub use process::{Process, process, processes};
pub use pump::{LONGEST, open_fifo, pump};
pub use readers::{fill, same};
pub use said::Said;
pub use signals::{Received, Signals};
pub use stage::{Layout, Pgdata, Resumed, Space, Stage, StageError, layout};
pub use syslog::listen as listen_syslog;
