//! `lvs_method` (`lb_kind`): NAT, DR, FNAT (FULLNAT) and TUN with its kinds of tunnel.
//!
//! **Invariant:** a tunnel by GUE has a port, the others have none; only GUE has remote checksums.
//!
//! Called for virtual servers and real servers.

use elvs_model::{ForwardingMethod, TunnelChecksum, TunnelKind};

use super::value;
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Nat,
    Dr,
    Tun,
    FullNat,
}

const METHODS: [(&str, Method); 5] = [
    ("NAT", Method::Nat),
    ("DR", Method::Dr),
    ("TUN", Method::Tun),
    ("FNAT", Method::FullNat),
    ("FULLNAT", Method::FullNat),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    Ipip,
    Gue,
    Gre,
}

const TUNNELS: [(&str, Tunnel); 3] =
    [("ipip", Tunnel::Ipip), ("gue", Tunnel::Gue), ("gre", Tunnel::Gre)];

#[derive(Clone, Copy)]
enum TunnelOption {
    Type,
    Port,
    Checksum(TunnelChecksum),
}

const OPTIONS: [(&str, TunnelOption); 5] = [
    ("type", TunnelOption::Type),
    ("port", TunnelOption::Port),
    ("nocsum", TunnelOption::Checksum(TunnelChecksum::None)),
    ("csum", TunnelOption::Checksum(TunnelChecksum::Csum)),
    ("remcsum", TunnelOption::Checksum(TunnelChecksum::Remcsum)),
];

/// What the words after the method say.
#[derive(Default)]
struct TunnelOptions<'a> {
    kind: Option<(Tunnel, &'a Word)>,
    port: Option<(u16, &'a Word)>,
    checksum: Option<(TunnelChecksum, &'a Word)>,
}

/// The forwarding method of a statement, if it can be read.
pub(super) fn method(item: &Item, reporter: &mut Reporter) -> Option<ForwardingMethod> {
    let (word, rest) = item.arguments.split_first()?;
    let method = value::name("forwarding method", word, &METHODS, reporter)?;
    let options = options(rest, reporter)?;
    match method {
        Method::Tun => tunnel(item.head(), &options, reporter).map(ForwardingMethod::Tun),
        Method::Nat | Method::Dr | Method::FullNat => {
            if let Some(extra) = rest.first() {
                let message =
                    format!("{} belongs to TUN, not to {}", quote(&extra.text), word.text);
                reporter
                    .error(Code::ExtraArgument, extra.extent, message)
                    .help(format!("write `{} {}`", item.keyword.text, word.text));
                return None;
            }
            Some(match method {
                Method::Nat => ForwardingMethod::Nat,
                Method::FullNat => ForwardingMethod::FullNat,
                Method::Dr | Method::Tun => ForwardingMethod::Dr,
            })
        }
    }
}

fn options<'a>(words: &'a [Word], reporter: &mut Reporter) -> Option<TunnelOptions<'a>> {
    let mut options = TunnelOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let option = value::name("tunnel option", word, &OPTIONS, reporter)?;
        let mut argument = || {
            let next = words.next();
            if next.is_none() {
                let message = format!("`{}` has no value", word.text);
                let help = match option {
                    TunnelOption::Type => "write `type ipip`, `type gue port N` or `type gre`",
                    TunnelOption::Port | TunnelOption::Checksum(_) => {
                        "write `port N`, with N from 1 to 65535"
                    }
                };
                reporter.error(Code::MissingArgument, word.extent, message).help(help);
            }
            next
        };
        match option {
            TunnelOption::Type => {
                let kind = argument()?;
                options.kind = Some((value::name("tunnel type", kind, &TUNNELS, reporter)?, kind));
            }
            TunnelOption::Port => {
                let port = argument()?;
                let number = value::number("tunnel port", port, 1, u32::from(u16::MAX), reporter)?;
                options.port = u16::try_from(number).ok().map(|n| (n, port));
            }
            TunnelOption::Checksum(checksum) => options.checksum = Some((checksum, word)),
        }
    }
    Some(options)
}

fn tunnel(at: Extent, options: &TunnelOptions<'_>, reporter: &mut Reporter) -> Option<TunnelKind> {
    let kind = options.kind.map_or(Tunnel::Ipip, |(kind, _)| kind);
    let checksum = options.checksum.map_or(TunnelChecksum::None, |(checksum, _)| checksum);
    if let (Tunnel::Ipip | Tunnel::Gre, Some((port, word))) = (kind, options.port) {
        let message = format!("port {port} belongs to a gue tunnel");
        reporter
            .error(Code::ExtraArgument, word.extent, message)
            .help(format!("write `type gue port {port}`, or no port"));
        return None;
    }
    let refused = match (kind, checksum) {
        (Tunnel::Ipip, TunnelChecksum::Csum | TunnelChecksum::Remcsum) => Some("ipip"),
        (Tunnel::Gre, TunnelChecksum::Remcsum) => Some("gre"),
        (Tunnel::Ipip | Tunnel::Gre | Tunnel::Gue, _) => None,
    };
    if let (Some(kind), Some((_, word))) = (refused, options.checksum) {
        let message = format!("{} is not for {kind} tunnels", quote(&word.text));
        reporter.error(Code::ExtraArgument, word.extent, message).help("remove it");
        return None;
    }
    match (kind, options.port) {
        (Tunnel::Ipip, _) => Some(TunnelKind::Ipip),
        (Tunnel::Gre, _) => Some(TunnelKind::Gre { checksum }),
        (Tunnel::Gue, Some((port, _))) => Some(TunnelKind::Gue { port, checksum }),
        (Tunnel::Gue, None) => {
            reporter
                .error(Code::MissingArgument, at, "a gue tunnel needs a port")
                .help("write `type gue port N`; the real servers listen there, often on 6080");
            None
        }
    }
}

/// Reports a method that this release's data plane does not have.
pub(super) fn check(
    method: ForwardingMethod,
    at: Extent,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) {
    let missing = match method {
        ForwardingMethod::Tun(TunnelKind::Gue { .. }) if !capabilities.gue => "gue",
        ForwardingMethod::Tun(TunnelKind::Gre { .. }) if !capabilities.gre => "gre",
        ForwardingMethod::Nat
        | ForwardingMethod::Dr
        | ForwardingMethod::FullNat
        | ForwardingMethod::Tun(_) => return,
    };
    let message = format!("tunnels by {missing} are not in effect in this release");
    reporter
        .error(Code::NotInEffect, at, message)
        .help("use `TUN` (by ipip), and ipip on the real servers");
}
