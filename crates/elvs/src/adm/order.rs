//! The order in which ipvsadm lists services and destinations.
//!
//! **Invariant:** the outcome is ipvsadm's even where its comparison is no order: addresses and marks are compared by
//! the sign of a 32-bit difference, so 10.0.0.1 may come behind 203.0.113.9, and the result then depends on the
//! steps of glibc's merge sort, which are repeated here. The standard library's sorts may panic on such a comparison.
//!
//! Called by the listings and by `-S`.

use std::net::IpAddr;

use elvs_model::{DestinationKey, DestinationView, Family, ServiceKey, ServiceView};

/// Puts services of addresses before those of marks, each in the order they came in: the kernel keeps them in two
/// tables and answers with one after the other.
pub(super) fn marks_last(services: &mut [ServiceView]) {
    services.sort_by_key(|view| matches!(view.service.key, ServiceKey::Fwmark { .. }));
}

/// Sorts services as `ipvs_cmp_services` of libipvs does.
pub(super) fn sort_services(services: &mut Vec<ServiceView>) {
    marks_last(services);
    merge_sort(services, &|a, b| compare_services(&a.service.key, &b.service.key));
}

/// Sorts destinations as `ipvs_cmp_dests` of libipvs does.
pub(super) fn sort_destinations(destinations: &mut Vec<DestinationView>) {
    merge_sort(destinations, &|a, b| compare_destinations(&a.destination.key, &b.destination.key));
}

fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let (a, b) = (Parts::of(a), Parts::of(b));
    first_difference([
        difference(a.mark, b.mark),
        difference(a.family, b.family),
        difference(a.protocol, b.protocol),
        compare_addresses(a.address, b.address),
        difference(a.port, b.port),
    ])
}

fn compare_destinations(a: &DestinationKey, b: &DestinationKey) -> i32 {
    first_difference([
        compare_addresses(a.address, b.address),
        difference(a.port.into(), b.port.into()),
    ])
}

/// The numbers a service key is compared by.
struct Parts {
    mark: u32,
    family: u32,
    protocol: u32,
    address: IpAddr,
    port: u32,
}

impl Parts {
    fn of(key: &ServiceKey) -> Self {
        let family = match key.family() {
            Family::Inet => 2,
            Family::Inet6 => 10,
        };
        match *key {
            ServiceKey::Address { protocol, address, port } => Self {
                mark: 0,
                family,
                protocol: protocol.number().into(),
                address,
                port: port.into(),
            },
            ServiceKey::Fwmark { mark, .. } => {
                Self { mark, family, protocol: 0, address: [0; 4].into(), port: 0 }
            }
        }
    }
}

/// Word by word if the first is IPv6; else the first word, whatever the second is.
fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    let [(a0, a1, a2, a3), (b0, b1, b2, b3)] = [words(a), words(b)];
    match a {
        IpAddr::V4(_) => difference(a0, b0),
        IpAddr::V6(_) => first_difference([
            difference(a0, b0),
            difference(a1, b1),
            difference(a2, b2),
            difference(a3, b3),
        ]),
    }
}

fn words(address: IpAddr) -> (u32, u32, u32, u32) {
    match address {
        IpAddr::V4(address) => (address.into(), 0, 0, 0),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            let word = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
            (word(a, b), word(c, d), word(e, f), word(g, h))
        }
    }
}

/// The difference as C's `int` holds it.
const fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

fn first_difference<const N: usize>(differences: [i32; N]) -> i32 {
    differences.into_iter().find(|&d| d != 0).unwrap_or(0)
}

/// glibc's `qsort` up to 2.36: top-down merge sort, first half the smaller, ties from the left.
fn merge_sort<T>(items: &mut Vec<T>, compare: &impl Fn(&T, &T) -> i32) {
    if items.len() < 2 {
        return;
    }
    let mut right = items.split_off(items.len() / 2);
    let mut left = std::mem::take(items);
    merge_sort(&mut left, compare);
    merge_sort(&mut right, compare);
    items.reserve(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let from = if compare(a, b) <= 0 { &mut left } else { &mut right };
        items.extend(from.next());
    }
    items.extend(left);
    items.extend(right);
}

#[cfg(test)]
mod tests;
