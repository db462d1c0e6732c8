//! Unpacking.

use super::{cut_off, too_much};
use crate::config::Format;
use std::io::{self, BufRead, BufReader, Read};

/// Enough bytes to tell.
const MAGIC: usize = 10;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// This format; [`Format::None`] is WAL or text.
    Known(Format),
    /// Known, and not read here.
    Foreign(&'static str),
    /// Nothing known.
    Unknown,
}

/// From the first bytes of a file (`MAGIC` in `barman/compression.py`). A WAL segment begins with the magic of its page,
/// whose second byte is D0 or D1 in every release (`XLOG_PAGE_MAGIC`); a history or label file is text.
#[must_use]
pub fn sniff(head: &[u8]) -> Sniffed {
    Sniffed::Known(match head {
        [0x1F, 0x8B, 0x08, ..] => Format::Gzip,
        [b'B', b'Z', b'h', ..] => Format::Bzip2,
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Format::Zstd,
        [0x04, 0x22, 0x4D, 0x18, ..] => Format::Lz4,
        [0xFF, 0x06, 0, 0, b's', b'N', ..] => Format::Snappy,
        [_, 0xD0 | 0xD1, ..] => Format::None,
        _ if head.iter().all(|b| b.is_ascii() && *b != 0) => Format::None,
        // The old and the new packet formats of OpenPGP.
        [0x84 | 0x85 | 0x8C | 0xC1 | 0xC3, ..] => return Sniffed::Foreign("gpg encryption"),
        _ => return Sniffed::Unknown,
    })
}

/// Whether a wrong byte shows when it is unpacked, by how it begins: gzip, bzip2 and snappy always have a checksum; xz,
/// zstd (RFC 8878, Content_Checksum_flag) and lz4 (its frame format, C.Checksum and B.Checksum) where the writer wanted one,
/// which Python's zstd and lz4, and so barman's, do not.
#[must_use]
pub fn has_checksum(format: Format, head: &[u8]) -> bool {
    let flags = |at: usize, bits: u8| head.get(at).is_some_and(|byte| byte & bits != 0);
    match format {
        Format::None => false,
        Format::Gzip | Format::Bzip2 | Format::Snappy => true,
        Format::Xz => flags(7, 0b1111),
        Format::Zstd => flags(4, 0b100),
        Format::Lz4 => flags(4, 0b1_0100),
    }
}

/// The contents of a file, unpacked by what its first bytes say.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] for what cannot be unpacked here, [`io::ErrorKind::InvalidData`] for what
/// is nothing known.
pub fn unpacked(file: std::fs::File) -> io::Result<Decoder<BufReader<std::fs::File>>> {
    let mut file = BufReader::with_capacity(64 * 1024, file);
    let head = file.fill_buf()?;
    match sniff(head.get(..MAGIC).unwrap_or(head)) {
        Sniffed::Known(format) => Decoder::new(format, file),
        Sniffed::Foreign(what) => {
            let why = format!("packed with {what}, which is not read here: `barman get-wal` can");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        Sniffed::Unknown => {
            let why = "neither WAL nor packed with gzip, zstd, lz4, bzip2, xz or snappy";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// All of `packed`, at most `most` bytes of it, into `into`, which is emptied first and may be used again.
///
/// # Errors
/// It is cut off, damaged, followed by something else, or too large.
pub fn unpack(format: Format, packed: &[u8], most: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    Decoder::new(format, packed)?
        .take(limit)
        .read_to_end(into)?;
    if into.len() > most {
        return Err(too_much(most));
    }
    Ok(())
}

/// Unpacks while it reads.
pub struct Decoder<R: BufRead>(Inner<R>);

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
    Xz(Box<lzma_rust2::XzReader<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Watched<R>>>),
    Snappy(Box<snap::read::FrameDecoder<R>>),
}

impl<R: BufRead> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl<R: BufRead> Decoder<R> {
    /// Of a known format.
    ///
    /// # Errors
    /// Those of the reader; nothing at all is no packed file.
    pub fn new(format: Format, mut from: R) -> io::Result<Self> {
        if format != Format::None && from.fill_buf()?.is_empty() {
            return Err(cut_off());
        }
        Ok(Self(match format {
            Format::None => Inner::Plain(from),
            Format::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
            Format::Bzip2 => Inner::Bzip2(bzip2::bufread::MultiBzDecoder::new(from)),
            Format::Xz => Inner::Xz(Box::new(lzma_rust2::XzReader::new(from, true))),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
                // No more memory than the strongest level needs (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`).
                decoder.window_log_max(27)?;
                Inner::Zstd(decoder)
            }
            Format::Lz4 => {
                let from = Watched { from, ended: false };
                Inner::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(from)))
            }
            Format::Snappy => Inner::Snappy(Box::new(snap::read::FrameDecoder::new(from))),
        }))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            Inner::Plain(from) => from.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Bzip2(decoder) => decoder.read(buffer),
            Inner::Xz(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Snappy(decoder) => decoder.read(buffer),
            Inner::Lz4(decoder) => loop {
                let got = decoder.read(buffer)?;
                if got > 0 {
                    return Ok(got);
                }
                // It says the same at the end of a frame and of the input: only the former is an end.
                let watched = decoder.get_mut();
                if watched.ended {
                    return Err(cut_off());
                }
                if watched.from.fill_buf()?.is_empty() {
                    return Ok(0);
                }
            },
        }
    }
}

/// A reader that remembers whether its end was met.
struct Watched<R> {
    from: R,
    ended: bool,
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buffer)?;
        self.ended |= got == 0 && !buffer.is_empty();
        Ok(got)
    }
}
