use elvs_model::{Change, Scheduler, VirtualService};

use super::*;

fn table(rules: &[&str], marks: &[u32]) -> Table {
    let mut table = Table::new();
    for mark in marks {
        let key = ServiceKey::Fwmark { mark: *mark, family: Family::Inet };
        table.apply(&Change::AddService(VirtualService::new(key, Scheduler::Rr))).unwrap();
    }
    for rule in rules {
        table.apply(&Change::AddMark(rule.parse().unwrap())).unwrap();
    }
    table
}

fn prefixes(texts: &[&str]) -> BTreeSet<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_rule_is_a_line_with_what_it_names() {
    let table = table(
        &[
            "--source 10.0.0.0/8 --destination 192.0.2.0/25 --protocol tcp --source-port 1024:65535 --destination-port 80 --interface eth1 --mark 7",
            "--destination 2001:db8::/32 --mark 8",
            "--interface gone --mark 9",
        ],
        &[7],
    );
    let interfaces = HashMap::from([("eth1".to_owned(), 4)]);
    let lines = lines(&table, &interfaces);
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
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
    assert_eq!(*second, MarkLine { mark: 9, ifindex: NOWHERE, ..nothing });
}

#[test]
fn only_rules_of_services_make_addresses_virtual() {
    let rules = ["--destination 192.0.2.0/30 --mark 7", "--destination 198.51.100.1 --mark 8"];
    assert_eq!(destinations(&table(&rules, &[7])), prefixes(&["192.0.2.0/30"]));
    let found = addresses(&destinations(&table(&rules, &[7, 8]))).unwrap();
    assert_eq!(found.len(), 5);
    let wide = ["--source 10.0.0.0/8 --mark 7"];
    assert_eq!(destinations(&table(&wide, &[7])), prefixes(&["0.0.0.0/0"]));
    assert_eq!(destinations(&table(&wide, &[])), prefixes(&[]));
}

#[test]
fn large_prefixes_are_not_told_apart() {
    assert_eq!(addresses(&prefixes(&["10.0.0.0/20"])).unwrap().len(), 4_096);
    assert_eq!(addresses(&prefixes(&["10.0.0.0/20", "192.0.2.1/32"])), None);
    assert_eq!(addresses(&prefixes(&["0.0.0.0/0"])), None);
}
