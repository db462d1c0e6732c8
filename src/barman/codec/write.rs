//! Packing.

use crate::config::{Codec, Format};
use std::io::{self, Write};

/// The levels where none is given. zstd's and gzip's own; xz's own one takes 94 MB a file, and gains little on WAL.
const ZSTD: i32 = 3;
const GZIP: u32 = 6;
const BZIP2: u32 = 9;
const XZ: u32 = 3;

/// Packs all of `plain` into `into`, which is emptied first and may be used again. The same input gives the same bytes.
///
/// # Errors
/// Only those of a codec that cannot be set up.
pub fn pack(codec: Codec, plain: &[u8], into: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut into = into;
    into.clear();
    let size = u64::try_from(plain.len()).ok();
    let mut encoder = Encoder::sized(codec, size, into)?;
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Packs what is written. Without [`Encoder::finish`] the result is cut off, as readers will say.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Plain(W),
    Gzip(Box<flate2::write::GzEncoder<W>>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Xz(Box<lzma_rust2::XzWriter<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    /// And whether anything was written.
    Snappy(Box<snap::write::FrameEncoder<W>>, bool),
}

/// How snappy's framing begins. The library leaves it out where nothing follows.
const SNAPPY: &[u8] = b"\xFF\x06\0\0sNaPpY";

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl<W: Write> Encoder<W> {
    /// Of a format and level: one gzip member, one bzip2 stream, one frame, because barman-cloud reads no more than the
    /// first of a base backup's.
    ///
    /// # Errors
    /// The codec cannot be set up.
    pub fn new(codec: Codec, to: W) -> io::Result<Self> {
        Self::sized(codec, None, to)
    }

    /// As [`Encoder::new`], of so many bytes: some formats write that down.
    ///
    /// # Errors
    /// The codec cannot be set up.
    pub fn sized(codec: Codec, size: Option<u64>, to: W) -> io::Result<Self> {
        let level = |usual: u32| {
            let given = codec.level.and_then(|l| u32::try_from(l).ok());
            given.unwrap_or(usual)
        };
        Ok(Self(match codec.format {
            Format::None => Inner::Plain(to),
            Format::Gzip => {
                let level = flate2::Compression::new(level(GZIP));
                Inner::Gzip(Box::new(flate2::write::GzEncoder::new(to, level)))
            }
            Format::Bzip2 => {
                let level = bzip2::Compression::new(level(BZIP2));
                Inner::Bzip2(bzip2::write::BzEncoder::new(to, level))
            }
            Format::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(level(XZ));
                Inner::Xz(Box::new(lzma_rust2::XzWriter::new(to, options)?))
            }
            Format::Zstd => {
                let level = codec.level.unwrap_or(ZSTD);
                let mut encoder = zstd::stream::write::Encoder::new(to, level)?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(size)?;
                Inner::Zstd(encoder)
            }
            Format::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max1MB)
                    .content_size(size)
                    .content_checksum(true);
                let encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, to);
                Inner::Lz4(Box::new(encoder))
            }
            Format::Snappy => Inner::Snappy(Box::new(snap::write::FrameEncoder::new(to)), false),
        }))
    }

    /// Writes the end, and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::Plain(to) => Ok(to),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Bzip2(encoder) => encoder.finish(),
            Inner::Xz(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
            Inner::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Inner::Snappy(encoder, begun) => {
                let to = encoder.into_inner();
                let mut to =
                    to.map_err(|e| io::Error::new(e.error().kind(), e.error().to_string()))?;
                if !begun {
                    to.write_all(SNAPPY)?;
                }
                Ok(to)
            }
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(to) => to.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Bzip2(encoder) => encoder.write(bytes),
            Inner::Xz(encoder) => encoder.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
            Inner::Lz4(encoder) => encoder.write(bytes),
            Inner::Snappy(encoder, begun) => {
                *begun |= !bytes.is_empty();
                encoder.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Plain(to) => to.flush(),
            Inner::Gzip(encoder) => encoder.flush(),
            Inner::Bzip2(encoder) => encoder.flush(),
            Inner::Xz(encoder) => encoder.flush(),
            Inner::Zstd(encoder) => encoder.flush(),
            Inner::Lz4(encoder) => encoder.flush(),
            Inner::Snappy(encoder, _) => encoder.flush(),
        }
    }
}
