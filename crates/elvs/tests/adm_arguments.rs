//! Command lines, restored tables and refusals, against a table in memory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a line that cannot be read fails the test")]

#[expect(dead_code, reason = "other tests of this crate use the rest")]
mod adm_support;

use std::path::Path;

use adm_support::{FixedNames, Memory, invoke, invoke_with_input};
use elvs::adm::{Command, Director, DirectorError, Failure, parse};
use elvs_model::{
    Change, ChangeError, ConnectionState, ConnectionView, ForwardingMethod, Netmask, OnDelete,
    Persistence, Protocol, Scheduler, ServiceKey, ServiceView, Timeouts, TunnelChecksum,
    TunnelKind,
};
use serde::Deserialize;

/// A command line, and what ipvsadm 1.31 made of it with a kernel that accepts everything.
#[derive(Deserialize)]
struct Line {
    words: Vec<String>,
    code: u8,
    stderr: String,
}

#[test]
fn accepts_and_refuses_what_ipvsadm_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/arguments.jsonl");
    let mut differences = Vec::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let (code, stderr) = match parse("ipvsadm", &line.words, &FixedNames) {
            Ok(_) => (0, String::new()),
            Err(Failure { code, message, .. }) => (code, message),
        };
        if (code, &stderr) != (line.code, &line.stderr) {
            let words = line.words.join(" ");
            differences
                .push(format!("{words}\n  {} {:?}\n  {code} {stderr:?}", line.code, line.stderr));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn change(line: &str) -> Change {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse("ipvsadm", &words, &FixedNames) {
        Ok(Command::Service { edit: false, service }) => Change::AddService(service),
        Ok(Command::Service { edit: true, service }) => Change::EditService(service),
        Ok(Command::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    }
}

fn key(protocol: Protocol, address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: address.parse().unwrap(), port }
}

#[test]
fn reads_a_service_with_everything() {
    let Change::AddService(service) = change(
        "-A -u [fd00::100]:sip -s sh -p 60 -M 64 --pe sip -o -b sh-port,sh-fallback --on-delete reset",
    ) else {
        panic!("no added service");
    };
    assert_eq!(service.key, key(Protocol::Udp, "fd00::100", 5060));
    assert_eq!(service.scheduler, Scheduler::Sh);
    assert_eq!(service.flags.0, 0x18);
    assert_eq!(service.persistence, Some(Persistence { timeout: 60 }));
    assert_eq!(service.netmask, Netmask::V6(64));
    assert!(service.one_packet);
    assert_eq!(service.engine.as_deref(), Some("sip"));
    assert_eq!(service.on_delete, OnDelete::Reset);
}

#[test]
fn leaves_defaults_where_nothing_is_said() {
    let Change::EditService(service) = change("-E -t 10.0.0.100:http -p") else {
        panic!("no edited service");
    };
    assert_eq!(service.key, key(Protocol::Tcp, "10.0.0.100", 80));
    assert_eq!(service.scheduler, Scheduler::Wlc);
    assert_eq!(service.persistence, Some(Persistence { timeout: 360 }));
    assert_eq!(service.netmask, Netmask::V4(u32::MAX));
    assert_eq!(service.on_delete, OnDelete::Drop);
    let Change::AddDestination { destination, .. } =
        change("-a -t 10.0.0.100:80 -r 10.0.0.21:8080")
    else {
        panic!("no added destination");
    };
    // Direct routing cannot change the port.
    assert_eq!((destination.method, destination.key.port), (ForwardingMethod::Dr, 80));
    assert_eq!(destination.weight, 1);
}

#[test]
fn reads_forwarding_methods_with_their_ports() {
    let method = |line: &str| {
        let Change::AddDestination { destination, .. } = change(line) else {
            panic!("{line}: no added destination");
        };
        (destination.method, destination.key.port)
    };
    let gue = |checksum| ForwardingMethod::Tun(TunnelKind::Gue { port: 6080, checksum });
    let start = "-a -t 10.0.0.100:80 -r 10.0.0.21:8080";
    let cases = [
        ("-m", ForwardingMethod::Nat, 8080),
        ("--fullnat", ForwardingMethod::FullNat, 8080),
        ("-i", ForwardingMethod::Tun(TunnelKind::Ipip), 80),
        ("-i --tun-type gue --tun-port 6080", gue(TunnelChecksum::None), 80),
        ("-i --tun-type gue --tun-port 6080 --tun-remcsum", gue(TunnelChecksum::Remcsum), 80),
        (
            "-i --tun-type gre --tun-csum",
            ForwardingMethod::Tun(TunnelKind::Gre { checksum: TunnelChecksum::Csum }),
            80,
        ),
    ];
    for (options, expected, port) in cases {
        assert_eq!(method(&format!("{start} {options}")), (expected, port), "{options}");
    }
    // A firewall-mark service has no port to force on its servers.
    assert_eq!(method("-a -f 5 -r 10.0.0.21:8080"), (ForwardingMethod::Dr, 8080));
}

#[test]
fn restores_line_by_line_and_stops_at_the_first_that_ipvsadm_refuses() {
    let add = |port: u16| format!("-A -t 10.0.0.100:{port} -s rr\n");
    let cases = [
        // Input, exit code, stderr, services afterwards.
        (format!("{}\n  \nipvsadm {}", add(80), add(81)), 0, "", 2),
        // The director's refusals are printed, and the next line follows.
        (format!("{}{}{}", add(80), add(80), add(81)), 0, "Service already exists\n", 2),
        (format!("{}{}", add(80), add(80)), 255, "Service already exists\n", 1),
        (format!("-C --bogus\n{}", add(80)), 0, "--bogus: unknown option\n", 1),
        (
            format!("{}# comment\n{}", add(80), add(81)),
            255,
            "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n",
            1,
        ),
        (
            format!("{}-A -t 10.0.0.100\n{}", add(80), add(81)),
            2,
            "Zero port specified for non-persistent service\n",
            1,
        ),
        (
            format!("{}-R\n{}", add(80), add(81)),
            255,
            "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n",
            1,
        ),
        (format!("-L -t 10.0.0.100:80\n{}", add(81)), 1, "No such service\n", 0),
        (format!("-v\n{}", add(81)), 0, "", 0),
    ];
    for (input, code, stderr, services) in cases {
        let mut director = Memory::default();
        let printed = invoke_with_input("ipvsadm -R", &input, &mut director);
        assert_eq!((printed.code, printed.stderr.as_str()), (code, stderr), "{input:?}");
        assert_eq!(director.table.services().len(), services, "{input:?}");
    }
}

#[test]
fn what_was_saved_restores_to_the_same_table() {
    let mut director = Memory::default();
    for line in [
        "ipvsadm -A -t 10.0.0.100:80 -s sh -p 600 -M 255.255.255.0 -b sh-port",
        "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.21 -m -w 7 -x 100 -y 50",
        "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.22 -i --tun-type gue --tun-port 6080 --tun-csum",
        "ipvsadm -A -u [fd00::100]:53 -o",
        "ipvsadm -a -u [fd00::100]:53 -r [fd00::21]:53",
        "ipvsadm -A -t 10.0.0.100:443 --on-delete reset",
        "ipvsadm --add-laddr -t 10.0.0.100:443 -z 10.0.0.200-201",
        "ipvsadm --add-laddr -t 10.0.0.100:443 -z 10.0.0.210",
        "ipvsadm -a -t 10.0.0.100:443 -r 10.0.0.21:8443 --fullnat",
        "ipvsadm -A -f 7 -6 -s mh",
        "ipvsadm -a -f 7 -6 -r [fd00::22]:0 -w 0",
    ] {
        let printed = invoke(line, &mut director);
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{line}");
    }
    let saved = invoke("ipvsadm -S -n", &mut director).stdout;
    let mut restored = Memory::default();
    let printed = invoke_with_input("ipvsadm -R", &saved, &mut restored);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert_eq!(invoke("ipvsadm -S -n", &mut restored).stdout, saved);
    // Both are maps: equal without regard to order.
    assert_eq!(restored.table, director.table);
}

#[test]
fn a_flag_without_a_name_is_listed_as_ipvsadm_does_and_saved_so_that_it_restores() {
    let mut director = Memory::default();
    assert_eq!(invoke("ipvsadm -A -t 10.0.0.100:80 -s sh -b flag-3", &mut director).code, 0);
    let listed = invoke("ipvsadm -L -n", &mut director).stdout;
    assert!(listed.contains("TCP  10.0.0.100:80 sh ()\n"), "{listed}");
    let saved = invoke("ipvsadm -S -n", &mut director).stdout;
    assert_eq!(saved, "-A -t 10.0.0.100:80 -s sh -b flag-3\n");
    let mut restored = Memory::default();
    assert_eq!(invoke_with_input("ipvsadm -R", &saved, &mut restored).code, 0);
    assert_eq!(restored.table, director.table);
}

#[test]
fn the_last_line_counts_without_a_newline_behind_its_blanks() {
    let mut director = Memory::default();
    let printed = invoke_with_input("ipvsadm -R", "-A -t 10.0.0.100:80  ", &mut director);
    assert_eq!(printed.code, 0);
    assert_eq!(director.table.services().len(), 1);
}

#[test]
fn services_of_marks_come_last_where_the_order_is_not_sorted() {
    let mut director = Memory::default();
    for line in ["-A -f 2147483648 -s rr", "-A -t 10.0.0.100:80 -s rr"] {
        assert_eq!(invoke(&format!("ipvsadm {line}"), &mut director).code, 0);
    }
    // The sort of a mark of 2^31 depends on where it stood before.
    for line in ["-L -n", "-L -n --nosort", "-S -n"] {
        let printed = invoke(&format!("ipvsadm {line}"), &mut director).stdout;
        let place = |what: &str| printed.find(what).unwrap();
        assert!(place("10.0.0.100:80") < place("-2147483648"), "{printed}");
    }
}

#[test]
fn an_unknown_scheduler_is_looked_at_after_the_service() {
    let mut director = Memory::default();
    let mut stderr = |line: &str| invoke(line, &mut director).stderr;
    let unknown = "Scheduler or persistence engine not found\n";
    assert_eq!(stderr("ipvsadm -A -t 10.0.0.100:80 -s nosuch"), unknown);
    assert_eq!(stderr("ipvsadm -E -t 10.0.0.100:80 -s nosuch"), "No such service\n");
    assert_eq!(stderr("ipvsadm -A -t 10.0.0.100:80 -s rr"), "");
    assert_eq!(stderr("ipvsadm -A -t 10.0.0.100:80 -s nosuch"), "Service already exists\n");
    assert_eq!(stderr("ipvsadm -E -t 10.0.0.100:80 -s nosuch"), unknown);
}

/// A director that refuses everything by name.
struct Refusing(ChangeError);

impl Director for Refusing {
    fn info(&mut self) -> Result<elvs_model::NodeInfo, DirectorError> {
        Err(self.0.clone().into())
    }

    fn services(&mut self) -> Result<Vec<elvs_model::ServiceView>, DirectorError> {
        Err(self.0.clone().into())
    }

    fn timeouts(&mut self) -> Result<elvs_model::Timeouts, DirectorError> {
        Err(self.0.clone().into())
    }

    fn sync_daemons(&mut self) -> Result<Vec<elvs_model::SyncDaemon>, DirectorError> {
        Err(self.0.clone().into())
    }

    fn connections(
        &mut self,
        _: &elvs_model::ConnectionFilter,
    ) -> Result<elvs::adm::ConnectionIter<'_>, DirectorError> {
        Err(self.0.clone().into())
    }

    fn apply(&mut self, _: &Change) -> Result<(), DirectorError> {
        Err(self.0.clone().into())
    }

    fn apply_all(&mut self, _: &[Change]) -> Result<(), DirectorError> {
        Err(self.0.clone().into())
    }

    fn zero(&mut self, _: Option<ServiceKey>) -> Result<(), DirectorError> {
        Err(self.0.clone().into())
    }
}

#[test]
fn a_refusal_is_printed_as_it_is_and_exits_255() {
    let cases = [
        (ChangeError::OutOfRange, "Numerical result out of range\n"),
        (ChangeError::Unsupported("scheduler sed is not".to_owned()), "scheduler sed is not\n"),
    ];
    for (error, stderr) in cases {
        let printed = invoke("ipvsadm -A -t 10.0.0.100:80", &mut Refusing(error));
        assert_eq!((printed.code, printed.stderr.as_str()), (255, stderr));
    }
}

/// Connections of three clients.
fn with_connections() -> Memory {
    let connection = |client: &str, server: &str, state| ConnectionView {
        protocol: 6,
        expires_s: 60,
        state,
        client: client.parse().unwrap(),
        service: "10.0.0.100:80".parse().unwrap(),
        destination: server.parse().unwrap(),
        engine: None,
    };
    let mut director = Memory::default();
    director.connections = vec![
        connection("203.0.113.5:4000", "10.0.0.21:80", ConnectionState::Established),
        connection("203.0.113.6:4001", "10.0.0.22:80", ConnectionState::SynRecv),
        connection("198.51.100.7:4002", "10.0.0.22:80", ConnectionState::FinWait),
    ];
    director
}

#[test]
fn filters_of_connections_list_what_they_name() {
    let cases = [
        ("-Lnc", vec!["4000", "4001", "4002"]),
        ("-Lnc --client 203.0.113.0/24", vec!["4000", "4001"]),
        ("-Lnc --client 203.0.113.5 --client 198.51.100.0/24", vec!["4000", "4002"]),
        ("-Lnc --client 203.0.113.0/24:4001", vec!["4001"]),
        ("-Lnc --client=203.0.113.5:4001", vec![]),
        ("-Lnc -r 10.0.0.22", vec!["4001", "4002"]),
        ("-L -r 10.0.0.22:http --numeric -c", vec!["4001", "4002"]),
        ("-Lnc -r 10.0.0.21:80 -r 10.0.0.22:81", vec!["4000"]),
        ("-Lnc --real-server 10.0.0.20/30", vec!["4000", "4001", "4002"]),
        ("-Lnc --state SYN_RECV,fin_wait", vec!["4001", "4002"]),
        ("-Lnc --state ESTABLISHED --state FIN_WAIT -r 10.0.0.22", vec!["4002"]),
    ];
    for (line, ports) in cases {
        let printed = invoke(&format!("ipvsadm {line}"), &mut with_connections());
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{line}");
        let listed: Vec<&str> = printed.stdout.lines().skip(2).collect();
        assert_eq!(listed.len(), ports.len(), "{line}: {listed:?}");
        for (line, port) in listed.iter().zip(ports) {
            assert!(line.contains(&format!(":{port} ")), "{line}");
        }
    }
}

#[test]
fn filters_are_refused_where_ipvsadm_would_and_where_they_are_none() {
    let cases = [
        ("-L -r 10.0.0.21", "Illegal 'real-server' option with the 'list' command\n"),
        ("-Lc -r 10.0.0.256", "illegal real server address[:port] specified\n"),
        (
            "-Ln --client 10.0.0.1",
            "--client chooses connections: write it with --connection (-c)\n",
        ),
        ("-L --state NONE", "--state chooses connections: write it with --connection (-c)\n"),
        ("-Sn --client 10.0.0.1", "Illegal 'client' option with the 'save' command\n"),
        ("-S --json", "Illegal 'json' option with the 'save' command\n"),
        ("-L --json --json", "multiple 'json' options specified\n"),
        (
            "-Lc --client www",
            "--client: `www` is no address or prefix with an optional port: write for example 203.0.113.0/24, \
             203.0.113.5:443 or [2001:db8::/32]:443\n",
        ),
        (
            "-Lc --state OPEN",
            "--state: `OPEN` is no state of a connection: write one of NONE, ESTABLISHED, SYN_SENT, SYN_RECV, \
             FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK, INIT1, INIT, C-SENT, C-REPLIED, \
             C-WAIT, COOKIE, C-ECHOED, S-SENT, S-RECEIVED, S-ACK-SENT, REJECTED, CLOSED, UDP, ASSURED\n",
        ),
    ];
    for (line, stderr) in cases {
        let printed = invoke(&format!("ipvsadm {line}"), &mut with_connections());
        assert_eq!((printed.code, printed.stderr.as_str()), (2, stderr), "{line}");
    }
}

#[test]
fn letters_of_full_nat_are_unknown_to_the_commands_of_ipvsadm() {
    for (line, stderr) in [
        ("-L -z 10.0.0.200", "-z: unknown option\n"),
        ("-A -t 10.0.0.100:80 -Fdpdk1", "-Fdpdk1: unknown option\n"),
        ("-LnF", "-LnF: unknown option\n"),
    ] {
        let printed = invoke(&format!("ipvsadm {line}"), &mut full_nat());
        assert_eq!((printed.code, printed.stderr.as_str()), (255, stderr), "{line}");
    }
}

/// A service by full NAT.
fn full_nat() -> Memory {
    let mut director = Memory::default();
    for line in [
        "-A -t 10.0.0.100:80 -s rr",
        "-A -t 10.0.0.100:81 -s rr",
        "--add-laddr -t 10.0.0.100:80 -z 10.0.0.200-201",
        "-a -t 10.0.0.100:80 -r 10.0.0.21:8080 --fullnat",
    ] {
        let printed = invoke(&format!("ipvsadm {line}"), &mut director);
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{line}");
    }
    director
}

#[test]
fn local_addresses_are_listed_with_their_ports() {
    let mut director = full_nat();
    let listed = "Prot LocalAddress:Port\n  \
         -> FullNatAddress               PortsInUse PortsFree  Exhausted\nTCP  10.0.0.100:80\n  \
         -> 10.0.0.200                   3          64509      7\n  \
         -> 10.0.0.201                   3          64509      7\n";
    for line in ["--list-laddr -n", "--get-laddr -n -t 10.0.0.100:80"] {
        assert_eq!(invoke(&format!("ipvsadm {line}"), &mut director).stdout, listed, "{line}");
    }
    let nobody = invoke("ipvsadm --list-laddr -t 10.0.0.100:82", &mut director);
    assert_eq!((nobody.code, nobody.stderr.as_str()), (1, "No such service\n"));
    let json = invoke("ipvsadm --list-laddr --json", &mut director).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["local_addresses"][1]["address"], "10.0.0.201");
    assert_eq!(json[0]["local_addresses"][1]["exhausted"], 7);
    let plain = invoke("ipvsadm -Ln", &mut director).stdout;
    assert!(
        plain.contains("  -> 10.0.0.21:8080               FullNat 1      0          0"),
        "{plain}"
    );
    assert!(
        invoke("ipvsadm --del-laddr -t 10.0.0.100:80 -z 10.0.0.200", &mut director)
            .stderr
            .is_empty()
    );
    assert!(!invoke("ipvsadm --list-laddr", &mut director).stdout.contains("10.0.0.200"));
}

#[test]
fn a_range_of_local_addresses_is_added_whole_or_not_at_all() {
    let mut director = full_nat();
    let before = director.table.clone();
    let printed = invoke("ipvsadm --add-laddr -t 10.0.0.100:80 -z 10.0.0.199-200", &mut director);
    assert_eq!((printed.code, printed.stderr.as_str()), (255, "Local address already exists\n"));
    assert_eq!(director.table, before);
}

#[test]
fn on_delete_is_listed_and_refused_where_it_means_nothing() {
    let mut director = Memory::default();
    assert_eq!(
        invoke("ipvsadm -A -t 10.0.0.100:80 -s rr --on-delete reset", &mut director).code,
        0
    );
    let listed = invoke("ipvsadm -L -n", &mut director).stdout;
    assert!(listed.contains("TCP  10.0.0.100:80 rr on-delete reset\n"), "{listed}");
    let saved = invoke("ipvsadm -S -n", &mut director).stdout;
    assert_eq!(saved, "-A -t 10.0.0.100:80 -s rr --on-delete reset\n");
    for (line, stderr) in [
        (
            "-A -t 10.0.0.100:81 --on-delete abort",
            "`abort' is no value of --on-delete: write drop or reset\n",
        ),
        (
            "-d -t 10.0.0.100:80 -r 10.0.0.21 --on-delete reset",
            "Illegal 'on-delete' option with the 'delete-server' command\n",
        ),
    ] {
        let printed = invoke(&format!("ipvsadm {line}"), &mut director);
        assert_eq!((printed.code, printed.stderr.as_str()), (2, stderr), "{line}");
    }
    // As with everything else of a service, what is not said again is as if it never was.
    assert_eq!(invoke("ipvsadm -E -t 10.0.0.100:80 -s rr", &mut director).code, 0);
    assert_eq!(invoke("ipvsadm -S -n", &mut director).stdout, "-A -t 10.0.0.100:80 -s rr\n");
}

#[test]
fn mistakes_with_local_addresses_are_named() {
    let cases = [
        (
            "--add-laddr -t 10.0.0.100:80",
            "You need to supply the 'local-address' option for the 'add-laddr' command\n",
        ),
        (
            "--add-laddr -z 10.0.0.200",
            "You need to supply the 'service-address' option for the 'add-laddr' command\n",
        ),
        (
            "-L --local-address 10.0.0.200",
            "Illegal 'local-address' option with the 'list' command\n",
        ),
        (
            "--add-laddr -t 10.0.0.100:80 -z x",
            "--local-address (-z): `x` is not an address (A), a range (A-B) or a prefix (A/length)\n",
        ),
        (
            "--add-laddr -t 10.0.0.100:80 -z 10.0.0.200 -F dpdk1",
            "--ifname (-F): ELVS finds the interface of a local address by its routes; leave the option out\n",
        ),
        (
            "-a -t 10.0.0.100:80 -r 10.0.0.21 -m --fullnat",
            "multiple 'forwarding-method' options specified\n",
        ),
        // DPVS's letter for full NAT is ipvsadm's for the flags of a scheduler.
        ("-a -t 10.0.0.100:80 -r 10.0.0.21 -b x", "invalid scheduler flag `x'\n"),
    ];
    for (line, stderr) in cases {
        let printed = invoke(&format!("ipvsadm {line}"), &mut full_nat());
        assert_eq!((printed.code, printed.stderr.as_str()), (2, stderr), "{line}");
    }
}

#[test]
fn json_is_that_of_the_api() {
    let mut director = with_connections();
    for line in ["-A -t 10.0.0.100:80 -s rr", "-a -t 10.0.0.100:80 -r 10.0.0.21", "-A -f 5"] {
        assert_eq!(invoke(&format!("ipvsadm {line}"), &mut director).code, 0);
    }
    let mut json = |line: &str| invoke(&format!("ipvsadm {line} --json"), &mut director);
    let lines = json("-Lc --state ESTABLISHED").stdout;
    let listed: ConnectionView = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(listed.client.port(), 4000);
    let services: Vec<ServiceView> = serde_json::from_str(&json("-Ln").stdout).unwrap();
    assert_eq!(services.len(), 2);
    let one: Vec<ServiceView> = serde_json::from_str(&json("-L -t 10.0.0.100:80").stdout).unwrap();
    assert_eq!(one, services[..1]);
    assert_eq!(one[0].destinations.len(), 1);
    let unknown = json("-L -t 10.0.0.100:81");
    assert_eq!((unknown.code, unknown.stderr.as_str()), (1, "No such service\n"));
    let timeouts: Timeouts = serde_json::from_str(&json("-L --timeout").stdout).unwrap();
    assert_eq!(timeouts.tcp, 900);
    assert_eq!(json("-L --daemon").stdout, "[]\n");
}
