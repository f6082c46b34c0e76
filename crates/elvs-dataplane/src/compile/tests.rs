use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_common::{
    BLOB_LINES, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE, FilterBits, HeaderFlags, Line, LocalLine,
    MARKED, MarkLine, PersistenceLine, SERVICE_MAX_PROBES, SERVICES_LINE, ServiceFlags,
    ServiceRecord, WideAddress, WideMark, filter_bits, scheduler_id, service_hash, service_kind,
};
use elvs_fastpath::{MAX_POOL, service_record};
use elvs_model::{Family, Netmask, Protocol, ServiceKey, Statistics};
use proptest::prelude::*;

use super::{Blob, CompileError, Known, Marks, compile, own_table};
use crate::assignments::{PersistenceSlot, PoolSlot, ServiceSlot};
use crate::route::folded;

fn slot(key: ServiceKey, index: u32, pool: &[(u32, u32)]) -> ServiceSlot {
    ServiceSlot {
        key,
        index,
        scheduler: scheduler_id::WRR,
        flags: 0,
        persistence: None,
        mh_entries: 4_093,
        tag: 7,
        locals: Vec::new(),
        takes_ftp_data: false,
        edits: 0,
        initial: 0x0007_0000_0000_0001,
        pool: pool
            .iter()
            .map(|(destination, weight)| PoolSlot {
                destination: *destination,
                weight: *weight,
                last_weight: *weight,
                address: Ipv4Addr::LOCALHOST.into(),
                port: 80,
            })
            .collect(),
        retired: Statistics::default(),
    }
}

fn key(protocol: Protocol, address: [u8; 4], port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: Ipv4Addr::from(address).into(), port }
}

/// A virtual address and a real server whose replies are rewritten, of the tables of their families.
fn known(address: impl Into<IpAddr>, real: impl Into<IpAddr>) -> Known {
    let entry = |address: IpAddr| (address, own_table(address));
    Known {
        addresses: [entry(address.into())].into(),
        masqueraded: [entry(real.into())].into(),
        ..Known::default()
    }
}

/// Looks a service up as the decision core does; `address` is the mark of a service by mark.
fn find(
    blob: &Blob,
    address: impl Into<IpAddr>,
    port: u16,
    protocol: u8,
    kind: u8,
) -> Option<ServiceRecord> {
    let [mask, seed, ..] = blob.lines[0].0;
    let address = address.into();
    let address6 = match address {
        IpAddr::V4(_) => [0; 16],
        IpAddr::V6(address) => address.octets(),
    };
    let wanted = (folded(address), address6, port.to_be(), protocol, kind);
    let hash = service_hash(wanted.0, wanted.2, protocol, seed);
    for probe in 0..SERVICE_MAX_PROBES {
        let slot = u64::from(hash.wrapping_add(probe)) & mask;
        let line = &blob.lines[SERVICES_LINE as usize + usize::try_from(slot).unwrap()];
        let record = service_record(line);
        let ServiceRecord { address, address6, port, protocol, kind, .. } = record;
        if (address, address6, port, protocol, kind) == wanted {
            return Some(record);
        }
        if *line == Line::default() {
            return None;
        }
    }
    None
}

fn in_filter(blob: &Blob, first: u32, address: impl Into<IpAddr>) -> bool {
    let address = address.into();
    let bits = if address.is_ipv4() { FilterBits::NARROW } else { FilterBits::WIDE };
    filter_bits(&blob.lines, first, folded(address)) == bits
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn key6(address: Ipv6Addr, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: address.into(), port }
}

fn persistence_before(blob: &Blob, record: &ServiceRecord) -> PersistenceLine {
    PersistenceLine::of_line(&blob.lines[record.pool_line as usize - 1])
}

#[test]
fn a_service_is_found_with_its_list() {
    let vip = Ipv4Addr::new(192, 0, 2, 10);
    let pool: Vec<(u32, u32)> = (0..9).map(|n| (100 + n, 2 * (n + 1))).collect();
    let services = [slot(key(Protocol::Tcp, vip.octets(), 80), 5, &pool)];
    let gone = Ipv4Addr::new(192, 0, 2, 99);
    let real = Ipv4Addr::new(10, 0, 0, 1);
    let blob = compile(&services, &known(gone, real), &Marks::default(), 42).unwrap();
    assert_eq!(blob.lines[0].0[2], 42);
    let record = find(&blob, vip, 80, 6, service_kind::SERVICE).unwrap();
    assert_eq!((record.index, record.scheduler, record.tag), (5, scheduler_id::WRR, 7));
    assert_eq!(record.start, 0x0007_0000_0000_0001);
    assert_eq!((record.weight_step, record.weight_max), (2, 17), "gcd 2, greatest 18 less 1");
    assert_eq!(record.pool_entries, 9);
    for (n, (destination, weight)) in pool.iter().enumerate() {
        let line = &blob.lines[record.pool_line as usize + n / 8];
        assert_eq!(line.0[n % 8], u64::from(*destination) | u64::from(*weight) << 32);
    }
    assert_eq!(find(&blob, vip, 443, 6, service_kind::SERVICE), None);
    assert_eq!(find(&blob, vip, 80, 17, service_kind::SERVICE), None);
    for address in [vip, gone] {
        assert!(find(&blob, address, 0, 0, service_kind::ADDRESS).is_some());
        assert!(in_filter(&blob, FILTER_VIP_LINE, address));
        assert!(!in_filter(&blob, FILTER_REAL_SERVER_LINE, address));
    }
    assert!(in_filter(&blob, FILTER_REAL_SERVER_LINE, real));
    assert!(!in_filter(&blob, FILTER_VIP_LINE, real));
    assert_eq!(compile(&services, &known(gone, real), &Marks::default(), 42), Ok(blob));
}

#[test]
fn limits_are_named_with_their_values() {
    let many = |n: u32, pool: &[(u32, u32)]| -> Vec<ServiceSlot> {
        let service = |i: u32| {
            let [.., a, b] = i.to_be_bytes();
            slot(key(Protocol::Tcp, [10, 0, 0, b], 80 + u16::from(a)), i, pool)
        };
        (0..n).map(service).collect()
    };
    assert!(compile(&many(4_096, &[(1, 1)]), &Known::default(), &Marks::default(), 0).is_ok());
    let error = compile(&many(4_097, &[]), &Known::default(), &Marks::default(), 0).unwrap_err();
    assert_eq!(error, CompileError::TooManyServices { count: 4_097, limit: 4_096 });
    let full: Vec<(u32, u32)> = (0..MAX_POOL).map(|n| (n, 1)).collect();
    assert!(compile(&many(1, &full), &Known::default(), &Marks::default(), 0).is_ok());
    let too_long: Vec<(u32, u32)> = (0..=MAX_POOL).map(|n| (n, 1)).collect();
    let error = compile(&many(1, &too_long), &Known::default(), &Marks::default(), 0).unwrap_err();
    assert!(matches!(error, CompileError::TooManyDestinations { count: 1_025, limit: 1_024, .. }));
    assert!(error.to_string().contains("TCP 10.0.0.0:80"), "{error}");
    let error = compile(&many(128, &full), &Known::default(), &Marks::default(), 0).unwrap_err();
    let CompileError::TooBig { services: 128, destinations: 131_072, limit: BLOB_LINES, .. } =
        error
    else {
        panic!("{error}")
    };
}

#[test]
fn tables_of_mh_have_any_of_the_kernels_sizes_as_long_as_there_is_room() {
    assert_eq!(elvs_model::MAGLEV_PRIMES, elvs_fastpath::MAGLEV_PRIMES);
    let service = |port, mh_entries| {
        let key = key(Protocol::Tcp, [10, 0, 0, 1], port);
        let pool = [(0, 1), (1, 3)];
        ServiceSlot { scheduler: scheduler_id::MH, mh_entries, ..slot(key, port.into(), &pool) }
    };
    let compiled =
        |services: &[ServiceSlot]| compile(services, &Known::default(), &Marks::default(), 1);
    for prime in elvs_model::MAGLEV_PRIMES {
        let blob = compiled(&[service(80, prime)]).unwrap();
        let record = (0..).map(|n| service_record(&blob.lines[SERVICES_LINE as usize + n]));
        let mut records = record.take(8);
        let record = records.find(|record| record.kind == service_kind::SERVICE).unwrap();
        assert_eq!(record.table_entries, prime);
        let first = record.table_line as usize;
        let words = blob.lines[first..].iter().flat_map(|line| line.0);
        let entries = words.flat_map(|word| (0..4).map(move |at| word >> (at * 16) & 0xffff));
        let mut shares = [0u32; 2];
        for entry in entries.take(prime as usize) {
            shares[usize::try_from(entry).unwrap()] += 1;
        }
        assert_eq!(shares[0] + shares[1], prime);
        assert!(shares[1].abs_diff(prime * 3 / 4) <= 2, "{prime}: {shares:?}");
    }
    let services: Vec<_> = (0..3).map(|n| service(80 + n, 131_071)).collect();
    assert!(compiled(&services).is_ok());
    let services: Vec<_> = (0..4).map(|n| service(80 + n, 131_071)).collect();
    let error = compiled(&services).unwrap_err();
    assert!(matches!(error, CompileError::TooBig { tables: 16_384, .. }), "{error}");
    assert!(error.to_string().contains("a smaller mh_table_size needs fewer"), "{error}");
}

#[test]
fn addresses_of_one_fold_are_told_apart() {
    let (first, second) = (v6("fd00::1:0:2:0"), v6("fd00::2:0:1:0"));
    assert_eq!(folded(first.into()), folded(second.into()));
    let third = v6("2001:db8::99");
    let services = [
        slot(key6(first, 80), 0, &[(1, 1)]),
        slot(key6(second, 80), 1, &[(2, 1)]),
        slot(key(Protocol::Tcp, [192, 0, 2, 10], 80), 2, &[(3, 1)]),
    ];
    let real = v6("fd00::b");
    let blob = compile(&services, &known(third, real), &Marks::default(), 1).unwrap();
    for (address, index) in [(first, 0), (second, 1)] {
        let record = find(&blob, address, 80, 6, service_kind::SERVICE6).unwrap();
        assert_eq!((record.index, record.address6), (index, address.octets()));
        assert!(find(&blob, address, 80, 6, service_kind::SERVICE).is_none());
    }
    for address in [first, second, third] {
        assert!(find(&blob, address, 0, 0, service_kind::ADDRESS6).is_some());
        assert!(in_filter(&blob, FILTER_VIP_LINE, address));
    }
    assert!(in_filter(&blob, FILTER_REAL_SERVER_LINE, real));
    assert_eq!(
        find(&blob, Ipv4Addr::new(192, 0, 2, 10), 80, 6, service_kind::SERVICE).unwrap().index,
        2
    );
    assert_eq!(blob.lines[0].0[3], HeaderFlags::MASQUERADING | HeaderFlags::WIDE);
    let narrow = compile(&services[2..], &Known::default(), &Marks::default(), 1).unwrap();
    assert_eq!(narrow.lines[0].0[3], 0);
    let old = Known { addresses: [(third.into(), FilterBits::WIDE)].into(), ..Known::default() };
    let left = compile(&services[2..], &old, &Marks::default(), 1).unwrap();
    assert_eq!(left.lines[0].0[3], HeaderFlags::WIDE, "connections of a service that is gone");
}

#[test]
fn templates_of_ipv6_go_by_prefix_and_address_or_mark() {
    let persistent = |key, shared| ServiceSlot {
        flags: ServiceFlags::PERSISTENT,
        persistence: Some(PersistenceSlot { timeout: 300, mask: Netmask::V6(50), shared }),
        ..slot(key, 0, &[(1, 1)])
    };
    let vip = v6("2001:db8::10");
    let mark = ServiceKey::Fwmark { mark: 0x0102_0304, family: Family::Inet6 };
    let services = [persistent(key6(vip, 80), false), persistent(mark, true)];
    let blob = compile(&services, &Known::default(), &Marks::default(), 1).unwrap();
    let wide_mask = WideAddress::of_bytes(v6("ffff:ffff:ffff:c000::").octets()).0;
    let record = find(&blob, vip, 80, 6, service_kind::SERVICE6).unwrap();
    let of_address = PersistenceLine {
        port: 80_u16.to_be(),
        protocol: 6,
        wide_mask,
        wide_address: WideAddress::of_bytes(vip.octets()).0,
        ..PersistenceLine::default()
    };
    assert_eq!(persistence_before(&blob, &record), of_address);
    let word = Ipv4Addr::from(0x0102_0304_u32.to_ne_bytes());
    let record = find(&blob, word, 0, 0, service_kind::MARK6).unwrap();
    let of_mark = PersistenceLine {
        protocol: MARKED,
        wide_mask,
        wide_address: WideAddress::of_bytes(v6("102:304::").octets()).0,
        ..PersistenceLine::default()
    };
    assert_eq!(persistence_before(&blob, &record), of_mark);
}

#[test]
fn mark_rules_of_both_families_are_found_by_the_header() {
    let rule = |mark| MarkLine { mark, ..MarkLine::default() };
    let wide = |mark| WideMark { client: [1, 2], rest: rule(mark), ..WideMark::default() };
    let marks = Marks {
        rules: vec![rule(1), rule(2)],
        wide_rules: vec![wide(3), wide(4)],
        addresses: [v6("fd00::5").into()].into(),
        every_address: true,
        every_wide_address: false,
    };
    let blob = compile(&[], &Known::default(), &marks, 1).unwrap();
    let [_, _, _, flags, narrow_rules, wide_rules, ..] = blob.lines[0].0;
    assert_eq!(flags, HeaderFlags::MARKS | HeaderFlags::MARKS6);
    assert_eq!((narrow_rules >> 32, wide_rules >> 32), (2, 2));
    let at = |word: u64| usize::try_from(word & 0xffff_ffff).unwrap();
    let narrow = blob.lines[at(narrow_rules)..].iter().take(2).map(MarkLine::of_line);
    assert_eq!(narrow.collect::<Vec<_>>(), marks.rules);
    let lines = &blob.lines[at(wide_rules)..];
    assert_eq!(lines.len(), 4);
    let found: Vec<WideMark> =
        lines.chunks(2).map(|pair| WideMark::of_lines(&pair[0], &pair[1])).collect();
    assert_eq!(found, marks.wide_rules);
    assert_eq!(filter_bits(&blob.lines, FILTER_VIP_LINE, folded(v6("fd00::5").into())), 3);
    assert_eq!(filter_bits(&blob.lines, FILTER_VIP_LINE, 77), FilterBits::NARROW);
    let marks = Marks { every_wide_address: true, ..Marks::default() };
    let blob = compile(&[], &Known::default(), &marks, 1).unwrap();
    assert_eq!(filter_bits(&blob.lines, FILTER_VIP_LINE, 77), FilterBits::WIDE);
    assert_eq!(filter_bits(&blob.lines, FILTER_REAL_SERVER_LINE, 77), 0);
}

#[test]
fn an_sctp_service_of_ipv4_is_in_the_wide_table_and_its_address_in_the_filter_of_ipv4() {
    let service = slot(key(Protocol::Sctp, [10, 0, 0, 1], 80), 0, &[]);
    let blob = compile(&[service], &Known::default(), &Marks::default(), 0).unwrap();
    let address = u32::from_ne_bytes([10, 0, 0, 1]);
    assert_eq!(filter_bits(&blob.lines, FILTER_VIP_LINE, address), FilterBits::NARROW);
    assert_eq!(blob.lines[0].0[3], HeaderFlags::WIDE);
}

#[test]
fn full_nat_is_in_the_wide_table_with_its_local_addresses() {
    let vip = Ipv4Addr::new(192, 0, 2, 10);
    let vip6 = v6("2001:db8::10");
    let both = Ipv4Addr::new(192, 0, 2, 11);
    let full_nat = |key, locals: &[u16]| ServiceSlot {
        flags: ServiceFlags::FULL_NAT,
        locals: locals.to_vec(),
        ..slot(key, 0, &[(1, 1)])
    };
    let many: Vec<u16> = (100..130).collect();
    let services = [
        full_nat(key(Protocol::Tcp, vip.octets(), 80), &[3, 1]),
        full_nat(key(Protocol::Tcp, both.octets(), 80), &many),
        slot(key(Protocol::Tcp, both.octets(), 443), 1, &[(2, 1)]),
        full_nat(key6(vip6, 80), &[2]),
    ];
    let real = Ipv4Addr::new(10, 0, 0, 1);
    let (local, local6) = (Ipv4Addr::new(10, 0, 0, 200), v6("fd00::200"));
    let known = Known {
        masqueraded: [(real.into(), FilterBits::WIDE)].into(),
        locals: [(local.into(), 3), (local6.into(), 2)].into(),
        ..Known::default()
    };
    let blob = compile(&services, &known, &Marks::default(), 1).unwrap();
    assert_eq!(blob.lines[0].0[3], HeaderFlags::MASQUERADING | HeaderFlags::WIDE);
    let bits = |first, address: IpAddr| filter_bits(&blob.lines, first, folded(address));
    assert_eq!(bits(FILTER_VIP_LINE, vip.into()), FilterBits::WIDE);
    assert_eq!(bits(FILTER_VIP_LINE, both.into()), FilterBits::WIDE | FilterBits::NARROW);
    assert_eq!(bits(FILTER_VIP_LINE, local.into()), FilterBits::WIDE);
    assert_eq!(bits(FILTER_VIP_LINE, local6.into()), FilterBits::WIDE);
    assert_eq!(bits(FILTER_REAL_SERVER_LINE, real.into()), FilterBits::WIDE);
    let records = blob.lines[SERVICES_LINE as usize..].iter().take(16).map(service_record);
    let records: Vec<_> = records
        .filter(|record| matches!(record.kind, service_kind::LOCAL | service_kind::LOCAL6))
        .collect();
    let named = |kind| records.iter().find(|record| record.kind == kind).unwrap();
    let record = named(service_kind::LOCAL);
    assert_eq!((record.index, record.address), (3, folded(local.into())));
    assert_eq!(record.address6, local.to_ipv6_mapped().octets());
    assert_eq!((record.port, record.protocol), (0, 0));
    let record = named(service_kind::LOCAL6);
    assert_eq!((record.index, record.address), (2, folded(local6.into())));
    assert_eq!(record.address6, local6.octets());
    let locals = |record: &ServiceRecord| -> Vec<u64> {
        let nearest = record.pool_line - 1;
        let count = blob.lines[nearest as usize].0[0];
        let place = |nth| {
            let (line, quarter) = LocalLine::place(nth);
            let word = blob.lines[(nearest - line) as usize].0[quarter as usize / 4];
            word >> (quarter % 4 * 16) & 0xffff
        };
        (0..u32::try_from(count).unwrap()).map(place).collect()
    };
    let record = find(&blob, vip, 80, 6, service_kind::SERVICE).unwrap();
    assert_eq!(record.flags, ServiceFlags::FULL_NAT);
    assert_eq!(locals(&record), [3, 1]);
    let record = find(&blob, both, 80, 6, service_kind::SERVICE).unwrap();
    assert_eq!(locals(&record), many.iter().map(|n| u64::from(*n)).collect::<Vec<_>>());
    let record = find(&blob, vip6, 80, 6, service_kind::SERVICE6).unwrap();
    assert_eq!(locals(&record), [2]);
}

#[test]
fn persistence_of_full_nat_has_both_forms_of_its_address() {
    let vip = Ipv4Addr::new(192, 0, 2, 10);
    let service = ServiceSlot {
        flags: ServiceFlags::FULL_NAT | ServiceFlags::PERSISTENT,
        locals: vec![5],
        persistence: Some(PersistenceSlot {
            timeout: 300,
            mask: Netmask::V4(0xffff_ff00),
            shared: false,
        }),
        ..slot(key(Protocol::Tcp, vip.octets(), 80), 0, &[(1, 1)])
    };
    let blob = compile(&[service], &Known::default(), &Marks::default(), 1).unwrap();
    let record = find(&blob, vip, 80, 6, service_kind::SERVICE).unwrap();
    let line = persistence_before(&blob, &record);
    assert_eq!(line.mask, 0xffff_ff00_u32.to_be());
    let mask = v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00");
    assert_eq!(line.wide_mask, WideAddress::of_bytes(mask.octets()).0);
    assert_eq!(line.wide_address, WideAddress::of_bytes(vip.to_ipv6_mapped().octets()).0);
    let locals = blob.lines[record.pool_line as usize - 2];
    assert_eq!(locals, Line([1, 5, 0, 0, 0, 0, 0, 0]), "before the line of its persistence");
}

proptest! {
    #[test]
    fn every_service_is_found_whatever_the_set(
        keys in prop::collection::btree_set((any::<bool>(), 0_u32..4_000, 1_u16..100), 0..600),
    ) {
        let services: Vec<ServiceSlot> = keys
            .iter()
            .zip(0..)
            .map(|((udp, address, port), index)| {
                let protocol = if *udp { Protocol::Udp } else { Protocol::Tcp };
                slot(key(protocol, (0x0a00_0000 + address).to_be_bytes(), *port), index, &[(index, 1)])
            })
            .collect();
        let blob = compile(&services, &Known::default(), &Marks::default(), 0).unwrap();
        prop_assert!(blob.lines.len() <= BLOB_LINES);
        for ((udp, address, port), index) in keys.iter().zip(0_u32..) {
            let protocol = if *udp { 17 } else { 6 };
            let address = Ipv4Addr::from(0x0a00_0000 + address);
            let record = find(&blob, address, *port, protocol, service_kind::SERVICE).unwrap();
            prop_assert_eq!(record.index, index);
            prop_assert_eq!(blob.lines[record.pool_line as usize].0[0], u64::from(index) | 1 << 32);
        }
    }
}
