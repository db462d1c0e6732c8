//! The processes of our namespace, read from `/proc` (proc(5)). `cwd` and `exe` of another user's
//! process are closed even to root without `CAP_SYS_PTRACE`, so only `stat` is used.

use std::fs;

/// A process, as `/proc/<pid>/stat` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's pid.
    pub parent: i32,
    /// Its command name, at most 15 bytes.
    pub name: String,
    /// Ended and not reaped.
    pub zombie: bool,
}

/// The pids of all that descend from one, itself not among them.
pub(super) fn descendants(all: &[Process], of: i32) -> Vec<i32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        // A walk through /proc is no snapshot: pids that were given anew meanwhile must not make a circle.
        let children = all.iter().filter(|p| p.parent == parent).map(|p| p.pid);
        let fresh: Vec<i32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(fresh);
        next += 1;
    }
    found.remove(0);
    found
}

/// All processes that can be seen now. One that ends meanwhile is left out.
#[must_use]
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse::<i32>().ok()))
        .filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Whether a process with this pid exists and has not ended.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).filter(|p| !p.zombie)
}

/// `pid (name) state ppid …`; the name may hold spaces and parentheses.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        name: name.to_owned(),
        zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_generations_are_found_and_nobody_elses() {
        let process = |pid, parent| Process {
            pid,
            parent,
            name: String::new(),
            zombie: false,
        };
        // 7 and 8 are each other's parents.
        let pairs = [
            (2, 1),
            (3, 2),
            (4, 3),
            (5, 9),
            (6, 2),
            (7, 8),
            (8, 7),
            (1, 0),
        ];
        let all = pairs.map(|(pid, parent)| process(pid, parent));
        assert_eq!(descendants(&all, 1), [2, 3, 6, 4]);
        assert_eq!(descendants(&all, 7), [8]);
        assert_eq!(descendants(&all, 4), [0; 0]);
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let p = parse("42 (a) b (c) S 7 42 42 0 -1").unwrap();
        assert_eq!(
            (p.pid, p.parent, p.name.as_str(), p.zombie),
            (42, 7, "a) b (c", false)
        );
        assert!(parse("42 (sh) Z 1 0 0").unwrap().zombie);
        assert_eq!(parse("42 sh Z"), None);
    }

    #[test]
    fn we_see_ourselves() {
        let us = std::process::id().cast_signed();
        assert!(process(us).is_some());
        assert!(processes().iter().any(|p| p.pid == us));
    }
}
