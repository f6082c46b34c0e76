//! TCP and SCTP states of IPVS.

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
    /// Half-open, by the table for attacks (`secure_tcp`).
    SynAck = 10,
}

/// State of a half-open connection that began while `secure_tcp` acted, shown as [`TcpState::SynRecv`]: it has a number of its
/// own, so that such connections go by the kernel's second table (`tcp_states_dos`).
pub const SECURE_SYN_RECV: u8 = 11;

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

    /// The state of a number in the flow table, as it is shown; anything unknown is [`TcpState::None`].
    pub const fn of_bits(state: u8) -> Self {
        match state {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | SECURE_SYN_RECV => Self::SynRecv,
            4 => Self::FinWait,
            5 => Self::TimeWait,
            6 => Self::Close,
            7 => Self::CloseWait,
            8 => Self::LastAck,
            9 => Self::Listen,
            10 => Self::SynAck,
            _ => Self::None,
        }
    }

    /// Whether a connection in this state counts as active (kernel: `tcp_state_active_table`).
    #[inline(always)]
    pub const fn is_active_bits(state: u8) -> bool {
        const ACTIVE: u16 = 1 << TcpState::Established as u16
            | 1 << TcpState::SynSent as u16
            | 1 << TcpState::SynRecv as u16
            | 1 << TcpState::SynAck as u16
            | 1 << SECURE_SYN_RECV;
        ACTIVE >> (state & 15) & 1 != 0
    }

    /// Whether a connection in this state is half-open: it gives way when a bucket is full.
    #[inline(always)]
    pub const fn is_half_open_bits(state: u8) -> bool {
        const HALF_OPEN: u16 = 1 << TcpState::None as u16
            | 1 << TcpState::SynSent as u16
            | 1 << TcpState::SynRecv as u16
            | 1 << TcpState::SynAck as u16
            | 1 << SECURE_SYN_RECV;
        HALF_OPEN >> (state & 15) & 1 != 0
    }
}

/// An SCTP state as the real server has it; numbers and names are those of the kernel's `enum ip_vs_sctp_states`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SctpState {
    /// Nothing seen.
    None = 0,
    /// The client's first INIT seen.
    Init1 = 1,
    /// Another INIT of the client seen.
    Init = 2,
    /// INIT ACK seen from the real server.
    CookieSent = 3,
    /// The client has sent the cookie back.
    CookieReplied = 4,
    /// INIT seen from the real server.
    CookieWait = 5,
    /// The client has answered it by INIT ACK.
    Cookie = 6,
    /// The real server has sent the cookie back.
    CookieEchoed = 7,
    /// Established.
    Established = 8,
    /// SHUTDOWN seen from the real server.
    ShutdownSent = 9,
    /// SHUTDOWN seen from the client.
    ShutdownReceived = 10,
    /// SHUTDOWN ACK seen from the real server.
    ShutdownAckSent = 11,
    /// INIT answered by ABORT.
    Rejected = 12,
    /// Closed or aborted.
    Closed = 13,
}

/// Number of SCTP states.
pub const SCTP_STATES: usize = 14;

impl SctpState {
    /// Every state by number.
    pub const ALL: [Self; SCTP_STATES] = [
        Self::None,
        Self::Init1,
        Self::Init,
        Self::CookieSent,
        Self::CookieReplied,
        Self::CookieWait,
        Self::Cookie,
        Self::CookieEchoed,
        Self::Established,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::Rejected,
        Self::Closed,
    ];

    /// Whether an association in this state counts as active: established ones alone do.
    #[inline(always)]
    pub const fn is_active_bits(state: u8) -> bool {
        state == Self::Established as u8
    }

    /// Whether an association in this state is not established yet: it gives way when a bucket is full.
    #[inline(always)]
    pub const fn is_half_open_bits(state: u8) -> bool {
        state < Self::Established as u8
    }
}
