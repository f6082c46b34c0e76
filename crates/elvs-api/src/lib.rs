//! HTTP and JSON between the daemon and every command: types, server, client.
//!
//! **Invariant:** both sides are built from the types here; a body that does not fit them is an error that is
//! reported, never a default.
//!
//! Called by the daemon (which implements [`Backend`] and calls [`serve`]) and by the commands (through [`Client`]).
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/info` | | [`NodeInfo`](elvs_model::NodeInfo) |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/services` | | array of [`ServiceView`](elvs_model::ServiceView), kernel order |
//! | `GET /v1/timeouts` | | [`Timeouts`](elvs_model::Timeouts) |
//! | `GET /v1/marks` | | array of [`MarkRule`](elvs_model::MarkRule), first to be tried first |
//! | `GET /v1/settings` | | array of [`SettingView`](elvs_model::SettingView), by name |
//! | `GET /v1/sync-daemons` | | array of [`SyncDaemon`](elvs_model::SyncDaemon), the master first |
//! | `GET /v1/connections[?client=..&real_server=..&state=..]` | | one [`ConnectionView`](elvs_model::ConnectionView) a line (NDJSON) |
//! | `POST /v1/changes[?atomic=true]` | array of [`Change`](elvs_model::Change) | array of [`Outcome`] |
//! | `POST /v1/zero` | `null` or a [`ServiceKey`](elvs_model::ServiceKey) | [`Outcome`] |
//! | `POST /v1/reload` | | [`Reloaded`] |
//! | `POST /v1/plan` | `null` (the daemon's own file) or a [`Desired`](elvs_model::Desired) | [`Plan`]: what a reload would do |
//! | `POST /v1/drain` | [`Drain`] | [`Outcome`] |
//! | `GET /v1/health` | | [`HealthView`](elvs_model::health::HealthView) |
//!
//! A filter of connections may be given several times: see [`ConnectionFilter`](elvs_model::ConnectionFilter).
//!
//! An error is `{ "error": { "code", "message" } }` with a status of 400 or more; see [`ApiError`].

mod client;
mod error;
mod server;
mod socket;
mod types;

pub use client::{Client, ClientError, Connections};
pub use error::{ApiError, ErrorCode};
pub use server::{Backend, Chunks, router, serve};
pub use socket::{BindError, bind};
pub use types::{
    API_VERSION, DestinationState, Drain, DropCount, Interface, LocalAddressState, Outcome, Plan,
    Reloaded, Status, VERSION, XdpAttachment,
};
