//! A real server that is to be worked at: no new connections, whatever the file and checks say.
//!
//! **Invariant:** nothing but the one weight changes; connections of the real server go on.
//!
//! Part of the node; asked by the API.

use std::net::SocketAddr;

use elvs_api::Drain;
use elvs_model::ChangeError;
use elvs_model::health::Drained;
use tracing::{info, warn};

use super::Node;

impl Node {
    /// Has a real server of the configuration drain, or be used again with the weight that file and checks give it.
    ///
    /// # Errors
    /// The configuration does not name it, or the data plane refuses the table.
    pub(in crate::run) async fn drain(
        &self,
        Drain { server, on }: Drain,
    ) -> Result<(), ChangeError> {
        let mut held = self.writer.lock().await;
        // As checks have it at this moment. Nothing is changed yet: whoever asked may go away meanwhile.
        let planned = self.health.plan(held.desired()).await;
        let planned = planned.map_err(|error| ChangeError::Unsupported(format!("{error:#}")))?;
        if !held.drain(server, on)? {
            return Ok(());
        }
        let tables = held.with_planned(server, &planned);
        let (changes, undo) = held.take_over(&tables);
        if !self.change_destinations(&changes) {
            held.undo(undo);
            held.drain(server, !on)?;
            let refused = "the data plane refused the table: see the log".to_owned();
            return Err(ChangeError::Unsupported(refused));
        }
        let does = if on { "drains" } else { "is used again" };
        let Drained { service, destination } = server;
        let address = SocketAddr::new(destination.address, destination.port);
        info!("real server {address} of {service} {does}, by hand");
        if let Err(error) = self.keep_by_hand(held.by_hand()) {
            warn!("a daemon that starts later will not know of it: {error:#}");
        }
        Ok(())
    }

    /// Real servers that drain.
    pub(in crate::run) async fn drained(&self) -> Vec<Drained> {
        self.writer.lock().await.drained()
    }
}
