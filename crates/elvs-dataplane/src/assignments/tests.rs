use elvs_model::Family;

use super::PoolSlot;

#[test]
fn mh_folds_addresses_by_the_family_of_the_service() {
    let address = |text: &str, family| {
        let address = text.parse().unwrap();
        let slot = PoolSlot { destination: 0, weight: 1, last_weight: 1, address, port: 80 };
        slot.maglev(family).address
    };
    // (destination, in a service of IPv4, in one of IPv6)
    let rows = [
        ("10.0.0.21", 0x0a00_0015, 0x0a00_0015),
        ("fd00:1:2:3:4:5:6:7", 0xfd00_0001, 0xfd00_0001 ^ 0x0002_0003 ^ 0x0004_0005 ^ 0x0006_0007),
    ];
    for (text, narrow, wide) in rows {
        assert_eq!(address(text, Family::Inet), narrow, "{text}");
        assert_eq!(address(text, Family::Inet6), wide, "{text}");
    }
}
