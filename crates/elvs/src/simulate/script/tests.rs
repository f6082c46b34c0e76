use std::net::Ipv4Addr;

use super::*;

struct NoNames;

impl Names for NoNames {
    fn address_of(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_of(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn service_of(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

fn mistakes(text: &str) -> Vec<Mistake> {
    read(text, &NoNames).map(|script| script.lines.len()).unwrap_err()
}

const SERVICE: &str = "ipvsadm -A -t 192.0.2.1:80 -s rr\n";

#[test]
fn every_form_is_read() {
    let text = "\
# comment
ipvsadm -A -f 7 -s mh

elvs mark add --destination 192.0.2.0/24 --mark 7
  open a tcp 10.0.0.1:1 192.0.2.1:80 -> 10.0.0.21
close a
open a tcp 10.0.0.1:1 192.0.2.1:80 -> 10.0.0.21:8080
short udp 10.0.0.1:1 192.0.2.1:53 -> none
packet udp 10.0.0.1:1 192.0.2.1:53
wait 2678400
list
ipvsadm
";
    let script = read(text, &NoNames).unwrap();
    assert_eq!(script.connections, 4);
    let lines: Vec<usize> = script.lines.iter().map(|line| line.number).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let flow = Flow {
        protocol: Protocol::Tcp,
        client: "10.0.0.1:1".parse().unwrap(),
        service: "192.0.2.1:80".parse().unwrap(),
    };
    let opened = &script.lines[2];
    assert_eq!(opened.action, Action::Open("a".to_owned(), flow));
    assert_eq!(opened.text, "open a tcp 10.0.0.1:1 192.0.2.1:80");
    let expected: Vec<_> = script.lines.iter().filter_map(|line| line.expected).collect();
    let server = Ipv4Addr::new(10, 0, 0, 21).into();
    assert_eq!(
        expected,
        [Place::Server(server, None), Place::Server(server, Some(8080)), Place::Nobody]
    );
    let places: Vec<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["10.0.0.21", "10.0.0.21:8080", "none"]);
    assert_eq!(script.lines[7].action, Action::Wait(2_678_400));
}

#[test]
fn a_mistake_names_value_and_cure() {
    let rows = [
        ("fly away", "`fly` begins no line"),
        (
            "open a tcp 10.0.0.1:1",
            "`open a tcp 10.0.0.1:1` has another form: `open NAME PROTO SRC:PORT DST:PORT`",
        ),
        ("close b", "no connection `b` is open"),
        (
            "short icmp 10.0.0.1:1 10.0.0.2:2",
            "`icmp` is no protocol of a connection: tcp, udp and sctp are",
        ),
        ("packet sctp 10.0.0.1:1 10.0.0.2:2", "`packet sctp`: a single packet is of udp"),
        ("short tcp 10.0.0.1 10.0.0.2:2", "`10.0.0.1` is no ADDRESS:PORT"),
        ("short tcp fd00::1:1 [fd00::2]:2", "`fd00::1:1` is no ADDRESS:PORT"),
        (
            "short tcp [fd00::1]:1 10.0.0.1:2",
            "`[fd00::1]:1` and `10.0.0.1:2` are of different families",
        ),
        ("packet tcp 10.0.0.1:1 10.0.0.2:2", "`packet tcp`: a single packet is of udp"),
        ("wait -1", "`-1` is no time to wait: whole seconds up to 2678400"),
        ("wait 2678401", "`2678401` is no time to wait"),
        ("wait 1 -> none", "`wait 1` goes nowhere"),
        ("short tcp 10.0.0.1:1 10.0.0.2:2 -> rs1", "`rs1` is no place to go"),
        ("list all", "`list all` has another form: `list`"),
        ("elvs set sync_ports 2", "sync_ports is kept, and"),
        ("elvs set amemtresh 1", "`elvs set amemtresh 1`: "),
        ("elvs status", "`elvs status` is no line of a script"),
        ("elvs mark add --mark 0", "`elvs mark add --mark 0`"),
        ("elvs mark add --interface eth0 --mark 1", "a script has no interfaces"),
        ("ipvsadm -A -t 10.0.0.1:80 -x", "`ipvsadm -A -t 10.0.0.1:80 -x`"),
        (
            "ipvsadm -A -t 10.0.0.1:80 -s best",
            "Scheduler or persistence engine not found: `elvs adm -h`",
        ),
        (
            "ipvsadm -A -t [::ffff:10.0.0.1]:80",
            "IPv4-mapped address ::ffff:10.0.0.1 is not in effect",
        ),
        (
            "ipvsadm -A -u 10.0.0.1:5060 -p 60 --pe sip",
            "persistence engine sip looks into datagrams",
        ),
        ("ipvsadm -D -t 10.0.0.1:80", "No such service: add it first with -A"),
        ("ipvsadm -L -t 10.0.0.1:80", "No such service: add it first with -A"),
        ("ipvsadm -R", "a script has no standard input"),
        ("ipvsadm --start-daemon master", "nobody to synchronise connections with"),
    ];
    for (line, part) in rows {
        let found = mistakes(&format!("# first\n{line}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert_eq!(found[0].line, 2, "{line}");
        assert!(found[0].message.contains(part), "{line}: {}", found[0].message);
    }
}

#[test]
fn all_mistakes_are_found_at_once_and_none_follows_from_another() {
    let text = "\
ipvsadm -A -t 192.0.2.1:80 -s best
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80
ipvsadm -a -t 192.0.2.2:80 -r 10.0.0.1:80
open a tcp 10.0.0.1 192.0.2.1:80
close a
open b tcp 10.0.0.1:1 192.0.2.1:80
open b tcp 10.0.0.1:2 192.0.2.1:80
";
    let lines: Vec<usize> = mistakes(text).iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [1, 3, 4, 7]);
}

#[test]
fn the_table_is_tried_out_in_order() {
    let add = "ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -g\n";
    assert!(read(&format!("{SERVICE}{add}"), &NoNames).is_ok());
    let twice = mistakes(&format!("{SERVICE}{add}{add}"));
    assert_eq!(twice[0].line, 3);
    assert!(
        twice[0]
            .message
            .ends_with("Destination already exists: edit it with -e, or delete it first with -d")
    );
    let again = format!("{SERVICE}{add}ipvsadm -C\n{SERVICE}{add}");
    assert!(read(&again, &NoNames).is_ok());
}
