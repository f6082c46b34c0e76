//! What a configuration asks to be watched: its virtual servers with their real servers.
//!
//! **Invariant:** each virtual server and each of its real servers comes once.
//!
//! Called by [`super::configure`].

use std::collections::{HashMap, HashSet};

use elvs_model::health::{ServerHealth, Watched};
use elvs_model::{Desired, DesiredService, Destination, DestinationKey};

use crate::names;
use crate::unit::Unit;

/// One virtual server of a configuration.
pub(super) struct Block<'a> {
    pub(super) watched: Watched,
    pub(super) name: String,
    pub(super) services: Vec<&'a DesiredService>,
}

/// One real server of a block.
pub(super) struct Planned {
    pub(super) health: ServerHealth,
    /// The destination that it is in each service.
    pub(super) destinations: Vec<Option<Destination>>,
}

impl Block<'_> {
    /// Whether a virtual server is configured so already.
    pub(super) fn describes(&self, unit: &Unit) -> bool {
        unit.name == self.name && unit.config.iter().eq(self.services.iter().copied())
    }
}

/// The virtual servers of a configuration, in its order; a group stands where its first service does.
pub(super) fn blocks(desired: &Desired) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut places: HashMap<Watched, usize> = HashMap::new();
    let mut ordinals: HashMap<&str, usize> = HashMap::new();
    for service in desired.services.iter().filter(|service| !service.health.is_default()) {
        let watched = service.watched();
        let place = places.get(&watched).and_then(|place| blocks.get_mut(*place));
        if let Some(block) = place {
            block.services.push(service);
            continue;
        }
        let ordinal = match &service.health.group {
            Some(group) => {
                let next = ordinals.entry(&group.name).or_default();
                std::mem::replace(next, *next + 1)
            }
            None => 0,
        };
        places.insert(watched.clone(), blocks.len());
        let name = names::watched(&watched, ordinal);
        blocks.push(Block { watched, name, services: vec![service] });
    }
    blocks
}

/// The real servers of a block: those of its first service, then what the others have beside. In the others a real server is
/// the destination with the same key, else the one at the same place with the same address: ports may differ.
pub(super) fn plan(services: &[&DesiredService]) -> Vec<Planned> {
    let mut all: Vec<Planned> = Vec::new();
    let mut by_key: HashMap<DestinationKey, usize> = HashMap::new();
    for (index, service) in services.iter().enumerate() {
        let healths: HashMap<DestinationKey, &ServerHealth> =
            service.health.servers.iter().map(|server| (server.key, server)).collect();
        let mut seen = HashSet::with_capacity(service.destinations.len());
        let own = service.destinations.iter().filter(|destination| seen.insert(destination.key));
        let (same, others): (Vec<_>, Vec<_>) =
            own.enumerate().partition(|(_, own)| by_key.contains_key(&own.key));
        for (_, destination) in same {
            let known = by_key.get(&destination.key).and_then(|place| all.get_mut(*place));
            known.into_iter().for_each(|planned| planned.put(index, *destination));
        }
        for (place, destination) in others {
            let address = destination.key.address;
            let free = |planned: &&mut Planned| {
                planned.health.key.address == address && planned.destinations.len() <= index
            };
            if let Some(planned) = all.get_mut(place).filter(free) {
                planned.put(index, *destination);
                continue;
            }
            let health = healths.get(&destination.key).map(|health| (*health).clone());
            let health = health.unwrap_or_else(|| ServerHealth::unwatched(destination.key));
            by_key.insert(destination.key, all.len());
            let mut planned = Planned { health, destinations: Vec::new() };
            planned.put(index, *destination);
            all.push(planned);
        }
    }
    for planned in &mut all {
        planned.destinations.resize(services.len(), None);
    }
    all
}

impl Planned {
    /// What names it as it is written: where packets keep their port it has none (a firewall mark under DR), but another
    /// service of the group may tell.
    pub(super) fn written(&self) -> DestinationKey {
        let ports = self.destinations.iter().flatten().map(|destination| destination.key.port);
        let port = ports.into_iter().find(|port| *port != 0).unwrap_or(self.health.key.port);
        DestinationKey { port, ..self.health.key }
    }

    /// It is this destination in the service at a place.
    fn put(&mut self, index: usize, destination: Destination) {
        self.destinations.resize(index, None);
        self.destinations.push(Some(destination));
    }
}
