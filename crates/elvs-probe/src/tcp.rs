//! `TCP_CHECK`: a connection opens.
//!
//! **Invariant:** nothing is sent and nothing read; the connection is reset as soon as it is open.
//!
//! Called by [`crate::Prober`].

use elvs_model::health::{Finding, TcpCheck};

use crate::connect;

/// Runs the check once.
pub(crate) async fn run(check: &TcpCheck) -> Finding {
    match connect::tcp(&check.target).await {
        Ok(_stream) => Finding::passed("connected"),
        Err(error) => Finding::failed(error.to_string()),
    }
}
