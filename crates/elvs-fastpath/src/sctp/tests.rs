extern crate std;

use std::vec::Vec;

use super::{Direction, TcpFlags, checksum_change, next_sctp_state, opens, sctp_event};

const SHORT: [&str; 14] =
    ["NO", "I1", "IN", "CS", "CR", "CW", "CO", "CE", "ES", "SS", "SR", "SA", "RJ", "CL"];

/// The kernel's table, written down apart from the code under test: for each chunk what it leads to and from where; in every
/// other state nothing changes.
const INPUT: &[(u8, &str)] = &[
    (0, "ES:NO"),
    (1, "I1:NO IN:I1,RJ,CL"),
    (2, "CW:NO,I1,IN CO:CW"),
    (10, "CR:NO,CS IN:I1"),
    (11, "ES:NO,CE"),
    (7, "SR:NO,ES"),
    (8, "CL:NO,SS,SA IN:I1"),
    (14, "CL:NO,I1,IN,SA"),
    (9, "CL:NO,CE"),
    (6, "CL:NO,I1,IN,CS,CR,CO,CE,ES,SS,SR,SA,RJ RJ:CW"),
];
const OUTPUT: &[(u8, &str)] = &[
    (0, "ES:NO"),
    (1, "CW:NO,I1,IN,CS,CR,CO,CE,SS,SR,SA,RJ,CL"),
    (2, "CS:NO,I1,IN"),
    (10, "CE:NO,I1,IN,CS,CR,CW,CO"),
    (11, "ES:NO,I1,IN,CS,CR,CW,CO,CE"),
    (7, "SS:NO,I1,IN,CS,CR,CW,CO,CE,ES"),
    (8, "SA:NO,I1,IN,CS,CR,SS,SR"),
    (14, "CL:NO"),
    (9, "CL:NO,I1,IN,CS,CR"),
    (6, "CL:NO,IN,CS,CR,CW,CO,CE,ES,SS,SR,SA,RJ RJ:I1"),
];
const INPUT_ONLY: &[(u8, &str)] = &[
    (0, "ES:NO,CW"),
    (1, "I1:NO IN:I1,CS,CR,CW,RJ,CL"),
    (2, "CE:NO,I1,IN,CS,CR,CW"),
    (10, "ES:NO,I1,IN,CS,CR,CW"),
    (11, "ES:NO,CS,CR,CO,CE"),
    (7, "SR:NO,ES"),
    (8, "CL:NO,ES,SS,SA IN:I1"),
    (14, "CL:NO,I1,IN,CS,CR,SR,SA"),
    (9, "CL:NO"),
    (6, "CL:NO,I1,IN,CS,CR,CO,CE,ES,SS,SR,SA,RJ RJ:CW"),
];

fn wanted<'a>(moves: &'a str, from: &'a str) -> &'a str {
    let groups = moves.split(' ').map(|group| group.split_once(':').unwrap());
    let found = groups.into_iter().find(|(_, states)| states.split(',').any(|s| s == from));
    found.map_or(from, |(to, _)| to)
}

#[test]
fn every_transition_is_the_kernels() {
    let tables = [
        (Direction::Input, INPUT),
        (Direction::Output, OUTPUT),
        (Direction::InputOnly, INPUT_ONLY),
    ];
    for (direction, table) in tables {
        for (chunk, moves) in table {
            for (state, from) in (0_u8..).zip(SHORT) {
                let next = next_sctp_state(direction, state, sctp_event(*chunk, None));
                let to = SHORT[usize::from(next)];
                assert_eq!(to, wanted(moves, from), "{direction:?}: chunk {chunk} in {from}");
            }
        }
    }
}

#[test]
fn what_no_chunk_of_the_table_is_counts_as_data() {
    // SACK, HEARTBEAT and its answer, ECNE, CWR, one of RFC 4895, and two of the greatest types.
    for chunk in [3, 4, 5, 12, 13, 15, 0x82, 0xff] {
        assert_eq!(sctp_event(chunk, None), sctp_event(0, None), "chunk {chunk}");
    }
}

#[test]
fn an_abort_counts_behind_a_cookie_and_its_acknowledgement_alone() {
    let closed = |first| next_sctp_state(Direction::Input, 8, sctp_event(first, Some(6)));
    assert_eq!([closed(10), closed(11), closed(6)], [13; 3]);
    assert_eq!([closed(0), closed(3)], [8; 2]);
}

#[test]
fn an_init_opens_and_nothing_else_does() {
    for chunk in 0..=u8::MAX {
        assert_eq!(opens(sctp_event(chunk, None)), chunk == 1, "chunk {chunk}");
    }
    assert!(!opens(TcpFlags(0)));
}

/// CRC-32C bit by bit, as RFC 9260 appendix A has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x82f6_3b78 };
        }
    }
    !sum
}

#[test]
fn the_sum_is_that_of_known_vectors() {
    // RFC 3720 appendix B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    let rising: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&rising), 0x46dd_794e);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn other_ports_change_the_sum_as_if_it_were_made_anew() {
    for length in (12_u32..200).chain([1_480, 8_999, 9_000, 16_384, 65_515]) {
        let old: Vec<u8> = (0..length).map(|at| (at * 7 + length).to_le_bytes()[0]).collect();
        let mut new = old.clone();
        let ports = [0x12, 0x34, 0xab, 0xcd];
        for (byte, change) in new.iter_mut().zip(ports) {
            *byte ^= change;
        }
        let change = checksum_change(u32::from_ne_bytes(ports), length);
        assert_eq!(crc32c(&old) ^ change, crc32c(&new), "{length} bytes");
    }
    assert_eq!(checksum_change(0, 1_480), 0, "the same ports");
}
