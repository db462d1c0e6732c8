//! Crontabs and clocks.

use super::*;
use chrono::{FixedOffset, NaiveDate, NaiveDateTime, Offset, Utc};

fn one(line: &str) -> Job {
    parse(line).unwrap().remove(0)
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}Z").parse().unwrap()
}

fn next(line: &str, now: &str) -> String {
    next_after(&one(line), &utc(now)).map_or("never".into(), |t| {
        t.format("%Y-%m-%d %H:%M:%S").to_string()
    })
}

#[test]
fn our_crontab_is_read_as_crond_reads_it() {
    let text = "\
# by pgnode\n\
\n\
SHELL=/bin/sh\n\
PATH = \"/usr/bin:/bin\"\n\
\t* * * * *\tbarman   barman cron 2>&1 | logger -t barman\n\
NAME='two words'\n\
30 2 * * * barman  barman backup all \n\
@hourly root date +\\%F%line 1%line \\% 2\n";
    let jobs = parse(text).unwrap();
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs[0].user, "barman");
    assert_eq!(jobs[0].command, "barman cron 2>&1 | logger -t barman");
    assert_eq!(jobs[0].input, None);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let path = pair("PATH", "/usr/bin:/bin");
    assert_eq!(jobs[0].env, [pair("SHELL", "/bin/sh"), path.clone()]);
    assert_eq!(jobs[1].command, "barman backup all");
    assert_eq!(jobs[1].env[2], pair("NAME", "two words"));
    assert_eq!(jobs[2].command, "date +%F");
    assert_eq!(jobs[2].input.as_deref(), Some("line 1\nline % 2\n"));
    assert_eq!(jobs[2].written, "date +\\%F%line 1%line \\% 2");
}

#[test]
fn what_crond_would_refuse_is_refused_with_its_line() {
    for bad in [
        "broken line",
        "* * * * *",
        "* * * * * root",
        "60 * * * * root x",
        "* 24 * * * root x",
        "* * 0 * * root x",
        "* * * 13 * root x",
        "* * * * 8 root x",
        "*/0 * * * * root x",
        "5-1 * * * * root x",
        "@sometimes root x",
        "@daily",
        "* * L * * root x",
        "* * * * 5#2 root x",
        "* * 15W * * root x",
        "? * * * * root x",
        "a b c d e root x",
        "1FOO=x",
    ] {
        let error = parse(&format!("# one\nA=b\n{bad}\n")).unwrap_err();
        assert_eq!(error.line, 3, "{bad}: {error}");
    }
}

#[test]
fn the_next_run() {
    for (line, now, want) in [
        (
            "* * * * * r x",
            "2026-11-21T08:00:00",
            "2026-11-21 08:01:00",
        ),
        (
            "* * * * * r x",
            "2026-11-21T08:00:59.999",
            "2026-11-21 08:01:00",
        ),
        (
            "*/5 * * * * r x",
            "2026-11-21T08:01:00",
            "2026-11-21 08:05:00",
        ),
        (
            "30 2 * * * r x",
            "2026-11-21T02:30:00",
            "2026-11-22 02:30:00",
        ),
        (
            "30 2 * * * r x",
            "2026-11-21T02:29:59",
            "2026-11-21 02:30:00",
        ),
        (
            "0 0 * * 0 r x",
            "2026-11-21T08:00:00",
            "2026-11-22 00:00:00",
        ),
        (
            "0 0 * * 7 r x",
            "2026-11-21T08:00:00",
            "2026-11-22 00:00:00",
        ),
        (
            "0 0 * * sun r x",
            "2026-11-21T08:00:00",
            "2026-11-22 00:00:00",
        ),
        (
            "0 0 1 JUL * r x",
            "2026-11-21T08:00:00",
            "2027-07-01 00:00:00",
        ),
        (
            "0 0 * * Wed r x",
            "2026-11-21T08:00:00",
            "2026-11-25 00:00:00",
        ),
        (
            "0 3 1-7 * * r x",
            "2026-11-21T08:00:00",
            "2026-12-01 03:00:00",
        ),
        // Both restricted: either.
        (
            "0 0 1 * 1 r x",
            "2026-11-21T08:00:00",
            "2026-11-23 00:00:00",
        ),
        // `*/2` is a star: both.
        (
            "0 0 */2 * 1 r x",
            "2026-11-21T08:00:00",
            "2026-11-23 00:00:00",
        ),
        (
            "0 0 */2 * 2 r x",
            "2026-11-21T08:00:00",
            "2026-12-01 00:00:00",
        ),
        ("@hourly r x", "2026-11-21T08:00:00", "2026-11-21 09:00:00"),
        ("@daily r x", "2026-11-21T08:00:00", "2026-11-22 00:00:00"),
        (
            "@midnight r x",
            "2026-12-31T08:00:00",
            "2027-01-01 00:00:00",
        ),
        ("@weekly r x", "2026-11-21T08:00:00", "2026-11-22 00:00:00"),
        ("@monthly r x", "2026-11-21T08:00:00", "2026-12-01 00:00:00"),
        ("@yearly r x", "2026-11-21T08:00:00", "2027-01-01 00:00:00"),
        ("@reboot r x", "2026-11-21T08:00:00", "never"),
        (
            "0 0 29 2 * r x",
            "2026-11-21T08:00:00",
            "2028-02-29 00:00:00",
        ),
        ("0 0 30 2 * r x", "2026-11-21T08:00:00", "never"),
    ] {
        assert_eq!(next(line, now), want, "{line} after {now}");
    }
}

/// Berlin in 2026: +2 from 29 March 01:00 UTC to 25 October 01:00 UTC, else +1.
#[derive(Clone, Copy, Debug)]
struct Berlin;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hours(i32);

impl Offset for Hours {
    fn fix(&self) -> FixedOffset {
        FixedOffset::east_opt(self.0 * 3600).unwrap()
    }
}

fn at_utc(month: u32, day: u32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2026, month, day)
        .unwrap()
        .and_hms_opt(1, 0, 0)
        .unwrap()
}

impl TimeZone for Berlin {
    type Offset = Hours;
    fn from_offset(_: &Hours) -> Self {
        Self
    }
    fn offset_from_local_date(&self, date: &NaiveDate) -> chrono::MappedLocalTime<Hours> {
        self.offset_from_local_datetime(&date.and_hms_opt(0, 0, 0).unwrap())
    }
    fn offset_from_local_datetime(&self, at: &NaiveDateTime) -> chrono::MappedLocalTime<Hours> {
        let fits: Vec<Hours> = [Hours(2), Hours(1)]
            .into_iter()
            .filter(|h| self.offset_from_utc_datetime(&(*at - TimeDelta::hours(h.0.into()))) == *h)
            .collect();
        match fits[..] {
            [one] => chrono::MappedLocalTime::Single(one),
            [early, late] => chrono::MappedLocalTime::Ambiguous(early, late),
            _ => chrono::MappedLocalTime::None,
        }
    }
    fn offset_from_utc_date(&self, date: &NaiveDate) -> Hours {
        self.offset_from_utc_datetime(&date.and_hms_opt(0, 0, 0).unwrap())
    }
    fn offset_from_utc_datetime(&self, at: &NaiveDateTime) -> Hours {
        let summer = at_utc(3, 29) <= *at && *at < at_utc(10, 25);
        Hours(if summer { 2 } else { 1 })
    }
}

/// The UTC times at which a line runs in Berlin.
fn runs(line: &str, from: &str, to: &str) -> Vec<String> {
    let job = one(line);
    let mut now = utc(from).with_timezone(&Berlin);
    let mut all = Vec::new();
    while let Some(next) = next_after(&job, &now).filter(|n| *n <= utc(to)) {
        all.push(next.with_timezone(&Utc).format("%d %H:%M").to_string());
        now = next;
    }
    all
}

#[test]
fn daylight_saving_neither_skips_nor_doubles_a_daily_job() {
    // 02:30 does not exist on 29 March: it runs when the clock says 03:00.
    let spring = runs(
        "30 2 * * * r x",
        "2026-03-28T00:00:00",
        "2026-03-30T12:00:00",
    );
    assert_eq!(spring, ["28 01:30", "29 01:00", "30 00:30"]);
    // 02:30 comes twice on 25 October.
    let autumn = runs(
        "30 2 * * * r x",
        "2026-10-24T00:00:00",
        "2026-10-26T12:00:00",
    );
    assert_eq!(autumn, ["24 00:30", "25 00:30", "26 01:30"]);
    // A job of every half hour just goes on.
    let steady = runs(
        "*/30 * * * * r x",
        "2026-10-24T23:59:00",
        "2026-10-25T02:00:00",
    );
    assert_eq!(
        steady,
        ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"]
    );
}

/// Walks a schedule over clock readings; says which job ran at which reading.
fn walk(text: &str, times: &[&str]) -> Vec<(String, usize)> {
    let mut schedule = Schedule::new(parse(text).unwrap(), &utc(times[0]));
    let mut ran = Vec::new();
    for time in times {
        for job in schedule.due(&utc(time)) {
            ran.push((time[11..].to_owned(), job));
        }
    }
    ran
}

fn ran(all: &[(&str, usize)]) -> Vec<(String, usize)> {
    all.iter().map(|(t, j)| ((*t).to_owned(), *j)).collect()
}

#[test]
fn each_turn_comes_once() {
    let got = walk(
        "* * * * * r x\n30 8 * * * r y",
        &[
            "2026-11-21T08:29:30",
            "2026-11-21T08:29:59.999",
            "2026-11-21T08:30:00.001",
            "2026-11-21T08:30:00.500",
            "2026-11-21T08:31:00",
        ],
    );
    assert_eq!(
        got,
        ran(&[("08:30:00.001", 0), ("08:30:00.001", 1), ("08:31:00", 0)])
    );
}

#[test]
fn a_jump_forward_of_hours_or_years_runs_each_job_once() {
    let got = walk(
        "* * * * * r x\n30 8 * * * r y",
        &[
            "2026-11-21T08:00:10",
            "2026-11-21T14:00:10",
            "2026-11-21T14:00:20",
            "2029-01-01T00:00:20",
            "2029-01-01T00:00:30",
        ],
    );
    assert_eq!(
        got,
        ran(&[
            ("14:00:10", 0),
            ("14:00:10", 1),
            ("00:00:20", 0),
            ("00:00:20", 1)
        ])
    );
}

#[test]
fn a_jump_back_does_not_run_twice() {
    // The daily job ran at 08:30; the clock is set back by two hours: not again today.
    let got = walk(
        "30 8 * * * r y",
        &[
            "2026-11-21T08:00:00",
            "2026-11-21T08:30:00",
            "2026-11-21T06:30:01",
            "2026-11-21T08:30:00",
            "2026-11-21T08:30:01",
            "2026-11-22T08:30:00",
        ],
    );
    assert_eq!(got, ran(&[("08:30:00", 0), ("08:30:00", 0)]));
    // A small correction right after a run of a job of every minute.
    let got = walk(
        "* * * * * r x",
        &[
            "2026-11-21T08:00:30",
            "2026-11-21T08:01:00.100",
            "2026-11-21T08:00:59.900",
            "2026-11-21T08:01:00.100",
            "2026-11-21T08:02:00",
        ],
    );
    assert_eq!(got, ran(&[("08:01:00.100", 0), ("08:02:00", 0)]));
}

#[test]
fn a_job_of_every_minute_follows_a_clock_that_went_back() {
    let got = walk(
        "* * * * * r x",
        &[
            "2026-11-21T08:00:30",
            "2026-11-21T08:01:00",
            "2026-11-21T07:01:30",
            "2026-11-21T07:02:00",
        ],
    );
    assert_eq!(got, ran(&[("08:01:00", 0), ("07:02:00", 0)]));
}

#[test]
fn a_clock_that_was_far_ahead_does_not_stop_a_daily_job_for_a_year() {
    let got = walk(
        "30 8 * * * r y",
        &[
            "2027-11-21T08:00:00",
            "2027-11-21T08:30:00",
            "2026-11-21T08:00:00",
            "2026-11-21T08:30:00",
        ],
    );
    assert_eq!(got, ran(&[("08:30:00", 0), ("08:30:00", 0)]));
}
