//! The clients of services whose scheduler picks by a table, and where they would be sent now.
//!
//! **Invariant:** asking changes nothing: only schedulers are asked whose pick leaves no trace (dh, sh, mh).
//!
//! Called by [`super::run`], with `--moved`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use elvs_model::{Scheduler, SchedulerFlags, ServiceKey, VirtualService};

use super::host::Host;
use super::script::Flow;

/// Clients by service.
#[derive(Debug, Default)]
pub(super) struct Clients {
    seen: HashMap<ServiceKey, BTreeMap<SocketAddr, Flow>>,
}

impl Clients {
    /// A client came to a service. Without a port flag, all ports of an address are one client.
    pub(super) fn seen(&mut self, service: &VirtualService, flow: &Flow) {
        if !matches!(service.scheduler, Scheduler::Dh | Scheduler::Sh | Scheduler::Mh) {
            return;
        }
        let by_port = service.flags.0 & SchedulerFlags::FLAG_2 != 0;
        let port = if by_port { flow.client.port() } else { 0 };
        let client = SocketAddr::new(flow.client.ip(), port);
        self.seen.entry(service.key).or_default().entry(client).or_insert(*flow);
    }

    /// Index of the destination that each client of a service would be sent to; `None` if the service has another kind
    /// of scheduler.
    pub(super) fn picks(&self, host: &Host, key: &ServiceKey) -> Option<Vec<Option<u32>>> {
        let service = host.table().service(key)?.service();
        if !matches!(service.scheduler, Scheduler::Dh | Scheduler::Sh | Scheduler::Mh) {
            return None;
        }
        let clients = self.seen.get(key).into_iter().flat_map(BTreeMap::values);
        Some(clients.map(|flow| host.ask_scheduler(flow)).collect())
    }
}
