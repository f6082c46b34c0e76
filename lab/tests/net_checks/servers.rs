//! Real servers of the kinds that checks are for, each on a host of the bed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use elvs_lab::{Process, Topology, output_of, wait_until};
use elvs_net::bed::Host;
use nix::unistd::User;

/// Where a server's files are: they must be open to users that servers become.
pub fn directory(topology: &Topology, name: &str) -> PathBuf {
    let directory = topology.directory().join(name);
    fs::create_dir_all(&directory).unwrap();
    for open in [topology.directory(), &directory] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// Starts a server and waits until it listens.
fn start(host: &Host, arguments: &[&str], directory: &Path, port: u16) -> Process {
    let (program, arguments) = arguments.split_first().unwrap();
    let mut command = host.command(program);
    command.args(arguments).process_group(0);
    let mut process = Process::spawn(command, &directory.join("output.log"));
    let address = SocketAddr::from((host.address, port));
    wait_until(program, || {
        assert!(process.is_running(), "{program} ended: {}", process.log());
        host.namespace.run(|| TcpStream::connect(address).is_ok()).unwrap()
    });
    process
}

/// nginx on ports 80 and 443, the latter with the certificate and key of these files.
pub fn nginx(topology: &Topology, host: &Host, certificate: &Path, key: &Path) -> Process {
    let own = directory(topology, "nginx");
    let config = format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/plain;
    server {{
        listen 80;
        listen 443 ssl;
        ssl_certificate {};
        ssl_certificate_key {};
        location / {{ return 200 \"hello\"; }}
        location /busy {{ return 503; }}
        location /moved {{ return 302 /; }}
        location /host {{ return 200 \"$host $ssl_server_name\"; }}
    }}
}}
",
        certificate.display(),
        key.display()
    );
    let file = own.join("nginx.conf");
    fs::write(&file, config).unwrap();
    let (prefix, file) = (own.to_str().unwrap(), file.to_str().unwrap());
    start(host, &["nginx", "-p", prefix, "-e", "error.log", "-c", file], &own, 80)
}

/// unbound on port 53: an authority for `example.test`, which refuses `refused.test`.
pub fn unbound(topology: &Topology, host: &Host) -> Process {
    let own = directory(topology, "unbound");
    let config = format!(
        "server:
    directory: \"{0}\"
    pidfile: \"{0}/unbound.pid\"
    chroot: \"\"
    username: \"\"
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    interface: 0.0.0.0
    access-control: 0.0.0.0/0 allow
    module-config: \"iterator\"
    local-zone: \"example.test.\" static
    local-data: \"example.test. IN SOA ns.example.test. root.example.test. 1 2 3 4 5\"
    local-data: \"www.example.test. IN A 192.0.2.1\"
    local-zone: \"refused.test.\" always_refuse
remote-control:
    control-enable: no
",
        own.display()
    );
    let file = own.join("unbound.conf");
    fs::write(&file, config).unwrap();
    start(host, &["unbound", "-d", "-p", "-c", file.to_str().unwrap()], &own, 53)
}

/// postfix on port 25, which says `refusal` to HELO, if one is given.
pub fn postfix(topology: &Topology, host: &Host, refusal: Option<&str>) -> Process {
    let own = directory(topology, "postfix");
    let (queue, data) = (own.join("queue"), own.join("data"));
    let user = User::from_name("postfix").unwrap().expect("postfix is installed");
    fs::create_dir_all(&queue).unwrap();
    fs::create_dir_all(&data).unwrap();
    chown(&data, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    let refuse = refusal.map(|word| {
        fs::write(own.join("helo"), format!("/./ {word}\n")).unwrap();
        format!(
            "smtpd_delay_reject = no\nsmtpd_helo_restrictions = check_helo_access regexp:{}/helo\n",
            own.display()
        )
    });
    let main = format!(
        "compatibility_level = 3.6
queue_directory = {}
data_directory = {}
inet_interfaces = all
inet_protocols = ipv4
myhostname = mail.example.test
maillog_file = /dev/stdout
alias_maps =
alias_database =
{}",
        queue.display(),
        data.display(),
        refuse.unwrap_or_default()
    );
    fs::write(own.join("main.cf"), main).unwrap();
    fs::write(own.join("master.cf"), MASTER).unwrap();
    let own_path = own.to_str().unwrap();
    // Makes the directories of the queue. What `postfix start-fg` then starts outlives it, so the master is started
    // without it, as the leader of the group that it ends when it ends.
    let mut check = host.command("postfix");
    check.args(["-c", own_path, "check"]);
    output_of(check);
    let mut ask = host.command("postconf");
    ask.args(["-c", own_path, "-h", "daemon_directory"]);
    let master = format!("{}/master", output_of(ask).trim());
    start(host, &[&master, "-d", "-c", own_path], &own, 25)
}

/// Services of postfix that an SMTP session needs (master(5)).
const MASTER: &str = "\
smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
";
