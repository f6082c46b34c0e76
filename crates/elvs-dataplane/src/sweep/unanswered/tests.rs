use std::collections::{HashMap, HashSet};

use elvs_common::{Control, Method, TCP, TcpState, UDP};

use super::Unanswered;
use crate::connection::Live;

/// A connection to destination 7 by a port of its own.
fn connection(port: u64, protocol: u8, state: TcpState, method: Method) -> Live {
    let control = Control::live(protocol, state as u8, method, false, 0);
    Live { control, addresses: [0, 1, 0, 2, 0], ports_destination: port | 7 << 32 }
}

fn pass(of: &mut Unanswered, connections: &[(Live, u32)]) {
    for (live, idle) in connections {
        of.meet(live, *idle, 16);
    }
    of.next_pass();
}

#[test]
fn each_is_counted_once() {
    let mut of = Unanswered::default();
    let half_open = connection(1, TCP, TcpState::SynRecv, Method::Dr);
    pass(&mut of, &[(half_open, 20)]);
    assert_eq!(of.take(HashSet::from([7])), HashMap::new(), "nobody asked");
    pass(&mut of, &[(half_open, 15)]);
    assert_eq!(of.take(HashSet::from([7])), HashMap::new(), "it may yet be answered");
    pass(&mut of, &[(half_open, 16)]);
    // The client sent its SYN again meanwhile.
    pass(&mut of, &[(half_open, 3)]);
    pass(&mut of, &[(half_open, 19), (connection(2, TCP, TcpState::SynRecv, Method::Dr), 16)]);
    assert_eq!(of.take(HashSet::from([7])), HashMap::from([(7, 2)]));
    pass(&mut of, &[(half_open, 35)]);
    assert_eq!(of.take(HashSet::new()), HashMap::new());
}

#[test]
fn resets_count_where_replies_pass_the_director() {
    for (state, method, protocol, counts) in [
        (TcpState::Close, Method::Nat, TCP, true),
        (TcpState::Close, Method::FullNat, TCP, true),
        (TcpState::Close, Method::Dr, TCP, false),
        (TcpState::Close, Method::Tun, TCP, false),
        (TcpState::SynAck, Method::Dr, TCP, true),
        (TcpState::Established, Method::Nat, TCP, false),
        (TcpState::TimeWait, Method::Nat, TCP, false),
        (TcpState::SynRecv, Method::Nat, UDP, false),
    ] {
        let mut of = Unanswered::default();
        of.take(HashSet::from([7]));
        pass(&mut of, &[(connection(1, protocol, state, method), 100)]);
        let found = of.take(HashSet::from([7])).contains_key(&7);
        assert_eq!(found, counts, "{state:?} {method:?} {protocol}");
    }
}
