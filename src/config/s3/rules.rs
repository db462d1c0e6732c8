//! What each kind of value must be.

use super::{Addressing, Codec, Encryption, Format, LARGEST_PART, LEAST_PART, Tags};
use crate::config::rules::{self, Ruled};

/// Bucket and path of `s3://bucket[/path]`, without `/` at the path's ends: barman-cloud keeps one that is given and
/// then looks for its annotations under `path//server`.
pub(in crate::config) fn bucket(text: &str) -> Ruled<(String, String)> {
    let rest = text
        .trim()
        .strip_prefix("s3://")
        .ok_or("is not s3://bucket/path")?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) {
        return Err(
            "names a bucket that is not 3 to 63 characters of a-z, 0-9, dot and dash".to_owned(),
        );
    }
    let path = path.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()/".contains(c);
    if !path.chars().all(plain)
        || path.split('/').any(|part| matches!(part, "." | ".."))
        || path.contains("//")
    {
        return Err(
            "has a path with other characters than letters, digits and !-_.*'() between single slashes"
                .to_owned(),
        );
    }
    Ok((bucket.to_owned(), path.to_owned()))
}

pub(super) fn endpoint(text: &str) -> Ruled<String> {
    let text = text.trim().trim_end_matches('/');
    let rule = || "is not http://host[:port] or https://host[:port]".to_owned();
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(rule)?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#\"'\\".contains(c)) {
        return Err(rule());
    }
    Ok(text.to_owned())
}

pub(super) fn word(text: &str) -> Ruled<String> {
    let text = text.trim();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not one word of printable ASCII".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn addressing(text: &str) -> Ruled<Addressing> {
    match text.trim().to_ascii_lowercase().as_str() {
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err("is neither path nor virtual".to_owned()),
    }
}

pub(super) fn encryption(text: &str) -> Ruled<Encryption> {
    match text.trim() {
        "none" => Ok(Encryption::Bucket),
        "AES256" => Ok(Encryption::Aes256),
        "aws:kms" => Ok(Encryption::Kms { key: None }),
        _ => Err("is none of none, AES256, aws:kms".to_owned()),
    }
}

/// At most 10 tags, keys of 128 and values of 256 characters (Amazon S3, "object tagging").
pub(super) fn tags(text: &str) -> Ruled<Tags> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.:/+-@".contains(c);
    let mut out = Tags::new();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("is not key=value,key=value")?;
        if key.is_empty() || key.len() > 128 || value.len() > 256 {
            return Err(
                "has a key that is not 1 to 128 or a value that is over 256 characters".to_owned(),
            );
        }
        if !key.chars().chain(value.chars()).all(plain) {
            return Err("has other characters than letters, digits, space and _.:/+-@".to_owned());
        }
        if out.iter().any(|(known, _)| known == key) {
            return Err(format!("names the tag {key} twice"));
        }
        out.push((key.to_owned(), value.to_owned()));
    }
    if out.len() > 10 {
        return Err("has more than 10 tags".to_owned());
    }
    Ok(out)
}

pub(super) fn part_size(text: &str) -> Ruled<u64> {
    rules::bytes(text)
        .filter(|n| (LEAST_PART..=LARGEST_PART).contains(n))
        .ok_or_else(|| "is not a size from 5MB to 5GB".to_owned())
}

pub(super) fn wal_codec(text: &str) -> Ruled<Codec> {
    codec(text, &Format::ALL)
}

/// Only what barman-cloud-restore unpacks.
pub(super) fn base_codec(text: &str) -> Ruled<Codec> {
    codec(
        text,
        &[Format::None, Format::Gzip, Format::Bzip2, Format::Snappy],
    )
}

fn codec(text: &str, of: &[Format]) -> Ruled<Codec> {
    let text = text.trim().to_ascii_lowercase();
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => (name, Some(level)),
        None => (text.as_str(), None),
    };
    let Some(format) = of.iter().copied().find(|f| f.to_string() == name) else {
        let names: Vec<_> = of.iter().map(ToString::to_string).collect();
        return Err(format!("is none of {}", names.join(", ")));
    };
    let Some(level) = level else {
        return Ok(Codec {
            format,
            level: None,
        });
    };
    let range = match format {
        Format::Gzip | Format::Bzip2 | Format::Xz => 1..=9,
        Format::Zstd => 1..=19,
        Format::None | Format::Snappy | Format::Lz4 => {
            return Err(format!("gives a level, and {format} has none"));
        }
    };
    match level.parse() {
        Ok(level) if range.contains(&level) => Ok(Codec {
            format,
            level: Some(level),
        }),
        _ => Err(format!(
            "gives {format} a level that is not a number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}
