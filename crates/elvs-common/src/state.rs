//! TCP states of IPVS.

/// A TCP state; numbers and names are those of the kernel's `enum { IP_VS_TCP_S_NONE, ... }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing seen.
    None = 0,
    /// Established.
    Established = 1,
    /// SYN seen from the real server (NAT, reply direction).
    SynSent = 2,
    /// SYN seen from the client.
    SynRecv = 3,
    /// FIN seen.
    FinWait = 4,
    /// Both sides finished.
    TimeWait = 5,
    /// Reset or closed.
    Close = 6,
    /// Client finished first.
    CloseWait = 7,
    /// Last acknowledgement awaited.
    LastAck = 8,
    /// Listen.
    Listen = 9,
    /// SYN cookie style half-open state of the secure table.
    SynAck = 10,
}

/// Number of TCP states.
pub const TCP_STATES: usize = 11;

impl TcpState {
    /// Every state by number.
    pub const ALL: [Self; TCP_STATES] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
    ];

    /// Name as `ipvsadm -Lnc` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
        }
    }

    /// Whether a connection in this state counts as active (kernel: `tcp_state_active_table`).
    #[inline(always)]
    pub const fn is_active_bits(state: u8) -> bool {
        const ACTIVE: u16 = 1 << TcpState::Established as u16
            | 1 << TcpState::SynSent as u16
            | 1 << TcpState::SynRecv as u16
            | 1 << TcpState::SynAck as u16;
        ACTIVE >> (state & 15) & 1 != 0
    }

    /// Whether a connection in this state is half-open: it gives way when a bucket is full.
    #[inline(always)]
    pub const fn is_half_open_bits(state: u8) -> bool {
        const HALF_OPEN: u16 = 1 << TcpState::None as u16
            | 1 << TcpState::SynSent as u16
            | 1 << TcpState::SynRecv as u16
            | 1 << TcpState::SynAck as u16;
        HALF_OPEN >> (state & 15) & 1 != 0
    }
}
