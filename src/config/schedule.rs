//! barman's habits: when a backup is made, how long it is kept.

use super::rules::Ruled;

/// Names that cron takes in the month and the weekday field.
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Five cron fields, in the grammar that Debian's cron and croner share: croner alone would also
/// take nicknames, `L`, `W`, `#` and seconds, which cron does not know.
pub(super) fn cron(text: &str) -> Ruled<String> {
    let bad = || "is not a schedule of five cron fields".to_owned();
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(bad());
    }
    for (at, field) in fields.iter().enumerate() {
        let names: &[&str] = match at {
            3 => &MONTHS,
            4 => &WEEKDAYS,
            _ => &[],
        };
        let number = |piece: &str| {
            (1..=3).contains(&piece.len()) && piece.bytes().all(|b| b.is_ascii_digit())
        };
        let known = |piece: &str| {
            piece == "*"
                || number(piece)
                || names.iter().any(|name| piece.eq_ignore_ascii_case(name))
        };
        // croner would take a name for a step (`*/fri`), cron does not.
        let step = |element: &str| element.split('/').nth(1).is_none_or(number);
        if !field.split([',', '-', '/']).all(known) || !field.split(',').all(step) {
            return Err(bad());
        }
    }
    let text = fields.join(" ");
    let parser = croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Disallowed)
        .year(croner::parser::Year::Disallowed)
        .build();
    parser.parse(&text).map_err(|_| bad())?;
    if !can_come(&fields) {
        return Err("is a day that no month has".to_owned());
    }
    Ok(text)
}

/// Whether some month has the day; weekdays are an alternative, as in cron. Asking croner for the
/// next occurrence would search to the year 5000.
fn can_come(fields: &[&str]) -> bool {
    let [_, _, day, month, weekday] = fields else {
        return true;
    };
    // Lists, ranges and steps reach other days; only plain numbers can miss every month.
    let (Ok(day), "*") = (day.parse::<u32>(), *weekday) else {
        return true;
    };
    let longest = |month: &str| match month.to_ascii_lowercase().as_str() {
        "2" | "02" | "feb" => 29,
        "4" | "04" | "apr" | "6" | "06" | "jun" | "9" | "09" | "sep" | "11" | "nov" => 30,
        _ => 31,
    };
    month.contains(['-', '/', '*']) || month.split(',').any(|month| day <= longest(month))
}

/// `5 days`, `redundancy 3`, or barman's own `RECOVERY WINDOW OF 5 DAYS`; gives barman's words.
pub(super) fn retention(text: &str) -> Ruled<String> {
    let lower = text.to_ascii_lowercase();
    let words: Vec<_> = lower.split_whitespace().collect();
    // barman turns it into a date; four digits of days are 27 years and of months 833.
    let number = |n: &str| {
        ((1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
            .then(|| n.trim_start_matches('0').to_owned())
            .filter(|n| !n.is_empty())
    };
    let unit = |unit: &str| match unit {
        "day" | "days" => Some("DAYS"),
        "week" | "weeks" => Some("WEEKS"),
        "month" | "months" => Some("MONTHS"),
        _ => None,
    };
    let policy = match words.as_slice() {
        [n, u] if *n != "redundancy" => number(n)
            .zip(unit(u))
            .map(|(n, u)| format!("RECOVERY WINDOW OF {n} {u}")),
        ["recovery", "window", "of", n, u] => number(n)
            .zip(unit(u))
            .map(|(n, u)| format!("RECOVERY WINDOW OF {n} {u}")),
        ["redundancy", n] => number(n).map(|n| format!("REDUNDANCY {n}")),
        _ => None,
    };
    policy.ok_or_else(|| {
        "is not a retention: `<n> days`, `weeks` or `months`, or `redundancy <n>`, n from 1 to 9999"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "0 3 * * *",
            "*/15 1-5 1,15 * 0",
            "30 1 * * sun",
            "0 0 1 JAN *",
            "0 0 * * 7",
            "0-30/10 * * * *",
            "0 0 29 2 *",
            "0 0 31 2 1",
            "0 0 31 4,5 *",
        ] {
            assert_eq!(cron(good).as_deref(), Ok(good), "{good}");
        }
        assert_eq!(cron(" 0  3\t* * * ").as_deref(), Ok("0 3 * * *"));
        for bad in [
            "",
            "0 3 * *",
            "0 0 3 * * *",
            "@daily",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5/10 * * * *",
            "/5 * * * *",
            "1,,2 * * * *",
            "5-1 * * * *",
            "* * L * *",
            "* * 15W * *",
            "* * * * 1#2",
            "* * ? * *",
            "mon * * * *",
            "a b c d e",
            "-1 * * * *",
            "0 0 31 2 *",
            "0 3 * * */fri",
            "0 0 31 apr,jun *",
            "0 3 * * * x",
            "٣ * * * *",
            "0 3 * * *\n* * * * * root id",
        ] {
            assert!(cron(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retentions() {
        for (text, want) in [
            ("5 days", Some("RECOVERY WINDOW OF 5 DAYS")),
            ("1 day", Some("RECOVERY WINDOW OF 1 DAYS")),
            ("2 WEEKS", Some("RECOVERY WINDOW OF 2 WEEKS")),
            (" 6  months ", Some("RECOVERY WINDOW OF 6 MONTHS")),
            ("redundancy 3", Some("REDUNDANCY 3")),
            (
                "Recovery Window of 05 days",
                Some("RECOVERY WINDOW OF 5 DAYS"),
            ),
            ("5", None),
            ("5 years", None),
            ("0 days", None),
            ("-5 days", None),
            ("10000 days", None),
            ("redundancy", None),
            ("redundancy days", None),
            ("RECOVERY WINDOW OF 5", None),
            ("5 days\nx=y", None),
            ("", None),
        ] {
            assert_eq!(retention(text).ok().as_deref(), want, "{text}");
        }
    }
}
