extern crate std;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use super::{
    MAX_OPTIONS, OPTIONS_BUFFER, OptionBytes, TOA_COUNTERS, ToaClient, ToaCounter, ToaError,
    find_client,
};

fn find(options: &[u8]) -> Result<Option<ToaClient>, ToaError> {
    find_client(options, options.len())
}

fn client(address: Ipv6Addr, port: u16) -> ToaClient {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]];
    let [high, low] = port.to_be_bytes();
    ToaClient {
        address: words.map(u32::from_ne_bytes),
        port: u32::from_ne_bytes([high, low, 0, 0]),
    }
}

fn client4() -> ToaClient {
    client(Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped(), 4321)
}

/// Kind, length, port, address, as DPVS writes them.
const IPV4: [u8; 8] = [254, 8, 0x10, 0xe1, 198, 51, 100, 7];
const IPV6: [u8; 20] =
    [254, 20, 0x10, 0xe1, 0x20, 0x01, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
/// No-operations and timestamps, as Linux sends them.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
/// Segment size, selective acknowledgement, timestamps, window scale: a SYN of Linux.
const SYN: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

#[test]
fn the_option_is_found_wherever_it_stands() {
    let client6 = client(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), 4321);
    let cases: &[(&str, Vec<u8>, ToaClient)] = &[
        ("alone", IPV4.to_vec(), client4()),
        ("first", [&IPV4[..], &TIMESTAMPS].concat(), client4()),
        ("last", [&TIMESTAMPS[..], &IPV4].concat(), client4()),
        ("odd place", [&[1][..], &IPV4, &[1, 1, 1]].concat(), client4()),
        ("IPv6 alone", IPV6.to_vec(), client6),
        ("IPv6 fills a SYN", [&IPV6[..], &SYN].concat(), client6),
        ("IPv6 fills a SYN, last", [&SYN[..], &IPV6].concat(), client6),
        ("32 no-operations before", [&[1; 32][..], &IPV4].concat(), client4()),
        ("first of two counts", [&IPV4[..], &[254, 8, 0, 1, 1, 1, 1, 1]].concat(), client4()),
        ("behind another experiment", [&[254, 4, 0xf9, 0x89][..], &IPV4].concat(), client4()),
    ];
    for (name, options, wanted) in cases {
        assert!(options.len() <= MAX_OPTIONS, "{name}");
        assert_eq!(find(options), Ok(Some(*wanted)), "{name}");
    }
}

#[test]
fn options_without_it_are_nothing_to_speak_of() {
    let cases: &[(&str, Vec<u8>)] = &[
        ("none", vec![]),
        ("timestamps", TIMESTAMPS.to_vec()),
        ("a SYN", SYN.to_vec()),
        ("40 no-operations", vec![1; 40]),
        ("behind the end of the list", [&[0, 0, 0, 0][..], &IPV4].concat()),
        ("inside another option", [&[30, 10][..], &IPV4, &[1, 1]].concat()),
    ];
    for (name, options) in cases {
        assert_eq!(find(options), Ok(None), "{name}");
    }
}

#[test]
fn what_cannot_be_believed_is_refused_by_reason() {
    let with = |length: u8, bytes: usize| {
        let mut option = vec![254, length];
        option.resize(bytes, 9);
        option
    };
    let cases: &[(&str, Vec<u8>, ToaError)] = &[
        ("kind in the last byte", vec![1, 1, 1, 254], ToaError::Overrun),
        ("length 0", vec![254, 0, 1, 1], ToaError::Overrun),
        ("length 1", vec![254, 1, 1, 1], ToaError::Overrun),
        ("cut off", IPV4[..4].to_vec(), ToaError::Overrun),
        ("IPv6 cut off", IPV6[..16].to_vec(), ToaError::Overrun),
        ("longest length", with(255, 40), ToaError::Overrun),
        ("another option passes the end", vec![30, 5, 0, 0], ToaError::Overrun),
        ("one does before it", [&[30, 41][..], &IPV4, &[1, 1]].concat(), ToaError::Overrun),
        ("length 2", with(2, 4)[..2].to_vec(), ToaError::Length),
        ("length 7", [with(7, 7), vec![0]].concat(), ToaError::Length),
        ("length 12", with(12, 12), ToaError::Length),
        ("port 0", vec![254, 8, 0, 0, 198, 51, 100, 7], ToaError::Unusable),
        ("address 0", vec![254, 8, 0x10, 0xe1, 0, 0, 0, 0], ToaError::Unusable),
        ("IPv6 address 0", [&IPV6[..4], &[0; 16]].concat(), ToaError::Unusable),
        (
            "mapped address 0",
            [&IPV6[..4], &Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets()].concat(),
            ToaError::Unusable,
        ),
    ];
    for (name, options, wanted) in cases {
        assert_eq!(find(options), Err(*wanted), "{name}");
    }
}

/// Refuses places behind the buffer that the kernel's program has.
struct Bounded<'a>(&'a [u8]);

impl OptionBytes for Bounded<'_> {
    fn byte(&self, at: usize) -> u8 {
        assert!(at < OPTIONS_BUFFER, "{at}");
        self.0.byte(at)
    }
}

#[test]
fn every_length_at_every_place_stays_inside_the_buffer() {
    for length in 0..=u8::MAX {
        for place in 0..MAX_OPTIONS {
            let mut options = [1; MAX_OPTIONS];
            options[place] = 254;
            if let Some(byte) = options.get_mut(place + 1) {
                *byte = length;
            }
            let fits = place + usize::from(length) <= MAX_OPTIONS;
            for told in [0, place, place + 1, MAX_OPTIONS] {
                let cut = Bounded(&options[..told]);
                let found = find_client(&cut, told);
                let whole = told == MAX_OPTIONS && fits && (length == 8 || length == 20);
                assert_eq!(matches!(found, Ok(Some(_))), whole, "{length} at {place} of {told}");
            }
        }
    }
}

#[test]
fn random_bytes_are_read_as_a_plain_reader_would() {
    // xorshift64 (Marsaglia 2003); the seed is the test's.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut found = 0;
    for _ in 0..200_000 {
        let words = usize::try_from(random() % 11).unwrap();
        let common = [0, 1, 1, 2, 3, 4, 8, 8, 10, 20, 254, 254];
        let options: Vec<u8> =
            (0..words * 4).map(|_| common[usize::try_from(random() % 12).unwrap()]).collect();
        let result = find_client(&Bounded(&options), options.len());
        assert_eq!(result, plain(&options), "{options:?}");
        found += u32::from(matches!(result, Ok(Some(_))));
    }
    assert!(found > 1000, "only {found} with an address");
}

/// The rules once more, by slices.
fn plain(mut options: &[u8]) -> Result<Option<ToaClient>, ToaError> {
    let mut foreign = false;
    loop {
        match options {
            [] | [0, ..] => break,
            [1, rest @ ..] => options = rest,
            [_] | [_, 0 | 1, ..] => return Err(ToaError::Overrun),
            [kind, size, ..] => {
                let Some((option, rest)) = options.split_at_checked(usize::from(*size)) else {
                    return Err(ToaError::Overrun);
                };
                options = rest;
                if *kind != 254 {
                    continue;
                }
                let address = match option {
                    [_, 8, _, _, a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).to_ipv6_mapped(),
                    [_, 20, _, _, address @ ..] => {
                        Ipv6Addr::from(<[u8; 16]>::try_from(address).unwrap())
                    }
                    _ => {
                        foreign = true;
                        continue;
                    }
                };
                let port = u16::from_be_bytes([option[2], option[3]]);
                let nobody = address.to_canonical().is_unspecified() || port == 0;
                return if nobody {
                    Err(ToaError::Unusable)
                } else {
                    Ok(Some(client(address, port)))
                };
            }
        }
    }
    if foreign { Err(ToaError::Length) } else { Ok(None) }
}

#[test]
fn ipv4_clients_are_told_from_ipv6_ones() {
    assert_eq!(client4().ipv4(), Some(u32::from_ne_bytes([198, 51, 100, 7])));
    for address in ["::", "::c633:6407", "2001:db8::ffff:0:1", "::1:ffff:c633:6407"] {
        assert_eq!(client(address.parse().unwrap(), 1).ipv4(), None, "{address}");
    }
}

#[test]
fn counters_are_dense_and_have_names_of_their_own() {
    assert_eq!(ToaCounter::ALL.len(), TOA_COUNTERS);
    for (index, counter) in ToaCounter::ALL.iter().enumerate() {
        assert_eq!(*counter as usize, index);
        assert!(!counter.help().is_empty());
        let same = ToaCounter::ALL.iter().filter(|other| other.name() == counter.name()).count();
        assert_eq!(same, 1, "{counter:?}");
    }
}
