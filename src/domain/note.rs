//! Quantities as a person reads them.

use std::time::Duration;

/// `850 ms`, `4.2 s`, `3 m 07 s`, `2 h 05 m`, `3 d 04 h`.
#[must_use]
pub fn human_duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} m", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3600 % 24),
    }
}

/// `512 B`, `1.5 KiB`, `29.3 MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut rest = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if rest < 1024 * 1024 {
            break;
        }
        rest /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", rest / 1024, rest % 1024 * 10 / 1024)
}

/// Bytes as hexadecimal digits, small letters.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The conninfo that repmgr records for a node: what every other node connects with. No password:
/// anybody who can read the table could read it. Dead peers are noticed within seconds. The value
/// is quoted as libpq wants it.
#[must_use]
pub fn registered_conninfo(host: &str, port: u16) -> String {
    let host = host.replace('\\', r"\\").replace('\'', r"\'");
    format!(
        "host='{host}' port={port} user=repmgr dbname=repmgr connect_timeout=2 keepalives_idle=1 \
         keepalives_interval=1 keepalives_count=2 tcp_user_timeout=3000"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        for (ms, want) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (4_200, "4.2 s"),
            (187_000, "3 m 07 s"),
            (7_500_000, "2 h 05 m"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(human_duration(Duration::from_millis(ms)), want);
        }
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (30_722_752, "29.2 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(human_bytes(bytes), want);
        }
    }
}
