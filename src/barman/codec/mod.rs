//! Packing and unpacking of WAL and backups, in the formats that barman and barman-cloud write.
//!
//! A reader here ends without an error only where the packed data end as their format says: what was cut off is
//! an error, and so is anything behind the end. Several gzip members, bzip2 streams, xz streams, zstd or lz4 frames one
//! after the other are one file, as for the programs of these names. One format cannot tell: snappy's framing has no end, so
//! that data cut between two of its chunks look whole, and the length must be known otherwise.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Decoder, Sniffed, has_checksum, sniff, unpack, unpacked};
pub use write::{Encoder, pack};

use std::io;

/// More comes out than may.
fn too_much(most: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unpacks to more than {most} bytes"),
    )
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "is cut off")
}
