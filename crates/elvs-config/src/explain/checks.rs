//! A check in words: what is tried, how often, and how many failures count.
//!
//! **Invariant:** total over [`CheckKind`].
//!
//! Part of [`super::explain`].

use elvs_model::health::{
    Check, CheckKind, HttpCheck, HttpVersion, MiscCheck, StatusRange, Target, UdpCheck, UrlCheck,
};

use super::{list, time};
use crate::text::count;

/// Lines of a check.
pub(super) fn words(check: &Check) -> Vec<String> {
    let schedule = &check.schedule;
    let every = time(schedule.delay_loop);
    let (what, more) = what(&check.kind);
    let mut lines = vec![match &check.kind {
        // Nothing is sent: the state of another thing is watched.
        CheckKind::Bfd(_) | CheckKind::File(_) => format!("{what} ({})", check.kind.name()),
        CheckKind::Tcp(_)
        | CheckKind::Http(_)
        | CheckKind::Smtp(_)
        | CheckKind::Dns(_)
        | CheckKind::Misc(_)
        | CheckKind::Ping(_)
        | CheckKind::Udp(_)
        | CheckKind::Path(_)
        | CheckKind::Agent(_) => {
            format!("every {every} {what} ({}); {}", check.kind.name(), failures(check))
        }
    }];
    lines.extend(more.into_iter().map(|line| format!("  {line}")));
    if schedule.log_all_failures {
        lines.push("  every failed try is logged".to_owned());
    }
    lines
}

fn failures(check: &Check) -> String {
    match check.retries() {
        None => "while it cannot be heard nothing changes".to_owned(),
        Some(0) => "the first failure counts".to_owned(),
        Some(retry) => {
            let between = time(check.schedule.delay_before_retry);
            let further = count(usize::try_from(retry).unwrap_or(usize::MAX), "further failure");
            let apart =
                if retry == 1 { format!("{between} later") } else { format!("{between} apart") };
            format!("after {further} {apart} it has failed")
        }
    }
}

/// What is tried, and lines that say more.
fn what(kind: &CheckKind) -> (String, Vec<String>) {
    let plain = |words: String| (words, Vec::new());
    match kind {
        CheckKind::Tcp(check) => plain(format!("a TCP connection {}", to(&check.target))),
        CheckKind::Http(check) => http(check),
        CheckKind::Smtp(check) => {
            let targets: Vec<String> = check.targets.iter().map(to).collect();
            plain(format!(
                "a mail server's greeting and HELO {} {}",
                check.helo_name,
                list(&targets)
            ))
        }
        CheckKind::Dns(check) => {
            let record = format!("{:?}", check.record).to_uppercase();
            plain(format!("a DNS question for {record} of {} {}", check.name, to(&check.target)))
        }
        CheckKind::Misc(check) => misc(check),
        CheckKind::Ping(check) => {
            let mut target = check.target.clone();
            target.address.set_port(0);
            plain(format!("an ICMP echo request {}", to(&target)))
        }
        CheckKind::Udp(check) => udp(check),
        CheckKind::File(check) => {
            let path = check.file.path.display();
            let sign = if check.reverse { "taken from" } else { "added to" };
            plain(match check.weight {
                0 if check.reverse => format!("up while the number in {path} is not 0"),
                0 => format!("up while the number in {path} is 0"),
                weight => format!("{weight} times the number in {path} is {sign} the weight"),
            })
        }
        CheckKind::Bfd(check) => {
            plain(format!("up while the BFD session {} is up", check.instance))
        }
        CheckKind::Path(check) => plain(format!(
            "a {} probe addressed to {} port {}, sent as a client's packet reaches {}, answered within {}",
            check.protocol.name(),
            check.vip,
            check.port,
            check.real_server,
            time(check.timeout)
        )),
        CheckKind::Agent(check) => {
            plain(format!("a line from the agent {} sets weight and state", to(&check.target)))
        }
    }
}

fn http(check: &HttpCheck) -> (String, Vec<String>) {
    let version = match check.version {
        HttpVersion::V1_0 => "HTTP/1.0",
        HttpVersion::V1_0Close => "HTTP/1.0 with Connection: close",
        HttpVersion::V1_1 => "HTTP/1.1",
        HttpVersion::V1_1Close => "HTTP/1.1 with Connection: close",
    };
    let mut more = Vec::new();
    let over = match &check.tls {
        None => "",
        Some(tls) => {
            more.push(match (&tls.server_name, &tls.ca) {
                (Some(name), Some(_)) => {
                    format!("TLS with the name {name}; the certificate is verified")
                }
                (Some(name), None) => {
                    format!("TLS with the name {name}; the certificate is not verified")
                }
                (None, Some(_)) => "TLS; the certificate is verified".to_owned(),
                (None, None) => "TLS; the certificate is not verified".to_owned(),
            });
            " over TLS"
        }
    };
    more.extend(check.urls.iter().map(|url| url_words(url, check.virtual_host.as_deref())));
    if check.fast_recovery {
        more.push("when it was down, the first page that is right is enough".to_owned());
    }
    let pages = count(check.urls.len(), "page");
    (format!("{pages} by {version}{over} {}", to(&check.target)), more)
}

fn url_words(url: &UrlCheck, host: Option<&str>) -> String {
    let mut wanted = Vec::new();
    if !url.status.is_empty() {
        let ranges: Vec<String> = url.status.iter().map(status).collect();
        wanted.push(format!("status {}", ranges.join(" or ")));
    }
    if url.digest.is_some() {
        wanted.push("a body of the given MD5 digest".to_owned());
    }
    if let Some(regex) = &url.regex {
        let verb = if regex.must_not_match { "does not match" } else { "matches" };
        wanted.push(format!("a body that {verb} `{}`", regex.pattern));
    }
    if wanted.is_empty() {
        wanted.push("any answer".to_owned());
    }
    let host = url.virtual_host.as_deref().or(host);
    let of = host.map(|host| format!(" of {host}")).unwrap_or_default();
    format!("{}{of}: wanted {}", url.path, list(&wanted))
}

fn status(range: &StatusRange) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

fn misc(check: &MiscCheck) -> (String, Vec<String>) {
    let limit = check.timeout.map(|t| format!(", ended after {}", time(t))).unwrap_or_default();
    let weight = if check.dynamic {
        vec!["an exit code from 2 on is the weight, and 2 more".to_owned()]
    } else {
        Vec::new()
    };
    (format!("`{}`{limit}, which must end with 0", check.script.words.join(" ")), weight)
}

fn udp(check: &UdpCheck) -> (String, Vec<String>) {
    let wanted = if check.require_reply || check.reply.is_some() {
        let begins = if check.reply.is_some() { ", beginning as given" } else { "" };
        format!("an answer of {} to {} bytes{begins}", check.min_length, check.max_length)
    } else {
        "no ICMP error".to_owned()
    };
    (format!("a UDP datagram {}; wanted is {wanted}", to(&check.target)), Vec::new())
}

/// Where to, from where, and how long.
fn to(target: &Target) -> String {
    let mut words = match target.address.port() {
        0 => format!("to {}", target.address.ip()),
        _ => format!("to {}", target.address),
    };
    match (target.source, target.source_port) {
        (Some(source), Some(port)) => words += &format!(" from {source} port {port}"),
        (Some(source), None) => words += &format!(" from {source}"),
        (None, Some(port)) => words += &format!(" from port {port}"),
        (None, None) => {}
    }
    if let Some(interface) = &target.interface {
        words += &format!(" by {interface}");
    }
    if target.mark != 0 {
        words += &format!(" with mark {}", target.mark);
    }
    words + &format!(" within {}", time(target.timeout))
}
