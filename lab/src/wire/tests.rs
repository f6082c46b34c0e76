use super::{Mark, Segments, TCP, marked, sum};

const OPTION: [u8; 8] = [254, 8, 0x10, 0xe1, 198, 51, 100, 7];

/// A segment with timestamps, checksums left out.
fn packet(version: u8, flags: u8, data: &[u8]) -> Vec<u8> {
    let segment = 32 + data.len();
    let mut packet = if version == 4 {
        let length = u8::try_from(20 + segment).unwrap();
        vec![0x45, 0, 0, length, 0, 1, 0x40, 0, 64, TCP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]
    } else {
        let mut header = vec![0x60, 0, 0, 0, 0, u8::try_from(segment).unwrap(), TCP, 64];
        header.extend((0..32).map(|byte| byte * 7));
        header
    };
    packet.extend([0x9c, 0x40, 0x1f, 0x90, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, flags, 1, 0, 0, 0, 0, 0]);
    packet.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    packet.extend(data);
    packet
}

/// What the receiver adds up: all ones if the checksum fits (RFC 1071).
fn folded(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

#[test]
fn a_marked_segment_has_the_option_first_and_all_lengths_and_checksums_right() {
    for (version, ip) in [(4, 20), (6, 40)] {
        for data in [&b""[..], b"odd", b"even"] {
            let before = packet(version, 0x10, data);
            let mark = Mark { segments: Segments::All, option: OPTION.to_vec() };
            let after = marked(&before, &mark).unwrap();
            assert_eq!(after.len(), before.len() + 8);
            assert_eq!(after[ip + 20..ip + 28], OPTION);
            assert_eq!(after[ip + 28..], before[ip + 20..]);
            assert_eq!(after[ip + 12] >> 4, 10);
            let length = u64::try_from(after.len() - ip).unwrap();
            let addresses = if version == 4 {
                assert_eq!(usize::from(after[3]), after.len());
                assert_eq!(folded(sum(&after[..20])), 0xffff);
                sum(&after[12..20])
            } else {
                assert_eq!(usize::from(after[5]), after.len() - 40);
                sum(&after[8..40])
            };
            let total = addresses + u64::from(TCP) + length + sum(&after[ip..]);
            assert_eq!(folded(total), 0xffff, "{version} {data:?}");
        }
    }
}

#[test]
fn only_the_segments_asked_for_are_marked() {
    let (syn, bare, data) = (packet(4, 2, b""), packet(4, 0x10, b""), packet(4, 0x18, b"x"));
    let rows = [
        (Segments::All, [true, true, true]),
        (Segments::Syn, [true, false, false]),
        (Segments::Bare, [false, true, false]),
        (Segments::Data, [false, false, true]),
    ];
    for (segments, wanted) in rows {
        let mark = Mark { segments, option: OPTION.to_vec() };
        let got = [&syn, &bare, &data].map(|packet| marked(packet, &mark).is_some());
        assert_eq!(got, wanted, "{segments:?}");
    }
    let full = Mark { segments: Segments::All, option: vec![1; 32] };
    assert_eq!(marked(&bare, &full), None, "no room");
    let mut udp = bare;
    udp[9] = 17;
    assert_eq!(marked(&udp, &Mark { segments: Segments::All, option: vec![1; 4] }), None);
}

#[test]
fn options_are_padded_to_words() {
    let mark = Mark { segments: Segments::All, option: vec![254, 5, 1, 2, 3] };
    let after = marked(&packet(4, 0x10, b""), &mark).unwrap();
    assert_eq!(after[40..48], [254, 5, 1, 2, 3, 1, 1, 1]);
}
