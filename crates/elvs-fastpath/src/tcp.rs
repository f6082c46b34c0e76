//! TCP state tracking: the kernel's `tcp_states` table (`ip_vs_proto_tcp.c`), one word per row.
//!
//! A row holds the next state for each of the states, four bits apiece, so that a transition is a shift of a constant and
//! needs no memory. The last two columns are those of half-open connections that began while `secure_tcp` acted, by the
//! kernel's table for attacks (`tcp_states_dos`), which differs in them alone but for who begins there: `tcp_states` never
//! leads to SYNACK, and SYN_RECV has a second number. So which table a packet goes by lies in its connection, and nobody has
//! to ask for a setting but those who open connections.

use elvs_common::{Method, SECURE_SYN_RECV, TcpState};

/// TCP flags byte (RFC 9293 section 3.1), FIN in bit 0; with SCTP, see [`crate::sctp_event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether it may open a connection: SYN without RST. With ACK, too, as in IPVS: the client's answer to the data connection
    /// that a real server opens in active FTP is all that the director sees of it (`tcp_conn_schedule`).
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::RST) == Self::SYN
    }

    /// Whether ACK is set.
    #[inline(always)]
    pub const fn acknowledges(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// Whether RST is set.
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether SYN is set.
    #[inline(always)]
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }
}

/// Which way a packet goes and what the director sees of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client, when replies are seen too (NAT).
    Input,
    /// From the real server (NAT).
    Output,
    /// From the client, when replies are never seen (DR, TUN).
    InputOnly,
}

impl Direction {
    /// Of a client's packet of a connection by a forwarding method's bits.
    #[inline(always)]
    pub(crate) const fn of_request(method: u32) -> Self {
        if Method::replies_pass(method) { Self::Input } else { Self::InputOnly }
    }
}

const fn row(next: [u8; 12]) -> u64 {
    let mut word = 0;
    let mut i = 0;
    while i < 12 {
        #[expect(
            clippy::indexing_slicing,
            reason = "constant evaluation; the index is bounded by the loop"
        )]
        let state = next[i] as u64;
        word |= state << (i * 4);
        i += 1;
    }
    word
}

const NO: u8 = TcpState::None as u8;
const ES: u8 = TcpState::Established as u8;
const SS: u8 = TcpState::SynSent as u8;
const SR: u8 = TcpState::SynRecv as u8;
const FW: u8 = TcpState::FinWait as u8;
const TW: u8 = TcpState::TimeWait as u8;
const CL: u8 = TcpState::Close as u8;
const CW: u8 = TcpState::CloseWait as u8;
const LA: u8 = TcpState::LastAck as u8;
const LI: u8 = TcpState::Listen as u8;
const SA: u8 = TcpState::SynAck as u8;
const R2: u8 = SECURE_SYN_RECV;

//                                      NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA  R2
const INPUT_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA, R2]);
const INPUT_FIN: u64 = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA, TW]);
const INPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, SA, R2]);
const INPUT_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL, R2]);
const OUTPUT_SYN: u64 = row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SA, SA]);
const OUTPUT_FIN: u64 = row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW, TW]);
const OUTPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES, ES]);
const OUTPUT_RST: u64 = row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL, CL]);
const ONLY_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA, R2]);
const ONLY_FIN: u64 = row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW, TW]);
const ONLY_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES, ES]);
const ONLY_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL, R2]);

const _: () = assert!(NO == 0);

/// As [`next_state`], while `secure_tcp` acts: a client's SYN that begins a connection, or one anew, has it go by the table for
/// attacks until it is established.
#[inline(always)]
pub const fn next_secure_state(direction: Direction, state: u8, flags: TcpFlags) -> u8 {
    let next = next_state(direction, state, flags);
    if next != SR || state == SR || flags.resets() || !flags.syn() {
        return next;
    }
    match direction {
        Direction::Input => R2,
        Direction::InputOnly => SA,
        Direction::Output => next,
    }
}

/// State after a packet with `flags` in `state` (bits of a [`TcpState`]).
///
/// Precedence of flags is the kernel's (`tcp_state_idx`): RST, SYN, FIN, ACK; a packet with none changes nothing.
#[inline(always)]
pub const fn next_state(direction: Direction, state: u8, flags: TcpFlags) -> u8 {
    let rows = match direction {
        Direction::Input => [INPUT_RST, INPUT_SYN, INPUT_FIN, INPUT_ACK],
        Direction::Output => [OUTPUT_RST, OUTPUT_SYN, OUTPUT_FIN, OUTPUT_ACK],
        Direction::InputOnly => [ONLY_RST, ONLY_SYN, ONLY_FIN, ONLY_ACK],
    };
    let [rst, syn, fin, ack] = rows;
    let row = if flags.0 & TcpFlags::RST != 0 {
        rst
    } else if flags.0 & TcpFlags::SYN != 0 {
        syn
    } else if flags.0 & TcpFlags::FIN != 0 {
        fin
    } else if flags.0 & TcpFlags::ACK != 0 {
        ack
    } else {
        return state;
    };
    (row >> ((state & 15) * 4) & 15) as u8
}

#[cfg(test)]
mod tests;
