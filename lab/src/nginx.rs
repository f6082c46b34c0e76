//! nginx as a real server.
//!
//! **Invariant:** it answers every request with its host's name and a line's end, and the header `client` says which
//! address it saw.
//!
//! Called by [`Topology::nginx`](crate::Topology::nginx).

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use elvs_net::bed::Host;

use crate::process::{Process, wait_until};

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Name of the host it runs on.
    pub name: String,
    /// The process, ended with this value.
    pub process: Process,
}

impl Nginx {
    /// Starts nginx on port 80 of a host, its files in `directory`.
    ///
    /// # Panics
    /// If nginx is not installed or does not start.
    pub fn start(host: &Host, directory: &Path) -> Self {
        Self::start_with(host, directory, "")
    }

    /// As [`Nginx::start`], with further lines of the server's configuration, such as `listen 10000-10999;`.
    ///
    /// # Panics
    /// If nginx is not installed or does not start.
    pub fn start_with(host: &Host, directory: &Path, lines: &str) -> Self {
        let name = &host.name;
        let own = directory.join(name);
        fs::create_dir_all(&own).expect("a directory for nginx");
        let file = own.join("nginx.conf");
        fs::write(&file, config(name, lines)).expect("a configuration for nginx");
        let mut command = host.command("nginx");
        command.arg("-p").arg(&own).arg("-e").arg(own.join("error.log")).arg("-c").arg(&file);
        let mut process = Process::spawn(command, &own.join("output.log"));
        let address = SocketAddr::from((host.address, 80));
        wait_until(&format!("nginx of {name}"), || {
            assert!(process.is_running(), "nginx of {name} ended: {}", process.log());
            host.namespace.run(|| TcpStream::connect(address).is_ok()).expect("its namespace")
        });
        Self { name: name.clone(), process }
    }
}

/// Everything nginx writes stays below its prefix.
fn config(name: &str, lines: &str) -> String {
    // This file is there if the kernel knows IPv6 at all.
    let ipv6 = if Path::new("/proc/net/if_inet6").exists() {
        "listen [::]:80 ipv6only=on backlog=16384;"
    } else {
        ""
    };
    format!(
        "\
daemon off;
worker_processes 1;
pid nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    keepalive_requests 10000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 0;
    server {{
        listen 80 backlog=16384;
        {ipv6}
        {lines}
        location / {{
            default_type text/plain;
            add_header client $remote_addr;
            return 200 \"{name}\\n\";
        }}
    }}
}}
"
    )
}
