//! The two kinds of connections: those of the table of IPv4 connections, and those of the wide one (IPv6, full NAT).
//!
//! **Invariant:** a service's connections, templates and memories are all in one of the two tables, that of its side.
//!
//! Called by what opens connections and schedules them, which is written once for both.

use elvs_common::{
    CallHash, Control, LBLC_PORTS, Line, PersistenceLine, ServiceRecord, WideAddress, scheduler_id,
    template_protocol,
};

use crate::flow::{AddressValue, Addresses, FlowKey, FlowMemory, FoundOf, WideValue, find_key};
use crate::host::Host;
use crate::open::Remembered;
use crate::schedule::{Asked, Located, MEMORY, Pick};
use crate::service::{find_service, find_service_by, find_wide_service, find_wide_service_by};
use crate::wide::{LocalEnd, give_port};

/// One of the two kinds.
pub trait Side {
    /// Addresses of a connection.
    type Value: AddressValue;

    /// Its flow table.
    type Memory<H: Host>: FlowMemory<Word = H::Word, Addresses: Addresses<Value = Self::Value>>;

    /// Its flow table.
    fn memory<H: Host>(host: &H) -> &Self::Memory<H>;

    /// Buckets of the flow table that hash values map to.
    fn buckets<H: Host>(host: &H) -> u32;

    /// Line of the virtual service that a packet is for, if it opens a connection.
    fn find_service<'a, H: Host>(
        host: &'a H,
        packet: &FlowKey<Self::Value>,
        ingress: u32,
    ) -> Option<&'a Line>;

    /// The same, if it is not persistent.
    fn find_exact_service<'a, H: Host>(
        host: &'a H,
        packet: &FlowKey<Self::Value>,
        ingress: u32,
    ) -> Option<&'a Line>;

    /// What schedulers want to know of a packet: its addresses in 32 bits each.
    fn fold(packet: &FlowKey<Self::Value>) -> FlowKey;

    /// Key of the template of a client of a persistent service.
    fn template_key(line: &PersistenceLine, packet: &FlowKey<Self::Value>) -> FlowKey<Self::Value>;

    /// Key of the template of a Call-ID, from that of a client.
    fn call_key(template: &FlowKey<Self::Value>, call: CallHash) -> FlowKey<Self::Value>;

    /// Key of the entry that leads packets to an address to a destination.
    fn locality_key(
        service: &ServiceRecord,
        packet: &FlowKey<Self::Value>,
        destination: u32,
    ) -> FlowKey<Self::Value>;

    /// [`Host::pick`], or the like of it.
    fn pick<H: Host>(host: &H, opening: &FlowKey<Self::Value>, ingress: u32, asked: Asked) -> Pick;

    /// [`Host::locate`], or the like of it.
    fn locate<H: Host>(host: &H, opening: &FlowKey<Self::Value>, ingress: u32) -> Located;

    /// [`Host::remember`], or the like of it.
    fn remember<H: Host>(
        host: &H,
        key: &FlowKey<Self::Value>,
        control: Control,
        destination: u32,
    ) -> Remembered;

    /// [`Host::pick_stable`], or the like of it.
    fn pick_stable<H: Host>(host: &H, opening: &FlowKey<Self::Value>, ingress: u32) -> Pick;

    /// [`Host::remember_provisional`], or the like of it.
    fn remember_provisional<H: Host>(
        host: &H,
        key: &FlowKey<Self::Value>,
        control: Control,
        destination: u32,
    ) -> Remembered;

    /// Puts back what a connection that has ended had besides its entry: the local end of full NAT.
    fn give_back<H: Host>(host: &H, local_end: u64);

    /// The same key, where there is more room for it than on the stack of a program in the kernel.
    fn stash<'a, H: Host>(host: &'a H, key: &'a FlowKey<Self::Value>) -> &'a FlowKey<Self::Value>;

    /// See [`memorize`](crate::memorize).
    fn memorize<H: Host>(
        host: &H,
        opening: &FlowKey<Self::Value>,
        ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered;
}

/// The live entry of a key.
#[inline(always)]
pub(crate) fn find<'a, S: Side, H: Host>(
    host: &'a H,
    key: &FlowKey<S::Value>,
) -> Option<FoundOf<'a, S::Memory<H>>>
where
    S::Memory<H>: 'a,
{
    find_key(S::memory(host), key, S::buckets(host), host.seed())
}

/// Ports in the key of an entry of lblc, or of lblcr for a destination.
#[inline(always)]
const fn locality_ports(service: &ServiceRecord, destination: u32) -> u32 {
    if service.scheduler == scheduler_id::LBLCR { destination } else { LBLC_PORTS }
}

/// Connections of IPv4 by direct routing, NAT and tunnels.
#[derive(Clone, Copy, Debug)]
pub struct Narrow;

impl Side for Narrow {
    type Value = u64;
    type Memory<H: Host> = H;

    #[inline(always)]
    fn memory<H: Host>(host: &H) -> &H {
        host
    }

    #[inline(always)]
    fn buckets<H: Host>(host: &H) -> u32 {
        host.buckets()
    }

    #[inline(always)]
    fn find_service<'a, H: Host>(host: &'a H, packet: &FlowKey, ingress: u32) -> Option<&'a Line> {
        find_service(host, packet, ingress)
    }

    #[inline(always)]
    fn find_exact_service<'a, H: Host>(
        host: &'a H,
        packet: &FlowKey,
        ingress: u32,
    ) -> Option<&'a Line> {
        find_service_by::<true, _>(host, packet, ingress)
    }

    #[inline(always)]
    fn fold(packet: &FlowKey) -> FlowKey {
        *packet
    }

    #[inline(always)]
    fn template_key(line: &PersistenceLine, packet: &FlowKey) -> FlowKey {
        let protocol = template_protocol(line.protocol);
        FlowKey::new(packet.client() & line.mask, line.address, 0, line.port, protocol)
    }

    #[inline(always)]
    fn call_key(template: &FlowKey, call: CallHash) -> FlowKey {
        let (address, port) = (template.address(), template.port());
        FlowKey::new(call.client(), address, call.port(), port, template.protocol)
    }

    #[inline(always)]
    fn locality_key(service: &ServiceRecord, packet: &FlowKey, destination: u32) -> FlowKey {
        FlowKey {
            addresses: service.index as u64 | (packet.address() as u64) << 32,
            ports: locality_ports(service, destination),
            protocol: MEMORY,
        }
    }

    #[inline(always)]
    fn pick<H: Host>(host: &H, opening: &FlowKey, ingress: u32, asked: Asked) -> Pick {
        host.pick(opening, ingress, asked)
    }

    #[inline(always)]
    fn locate<H: Host>(host: &H, opening: &FlowKey, ingress: u32) -> Located {
        host.locate(opening, ingress)
    }

    #[inline(always)]
    fn remember<H: Host>(
        host: &H,
        key: &FlowKey,
        control: Control,
        destination: u32,
    ) -> Remembered {
        host.remember(key, control, destination)
    }

    #[inline(always)]
    fn memorize<H: Host>(
        host: &H,
        opening: &FlowKey,
        ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered {
        host.memorize(opening, ingress, destination, place)
    }

    #[inline(always)]
    fn pick_stable<H: Host>(host: &H, opening: &FlowKey, ingress: u32) -> Pick {
        host.pick_stable(opening, ingress)
    }

    #[inline(always)]
    fn remember_provisional<H: Host>(
        host: &H,
        key: &FlowKey,
        control: Control,
        destination: u32,
    ) -> Remembered {
        host.remember_provisional(key, control, destination)
    }

    #[inline(always)]
    fn give_back<H: Host>(_host: &H, _local_end: u64) {}

    #[inline(always)]
    fn stash<'a, H: Host>(_host: &'a H, key: &'a FlowKey) -> &'a FlowKey {
        key
    }
}

/// Connections of IPv6, and of IPv4 by full NAT.
#[derive(Clone, Copy, Debug)]
pub struct Wide;

impl Side for Wide {
    type Value = WideValue;
    type Memory<H: Host> = H::Wide;

    #[inline(always)]
    fn memory<H: Host>(host: &H) -> &H::Wide {
        host.wide()
    }

    #[inline(always)]
    fn buckets<H: Host>(host: &H) -> u32 {
        host.wide_buckets()
    }

    #[inline(always)]
    fn find_service<'a, H: Host>(
        host: &'a H,
        packet: &FlowKey<WideValue>,
        ingress: u32,
    ) -> Option<&'a Line> {
        find_wide_service(host, packet, ingress)
    }

    #[inline(always)]
    fn find_exact_service<'a, H: Host>(
        host: &'a H,
        packet: &FlowKey<WideValue>,
        ingress: u32,
    ) -> Option<&'a Line> {
        find_wide_service_by::<true, _>(host, packet, ingress)
    }

    #[inline(always)]
    fn fold(packet: &FlowKey<WideValue>) -> FlowKey {
        packet.fold()
    }

    #[inline(always)]
    fn template_key(line: &PersistenceLine, packet: &FlowKey<WideValue>) -> FlowKey<WideValue> {
        let ([c0, c1, ..], [m0, m1]) = (packet.addresses, line.wide_mask);
        let [a0, a1] = line.wide_address;
        FlowKey {
            addresses: [c0 & m0, c1 & m1, a0, a1, 0],
            ports: (line.port as u32) << 16,
            protocol: template_protocol(line.protocol),
        }
    }

    #[inline(always)]
    fn call_key(template: &FlowKey<WideValue>, call: CallHash) -> FlowKey<WideValue> {
        let ([_, _, a0, a1, _], WideAddress([c0, c1])) =
            (template.addresses, WideAddress::of_v4(call.client()));
        FlowKey {
            addresses: [c0, c1, a0, a1, 0],
            ports: template.ports | call.port() as u32,
            protocol: template.protocol,
        }
    }

    #[inline(always)]
    fn locality_key(
        service: &ServiceRecord,
        packet: &FlowKey<WideValue>,
        destination: u32,
    ) -> FlowKey<WideValue> {
        let [_, _, a0, a1, _] = packet.addresses;
        FlowKey {
            addresses: [service.index as u64, 0, a0, a1, 0],
            ports: locality_ports(service, destination),
            protocol: MEMORY,
        }
    }

    #[inline(always)]
    fn pick<H: Host>(host: &H, opening: &FlowKey<WideValue>, ingress: u32, asked: Asked) -> Pick {
        host.wide_pick(opening, ingress, asked)
    }

    #[inline(always)]
    fn locate<H: Host>(host: &H, opening: &FlowKey<WideValue>, ingress: u32) -> Located {
        host.wide_locate(opening, ingress)
    }

    #[inline(always)]
    fn remember<H: Host>(
        host: &H,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered {
        host.wide_remember(key, control, destination)
    }

    #[inline(always)]
    fn memorize<H: Host>(
        host: &H,
        opening: &FlowKey<WideValue>,
        ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered {
        host.wide_memorize(opening, ingress, destination, place)
    }

    #[inline(always)]
    fn pick_stable<H: Host>(host: &H, opening: &FlowKey<WideValue>, ingress: u32) -> Pick {
        host.wide_pick_stable(opening, ingress)
    }

    #[inline(always)]
    fn remember_provisional<H: Host>(
        host: &H,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered {
        host.wide_remember_provisional(key, control, destination)
    }

    #[inline(always)]
    fn give_back<H: Host>(host: &H, local_end: u64) {
        give_port(host.wide(), LocalEnd(local_end));
    }

    #[inline(always)]
    fn stash<'a, H: Host>(host: &'a H, key: &'a FlowKey<WideValue>) -> &'a FlowKey<WideValue> {
        host.wide_stash(key)
    }
}
