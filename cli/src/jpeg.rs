//! Finds JPEG files that end too early. The decoder gives no error: it makes the rest of the image grey, as browsers do.

/// Whether the bytes are a JPEG file without its end marker (EOI). Bytes after the marker, which cameras add, do not
/// count. Nor does a marker inside a segment, which may contain a small picture with an end of its own.
pub fn is_cut(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let Some(mut rest) = bytes.strip_prefix(&[0xff, START]) else { return false };
    loop {
        let (marker, after) = match rest {
            [0xff, 0xff, ..] => {
                rest = &rest[1..];
                continue;
            }
            [0xff, marker, after @ ..] => (*marker, after),
            [] | [0xff] => return true,
            // Not a JPEG segment: the end cannot be found.
            _ => return false,
        };
        if marker == END {
            return false;
        }
        let [high, low, ..] = after else { return true };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(behind) = after.get(length..) else { return true };
        rest = if marker == SCAN { after_scan(behind) } else { behind };
    }
}

/// Returns what follows the pixels of a scan. Inside them, 0xff comes only before 0 or a restart marker.
fn after_scan(bytes: &[u8]) -> &[u8] {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
    match bytes.windows(2).position(is_marker) {
        Some(at) => &bytes[at..],
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/samples/cat.jpg")).unwrap()
    }

    #[test]
    fn a_file_is_cut_wherever_it_ends_before_its_end() {
        let whole = sample();
        assert!(!is_cut(&whole));
        for length in (2..whole.len()).step_by(97).chain([whole.len() - 1]) {
            assert!(is_cut(&whole[..length]), "{length}");
        }
        // A download that was not finished, in a file of its full length.
        let mut zeros = whole.clone();
        zeros[whole.len() / 2..].fill(0);
        assert!(is_cut(&zeros));
    }

    #[test]
    fn what_stands_behind_or_inside_is_no_matter() {
        let whole = sample();
        // A film behind the picture.
        let behind = [&whole[..], b"\0\0\0\x18ftypmp42\xff\xda\xff\xd8"].concat();
        assert!(!is_cut(&behind));
        // A whole small picture in a segment of a file that is cut.
        let small = b"Exif\0\0\xff\xd8\xff\xda\0\x02\x11\x22\xff\xd9";
        let segment = [&[0xff, 0xe1, 0, 2 + small.len() as u8][..], small].concat();
        let inside = [&whole[..2], &segment, &whole[2..]].concat();
        assert!(!is_cut(&inside));
        assert!(is_cut(&inside[..whole.len() / 2]));
        for other in [&b""[..], b"\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\0"] {
            assert!(!is_cut(other), "{other:?}");
        }
    }
}
