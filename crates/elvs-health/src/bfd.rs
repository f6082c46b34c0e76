//! Bidirectional Forwarding Detection: whether a neighbour is reached and reaches us (RFC 5880, asynchronous mode).
//!
//! **Invariant:** no I/O, no clock and no source of chance: datagrams and times come as parameters, packets to send and
//! changes are pulled, jitter follows from a seed. No datagram can make it panic, and each that is refused is counted.
//!
//! Called by the driver in `elvs-probe`, which owns the sockets.

mod jitter;
mod refusal;
mod session;
mod sessions;

pub use refusal::{Refusal, Refusals};
pub use session::{Action, Begin, Cause, Parameters, Session, Standing};
pub use sessions::{Change, Datagram, Effect, Endpoint, SessionView, Sessions};
