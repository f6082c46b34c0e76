//! The director that commands act on.
//!
//! **Invariant:** a refused change arrives as the [`ChangeError`] the director gave; every other failure says where it
//! comes from.
//!
//! Called by the runner; implemented by the API client, and in tests by a table in memory.

use elvs_api::{Client, ClientError, Outcome};
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionView, NodeInfo, ServiceKey, ServiceView,
    SyncDaemon, Timeouts,
};

/// Connections as they come.
pub type ConnectionIter<'a> = Box<dyn Iterator<Item = Result<ConnectionView, DirectorError>> + 'a>;

/// A running director.
pub trait Director {
    /// What it says about itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn info(&mut self) -> Result<NodeInfo, DirectorError>;

    /// Services in the kernel's order, destinations newest first.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError>;

    /// Timeouts in force.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn timeouts(&mut self) -> Result<Timeouts, DirectorError>;

    /// Synchronisation daemons, the master first.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError>;

    /// Connections that pass the filter, in no order.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn connections(
        &mut self,
        filter: &ConnectionFilter,
    ) -> Result<ConnectionIter<'_>, DirectorError>;

    /// Makes one change.
    ///
    /// # Errors
    /// When it is refused, or the director cannot be asked.
    fn apply(&mut self, change: &Change) -> Result<(), DirectorError>;

    /// Makes all of these changes, or none.
    ///
    /// # Errors
    /// When one is refused, or the director cannot be asked.
    fn apply_all(&mut self, changes: &[Change]) -> Result<(), DirectorError>;

    /// Clears the counters of one service, or of all.
    ///
    /// # Errors
    /// When there is no such service, or the director cannot be asked.
    fn zero(&mut self, service: Option<ServiceKey>) -> Result<(), DirectorError>;
}

/// Why a director did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectorError {
    /// It refused.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// It could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Director for Client {
    fn info(&mut self) -> Result<NodeInfo, DirectorError> {
        Ok(self.info()?)
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        Ok(self.services()?)
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        Ok(self.timeouts()?)
    }

    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError> {
        Ok(self.sync_daemons()?)
    }

    fn connections(
        &mut self,
        filter: &ConnectionFilter,
    ) -> Result<ConnectionIter<'_>, DirectorError> {
        Ok(Box::new(self.connections(filter)?.map(|connection| Ok(connection?))))
    }

    fn apply(&mut self, change: &Change) -> Result<(), DirectorError> {
        let outcomes = self.apply(std::slice::from_ref(change), false)?;
        outcomes.into_iter().try_for_each(accepted)
    }

    fn apply_all(&mut self, changes: &[Change]) -> Result<(), DirectorError> {
        self.apply(changes, true)?.into_iter().try_for_each(accepted)
    }

    fn zero(&mut self, service: Option<ServiceKey>) -> Result<(), DirectorError> {
        accepted(self.zero(service)?)
    }
}

fn accepted(outcome: Outcome) -> Result<(), DirectorError> {
    match outcome {
        Outcome::Ok | Outcome::NotApplied => Ok(()),
        Outcome::Refused { reason, .. } => Err(reason.into()),
    }
}
