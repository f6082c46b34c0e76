//! `ipvsadm -L --json`, which is ELVS's own: the types of the API as they are.
//!
//! **Invariant:** of connections no more than one is held at a time, as in the listing for people.
//!
//! Called by the runner.

use std::io::{self, Write};

use elvs_model::{LocalAddressView, ServiceKey, ServiceView};
use serde::Serialize;

use super::command::{List, Subject};
use super::director::Director;
use super::order::{sort_destinations, sort_services};
use super::run::{Trouble, service, services_of};

/// Local addresses of a service.
#[derive(Serialize)]
struct LocalAddresses {
    service: ServiceKey,
    local_addresses: Vec<LocalAddressView>,
}

/// Services, timeouts or daemons as one value; connections as one object a line.
pub(super) fn show(
    list: &List,
    director: &mut dyn Director,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let mut services = match &list.subject {
        Subject::All => director.services()?,
        Subject::Service(key) => service(*key, director)?,
        Subject::Connections(filter) => {
            for connection in director.connections(filter)? {
                line(&connection?, out)?;
            }
            return Ok(());
        }
        Subject::Timeouts => return Ok(value(&director.timeouts()?, out)?),
        Subject::LocalAddresses(key) => {
            let mut services = services_of(*key, director)?;
            services.retain(|view| !view.local_addresses.is_empty());
            sort_services(&mut services);
            let of = |view: ServiceView| LocalAddresses {
                service: view.service.key,
                local_addresses: view.local_addresses,
            };
            let services: Vec<_> = services.into_iter().map(of).collect();
            return Ok(value(&services, out)?);
        }
        Subject::Daemons => return Ok(value(&director.sync_daemons()?, out)?),
    };
    if !list.unsorted {
        sort_services(&mut services);
        for view in &mut services {
            sort_destinations(&mut view.destinations);
        }
    }
    Ok(value(&services, out)?)
}

fn value(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
