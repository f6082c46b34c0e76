//! `ipvsadm -L` of services and destinations, and `-S`.
//!
//! **Invariant:** output is ipvsadm 1.31's to the byte, trailing blanks included.
//!
//! Called by the runner.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use elvs_model::{
    DestinationView, ForwardingMethod, Netmask, OnDelete, Rates, ServiceView, Statistics,
    TunnelChecksum, TunnelKind, VirtualService,
};

use super::command::{Columns, List};
use super::format::{Namer, cut, flags, large, port_protocol};
use super::order::{marks_last, sort_destinations, sort_services};

/// The first line of a listing of everything; the version is that of the kernel's IPVS which is matched.
pub(super) fn banner(size: u32, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "IP Virtual Server version 1.2.1 (size={size})")
}

/// Titles, then every service with its destinations.
pub(super) fn list(
    mut services: Vec<ServiceView>,
    list: &List,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    title(list.columns, out)?;
    if list.unsorted {
        marks_last(&mut services);
    } else {
        sort_services(&mut services);
    }
    for mut view in services {
        service(&view, list, namer, out)?;
        if !list.unsorted {
            sort_destinations(&mut view.destinations);
        }
        for destination in &view.destinations {
            destination_line(&view, destination, list, namer, out)?;
        }
    }
    Ok(())
}

/// The commands that make these services.
pub(super) fn save(
    mut services: Vec<ServiceView>,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    sort_services(&mut services);
    for mut view in services {
        let service = &view.service;
        let name = namer.saved_service(&service.key);
        write!(out, "-A {name} -s {}", service.scheduler)?;
        if let Some(persistence) = service.persistence {
            write!(out, " -p {}", persistence.timeout)?;
            if let Some(mask) = mask(service) {
                write!(out, " -M {mask}")?;
            }
        }
        if let Some(engine) = &service.engine {
            write!(out, " --pe {engine}")?;
        }
        if service.one_packet {
            out.write_all(b" -o")?;
        }
        match flags(service).as_deref() {
            None => {}
            // ipvsadm writes `-b` without a value, which no `-R` reads.
            Some("") => out.write_all(b" -b flag-3")?,
            Some(flags) => write!(out, " -b {flags}")?,
        }
        if service.on_delete == OnDelete::Reset {
            write!(out, " --on-delete {}", service.on_delete.name())?;
        }
        writeln!(out)?;
        for local in &view.local_addresses {
            writeln!(out, "--add-laddr {name} -z {}", local.address)?;
        }
        sort_destinations(&mut view.destinations);
        for view_of in &view.destinations {
            save_destination(&view.service, &name, view_of, namer, out)?;
        }
    }
    Ok(())
}

/// Services with local addresses of full NAT, and the ports of these: ELVS's own.
pub(super) fn local_addresses(
    mut services: Vec<ServiceView>,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "Prot LocalAddress:Port")?;
    writeln!(out, "  -> FullNatAddress               PortsInUse PortsFree  Exhausted")?;
    sort_services(&mut services);
    for view in services.iter().filter(|view| !view.local_addresses.is_empty()) {
        writeln!(out, "{}", namer.listed_service(&view.service.key))?;
        for local in &view.local_addresses {
            let (address, in_use, free) = (local.address.to_string(), local.in_use, local.free);
            writeln!(out, "  -> {address:<28} {in_use:<10} {free:<10} {}", local.exhausted)?;
        }
    }
    Ok(())
}

fn title(columns: Columns, out: &mut dyn Write) -> io::Result<()> {
    const PLAIN: &str = "Prot LocalAddress:Port Scheduler Flags";
    const REMOTE: &str = "  -> RemoteAddress:Port";
    const LOCAL: &str = "Prot LocalAddress:Port";
    let counters = |[a, b, c, d, e]: [&str; 5]| {
        format!("{LOCAL:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{REMOTE}")
    };
    let text = match columns {
        Columns::Plain => {
            format!("{PLAIN}\n{REMOTE}           Forward Weight ActiveConn InActConn")
        }
        Columns::Tunnels => {
            format!("{PLAIN}\n{REMOTE}           Forward TunnelInfo    Weight ActiveConn InActConn")
        }
        Columns::Statistics => counters(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Columns::Rates => counters(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Columns::Thresholds => format!(
            "{LOCAL:<33} {:<10} {:<10} {:<10} {:<10}\n{REMOTE}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Columns::Persistent => format!(
            "{LOCAL:<33} {:<9} {:<11} {:<10} {:<10}\n{REMOTE}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    };
    writeln!(out, "{text}")
}

fn service(
    view: &ServiceView,
    list: &List,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let service = &view.service;
    let name = namer.listed_service(&service.key);
    match list.columns {
        Columns::Statistics => {
            let numbers = statistics(&view.statistics).map(|n| large(n, list.exact));
            return writeln!(out, "{name:<33}{}", numbers.concat());
        }
        Columns::Rates => {
            let numbers = rates(&view.rates).map(|n| large(n, list.exact));
            return writeln!(out, "{name:<33}{}", numbers.concat());
        }
        Columns::Plain | Columns::Thresholds | Columns::Persistent | Columns::Tunnels => {}
    }
    write!(out, "{name} {}", service.scheduler)?;
    if let Some(flags) = flags(service) {
        write!(out, " ({flags})")?;
    }
    if let Some(persistence) = service.persistence {
        write!(out, " persistent {}", persistence.timeout)?;
        if let Some(mask) = mask(service) {
            write!(out, " mask {mask}")?;
        }
        if let Some(engine) = &service.engine {
            write!(out, " pe {engine}")?;
        }
    }
    if service.one_packet {
        out.write_all(b" ops")?;
    }
    if service.on_delete == OnDelete::Reset {
        write!(out, " on-delete {}", service.on_delete.name())?;
    }
    writeln!(out)
}

fn destination_line(
    service: &ServiceView,
    view: &DestinationView,
    list: &List,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let destination = &view.destination;
    let key = destination.key;
    let name = namer.endpoint(key.address, key.port, port_protocol(&service.service.key));
    let name = match key.address {
        IpAddr::V4(_) => cut(&name, 28),
        IpAddr::V6(_) => &name,
    };
    let (active, inactive, weight) = (view.active, view.inactive, destination.weight);
    let method = destination.method.listing_name();
    write!(out, "  -> {name:<28}")?;
    match list.columns {
        Columns::Plain => {
            writeln!(out, " {method:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        Columns::Tunnels => {
            let tunnel = tunnel(destination.method);
            writeln!(out, " {method:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}")
        }
        Columns::Statistics => {
            let numbers = statistics(&view.statistics).map(|n| large(n, list.exact));
            writeln!(out, "{}", numbers.concat())
        }
        Columns::Rates => {
            let [connections, in_packets, out_packets, in_bytes, out_bytes] = rates(&view.rates);
            let bytes = [in_bytes, out_bytes].map(|n| large(n, list.exact)).concat();
            writeln!(out, " {connections:8} {in_packets:8} {out_packets:8}{bytes}")
        }
        Columns::Thresholds => {
            let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
            writeln!(out, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        Columns::Persistent => {
            let persistent = view.persistent;
            writeln!(out, " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
        }
    }
}

fn save_destination(
    service: &VirtualService,
    name: &str,
    view: &DestinationView,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let destination = &view.destination;
    let key = destination.key;
    let server = namer.endpoint(key.address, key.port, port_protocol(&service.key));
    let (method, tunnel) = match destination.method {
        ForwardingMethod::Nat => ("-m", String::new()),
        ForwardingMethod::Dr => ("-g", String::new()),
        ForwardingMethod::FullNat => ("--fullnat", String::new()),
        ForwardingMethod::Tun(kind) => ("-i", saved_tunnel(kind)),
    };
    write!(out, "-a {name} -r {server} {method} -w {}{tunnel}", destination.weight)?;
    // ipvsadm 1.31 forgets the thresholds here, and a table that is saved and restored loses them.
    if destination.upper_threshold != 0 {
        write!(out, " -x {}", destination.upper_threshold)?;
    }
    if destination.lower_threshold != 0 {
        write!(out, " -y {}", destination.lower_threshold)?;
    }
    writeln!(out)
}

fn saved_tunnel(kind: TunnelKind) -> String {
    let option = |checksum| match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Csum => "--tun-csum",
        TunnelChecksum::Remcsum => "--tun-remcsum",
    };
    match kind {
        TunnelKind::Ipip => " --tun-type ipip".to_owned(),
        TunnelKind::Gue { port, checksum } => {
            format!(" --tun-type gue --tun-port {port} {}", option(checksum))
        }
        TunnelKind::Gre { checksum } => format!(" --tun-type gre {}", option(checksum)),
    }
}

/// The `TunnelInfo` column.
fn tunnel(method: ForwardingMethod) -> String {
    let short = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Csum => "+c",
        TunnelChecksum::Remcsum => "r+c",
    };
    match method {
        ForwardingMethod::Nat | ForwardingMethod::Dr | ForwardingMethod::FullNat => {
            "n/a".to_owned()
        }
        ForwardingMethod::Tun(TunnelKind::Ipip) => "ipip".to_owned(),
        ForwardingMethod::Tun(TunnelKind::Gue { port, checksum }) => {
            format!("gue:{port}:{}", short(checksum))
        }
        ForwardingMethod::Tun(TunnelKind::Gre { checksum }) => format!("gre:{}", short(checksum)),
    }
}

/// The mask of persistent clients, unless it groups nobody.
fn mask(service: &VirtualService) -> Option<String> {
    match service.netmask {
        Netmask::V4(u32::MAX) | Netmask::V6(128) => None,
        Netmask::V4(mask) => Some(Ipv4Addr::from(mask).to_string()),
        Netmask::V6(prefix) => Some(prefix.to_string()),
    }
}

const fn statistics(s: &Statistics) -> [u64; 5] {
    [s.connections, s.in_packets, s.out_packets, s.in_bytes, s.out_bytes]
}

const fn rates(r: &Rates) -> [u64; 5] {
    [r.connections, r.in_packets, r.out_packets, r.in_bytes, r.out_bytes]
}
