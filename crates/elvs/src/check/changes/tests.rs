use elvs_model::{Persistence, Protocol, Scheduler, SyncRole};

use super::*;

#[test]
fn each_change_is_a_line() {
    let key = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "192.0.2.1".parse().unwrap(),
        port: 80,
    };
    let mut service = VirtualService::new(key, Scheduler::Wrr);
    service.persistence = Some(Persistence { timeout: 50 });
    service.netmask = Netmask::V4(0xffff_ff00);
    service.on_delete = OnDelete::Reset;
    let destination = Destination {
        key: DestinationKey { address: "2001:db8::2".parse().unwrap(), port: 8080 },
        method: ForwardingMethod::Tun(TunnelKind::Ipip),
        weight: 3,
        upper_threshold: 9,
        lower_threshold: 0,
    };
    let changes = [
        Change::AddService(service.clone()),
        Change::EditService(VirtualService::new(key, Scheduler::Rr)),
        Change::DeleteService(key),
        Change::AddDestination { service: key, destination },
        Change::EditDestination {
            service: key,
            destination: Destination { upper_threshold: 0, ..destination },
        },
        Change::DeleteDestination { service: key, destination: destination.key },
        Change::AddLocalAddress { service: key, address: "192.0.2.9".parse().unwrap() },
        Change::Flush,
        Change::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 0, udp: 300 }),
        Change::StopSync(SyncRole::Backup),
    ];
    let want = [
        "+ virtual service TCP 192.0.2.1:80, wrr, persistent 50 s, netmask 255.255.255.0, on_delete reset",
        "~ virtual service TCP 192.0.2.1:80, rr",
        "- virtual service TCP 192.0.2.1:80 and its real servers",
        "+ real server [2001:db8::2]:8080 of TCP 192.0.2.1:80, TUN, weight 3, thresholds 9 and 0",
        "~ real server [2001:db8::2]:8080 of TCP 192.0.2.1:80, TUN, weight 3",
        "- real server [2001:db8::2]:8080 of TCP 192.0.2.1:80",
        "+ local address 192.0.2.9 of TCP 192.0.2.1:80",
        "- every virtual service and real server",
        "~ timeouts tcp 900 s, udp 300 s",
        "- sync daemon, backup",
    ];
    assert_eq!(lines(&changes), want);
}
