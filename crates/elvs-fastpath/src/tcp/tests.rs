use elvs_common::{SECURE_SYN_RECV, TcpState};

use super::{Direction, TcpFlags, next_secure_state, next_state};

/// The kernel's table in the kernel's notation, written down apart from the code under test, without SYNACK: nothing in it
/// leads there.
const TABLE: &[(Direction, u8, &str)] = &[
    (Direction::Input, TcpFlags::SYN, "SR ES ES SR SR SR SR SR SR SR"),
    (Direction::Input, TcpFlags::FIN, "CL CW SS TW TW TW CL CW LA LI"),
    (Direction::Input, TcpFlags::ACK, "ES ES SS ES FW TW CL CW CL LI"),
    (Direction::Input, TcpFlags::RST, "CL CL CL SR CL CL CL CL LA LI"),
    (Direction::Output, TcpFlags::SYN, "SS ES SS SR SS SS SS SS SS LI"),
    (Direction::Output, TcpFlags::FIN, "TW FW SS TW FW TW CL TW LA LI"),
    (Direction::Output, TcpFlags::ACK, "ES ES SS ES FW TW CL CW LA ES"),
    (Direction::Output, TcpFlags::RST, "CL CL SS CL CL TW CL CL CL CL"),
    (Direction::InputOnly, TcpFlags::SYN, "SR ES ES SR SR SR SR SR SR SR"),
    (Direction::InputOnly, TcpFlags::FIN, "CL FW SS TW FW TW CL CW LA LI"),
    (Direction::InputOnly, TcpFlags::ACK, "ES ES SS ES FW TW CL CW CL LI"),
    (Direction::InputOnly, TcpFlags::RST, "CL CL CL SR CL CL CL CL LA LI"),
];

const SHORT: [&str; 11] = ["NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA"];

#[test]
fn every_transition_is_the_kernels() {
    for (direction, flag, row) in TABLE {
        for (state, wanted) in (0_u8..).zip(row.split(' ')) {
            let next = next_state(*direction, state, TcpFlags(*flag));
            let from = SHORT[usize::from(state)];
            assert_eq!(SHORT[usize::from(next)], wanted, "{direction:?} {flag:#x} in {from}");
        }
    }
}

#[test]
fn flags_have_the_kernels_precedence() {
    let all = TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK;
    let in_established = |flags| next_state(Direction::Input, 1, TcpFlags(flags));
    assert_eq!(in_established(all), TcpState::Close as u8);
    assert_eq!(in_established(all & !TcpFlags::RST), TcpState::Established as u8);
    assert_eq!(in_established(TcpFlags::FIN | TcpFlags::ACK), TcpState::CloseWait as u8);
    assert_eq!(in_established(0x08), TcpState::Established as u8, "PSH alone changes nothing");
}

#[test]
fn a_syn_opens_with_or_without_ack_and_never_with_rst() {
    assert!(TcpFlags(TcpFlags::SYN).opens());
    assert!(TcpFlags(TcpFlags::SYN | 0xc0).opens(), "ECN bits do not matter");
    assert!(TcpFlags(TcpFlags::SYN | TcpFlags::ACK).opens(), "active FTP's data connections");
    assert!(!TcpFlags(TcpFlags::SYN | TcpFlags::RST).opens());
    assert!(!TcpFlags(TcpFlags::ACK).opens());
}

/// The kernel's `tcp_states_dos` in the kernel's notation, as `TABLE`.
const TABLE_FOR_ATTACKS: &[(Direction, u8, &str)] = &[
    (Direction::Input, TcpFlags::SYN, "SR ES ES SR SR SR SR SR SR SR SA"),
    (Direction::Input, TcpFlags::FIN, "CL CW SS TW TW TW CL CW LA LI SA"),
    (Direction::Input, TcpFlags::ACK, "ES ES SS SR FW TW CL CW CL LI SA"),
    (Direction::Input, TcpFlags::RST, "CL CL CL SR CL CL CL CL LA LI CL"),
    (Direction::Output, TcpFlags::SYN, "SS ES SS SA SS SS SS SS SS LI SA"),
    (Direction::Output, TcpFlags::FIN, "TW FW SS TW FW TW CL TW LA LI TW"),
    (Direction::Output, TcpFlags::ACK, "ES ES SS ES FW TW CL CW LA ES ES"),
    (Direction::Output, TcpFlags::RST, "CL CL SS CL CL TW CL CL CL CL CL"),
    (Direction::InputOnly, TcpFlags::SYN, "SA ES ES SR SA SA SA SA SA SA SA"),
    (Direction::InputOnly, TcpFlags::FIN, "CL FW SS TW FW TW CL CW LA LI TW"),
    (Direction::InputOnly, TcpFlags::ACK, "ES ES SS ES FW TW CL CW CL LI ES"),
    (Direction::InputOnly, TcpFlags::RST, "CL CL CL SR CL CL CL CL LA LI CL"),
];

#[test]
fn every_transition_under_secure_tcp_is_the_kernels() {
    for (direction, flag, row) in TABLE_FOR_ATTACKS {
        for (state, wanted) in (0_u8..).zip(row.split(' ')) {
            // A connection that began under it has the second number of SYN_RECV.
            let state = if state == 3 { SECURE_SYN_RECV } else { state };
            let next = next_secure_state(*direction, state, TcpFlags(*flag));
            let (from, next) = (TcpState::of_bits(state), TcpState::of_bits(next));
            let shown = SHORT[usize::from(next as u8)];
            assert_eq!(shown, wanted, "{direction:?} {flag:#x} in {}", from.name());
        }
    }
}

#[test]
fn what_began_before_secure_tcp_ends_by_the_table_it_began_with() {
    let half_open = TcpState::SynRecv as u8;
    let after = next_secure_state(Direction::Input, half_open, TcpFlags(TcpFlags::ACK));
    assert_eq!(after, TcpState::Established as u8);
    let again = next_secure_state(Direction::Input, half_open, TcpFlags(TcpFlags::SYN));
    assert_eq!(again, half_open);
}
