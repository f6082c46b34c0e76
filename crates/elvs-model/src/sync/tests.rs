//! Lengths of messages, as a Linux 6.12 kernel settled on them.

use super::*;

#[test]
fn settles_on_the_length_that_the_kernel_does() {
    let v4 = SyncDaemon::DEFAULT_GROUP;
    let v6: IpAddr = "ff02::81".parse().unwrap();
    let cases = [
        // Role, group, MTU, asked for, settled on.
        (SyncRole::Master, v4, 1_500, 0, 1_472),
        (SyncRole::Master, v4, 65_536, 0, 1_472),
        (SyncRole::Master, v4, 1_500, 1, 1),
        (SyncRole::Master, v4, 1_500, 65_507, 65_507),
        (SyncRole::Master, v6, 1_500, 0, 1_452),
        (SyncRole::Master, v6, 1_500, 65_507, 65_487),
        (SyncRole::Backup, v4, 1_280, 0, 1_472),
        (SyncRole::Backup, v4, 9_000, 0, 8_972),
        (SyncRole::Backup, v4, 65_536, 0, 65_507),
        (SyncRole::Backup, v4, 1_500, 1, 1_024),
        (SyncRole::Backup, v6, 1_500, 0, 1_452),
    ];
    for (role, group, mtu, maxlen, settled) in cases {
        let daemon = SyncDaemon {
            role,
            interface: "eth0".to_owned(),
            syncid: 0,
            maxlen,
            group,
            port: SyncDaemon::DEFAULT_PORT,
            ttl: SyncDaemon::DEFAULT_TTL,
        };
        assert_eq!(daemon.on_interface(mtu).maxlen, settled, "{role:?} {group} {mtu} {maxlen}");
    }
}
