//! What the API's server asks the node.
//!
//! **Invariant:** listing a million connections holds neither the plane's lock nor more than one portion at a time.
//!
//! Called by the server's tasks.

use std::net::SocketAddr;
use std::sync::Arc;

use elvs_api::{
    ApiError, Chunks, DestinationState, Drain, DropCount, ErrorCode, Interface, LocalAddressState,
    Outcome, Plan, Reloaded, Status, VERSION, XdpAttachment,
};
use elvs_common::{Counter, CounterKind};
use elvs_dataplane::AttachedMode;
use elvs_model::health::HealthView;
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionView, Desired, MarkRules, NodeInfo,
    ServiceKey, ServiceView, SettingView, SyncDaemon, Timeouts,
};

use super::node::{self, Node};

/// Buckets listed under one hold of the lock.
const PORTION: u32 = 2_048;

/// The node as the server's backend.
pub(super) struct Api(pub(super) Arc<Node>);

impl Api {
    fn views(&self) -> Result<Vec<ServiceView>, ApiError> {
        self.0.with_plane(|plane| plane.service_views()).map_err(internal)
    }

    /// Destinations that cannot be reached, by service.
    fn unresolved(&self, services: &[ServiceView]) -> Vec<DestinationState> {
        let problems = self.0.problems();
        let mut found = Vec::new();
        for view in services {
            for destination in view.destinations.iter().rev() {
                let key = destination.destination.key;
                if let Some(problem) = problems.get(&key.address) {
                    found.push(DestinationState {
                        service: view.service.key,
                        destination: SocketAddr::new(key.address, key.port),
                        next_hop: problem.neighbour,
                        problem: problem.text.clone(),
                    });
                }
            }
        }
        found
    }

    async fn interfaces(&self) -> Vec<Interface> {
        let mut interfaces = Vec::new();
        let attached = self.0.with_plane(|plane| plane.attached());
        for (name, mode) in attached.into_iter().filter(|(name, _)| *name != self.0.pair.director) {
            let index = self.0.ifindex(&name).await;
            let mode = match mode {
                AttachedMode::Native => XdpAttachment::Native,
                AttachedMode::Generic => XdpAttachment::Generic,
            };
            interfaces.push(Interface { name, index, mode });
        }
        interfaces
    }
}

fn foreign_locals(node: &Node) -> Vec<LocalAddressState> {
    let state = |address| LocalAddressState { address, problem: node::foreign_local(address) };
    node.foreign_locals().into_iter().map(state).collect()
}

fn refused(error: &anyhow::Error) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, format!("{error:#}"))
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, error.to_string())
}

impl elvs_api::Backend for Api {
    async fn info(&self) -> Result<NodeInfo, ApiError> {
        Ok(NodeInfo { version: VERSION.to_owned(), connection_table_size: CONNECTION_TABLE_SIZE })
    }

    async fn status(&self) -> Result<Status, ApiError> {
        let node = &self.0;
        let services = self.views()?;
        let counters = node.with_plane(|plane| plane.counters()).map_err(internal)?;
        let counted = |of_drops: bool| {
            let chosen = counters.iter().filter(move |(counter, packets)| {
                *packets > 0 && (counter.kind() == CounterKind::Drop) == of_drops
            });
            let count = |(counter, packets): &(Counter, u64)| DropCount {
                reason: counter.name().to_owned(),
                packets: *packets,
            };
            chosen.map(count).collect::<Vec<_>>()
        };
        Ok(Status {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            instance: node.instance.clone(),
            uptime_s: node.started.elapsed().as_secs(),
            config: node.config.as_ref().map(|file| file.path.clone()),
            interfaces: self.interfaces().await,
            local_traffic: node.with_plane(|plane| plane.attached_egress()),
            flooded: node.with_plane(|plane| plane.is_flooded()),
            table_bytes: node.with_plane(|plane| plane.memory_bytes()),
            connections: node.with_plane(|plane| plane.live_connections()),
            connection_capacity: node.with_plane(|plane| plane.capacity()).into(),
            drops: counted(true),
            events: counted(false),
            unresolved: self.unresolved(&services),
            foreign_local_addresses: foreign_locals(node),
            services,
        })
    }

    async fn services(&self) -> Result<Vec<ServiceView>, ApiError> {
        self.views()
    }

    async fn timeouts(&self) -> Result<Timeouts, ApiError> {
        Ok(self.0.table().timeouts())
    }

    async fn sync_daemons(&self) -> Result<Vec<SyncDaemon>, ApiError> {
        Ok(self.0.table().sync_daemons().iter().cloned().collect())
    }

    async fn connections(&self, filter: ConnectionFilter) -> Result<Chunks, ApiError> {
        let node = self.0.clone();
        let buckets = node.with_plane(|plane| plane.table_buckets());
        let mut next = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            if next >= buckets {
                return None;
            }
            let found = node.with_plane(|plane| plane.connections_in(next, PORTION));
            next = next.saturating_add(PORTION);
            let views = found.into_iter().map(ConnectionView::from);
            Some(views.filter(|view| filter.passes(view)).collect())
        })))
    }

    async fn settings(&self) -> Result<Vec<SettingView>, ApiError> {
        Ok(self.0.with_plane(|plane| plane.settings()).views())
    }

    async fn marks(&self) -> Result<MarkRules, ApiError> {
        Ok(self.0.table().marks().clone())
    }

    async fn apply(&self, changes: Vec<Change>, atomic: bool) -> Result<Vec<Outcome>, ApiError> {
        let fates = self.0.apply(&changes, atomic).await;
        let refused = atomic && fates.iter().any(Result::is_err);
        let mut outcomes: Vec<Outcome> = fates
            .into_iter()
            .map(|fate| if refused && fate.is_ok() { Outcome::NotApplied } else { fate.into() })
            .collect();
        outcomes.resize(changes.len(), Outcome::NotApplied);
        Ok(outcomes)
    }

    async fn zero(&self, service: Option<ServiceKey>) -> Result<Result<(), ChangeError>, ApiError> {
        if let Some(key) = &service
            && self.0.table().service(key).is_none()
        {
            return Ok(Err(ChangeError::NoSuchService));
        }
        self.0.with_plane(|plane| plane.zero(service.as_ref())).map_err(internal)?;
        Ok(Ok(()))
    }

    async fn reload(&self) -> Result<Reloaded, ApiError> {
        let node = self.0.clone();
        // A reload goes on although its client may not wait for it.
        match tokio::spawn(async move { node.reload().await }).await {
            Ok(Ok(changes)) => Ok(Reloaded { changes }),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(internal(error)),
        }
    }

    async fn plan(&self, desired: Option<Desired>) -> Result<Plan, ApiError> {
        self.0.plan(desired).await.map_err(|error| refused(&error))
    }

    async fn drain(&self, drain: Drain) -> Result<Result<(), ChangeError>, ApiError> {
        Ok(self.0.drain(drain).await)
    }

    async fn health(&self) -> Result<HealthView, ApiError> {
        let mut view =
            self.0.health.view().await.map_err(|error| internal(format!("{error:#}")))?;
        view.mail = self.0.notifier.mails();
        view.drained = self.0.drained().await;
        Ok(view)
    }
}

/// What `ipvsadm -L` prints as `size`: the kernel's default, because scripts compare the line.
pub(crate) const CONNECTION_TABLE_SIZE: u32 = 4_096;
