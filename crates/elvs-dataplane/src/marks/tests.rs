use elvs_model::{Change, Scheduler, VirtualService};

use super::*;

fn table(rules: &[&str], marks: &[u32]) -> Table {
    table_of(rules, marks, Family::Inet)
}

fn table_of(rules: &[&str], marks: &[u32], family: Family) -> Table {
    let mut table = Table::new();
    for mark in marks {
        let key = ServiceKey::Fwmark { mark: *mark, family };
        table.apply(&Change::AddService(VirtualService::new(key, Scheduler::Rr))).unwrap();
    }
    for rule in rules {
        table.apply(&Change::AddMark(rule.parse().unwrap())).unwrap();
    }
    table
}

fn both() -> BTreeSet<Family> {
    [Family::Inet, Family::Inet6].into()
}

fn prefixes(texts: &[&str]) -> BTreeSet<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_rule_is_a_line_with_what_it_names() {
    let table = table(
        &[
            "--source 10.0.0.0/8 --destination 192.0.2.0/25 --protocol tcp --source-port 1024:65535 --destination-port 80 --interface eth1 --mark 7",
            "--source fd00::/9 --destination 2001:db8::/32 --destination-port 443 --protocol udp --mark 8",
            "--interface gone --mark 9",
        ],
        &[7],
    );
    let interfaces = HashMap::from([("eth1".to_owned(), 4)]);
    let Marks { rules, wide_rules, .. } = compile(&table, &both(), &BTreeSet::new(), &interfaces);
    let [first, second] = &rules[..] else { panic!("{rules:?}") };
    let word = |a: [u8; 4], b: [u8; 4]| {
        u64::from(u32::from_ne_bytes(a)) | u64::from(u32::from_ne_bytes(b)) << 32
    };
    assert_eq!(first.addresses, word([10, 0, 0, 0], [192, 0, 2, 0]));
    assert_eq!(first.masks, word([255, 0, 0, 0], [255, 255, 255, 128]));
    assert_eq!((first.client_ports, first.virtual_ports), (0xffff_0400, 0x0050_0050));
    assert_eq!((first.mark, first.ifindex, first.protocol), (7, 4, 6));
    assert_eq!(MarkLine::of_line(&first.to_line()), *first);
    let nothing =
        MarkLine { client_ports: 0xffff_0000, virtual_ports: 0xffff_0000, ..MarkLine::default() };
    let nowhere = MarkLine { mark: 9, ifindex: NOWHERE, ..nothing };
    assert_eq!(*second, nowhere);
    let wide = |text: &str| WideAddress::of_bytes(text.parse::<Ipv6Addr>().unwrap().octets()).0;
    let first = WideMark {
        client: wide("fd00::"),
        client_mask: wide("ff80::"),
        address: wide("2001:db8::"),
        address_mask: wide("ffff:ffff::"),
        rest: MarkLine { virtual_ports: 0x01bb_01bb, mark: 8, protocol: 17, ..nothing },
    };
    let second = WideMark { rest: nowhere, ..WideMark::default() };
    assert_eq!(wide_rules, [first, second], "a rule without addresses is of both families");
    let narrow = compile(&table, &[Family::Inet].into(), &BTreeSet::new(), &HashMap::new());
    assert_eq!((narrow.rules.len(), narrow.wide_rules.len()), (2, 0));
}

#[test]
fn only_rules_of_services_make_addresses_virtual() {
    let rules = ["--destination 192.0.2.0/30 --mark 7", "--destination 198.51.100.1 --mark 8"];
    assert_eq!(destinations(&table(&rules, &[7])), prefixes(&["192.0.2.0/30"]));
    let known = table(&rules, &[7, 8]);
    let marks = compile(&known, &both(), &destinations(&known), &HashMap::new());
    assert_eq!((marks.addresses.len(), marks.every_address), (5, false));
    let wide = ["--source 10.0.0.0/8 --mark 7"];
    assert_eq!(destinations(&table(&wide, &[7])), prefixes(&["0.0.0.0/0"]));
    assert_eq!(destinations(&table(&wide, &[])), prefixes(&[]));
    let rules = ["--destination fd00::8/127 --mark 7", "--protocol tcp --mark 8"];
    assert_eq!(destinations(&table(&rules, &[7])), prefixes(&[]));
    assert_eq!(destinations(&table_of(&rules, &[7], Family::Inet6)), prefixes(&["fd00::8/127"]));
    assert_eq!(destinations(&table_of(&rules, &[8], Family::Inet6)), prefixes(&["::/0"]));
    let known = table_of(&rules, &[7, 8], Family::Inet6);
    let marks = compile(&known, &both(), &destinations(&known), &HashMap::new());
    assert!(marks.every_wide_address && !marks.every_address && marks.addresses.is_empty());
}

#[test]
fn large_prefixes_are_not_told_apart() {
    assert_eq!(addresses(&prefixes(&["10.0.0.0/20"])).unwrap().len(), 4_096);
    assert_eq!(addresses(&prefixes(&["10.0.0.0/20", "192.0.2.1/32"])), None);
    assert_eq!(addresses(&prefixes(&["0.0.0.0/0"])), None);
    let found = addresses(&prefixes(&["fd00::/117", "fd00::f000/128"])).unwrap();
    assert_eq!(found.len(), 2_049);
    assert_eq!(found.last(), Some(&"fd00::f000".parse().unwrap()));
    assert_eq!(addresses(&prefixes(&["fd00::/115"])), None);
    assert_eq!(addresses(&prefixes(&["fd00::/64"])), None);
}
