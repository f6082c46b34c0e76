//! Tables as only another CPU's work, the passing of time or a fault leaves them, written through mapped memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap, Map, MapData};
use elvs_common::{
    CALLS, Call, CallHash, Caller, Control, DestinationLoad, MAX_DESTINATIONS, Method,
    TAIL_BUCKETS, TCP, UDP, WideAddress, map_names,
};
use elvs_dataplane::Backend;
use elvs_fastpath::{
    Addresses, Bucket, Eviction, FlowKey, FlowMemory, Host, Insertion, NewFlow, Slot, WideMemory,
    free_ports, insert_flow,
};

use crate::both::Both;

/// A destination that no service has: what fills the tables belongs to it.
const NOBODY: u32 = MAX_DESTINATIONS - 1;

/// Something done to every bucket of a table.
pub trait Tamper {
    fn bucket<A: Addresses>(&self, bucket: &Bucket<AtomicU64, A>, tick: u32);
}

fn all<M: FlowMemory<Word = AtomicU64>>(memory: &M, buckets: u32, tick: u32, act: &impl Tamper) {
    for index in 0..buckets + TAIL_BUCKETS {
        act.bucket(memory.bucket(index).unwrap(), tick);
    }
}

fn tamper(backend: &impl Backend, act: &impl Tamper) {
    let (settings, tick) = (backend.settings(), backend.now().tick());
    all(backend, settings.buckets, tick, act);
    all(backend.wide(), settings.wide_buckets, tick, act);
}

/// Does something to every bucket of all tables.
pub fn everywhere(both: &Both, act: &impl Tamper) {
    tamper(both.kernel.backend(), act);
    tamper(both.host.backend(), act);
}

fn control<A>(slot: &Slot<AtomicU64, A>) -> Control {
    Control(slot.control.load(Ordering::SeqCst))
}

/// Every bucket's lock is somebody's, or nobody's again.
pub struct Locks(pub bool);

impl Tamper for Locks {
    fn bucket<A: Addresses>(&self, bucket: &Bucket<AtomicU64, A>, _tick: u32) {
        let lock = &bucket.slots[0].aux;
        if self.0 {
            lock.fetch_or(1, Ordering::SeqCst)
        } else {
            lock.fetch_and(!1, Ordering::SeqCst)
        };
    }
}

/// Every slot that is free has a TCP connection of that state, last seen so many ticks ago.
pub struct Fill {
    pub state: u8,
    pub ago: u32,
}

impl Tamper for Fill {
    fn bucket<A: Addresses>(&self, bucket: &Bucket<AtomicU64, A>, tick: u32) {
        for slot in &bucket.slots {
            let free = control(slot);
            if free.is_free() {
                let seen = tick.wrapping_sub(self.ago);
                let live = Control::live(TCP, self.state, Method::Dr, false, seen);
                slot.ports_destination.store(u64::from(NOBODY) << 32, Ordering::SeqCst);
                slot.control.store(live.with_generation_of(free).0, Ordering::SeqCst);
            }
        }
    }
}

/// Every connection belongs to a destination that there cannot be.
pub struct Misdirect;

impl Tamper for Misdirect {
    fn bucket<A: Addresses>(&self, bucket: &Bucket<AtomicU64, A>, _tick: u32) {
        for slot in bucket.slots.iter().filter(|slot| control(slot).is_live()) {
            slot.ports_destination.fetch_or(0xffff << 48, Ordering::SeqCst);
        }
    }
}

/// The tables are empty. Nothing is given back to whom it came from.
pub struct Forget;

impl Tamper for Forget {
    fn bucket<A: Addresses>(&self, bucket: &Bucket<AtomicU64, A>, _tick: u32) {
        bucket.displaced().store(0, Ordering::SeqCst);
        for slot in &bucket.slots {
            let found = control(slot);
            if !found.is_free() {
                slot.control.store(found.freed().0, Ordering::SeqCst);
            }
        }
    }
}

/// Remembers a connection by NAT over UDP whose client has never sent anything.
pub fn connect(both: &Both, client: SocketAddr, service: SocketAddr, indexes: [u32; 2]) {
    let [kernel, host] = indexes;
    remember(both.kernel.backend(), client, service, kernel);
    remember(both.host.backend(), client, service, host);
}

fn remember(backend: &impl Backend, client: SocketAddr, service: SocketAddr, destination: u32) {
    let settings = backend.settings();
    let ports = [client, service].map(|end| end.port().to_be());
    let control = Control::live(UDP, 0, Method::Nat, true, backend.now().tick());
    let keep = |_| Eviction::Keep;
    let inserted = match (client.ip(), service.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [from, to] = [from, to].map(|address| u32::from_ne_bytes(address.octets()));
            let key = FlowKey::new(from, to, ports[0], ports[1], UDP);
            let flow = NewFlow { key, hash: key.hash(settings.seed), control, destination };
            insert_flow(backend, settings.buckets, &flow, &keep)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [from, to] = [from, to].map(|address| WideAddress::of_bytes(address.octets()));
            let key = FlowKey::wide(from, to, ports[0], ports[1], UDP);
            let flow = NewFlow { key, hash: key.hash(settings.seed), control, destination };
            insert_flow(backend.wide(), settings.wide_buckets, &flow, &keep)
        }
        ends => panic!("families differ: {ends:?}"),
    };
    assert_eq!(inserted.outcome, Insertion::Done);
}

/// Gives [`NOBODY`] so many connections that those taken off it cannot make it have less than none.
pub fn load_nobody(both: &Both) {
    for load in [both.kernel.backend().load(NOBODY), Backend::load(both.host.backend(), NOBODY)] {
        load.unwrap().store(DestinationLoad::unit(false) * 1_000, Ordering::SeqCst);
    }
}

/// What connections hold of each plane: the load of a destination, and free ports of local addresses.
pub fn held(both: &Both, [kernel, host]: [u32; 2]) -> [(u64, u64); 2] {
    fn of(backend: &impl Backend, destination: u32) -> (u64, u64) {
        let locals = (0..).map_while(|index| backend.wide().local(index));
        let free = locals.map(free_ports).sum();
        (backend.load(destination).unwrap().load(Ordering::SeqCst), free)
    }
    [of(both.kernel.backend(), kernel), of(both.host.backend(), host)]
}

/// Takes every port of every local address away; what [`give_ports`] wants.
pub fn exhaust_ports(both: &Both) -> [Vec<u64>; 2] {
    [exhaust(both.kernel.backend().wide()), exhaust(Backend::wide(both.host.backend()))]
}

/// Puts them back.
pub fn give_ports(both: &Both, [kernel, host]: [Vec<u64>; 2]) {
    give(both.kernel.backend().wide(), &kernel);
    give(Backend::wide(both.host.backend()), &host);
}

fn exhaust(memory: &impl WideMemory<Word = AtomicU64>) -> Vec<u64> {
    let locals = (0..).map_while(|index| memory.local(index));
    locals
        .map(|local| local.head.swap(local.tail.load(Ordering::SeqCst), Ordering::SeqCst))
        .collect()
}

fn give(memory: &impl WideMemory<Word = AtomicU64>, heads: &[u64]) {
    for (head, local) in heads.iter().zip((0..).map_while(|index| memory.local(index))) {
        local.head.store(*head, Ordering::SeqCst);
    }
}

/// Keeps as many Call-IDs, and as many connections of calls, as there is room for; the last of them.
pub fn fill_calls(both: &Both) -> (CallHash, Caller) {
    let pinned = |name| Map::HashMap(MapData::from_pin(both.pins().join(name)).unwrap());
    let mut calls: HashMap<_, u64, [u64; Call::WORDS]> =
        pinned(map_names::CALLS).try_into().unwrap();
    let mut callers: HashMap<_, Caller, u64> = pinned(map_names::CALLERS).try_into().unwrap();
    let mut last = (CallHash(0), Caller::default());
    for number in 0..CALLS {
        last = (CallHash::of_bits(number.into()), [u64::from(number); 5]);
        let (hash, caller) = last;
        calls.insert(hash.0, [0; Call::WORDS], 0).unwrap();
        callers.insert(caller, hash.0, 0).unwrap();
        let host = both.host.backend();
        assert!(host.keep_call(hash, WideAddress([0; 2]), 1) && host.keep_caller(&caller, hash));
    }
    last
}

/// Forgets a Call-ID and a connection.
pub fn forget_call(both: &mut Both, (hash, caller): &(CallHash, Caller)) {
    fn forget(backend: &mut impl Backend, hash: CallHash, caller: &Caller) {
        backend.forget_call(hash);
        backend.forget_caller(caller);
    }
    forget(both.kernel.backend_mut(), *hash, caller);
    forget(both.host.backend_mut(), *hash, caller);
}

/// Forgets all of them.
pub fn forget_calls(both: &mut Both) {
    fn forget(backend: &mut impl Backend) {
        for hash in backend.calls() {
            backend.forget_call(hash);
        }
        for caller in backend.callers() {
            backend.forget_caller(&caller);
        }
    }
    forget(both.kernel.backend_mut());
    forget(both.host.backend_mut());
}
