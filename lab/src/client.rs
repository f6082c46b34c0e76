//! The client's programs: curl and wrk.
//!
//! **Invariant:** what they report is parsed in full; a line that is not understood fails the test.
//!
//! Called by the lab's tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use elvs_net::bed::VIP;

use crate::Topology;
use crate::process::output_of;

/// What wrk reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrk {
    /// Requests that were answered.
    pub requests: u64,
    /// Connections, reads, writes that failed or timed out.
    pub socket_errors: u64,
    /// Answers with a status other than 2xx or 3xx.
    pub refused: u64,
}

impl Topology {
    /// Sends `number` requests to the VIP with curl, one connection each and one after the other; returns the first
    /// line of each answer.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn curl(&self, number: u32) -> Vec<String> {
        self.curl_to(VIP.into(), number)
    }

    /// As [`Topology::curl`], to an address of either family.
    ///
    /// # Panics
    /// If one of the requests fails.
    pub fn curl_to(&self, address: IpAddr, number: u32) -> Vec<String> {
        let mut command = self.client("curl");
        command.args(["-sS", "--fail", "--max-time", "120", "-H", "Connection: close"]);
        command.arg(format!("http://{}/?[1-{number}]", SocketAddr::from((address, 80))));
        output_of(command).lines().map(str::to_owned).collect()
    }

    /// As [`Topology::curl`], counted by answer.
    pub fn curl_shares(&self, number: u32) -> BTreeMap<String, u32> {
        self.curl_shares_of(VIP.into(), number)
    }

    /// As [`Topology::curl_to`], counted by answer.
    ///
    /// # Panics
    /// If one of the requests fails.
    pub fn curl_shares_of(&self, address: IpAddr, number: u32) -> BTreeMap<String, u32> {
        let mut shares = BTreeMap::new();
        for answer in self.curl_to(address, number) {
            *shares.entry(answer).or_default() += 1;
        }
        shares
    }

    /// Sends so many bytes to the VIP in one request, in packets as large as they get; returns the HTTP status.
    ///
    /// # Panics
    /// If the request fails.
    pub fn upload(&self, bytes: usize) -> String {
        self.upload_to(VIP.into(), bytes)
    }

    /// As [`Topology::upload`], to an address of either family.
    ///
    /// # Panics
    /// If the request fails.
    pub fn upload_to(&self, address: IpAddr, bytes: usize) -> String {
        let file = self.directory().join("upload");
        std::fs::write(&file, vec![b'.'; bytes]).expect("a file to send");
        let mut command = self.client("curl");
        command.args(["-sS", "--max-time", "30", "-H", "Expect:", "-o", "/dev/null"]);
        command.args(["-w", "%{http_code} %{size_upload}", "--data-binary"]);
        let url = format!("http://{}/", SocketAddr::from((address, 80)));
        command.arg(format!("@{}", file.display())).arg(url);
        let answer = output_of(command);
        let (status, sent) = answer.split_once(' ').expect("status and size");
        assert_eq!(number(sent, &answer), bytes as u64, "bytes sent");
        status.to_owned()
    }

    /// Loads the VIP with wrk: `connections` at a time for some seconds; `keep_alive` or one request per connection.
    ///
    /// # Panics
    /// If wrk fails or its report is not understood.
    pub fn wrk(&self, connections: u32, seconds: u32, keep_alive: bool) -> Wrk {
        let mut command = self.client("wrk");
        command.args(["-t", "2", "-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
        if !keep_alive {
            command.args(["-H", "Connection: close"]);
        }
        // With the port as a number: wrk looks `http` up in /etc/services, which a small machine does not have.
        command.arg(format!("http://{VIP}:80/"));
        Wrk::parse(&output_of(command))
    }
}

/// One TCP connection of the client that stays open.
#[derive(Debug)]
pub struct Session(BufReader<TcpStream>);

impl Topology {
    /// Opens a connection to the VIP.
    ///
    /// # Panics
    /// If it is refused.
    pub fn session(&self) -> Session {
        let to = SocketAddr::from((VIP, 80));
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let connected = self.bed().client.namespace.run(connect).expect("the client's namespace");
        let stream = connected.expect("a connection to the VIP");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Session(BufReader::new(stream))
    }
}

impl Session {
    /// Sends one request and returns the first line of the answer.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn get(&mut self) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: {VIP}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).expect("a request");
        let mut line = String::new();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).expect("an answer");
            assert_ne!(line, "", "the connection was closed");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned()
    }
}

impl Wrk {
    /// Reads wrk's report.
    ///
    /// # Panics
    /// If it holds no number of requests.
    pub fn parse(report: &str) -> Self {
        let mut wrk = Self::default();
        let mut found = false;
        for line in report.lines().map(str::trim) {
            if let Some((requests, _)) = line.split_once(" requests in ") {
                wrk.requests = number(requests, report);
                found = true;
            } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
                let each = errors.split(", ").filter_map(|error| error.rsplit(' ').next());
                wrk.socket_errors = each.map(|count| number(count, report)).sum();
            } else if let Some(refused) = line.strip_prefix("Non-2xx or 3xx responses: ") {
                wrk.refused = number(refused, report);
            }
        }
        assert!(found, "no number of requests in wrk's report:\n{report}");
        wrk
    }
}

fn number(text: &str, report: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no number in:\n{report}"))
}

/// How long a connection or an answer may take: two lost packets are survived.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
