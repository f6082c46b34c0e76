//! vsftpd as a real server.
//!
//! **Invariant:** whoever logs in anonymously finds a file `name`, with the host's name and a line's end, and a file
//! `large` of [`LARGE`] bytes.
//!
//! Called by [`Topology::vsftpd`](crate::Topology::vsftpd).

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use elvs_net::bed::Host;

use crate::process::{Process, wait_until};

/// Bytes of the file `large`.
pub const LARGE: usize = 1_000_000;

/// Ports that clients are told to connect to in passive mode, first and last.
pub const PASSIVE_PORTS: (u16, u16) = (50_000, 50_099);

/// A running vsftpd.
#[derive(Debug)]
pub struct Vsftpd {
    /// Name of the host it runs on.
    pub name: String,
    /// The process, ended with this value.
    pub process: Process,
}

impl Vsftpd {
    /// Starts vsftpd on port 21 of a host, its files in `directory`.
    ///
    /// # Panics
    /// If vsftpd is not installed or does not start.
    pub fn start(host: &Host, directory: &Path) -> Self {
        let name = &host.name;
        let own = directory.join(format!("{name}-ftp"));
        let (files, empty) = (own.join("files"), own.join("empty"));
        for made in [&files, &empty] {
            fs::create_dir_all(made).expect("a directory for vsftpd");
        }
        // The anonymous user must get as far as the files.
        for opened in [directory, &own, &files, &empty] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(opened, mode).expect("permissions of a directory");
        }
        fs::write(files.join("name"), format!("{name}\n")).expect("a file to fetch");
        let large: Vec<u8> = (0..=u8::MAX).cycle().take(LARGE).collect();
        fs::write(files.join("large"), large).expect("a large file to fetch");
        let file = own.join("vsftpd.conf");
        fs::write(&file, config(&files, &empty)).expect("a configuration for vsftpd");
        let mut command = host.command("vsftpd");
        command.arg(&file);
        let mut process = Process::spawn(command, &own.join("output.log"));
        let address = SocketAddr::from((host.address, 21));
        wait_until(&format!("vsftpd of {name}"), || {
            assert!(process.is_running(), "vsftpd of {name} ended: {}", process.log());
            host.namespace.run(|| TcpStream::connect(address).is_ok()).expect("its namespace")
        });
        Self { name: name.clone(), process }
    }
}

fn config(files: &Path, empty: &Path) -> String {
    let (first, last) = PASSIVE_PORTS;
    format!(
        "listen=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
         secure_chroot_dir={}\nconnect_from_port_20=YES\npasv_min_port={first}\npasv_max_port={last}\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n",
        files.display(),
        empty.display()
    )
}
