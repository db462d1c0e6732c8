use super::*;
use crate::config::{Codec, Format};
use proptest::prelude::*;
use std::io::{BufReader, Read, Write};

fn codec(format: Format) -> Codec {
    Codec {
        format,
        level: None,
    }
}

/// Something that is neither random nor empty: as WAL.
fn sample(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 30 {
            0 => out.extend_from_slice(&state.to_le_bytes()),
            _ => out.extend_from_slice(b"a row of pgbench_accounts "),
        }
    }
    out.truncate(bytes);
    out
}

fn packed(format: Format, plain: &[u8]) -> Vec<u8> {
    pack(codec(format), plain, Vec::new()).unwrap()
}

fn unpacked(format: Format, packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    unpack(format, packed, 64 << 20, &mut out)?;
    Ok(out)
}

#[test]
fn what_is_packed_is_unpacked_and_known_by_its_first_bytes() {
    for format in Format::ALL {
        for size in [0, 1, 5_000, 3 << 20] {
            let plain = sample(size);
            let small = packed(format, &plain);
            assert_eq!(unpacked(format, &small).unwrap(), plain, "{format} {size}");
            assert_eq!(
                packed(format, &plain),
                small,
                "{format}: not the same twice"
            );
            if format != Format::None {
                assert_eq!(sniff(&small), read::Sniffed::Known(format));
            }
        }
    }
}

#[test]
fn streams_do_as_the_whole_does() {
    for format in Format::ALL {
        let plain = sample(700_000);
        let mut encoder = Encoder::new(codec(format), Vec::new()).unwrap();
        for piece in plain.chunks(12_345) {
            encoder.write_all(piece).unwrap();
        }
        let small = encoder.finish().unwrap();
        // A reader with a small buffer, so that every state is met with none left.
        let reader = BufReader::with_capacity(97, small.as_slice());
        let mut back = Vec::new();
        Decoder::new(format, reader)
            .unwrap()
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, plain, "{format}");
    }
}

#[test]
fn what_is_cut_off_is_an_error_wherever_it_is_cut() {
    let plain = sample(3_000);
    for format in Format::ALL {
        if format == Format::None {
            continue;
        }
        let small = packed(format, &plain);
        let slow = matches!(format, Format::Xz | Format::Bzip2);
        for end in (0..small.len()).step_by(if slow { 5 } else { 1 }) {
            let got = unpacked(format, &small[..end]);
            // Snappy's framing has no end: whole chunks are a whole file.
            let chunks = format == Format::Snappy && end >= 10;
            assert!(
                got.is_err() || chunks && got.is_ok_and(|g| g.len() < plain.len()),
                "{format} cut at {end} of {}",
                small.len()
            );
        }
    }
}

#[test]
fn what_follows_the_end_is_an_error_unless_it_is_another_one() {
    let (one, two) = (sample(10_000), sample(333));
    for format in Format::ALL {
        if format == Format::None {
            continue;
        }
        let mut small = packed(format, &one);
        for garbage in [
            &b"x"[..],
            b"garbage that is long enough to be read as something",
        ] {
            let mut more = small.clone();
            more.extend_from_slice(garbage);
            assert!(unpacked(format, &more).is_err(), "{format} {garbage:?}");
        }
        small.extend(packed(format, &two));
        let both = [one.as_slice(), &two].concat();
        assert_eq!(unpacked(format, &small).unwrap(), both, "{format}");
    }
}

#[test]
fn no_more_comes_out_than_may() {
    let plain = vec![0; 1 << 20];
    for format in Format::ALL {
        let small = packed(format, &plain);
        let mut out = Vec::new();
        unpack(format, &small, plain.len(), &mut out).unwrap();
        let error = unpack(format, &small, plain.len() - 1, &mut out).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unpacks to more than 1048575 bytes",
            "{format}"
        );
    }
}

#[test]
fn a_flipped_bit_is_found() {
    // Not by lz4 of PostgreSQL's or Python's without its checksum; ours have one.
    let plain = sample(9_000);
    for format in [
        Format::Gzip,
        Format::Bzip2,
        Format::Xz,
        Format::Zstd,
        Format::Lz4,
        Format::Snappy,
    ] {
        let small = packed(format, &plain);
        for at in (small.len() / 3..small.len() * 2 / 3).step_by(7) {
            let mut bad = small.clone();
            bad[at] ^= 0x10;
            assert!(
                unpacked(format, &bad).map_or(true, |got| got == plain),
                "{format} at {at}"
            );
        }
    }
}

#[test]
fn what_has_no_checksum_is_known() {
    let plain = sample(9_000);
    for format in Format::ALL {
        let ours = packed(format, &plain);
        assert_eq!(
            has_checksum(format, &ours),
            format != Format::None,
            "{format}"
        );
        // Too little to tell.
        let sure = matches!(format, Format::Gzip | Format::Bzip2 | Format::Snappy);
        assert_eq!(has_checksum(format, &ours[..4]), sure, "{format}");
    }
    // As Python's libraries write them.
    let bare = zstd::stream::encode_all(&*plain, 3).unwrap();
    assert!(!has_checksum(Format::Zstd, &bare));
    let mut bare = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut bare, &plain).unwrap();
    assert!(!has_checksum(Format::Lz4, &bare.finish().unwrap()));
}

#[test]
fn what_is_nothing_known_is_said() {
    assert_eq!(
        sniff(&[0x16, 0xD1, 2, 0]),
        read::Sniffed::Known(Format::None)
    );
    assert_eq!(sniff(b"1\t0/5"), read::Sniffed::Known(Format::None));
    assert_eq!(sniff(&[0; 8]), read::Sniffed::Unknown);
    assert_eq!(sniff(&[0x85, 0]), read::Sniffed::Foreign("gpg encryption"));
}

proptest! {
    // xz prepares megabytes for each.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn anything_can_be_packed(plain in proptest::collection::vec(any::<u8>(), 0..4000), which in 0..7_usize) {
        let format = Format::ALL[which];
        prop_assert_eq!(unpacked(format, &packed(format, &plain)).unwrap(), plain);
    }

    #[test]
    fn nothing_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), which in 0..7_usize) {
        drop(unpacked(Format::ALL[which], &bytes));
        // Behind a beginning that is right.
        let mut behind = packed(Format::ALL[which], b"some text");
        behind.truncate(12);
        behind.extend(bytes);
        drop(unpacked(Format::ALL[which], &behind));
    }
}
