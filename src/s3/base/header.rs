//! Headers of tar members as Python's tarfile writes them in its PAX format (`create_pax_header`): a POSIX header, and
//! before it an extended one for what does not fit. Written here because the tar library writes GNU's extensions.

use tar::{EntryType, Header};

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;
/// An archive ends with zeros up to a multiple of this (`RECORDSIZE`).
pub(super) const RECORD: u64 = 20 * BLOCK as u64;

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name; a directory's without `/` at its end.
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    /// Bytes that follow.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Names of the two, where they are known and short.
    pub(super) owner: String,
    pub(super) group: String,
    /// Seconds since the epoch.
    pub(super) mtime: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Dir,
    /// A symbolic link, to where.
    Link(Vec<u8>),
}

/// The fields of a header have so many bytes.
const NAME: usize = 100;
/// The largest number in a field of eight octal digits, and in one of twelve.
const SHORT: u64 = 0o777_7777;
const LONG: u64 = 0o777_7777_7777;

impl Member {
    /// Its header, and before it the extended one where it needs one.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut name = self.name.clone();
        if self.kind == MemberKind::Dir && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let link: &[u8] = match &self.kind {
            MemberKind::Link(to) => to,
            MemberKind::File | MemberKind::Dir => b"",
        };
        let mut records = Vec::new();
        if !fits(&name) {
            record(&mut records, "path", &name);
        }
        if !fits(link) {
            record(&mut records, "linkpath", link);
        }
        let mut number = |key: &str, value: u64, most: u64| {
            if value <= most {
                return value;
            }
            record(&mut records, key, value.to_string().as_bytes());
            0
        };
        let uid = number("uid", self.uid, SHORT);
        let gid = number("gid", self.gid, SHORT);
        let size = number("size", self.size, LONG);
        let mtime = number("mtime", self.mtime, LONG);
        let mut out = Vec::new();
        if !records.is_empty() {
            let length = u64::try_from(records.len()).unwrap_or(u64::MAX);
            let mut extended = Header::new_ustar();
            place(&mut extended, b"././@PaxHeader", b"");
            extended.set_entry_type(EntryType::XHeader);
            extended.set_size(length);
            extended.set_mode(0);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_mtime(0);
            extended.set_cksum();
            out.extend_from_slice(extended.as_bytes());
            out.extend_from_slice(&records);
            out.resize(out.len() + padding(length), 0);
        }
        let mut header = Header::new_ustar();
        place(&mut header, &name, link);
        header.set_entry_type(match self.kind {
            MemberKind::File => EntryType::Regular,
            MemberKind::Dir => EntryType::Directory,
            MemberKind::Link(_) => EntryType::Symlink,
        });
        header.set_size(size);
        header.set_mode(self.mode & 0o7777);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(mtime);
        if let Some(ustar) = header.as_ustar_mut() {
            fill(&mut ustar.uname, self.owner.as_bytes());
            fill(&mut ustar.gname, self.group.as_bytes());
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out
    }
}

/// Zeros that follow so many bytes, up to the next block.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

fn fits(text: &[u8]) -> bool {
    text.len() <= NAME && text.is_ascii()
}

/// Into the fields of fixed length; what is longer is cut, and the extended header counts.
fn place(header: &mut Header, name: &[u8], link: &[u8]) {
    let Some(ustar) = header.as_ustar_mut() else {
        return;
    };
    fill(&mut ustar.name, name);
    fill(&mut ustar.linkname, link);
}

fn fill(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let next = rest + length.to_string().len();
        if next == length {
            break;
        }
        length = next;
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn member(name: &[u8], kind: MemberKind, size: u64) -> Member {
        Member {
            name: name.to_vec(),
            kind,
            size,
            mode: 0o100_600,
            uid: 999,
            gid: 999,
            owner: "postgres".into(),
            group: "postgres".into(),
            mtime: 1_795_000_000,
        }
    }

    #[test]
    fn a_member_is_read_back() {
        let long = [b"base/".as_slice(), &[b'x'; 200]].concat();
        for (name, kind) in [
            (b"./PG_VERSION".as_slice(), MemberKind::File),
            (b".", MemberKind::Dir),
            ("größe".as_bytes(), MemberKind::File),
            (&long, MemberKind::File),
            (b"link", MemberKind::Link(long.clone())),
        ] {
            let size = if kind == MemberKind::File { 3 } else { 0 };
            let member = member(name, kind.clone(), size);
            let mut bytes = member.header();
            assert_eq!(bytes.len() % BLOCK, 0);
            if size > 0 {
                bytes.extend_from_slice(b"17\n");
                bytes.resize(bytes.len() + padding(3), 0);
            }
            bytes.resize(bytes.len() + 2 * BLOCK, 0);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            let read = entry.path_bytes().into_owned();
            assert_eq!(read.strip_suffix(b"/").unwrap_or(&read), name);
            if let MemberKind::Link(to) = kind {
                assert_eq!(entry.link_name_bytes().unwrap().into_owned(), to);
            }
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(text.len() as u64, size);
        }
    }

    #[test]
    fn what_does_not_fit_is_in_the_extended_header() {
        let bytes = member(b"big", MemberKind::File, 9 << 30).header();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("\n") && text.contains("19 size=9663676416\n"),
            "{text:?}"
        );
        assert_eq!(bytes.len(), 3 * BLOCK);
        let ordinary = member(b"small", MemberKind::File, 8 << 30 >> 1).header();
        assert_eq!(ordinary.len(), BLOCK);
    }

    #[test]
    fn a_records_length_counts_itself() {
        for (value, text) in [
            ("a", "8 uid=a\n"),
            ("ab", "9 uid=ab\n"),
            ("abc", "11 uid=abc\n"),
        ] {
            let mut records = Vec::new();
            record(&mut records, "uid", value.as_bytes());
            assert_eq!(String::from_utf8(records).unwrap(), text);
        }
    }
}
