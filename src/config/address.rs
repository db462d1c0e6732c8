//! Hosts and addresses of other nodes.

use super::rules::{Ruled, port};
use super::types::Address;
use std::net::{IpAddr, Ipv6Addr};

/// The port of an address that names none.
pub(super) const DEFAULT_PORT: u16 = 5432;

/// Why a list or a host was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) rule: String,
    /// Whether the value may be repeated: an URL may carry a password before its `@`.
    pub(super) showable: bool,
}

/// A host without a port: a name or an IP address, IPv6 with or without brackets.
pub(super) fn host(text: &str) -> Ruled<String> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return Ok(ip.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_owned());
    }
    Err("is not a host name or an IP address".to_owned())
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, `v6`, each with or without a scheme. The port is
/// `None` when it is not given.
pub(super) fn address(text: &str) -> Ruled<(String, Option<u16>)> {
    let bad = || "is not host[:port]".to_owned();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Ok((host(rest)?, None));
    }
    // The last colon after a bracket, or the only one: a name has none of its own.
    let (name, number) = match rest.rsplit_once(':') {
        Some((name, number)) if !number.ends_with(']') => (name, Some(number)),
        _ => (rest, None),
    };
    if name.contains(':') != name.starts_with('[') {
        return Err(bad());
    }
    let number = number.map(port).transpose().map_err(|_| bad())?;
    Ok((host(name).map_err(|_| bad())?, number))
}

/// One address.
pub(super) fn one(text: &str) -> Result<(String, Option<u16>), Refused> {
    address(text.trim()).map_err(|rule| Refused {
        rule,
        showable: !text.contains('@'),
    })
}

/// A list, duplicates left out, in the order given.
pub(super) fn list(text: &str) -> Result<Vec<Address>, Refused> {
    let mut out: Vec<Address> = Vec::new();
    let mut bad = Vec::new();
    let words = text
        .split(|c: char| matches!(c, ',' | ';') || c.is_whitespace())
        .filter(|word| !word.is_empty());
    for word in words {
        match address(word) {
            Ok((host, port)) => {
                let next = Address {
                    host,
                    port: port.unwrap_or(DEFAULT_PORT),
                };
                if !out.iter().any(|old| same(old, &next)) {
                    out.push(next);
                }
            }
            Err(_) => bad.push(word),
        }
    }
    if bad.is_empty() {
        return Ok(out);
    }
    let showable = !text.contains('@');
    let which = if showable && bad.len() <= 5 {
        let names: Vec<_> = bad.iter().map(|w| super::fault::printable(w)).collect();
        format!(" ({})", names.join(", "))
    } else {
        String::new()
    };
    Err(Refused {
        rule: format!(
            "holds {} that {} not host[:port]{which}",
            if bad.len() == 1 {
                "an address".to_owned()
            } else {
                format!("{} addresses", bad.len())
            },
            if bad.len() == 1 { "is" } else { "are" },
        ),
        showable,
    })
}

/// Whether two addresses are the same: host names know no case.
pub(super) fn same(a: &Address, b: &Address) -> bool {
    a.port == b.port && a.host.eq_ignore_ascii_case(&b.host)
}

/// Whether an address is this node: by one of its names, or by loopback.
pub(super) fn is_self(address: &Address, names: &[&str], port: u16) -> bool {
    address.port == port
        && (names
            .iter()
            .chain(&["localhost"])
            .any(|name| address.host.eq_ignore_ascii_case(name))
            || address
                .host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("pg1", Some(("pg1", None))),
            ("pg1:6432", Some(("pg1", Some(6432)))),
            ("pg1.example.com.", Some(("pg1.example.com", None))),
            ("10.0.0.1:5432", Some(("10.0.0.1", Some(5432)))),
            ("tcp://pg1:6432", Some(("pg1", Some(6432)))),
            ("postgres://pg1/", Some(("pg1", None))),
            ("[fd00::1]:6432", Some(("fd00::1", Some(6432)))),
            ("[fd00::1]", Some(("fd00::1", None))),
            ("fd00::1", Some(("fd00::1", None))),
            ("FD00:0::1", Some(("fd00::1", None))),
            ("my_node-2", Some(("my_node-2", None))),
            ("", None),
            (":5432", None),
            ("pg1:", None),
            ("pg1:0", None),
            ("pg1:99999", None),
            ("pg1:x", None),
            ("a:b:5432", None),
            ("[pg1]:5432", None),
            ("[fd00::1", None),
            ("fd00::1]:1", None),
            ("user:pw@pg1", None),
            ("pg1/db", None),
            ("-pg1", None),
            ("pg..1", None),
            ("pgä", None),
            ("fe80::1%eth0", None),
        ] {
            assert_eq!(
                address(text).ok(),
                want.map(|(h, p): (&str, _)| (h.to_owned(), p)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_list_is_split_and_cleaned() {
        let show = |text: &str| {
            list(text).map(|l| {
                l.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(
            show("pg1, pg2;pg3:6432  PG1:5432\n[fd00::1]:1,,"),
            Ok("pg1:5432 pg2:5432 pg3:6432 [fd00::1]:1".into())
        );
        assert_eq!(show(" ; "), Ok(String::new()));
        assert_eq!(
            show("pg1,pg2:0,p/g").map_err(|r| r.rule),
            Err("holds 2 addresses that are not host[:port] (pg2:0, p/g)".into())
        );
        let refused = list("postgres://me:hunter2@pg1").unwrap_err();
        assert!(!refused.showable && !refused.rule.contains("hunter2"));
    }

    #[test]
    fn we_know_ourselves() {
        let at = |text: &str| list(text).unwrap().remove(0);
        for (text, want) in [
            ("pg1", true),
            ("PG1.EXAMPLE.COM", true),
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("pg1:6432", false),
            ("pg2", false),
        ] {
            assert_eq!(
                is_self(&at(text), &["pg1", "pg1.example.com"], 5432),
                want,
                "{text}"
            );
        }
    }
}
