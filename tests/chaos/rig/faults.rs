//! What is done to a cluster: a list of faults that a seed determines. Pure.

use std::fmt;
use std::time::Duration;

/// Numbers from a seed (splitmix64): the same on every machine and for ever, unlike a crate's.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both possible.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.max(low) - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }
}

/// Which packets of a node are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Both,
    In,
    Out,
}

/// One thing that is done to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// SIGKILL of the postmaster.
    Postmaster,
    /// SIGKILL of a client's backend: postgres restarts all of them.
    Backend,
    /// `docker kill`, and `docker start` after the hold.
    Container,
    /// SIGKILL of PID 1 from the host, and `docker start` after the hold.
    PidOne,
    /// `docker stop`, and `docker start` after the hold.
    Stop,
    /// `docker pause`, and `docker unpause` after the hold.
    Freeze,
    /// No packet between this node and the others; clients still reach it.
    Cut(Way),
    /// No packet between this node and anybody.
    CutAll,
    /// So many of a hundred packets between this node and the others are lost.
    Loss(u8),
    /// Every packet of this node waits so many milliseconds.
    Delay(u16),
    /// The node's line carries so many kbit/s.
    Slow(u16),
    /// The volume has no byte left.
    DiskFull,
    /// `pgnode switchover` away from this node.
    Switchover,
}

impl What {
    /// One word, for `CHAOS_ONLY` and for the tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster-kill",
            Self::Backend => "backend-kill",
            Self::Container => "container-kill",
            Self::PidOne => "pid1-kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Cut(Way::Both) => "cut",
            Self::Cut(Way::In) => "cut-in",
            Self::Cut(Way::Out) => "cut-out",
            Self::CutAll => "cut-all",
            Self::Loss(_) => "loss",
            Self::Delay(_) => "delay",
            Self::Slow(_) => "slow",
            Self::DiskFull => "disk-full",
            Self::Switchover => "switchover",
        }
    }

    /// Whether something has to be undone after a while.
    fn lasts(self) -> bool {
        !matches!(self, Self::Postmaster | Self::Backend | Self::Switchover)
    }
}

/// Whom it hits; resolved once, when the fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    /// The first or the second of the others, by name.
    Standby(u8),
}

/// One node is hit `at` that time after the fault's begin, and healed `hold` later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) what: What,
    pub(crate) role: Role,
    pub(crate) at: Duration,
    pub(crate) hold: Duration,
}

/// One or two strikes on different nodes; then the cluster must converge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) number: u32,
    pub(crate) strikes: Vec<Strike>,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what.word())?;
        match self.what {
            What::Loss(percent) => write!(f, " {percent} %")?,
            What::Delay(ms) => write!(f, " {ms} ms")?,
            What::Slow(kbit) => write!(f, " {kbit} kbit/s")?,
            _ => {}
        }
        match self.role {
            Role::Primary => write!(f, " of the primary")?,
            Role::Standby(n) => write!(f, " of standby {}", n + 1)?,
        }
        if self.what.lasts() {
            write!(f, " for {:.1} s", self.hold.as_secs_f32())?;
        }
        if !self.at.is_zero() {
            write!(f, " after {:.1} s", self.at.as_secs_f32())?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, strike) in self.strikes.iter().enumerate() {
            write!(f, "{}{strike}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The faults of a seed. Each is drawn from the seed and its own number, so a longer run begins
/// with the shorter one. Nothing lasts longer than `longest`.
pub(crate) fn generate(seed: u64, count: u32, longest: Duration) -> Vec<Fault> {
    (0..count)
        .map(|number| one(seed, number, longest))
        .collect()
}

fn one(seed: u64, number: u32, longest: Duration) -> Fault {
    let mut dice = Dice::new(seed ^ u64::from(number).wrapping_mul(0xD6E8_FEB8_6659_FD93));
    // Most of what matters happens to the primary.
    let role = match dice.between(0, 9) {
        0..=6 => Role::Primary,
        7 | 8 => Role::Standby(0),
        _ => Role::Standby(1),
    };
    let what = draw(&mut dice);
    let mut strikes = vec![Strike {
        what,
        role: if what == What::Switchover {
            Role::Primary
        } else {
            role
        },
        at: Duration::ZERO,
        hold: hold(&mut dice, what, longest),
    }];
    if dice.one_in(4) {
        let another = match strikes[0].role {
            Role::Primary => Role::Standby(u8::from(dice.one_in(2))),
            Role::Standby(n) if dice.one_in(2) => Role::Standby(1 - n),
            Role::Standby(_) => Role::Primary,
        };
        // A switchover is asked of the primary only.
        let what = loop {
            let what = draw(&mut dice);
            if what != What::Switchover || another == Role::Primary {
                break what;
            }
        };
        strikes.push(Strike {
            what,
            role: another,
            at: Duration::from_millis(dice.between(0, 4000)),
            hold: hold(&mut dice, what, longest),
        });
    }
    Fault { number, strikes }
}

fn draw(dice: &mut Dice) -> What {
    match dice.between(0, 99) {
        0..=11 => What::Postmaster,
        12..=15 => What::Backend,
        16..=29 => What::Container,
        30..=35 => What::PidOne,
        36..=43 => What::Stop,
        44..=57 => What::Freeze,
        58..=69 => What::Cut(Way::Both),
        70..=74 => What::Cut(Way::In),
        75..=79 => What::Cut(Way::Out),
        80..=83 => What::CutAll,
        84..=86 => What::Loss(dice.between(10, 60).try_into().unwrap_or(30)),
        87 => What::Delay(dice.between(50, 900).try_into().unwrap_or(200)),
        88 | 89 => What::Slow(dice.between(64, 512).try_into().unwrap_or(128)),
        90..=94 => What::DiskFull,
        _ => What::Switchover,
    }
}

/// Short ones are as likely as long ones: many a race lives below a lease.
fn hold(dice: &mut Dice, what: What, longest: Duration) -> Duration {
    let (low, high) = match what {
        What::Postmaster | What::Backend | What::Switchover => return Duration::ZERO,
        What::Freeze => (1000, 60_000),
        What::Container | What::PidOne | What::Stop => (100, 30_000),
        _ => (1000, 40_000),
    };
    let high = if dice.one_in(2) { high / 6 } else { high };
    Duration::from_millis(dice.between(low, high)).min(longest)
}

/// What the driver does to a strike's node, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Inject(usize),
    Heal(usize),
}

/// All steps of a fault in order of time.
pub(crate) fn schedule(fault: &Fault) -> Vec<(Duration, Step)> {
    let mut steps = Vec::new();
    for (n, strike) in fault.strikes.iter().enumerate() {
        steps.push((strike.at, Step::Inject(n)));
        if strike.what.lasts() {
            steps.push((strike.at + strike.hold, Step::Heal(n)));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_dice_are_the_published_splitmix() {
        let mut dice = Dice::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| dice.next()).collect();
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn a_seed_is_a_list() {
        let long = generate(7, 200, MINUTE);
        assert_eq!(long, generate(7, 200, MINUTE));
        assert_eq!(long[..20], generate(7, 20, MINUTE)[..]);
        assert_ne!(long, generate(8, 200, MINUTE));
    }

    #[test]
    fn every_kind_comes_up_and_alone_as_well() {
        let all = generate(1, 2000, MINUTE);
        let words: BTreeSet<&str> = all
            .iter()
            .filter(|f| f.strikes.len() == 1)
            .map(|f| f.strikes[0].what.word())
            .collect();
        assert_eq!(words.len(), 15, "{words:?}");
        assert!(all.iter().any(|f| f.strikes.len() == 2));
    }

    #[test]
    fn strikes_of_a_fault_hit_different_nodes_and_end() {
        let longest = Duration::from_secs(9);
        for fault in generate(3, 2000, longest) {
            let roles: Vec<Role> = fault.strikes.iter().map(|s| s.role).collect();
            assert!(roles.len() == 1 || roles[0] != roles[1], "{fault}");
            for strike in &fault.strikes {
                assert!(strike.hold <= longest, "{fault}");
                assert_eq!(strike.hold.is_zero(), !strike.what.lasts(), "{fault}");
                let asked = strike.what != What::Switchover || strike.role == Role::Primary;
                assert!(asked, "{fault}");
            }
        }
    }

    #[test]
    fn a_schedule_heals_whatever_lasts_after_it_began() {
        for fault in generate(4, 500, MINUTE) {
            let steps = schedule(&fault);
            assert!(steps.is_sorted_by_key(|(at, _)| *at));
            for (n, strike) in fault.strikes.iter().enumerate() {
                let at = |step| steps.iter().position(|(_, s)| *s == step);
                let (begun, healed) = (at(Step::Inject(n)), at(Step::Heal(n)));
                assert!(begun.is_some(), "{fault}");
                assert_eq!(healed.is_some(), strike.what.lasts(), "{fault}");
                assert!(healed.is_none() || healed > begun, "{fault}");
            }
        }
    }

    #[test]
    fn a_fault_says_what_it_does() {
        let fault = Fault {
            number: 0,
            strikes: vec![
                Strike {
                    what: What::Freeze,
                    role: Role::Primary,
                    at: Duration::ZERO,
                    hold: Duration::from_millis(12_340),
                },
                Strike {
                    what: What::Backend,
                    role: Role::Standby(1),
                    at: Duration::from_secs(2),
                    hold: Duration::ZERO,
                },
            ],
        };
        assert_eq!(
            fault.to_string(),
            "freeze of the primary for 12.3 s, backend-kill of standby 2 after 2.0 s"
        );
    }
}
