//! What a client and its real server say to each other.
//!
//! **Invariant:** after an opening both protocols with states are established, with what only the client says too: of direct
//! routing and tunnels the director sees no answers.
//!
//! Called by [`super::host`].

use elvs_model::Protocol;

use super::packet::{
    ACK, COOKIE_ACK, COOKIE_ECHO, Content, FIN, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE, SYN,
};

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The client, through the director.
    Client,
    /// The real server.
    Server,
}

/// Things said, in order.
pub(super) type Talk = &'static [(Speaker, Content)];

/// The first packet of a connection; it is the client's.
pub(super) const fn first(protocol: Protocol) -> Content {
    match protocol {
        Protocol::Tcp => Content::Segment(SYN),
        Protocol::Udp => Content::Datagram,
        Protocol::Sctp => Content::Chunk(INIT),
    }
}

/// What follows it until both ends are connected.
pub(super) const fn opening(protocol: Protocol) -> Talk {
    match protocol {
        Protocol::Tcp => &[
            (Speaker::Server, Content::Segment(SYN | ACK)),
            (Speaker::Client, Content::Segment(ACK)),
        ],
        Protocol::Udp => &[],
        Protocol::Sctp => &[
            (Speaker::Server, Content::Chunk(INIT_ACK)),
            (Speaker::Client, Content::Chunk(COOKIE_ECHO)),
            (Speaker::Server, Content::Chunk(COOKIE_ACK)),
        ],
    }
}

/// How the client ends it and the real server agrees. No packet ends a flow of UDP: it expires.
pub(super) const fn ending(protocol: Protocol) -> Talk {
    match protocol {
        Protocol::Tcp => &[
            (Speaker::Client, Content::Segment(FIN | ACK)),
            (Speaker::Server, Content::Segment(FIN | ACK)),
            (Speaker::Client, Content::Segment(ACK)),
        ],
        Protocol::Udp => &[],
        Protocol::Sctp => &[
            (Speaker::Client, Content::Chunk(SHUTDOWN)),
            (Speaker::Server, Content::Chunk(SHUTDOWN_ACK)),
            (Speaker::Client, Content::Chunk(SHUTDOWN_COMPLETE)),
        ],
    }
}
