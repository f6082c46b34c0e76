use std::net::Ipv4Addr;

use elvs_common::DestinationFlags;
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey, Table,
    VirtualService,
};

use super::{Director, InstallError};
use crate::backend::Backend;
use crate::heap::{FakePlane, Heap};
use crate::plane::Plane;
use crate::state::Store;

const WEB: ServiceKey = ServiceKey::Address {
    protocol: Protocol::Tcp,
    address: std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
    port: 80,
};

fn key(last: u8) -> DestinationKey {
    DestinationKey { address: Ipv4Addr::new(10, 0, 0, last).into(), port: 80 }
}

fn table(servers: &[u8]) -> Table {
    let mut table = Table::new();
    let service = VirtualService::new(WEB, Scheduler::Rr);
    table.apply(&Change::AddService(service)).unwrap();
    for last in servers {
        let destination = Destination {
            key: key(*last),
            method: ForwardingMethod::Dr,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        table.apply(&Change::AddDestination { service: WEB, destination }).unwrap();
    }
    table
}

fn available(plane: &FakePlane, last: u8) -> bool {
    let index = plane.destination_index(&WEB, &key(last)).unwrap();
    plane.backend().record(index).unwrap().flags & DestinationFlags::AVAILABLE != 0
}

#[test]
fn a_restarted_daemon_finds_table_indexes_and_turns() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path()).unwrap();
    let mut plane = Director::new(Heap::new(64), Some(store.clone()));
    plane.install(&table(&[1, 2, 3])).unwrap();
    plane.install(&table(&[1, 3])).unwrap();
    let state = store.load().unwrap().unwrap();
    assert_eq!(state.table, table(&[1, 3]));
    assert_eq!(&state.assignments, plane.assignments());
    assert_eq!(state.generation, 2);
    let before = plane.assignments().clone();
    let mut plane = Director::adopt(plane.backend, Some(store), state);
    plane.install(&table(&[1, 3])).unwrap();
    assert_eq!(plane.assignments(), &before, "nothing moves, the removed one included");
    assert!(available(&plane, 1) && available(&plane, 3) && !available(&plane, 2));
}

#[test]
fn a_change_interrupted_before_the_swap_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path()).unwrap();
    let mut plane = Director::new(Heap::new(64), Some(store.clone()));
    plane.install(&table(&[1])).unwrap();
    let assignments = plane.assignments.for_table(&table(&[2]), &plane.backend).unwrap();
    // Killed after the state file was written.
    let mut state = store.load().unwrap().unwrap();
    (state.table, state.assignments) = (table(&[2]), assignments);
    store.save(&state).unwrap();
    let state = store.load().unwrap().unwrap();
    let mut plane = Director::adopt(plane.backend, Some(store), state);
    let table = plane.table().clone();
    assert!(plane.install(&table).unwrap().swapped);
    assert!(available(&plane, 2) && !available(&plane, 1));
}

#[test]
fn a_refused_swap_leaves_tables_and_state_file_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path()).unwrap();
    let mut plane = Director::new(Heap::new(64), Some(store.clone()));
    plane.install(&table(&[1, 2])).unwrap();
    let (state, assignments) = (store.load().unwrap(), plane.assignments().clone());
    plane.backend_mut().refuse_swaps(true);
    let error = plane.install(&table(&[2, 3])).unwrap_err();
    assert!(matches!(error, InstallError::Backend(_)), "{error}");
    assert_eq!(plane.table(), &table(&[1, 2]));
    assert_eq!(plane.assignments(), &assignments);
    assert_eq!(store.load().unwrap(), state);
    assert!(available(&plane, 1) && available(&plane, 2));
    plane.backend_mut().refuse_swaps(false);
    assert!(!plane.install(&table(&[1, 2])).unwrap().swapped, "the old table is in force");
    assert!(plane.install(&table(&[2, 3])).unwrap().swapped);
    assert!(!available(&plane, 1) && available(&plane, 3));
}

#[test]
fn without_its_state_file_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(&directory.path().join("state")).unwrap();
    let mut plane = Director::new(Heap::new(64), Some(store));
    plane.install(&table(&[1])).unwrap();
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    let error = plane.install(&table(&[2])).unwrap_err();
    assert!(matches!(error, InstallError::State(_)), "{error}");
    assert!(error.to_string().contains("table.json"), "{error}");
    assert_eq!(plane.table(), &table(&[1]));
    assert_eq!(plane.destination_index(&WEB, &key(2)), None);
    assert!(available(&plane, 1));
}

#[test]
fn a_plane_is_an_object_that_threads_hand_on() {
    let mut plane: Box<dyn Plane> = Box::new(FakePlane::for_connections(64));
    plane.install(&table(&[1])).unwrap();
    let plane = std::thread::spawn(move || plane).join().unwrap();
    assert_eq!(plane.service_views().unwrap().len(), 1);
}
