use crate::lower::tests::{read_text, service, shown};

/// Warnings of a file with an instance that has `lines`, and of `more`.
fn warnings(lines: &str, more: &str) -> Vec<String> {
    let outcome = read_text(&format!("vrrp_instance V {{\n{lines}\n}}\n{more}"));
    shown(&outcome).into_iter().filter(|line| !line.contains(": note: ")).collect()
}

#[test]
fn nopreempt_needs_to_begin_as_backup() {
    let want = ["f:2:1: warning: `nopreempt` has no effect with `state MASTER`"];
    assert_eq!(warnings("nopreempt\nstate MASTER", ""), want);
    assert_eq!(warnings("nopreempt\nstate BACKUP", ""), Vec::<String>::new());
    assert_eq!(warnings("nopreempt", ""), Vec::<String>::new());
    assert_eq!(warnings("state MASTER", ""), Vec::<String>::new());
    assert_eq!(warnings("nopreempt\nstate MASTER\nstate BACKUP", ""), Vec::<String>::new());
}

#[test]
fn addresses_that_no_instance_carries_are_said_once() {
    let three: String =
        ["192.0.2.1 80", "192.0.2.1 81", "192.0.2.2 80"].map(|head| service(head, "")).concat();
    let block = |lines: &str| format!("virtual_ipaddress {{\n{lines}\n}}");
    assert_eq!(
        warnings("", &three),
        [
            "f:4:1: warning: no vrrp_instance carries the address 192.0.2.1 (2 addresses, the first one here)"
        ]
    );
    assert_eq!(
        warnings(&block("192.0.2.1/24 dev eth0"), &three),
        ["f:22:1: warning: no vrrp_instance carries the address 192.0.2.2"]
    );
    let both = block("192.0.2.1/24") + "\nvirtual_ipaddress_excluded {\n192.0.2.2\n}";
    assert_eq!(warnings(&both, &three), Vec::<String>::new());
    let fixed = format!("static_ipaddress {{\n192.0.2.2/32 dev lo\n}}\n{three}");
    assert_eq!(warnings(&block("192.0.2.1"), &fixed), Vec::<String>::new());
    assert_eq!(shown(&read_text(&three)), Vec::<String>::new(), "without VRRP nothing is missing");
}
