//! Messages on the wire as types, and back.
//!
//! **Invariant:** total: any bytes give a message or an error that says why not; what is written parses to the same.
//!
//! Called by whoever owns the sockets.

pub mod bfd;
