//! A director in plain memory: what the decision core needs to run on the host.
//!
//! **Invariant:** nothing here calls the code under test to work out what is right; checksums are recomputed over the
//! whole packet, tables are written from the layouts in `elvs-common`.
//!
//! Used by the tests of `elvs-fastpath` and by the fuzz target `packet`.
#![allow(dead_code, unused_imports, reason = "each user takes the part it needs")]

mod director;
mod frame;
mod packet;
mod packet6;
mod random;
mod table;

pub use director::{Director, Outcome, check_flows};
pub use frame::{MemoryFrame, NIC};
pub use packet::{ACK, FIN, Packet, RST, SYN, Seen, ip, port};
pub use packet6::{
    DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, Packet6, ROUTING, Seen6, extension, fragment,
};
pub use random::Random;
pub use table::{
    CLIENT_GATEWAY, DIRECTOR_ADDRESS, DIRECTOR_MAC, ServiceId, Table, folded, server_mac,
};
