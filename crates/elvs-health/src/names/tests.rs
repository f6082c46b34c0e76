use elvs_model::Family;
use elvs_model::health::ServiceGroup;

use super::*;

#[test]
fn keepalived_check_data_names() {
    let tcp = Watched::Service(ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.100".parse().unwrap(),
        port: 80,
    });
    let udp = Watched::Service(ServiceKey::Address {
        protocol: Protocol::Udp,
        address: "fd00::100".parse().unwrap(),
        port: 53,
    });
    let mark = Watched::Service(ServiceKey::Fwmark { mark: 3, family: Family::Inet });
    let sctp = Some(Protocol::Sctp);
    let group = Watched::Group(ServiceGroup { name: "web".to_owned(), protocol: sctp });
    let v4 = DestinationKey { address: "10.0.0.23".parse().unwrap(), port: 0 };
    let v6 = DestinationKey { address: "fd01::21".parse().unwrap(), port: 5000 };
    for (watched, key, name, server) in [
        (&tcp, &v4, "[10.0.0.100]:tcp:80", "[10.0.0.23]:tcp:0"),
        (&udp, &v6, "[fd00::100]:udp:53", "[fd01::21]:udp:5000"),
        (&mark, &v4, "FWM 3", "[10.0.0.23]:none:0"),
        (&group, &v6, "[web]:2", "[fd01::21]:sctp:5000"),
    ] {
        assert_eq!(super::watched(watched, 2), name);
        assert_eq!(super::server(watched, key), server, "{name}");
    }
}
