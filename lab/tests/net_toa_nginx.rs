//! nginx's unmodified access log has the client's address, through `elvs realserver toa`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;

use elvs_lab::wire::{self, Mark, Segments};
use elvs_lab::{Cgroup, Process, Toa, Wire, output_of, wait_until};

#[test]
fn nginx_logs_the_client() {
    let group = Cgroup::enter("toa-nginx");
    let wire = Wire::new("toa-nginx");
    let directory = tempfile::tempdir().unwrap();
    // Started before the programs, as on a real server that is in service.
    let mut nginx = start(&wire, directory.path());
    let toa = Toa::start(&group, &["192.0.2.1", "2001:db8::1"]);

    let client4 = Ipv4Addr::new(198, 51, 100, 7);
    let client6 = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
    let server4 = wire::SERVER.0.to_string();
    let server6 = format!("[{}]", wire::SERVER.1);
    let option4 = [&[254, 8, 0x10, 0xe1][..], &client4.octets()].concat();
    let option6 = [&[254, 20, 0x10, 0xe1][..], &client6.octets()].concat();
    let rows = [
        (&server4, 80, Some(&option4), "198.51.100.7"),
        // `listen [::]:81 ipv6only=off`
        (&server4, 81, Some(&option4), "::ffff:198.51.100.7"),
        (&server6, 81, Some(&option6), "2001:db8:7::7"),
        (&server4, 81, Some(&option6), "2001:db8:7::7"),
        (&server4, 80, None, "192.0.2.1"),
    ];
    for (number, (server, port, option, logged)) in rows.into_iter().enumerate() {
        wire.mark(option.map(|option| Mark { segments: Segments::All, option: option.clone() }));
        let mut curl = wire.client.command("curl");
        curl.args(["-sS", "--fail", "--max-time", "20"]);
        curl.arg(format!("http://{server}:{port}/{number}"));
        assert_eq!(output_of(curl), logged, "what nginx takes for its peer");
        let line = format!("{logged} - - [");
        let request = format!("\"GET /{number} HTTP/1.1\" 200 ");
        wait_until("the request in the log", || {
            assert!(nginx.is_running(), "nginx ended: {}", nginx.log());
            let log = fs::read_to_string(directory.path().join("access.log")).unwrap_or_default();
            let found = log.lines().find(|line| line.contains(&request));
            found.inspect(|found| assert!(found.starts_with(&line), "{found}")).is_some()
        });
    }
    assert_eq!(toa.stop().get("learned"), Some(&4));
}

/// nginx with the log format that it is built with.
fn start(wire: &Wire, directory: &Path) -> Process {
    let file = directory.join("nginx.conf");
    fs::write(&file, CONFIG).unwrap();
    let mut command = wire.server.command("nginx");
    command.arg("-p").arg(directory).arg("-e").arg(directory.join("error.log"));
    command.arg("-c").arg(&file);
    let mut nginx = Process::spawn(command, &directory.join("output.log"));
    for port in [80, 81] {
        wait_until("nginx", || {
            assert!(nginx.is_running(), "nginx ended: {}", nginx.log());
            let to = SocketAddr::from((wire::SERVER.0, port));
            wire.server.run(|| TcpStream::connect(to).is_ok()).unwrap()
        });
    }
    nginx
}

/// Everything nginx writes stays below its prefix.
const CONFIG: &str = "\
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 64; }
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 80;
        listen [::]:81 ipv6only=off;
        location / { return 200 $remote_addr; }
    }
}
";
