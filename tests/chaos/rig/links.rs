//! What is done to a node's line, from the host, in the container's network namespace. `docker network
//! disconnect` is no cut: it takes the interface away, which a node notices and a dead switch does not do.

use super::Outcome;
use super::docker::run;
use super::faults::{Way, What};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// A container's namespace, by the host's pid of its PID 1.
#[derive(Clone, Debug)]
pub(crate) struct Link<'a> {
    pub(crate) pid: String,
    /// Where the test's own connections come from; a cut among the nodes spares them, so that writes on
    /// both sides are seen.
    pub(crate) gateway: &'a str,
}

/// The rules of a fault, or nothing when it is not one of rules.
pub(crate) fn rules(what: What, gateway: &str) -> Option<String> {
    let peers_in = format!("iifname \"eth0\" ip saddr != {gateway}");
    let peers_out = format!("oifname \"eth0\" ip daddr != {gateway}");
    let lines = match what {
        What::Cut(Way::In) => (format!("{peers_in} counter drop"), String::new()),
        What::Cut(Way::Out) => (String::new(), format!("{peers_out} counter drop")),
        What::Cut(Way::Both) => (
            format!("{peers_in} counter drop"),
            format!("{peers_out} counter drop"),
        ),
        What::CutAll => (
            "iifname \"eth0\" counter drop".into(),
            "oifname \"eth0\" counter drop".into(),
        ),
        What::Loss(percent) => {
            let lose = format!("numgen random mod 100 < {percent} counter drop");
            (format!("{peers_in} {lose}"), format!("{peers_out} {lose}"))
        }
        _ => return None,
    };
    Some(format!(
        "table inet chaos {{\n\
         chain incoming {{ type filter hook input priority 0; {}\n}}\n\
         chain outgoing {{ type filter hook output priority 0; {}\n}}\n}}\n",
        lines.0, lines.1
    ))
}

/// The queueing discipline of a fault, as words for `tc`.
fn discipline(what: What) -> Option<Vec<String>> {
    let text = match what {
        What::Delay(ms) => format!("netem delay {ms}ms"),
        What::Slow(kbit) => format!("tbf rate {kbit}kbit burst 8kb latency 800ms"),
        _ => return None,
    };
    Some(text.split(' ').map(str::to_owned).collect())
}

impl Link<'_> {
    fn inside(&self, words: &[&str], input: &str) -> Outcome<String> {
        let mut child = Command::new("nsenter")
            .args(["-t", &self.pid, "-n"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("nsenter: {e}"))?;
        if let Some(mut to) = child.stdin.take() {
            to.write_all(input.as_bytes()).ok();
        }
        let end = child.wait_with_output().map_err(|e| e.to_string())?;
        if end.status.success() {
            return Ok(String::from_utf8_lossy(&end.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&end.stderr).trim().to_owned();
        Err(format!("{}: {said}", words.join(" ")))
    }

    pub(crate) fn harm(&self, what: What) -> Outcome<()> {
        if let Some(rules) = rules(what, self.gateway) {
            return self.inside(&["nft", "-f", "-"], &rules).map(drop);
        }
        let words = discipline(what).ok_or("no fault of a line")?;
        let mut all = vec!["tc", "qdisc", "add", "dev", "eth0", "root"];
        all.extend(words.iter().map(String::as_str));
        self.inside(&all, "").map(drop)
    }

    pub(crate) fn heal(&self, what: What) -> Outcome<()> {
        if rules(what, self.gateway).is_some() {
            let table = self.inside(&["nft", "list", "table", "inet", "chaos"], "")?;
            self.inside(&["nft", "delete", "table", "inet", "chaos"], "")?;
            // A fault that hit nothing would make the run look better than it was.
            return match dropped(&table) {
                0 => Err(format!("no packet was lost:\n{table}")),
                _ => Ok(()),
            };
        }
        self.inside(&["tc", "qdisc", "del", "dev", "eth0", "root"], "")
            .map(drop)
    }
}

/// Packets that the rules' counters have seen.
fn dropped(table: &str) -> u64 {
    let words: Vec<&str> = table.split_whitespace().collect();
    let counts = words.windows(2).filter(|w| w[0] == "packets");
    counts.filter_map(|w| w[1].parse::<u64>().ok()).sum()
}

/// Why this machine cannot do that to a line, if so: tried in a namespace of its own.
pub(crate) fn lacks(what: What) -> Option<String> {
    let script = if let Some(rules) = rules(what, "192.0.2.1") {
        format!("nft -f - <<'END'\n{rules}END")
    } else {
        let words = discipline(what)?.join(" ");
        format!("ip link set lo up && tc qdisc add dev lo root {words}")
    };
    let end = run("unshare", &["-n", "bash", "-c", &script]);
    if end.status.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&end.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_spares_whoever_watches_and_a_whole_one_does_not() {
        let cut = rules(What::Cut(Way::Both), "10.0.0.1").unwrap();
        assert_eq!(cut.matches("!= 10.0.0.1 counter drop").count(), 2, "{cut}");
        let whole = rules(What::CutAll, "10.0.0.1").unwrap();
        assert_eq!(whole.matches("\" counter drop").count(), 2, "{whole}");
    }

    #[test]
    fn one_way_is_one_rule() {
        for (way, hook) in [(Way::In, "input"), (Way::Out, "output")] {
            let text = rules(What::Cut(way), "10.0.0.1").unwrap();
            assert_eq!(text.matches("drop").count(), 1, "{text}");
            let line = text.lines().find(|l| l.contains("drop")).unwrap();
            assert!(line.contains(hook), "{line}");
        }
    }

    #[test]
    fn the_counters_are_summed() {
        let table = "iifname \"eth0\" counter packets 12 bytes 900 drop\n oifname \"eth0\" counter packets 3 bytes 1 drop";
        assert_eq!(dropped(table), 15);
        assert_eq!(dropped("counter packets 0 bytes 0 drop"), 0);
    }

    #[test]
    fn what_is_no_rule_has_none() {
        assert_eq!(rules(What::Freeze, "10.0.0.1"), None);
        assert_eq!(rules(What::Delay(5), "10.0.0.1"), None);
    }
}
