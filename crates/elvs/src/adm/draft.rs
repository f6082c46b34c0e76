//! The options of one command line, gathered left to right.
//!
//! **Invariant:** every value in it was checked against its own range; what depends on several options is left to the
//! argument reader.
//!
//! Called by the argument reader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_model::{
    ConnectionFilter, DestinationKey, EndpointFilter, Family, FilterError, ForwardingMethod,
    LocalRange, Netmask, OnDelete, Persistence, Protocol, SchedulerFlags, ServiceKey, SyncDaemon,
    SyncRole, TunnelChecksum, TunnelKind,
};

use super::command::Failure;
use super::names::Names;
use super::number;
use super::option::{Kind, Meaning, Rule, Verb};
use super::parse::{fail, timeout};

/// What the options seen so far say.
pub(super) struct Draft<'a> {
    names: &'a dyn Names,
    verb: Verb,
    /// The line lists connections, so `-r` says which.
    connections: bool,
    /// Bit set of [`Kind`].
    seen: u64,
    /// Unknown until `-t`, `-u` or `-f`.
    protocol: Option<Protocol>,
    address: IpAddr,
    port: u16,
    /// 0 without `-f`.
    mark: u32,
    server: DestinationKey,
    forward: Forward,
    tunnel: Tunnel,
    tunnel_port: u16,
    flags: &'a str,
    pub(super) scheduler: &'a str,
    pub(super) engine: &'a str,
    pub(super) persistence: Option<Persistence>,
    pub(super) netmask: Netmask,
    pub(super) on_delete: OnDelete,
    pub(super) weight: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    /// Connections that `-L -c` lists.
    pub(super) filter: ConnectionFilter,
    /// Local addresses of full NAT.
    local: Option<LocalRange>,
    sync: Sync<'a>,
}

/// What `--start-daemon` was told.
#[derive(Clone, Copy)]
struct Sync<'a> {
    interface: &'a str,
    syncid: u8,
    maxlen: u16,
    group: IpAddr,
    port: u16,
    ttl: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Forward {
    Dr,
    Tun,
    Nat,
    FullNat,
}

#[derive(Clone, Copy)]
enum Tunnel {
    Ipip,
    Gue,
    Gre,
}

impl<'a> Draft<'a> {
    pub(super) fn new(names: &'a dyn Names, verb: Verb, connections: bool) -> Self {
        Self {
            names,
            verb,
            connections,
            seen: 0,
            protocol: None,
            address: ANY,
            port: 0,
            mark: 0,
            server: DestinationKey { address: ANY, port: 0 },
            forward: Forward::Dr,
            tunnel: Tunnel::Ipip,
            tunnel_port: 0,
            flags: "",
            scheduler: DEFAULT_SCHEDULER,
            engine: "",
            persistence: None,
            netmask: Netmask::V4(u32::MAX),
            on_delete: OnDelete::Drop,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            filter: ConnectionFilter::default(),
            local: None,
            sync: Sync {
                interface: DEFAULT_INTERFACE,
                syncid: 0,
                maxlen: 0,
                group: SyncDaemon::DEFAULT_GROUP,
                port: SyncDaemon::DEFAULT_PORT,
                ttl: SyncDaemon::DEFAULT_TTL,
            },
        }
    }

    /// Takes in one option; `value` is `None` where it has none.
    pub(super) fn option(
        &mut self,
        meaning: Meaning,
        value: Option<&'a str>,
    ) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        match meaning {
            Meaning::Address(protocol) => self.service(protocol, text),
            Meaning::Fwmark => self.fwmark(text),
            Meaning::Ipv6 => self.ipv6(),
            Meaning::Gatewaying => self.forward(Forward::Dr),
            Meaning::Ipip => self.forward(Forward::Tun),
            Meaning::Masquerading => self.forward(Forward::Nat),
            Meaning::FullNat => self.forward(Forward::FullNat),
            Meaning::Kind(kind) => {
                self.mark_seen(kind)?;
                self.kind(kind, value)
            }
            Meaning::Sort | Meaning::Verb(_) => Ok(()),
        }
    }

    /// Whether an option of this kind was given.
    pub(super) const fn has(&self, kind: Kind) -> bool {
        self.seen & bit(kind) != 0
    }

    /// The service; meaningful once one was required and given.
    pub(super) fn key(&self) -> ServiceKey {
        if self.mark == 0 {
            let protocol = self.protocol.unwrap_or(Protocol::Tcp);
            return ServiceKey::Address { protocol, address: self.address, port: self.port };
        }
        ServiceKey::Fwmark { mark: self.mark, family: Family::of(self.address) }
    }

    /// The server; meaningful once one was required and given.
    pub(super) const fn server(&self) -> DestinationKey {
        self.server
    }

    /// The synchronisation daemon to start.
    pub(super) fn sync_daemon(&self, role: SyncRole) -> SyncDaemon {
        let Sync { interface, syncid, maxlen, group, port, ttl } = self.sync;
        SyncDaemon { role, interface: interface.to_owned(), syncid, maxlen, group, port, ttl }
    }

    /// Local addresses; there are some once they were required and given.
    pub(super) fn local_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.local.into_iter().flat_map(LocalRange::addresses)
    }

    /// Whether a real server has a port of its own.
    pub(super) fn maps_ports(&self) -> bool {
        matches!(self.forward, Forward::Nat | Forward::FullNat)
    }

    pub(super) fn tunnels(&self) -> bool {
        self.forward == Forward::Tun
    }

    /// The forwarding method, once its options are found to go together.
    pub(super) fn forwarding_method(&self) -> Result<ForwardingMethod, Failure> {
        let mut options = [Kind::TunType].into_iter().chain(TUNNEL_OPTIONS);
        if !self.tunnels() && options.any(|kind| self.has(kind)) {
            return Err(fail("Tunnel options conflict with forward method"));
        }
        match self.forward {
            Forward::Dr => Ok(ForwardingMethod::Dr),
            Forward::Nat => Ok(ForwardingMethod::Nat),
            Forward::FullNat => Ok(ForwardingMethod::FullNat),
            Forward::Tun => self.tunnel_kind().map(ForwardingMethod::Tun),
        }
    }

    /// The bits of `-b`, which depend on the scheduler.
    pub(super) fn scheduler_flags(&self) -> Result<SchedulerFlags, Failure> {
        let mut bits = 0;
        for flag in self.flags.split(',').filter(|flag| !flag.is_empty()) {
            let (bit, scheduler) = match flag {
                "flag-1" => (SchedulerFlags::FLAG_1, None),
                "flag-2" => (SchedulerFlags::FLAG_2, None),
                "flag-3" => (SchedulerFlags::FLAG_3, None),
                "sh-fallback" => (SchedulerFlags::FLAG_1, Some("sh")),
                "sh-port" => (SchedulerFlags::FLAG_2, Some("sh")),
                "mh-fallback" => (SchedulerFlags::FLAG_1, Some("mh")),
                "mh-port" => (SchedulerFlags::FLAG_2, Some("mh")),
                _ => return Err(fail(format!("invalid scheduler flag `{flag}'"))),
            };
            if scheduler.is_some_and(|scheduler| scheduler != self.scheduler) {
                return Err(fail(format!("incompatible scheduler flag `{flag}'")));
            }
            bits |= bit;
        }
        Ok(SchedulerFlags(bits))
    }

    fn mark_seen(&mut self, kind: Kind) -> Result<(), Failure> {
        if self.has(kind) && !self.is_filter(kind) {
            return Err(fail(format!("multiple '{}' options specified", kind.name())));
        }
        self.seen |= bit(kind);
        Ok(())
    }

    /// Whether an option says which connections to list: such may come several times.
    fn is_filter(&self, kind: Kind) -> bool {
        let own = self.verb == Verb::List && matches!(kind, Kind::Client | Kind::State);
        own || self.connections && kind == Kind::Server
    }

    fn service(&mut self, protocol: Protocol, text: &str) -> Result<(), Failure> {
        self.mark_seen(Kind::Service)?;
        self.protocol = Some(protocol);
        let (address, port) = endpoint(text, self.protocol, self.names)
            .ok_or_else(|| fail("illegal virtual server address[:port] specified"))?;
        if address.is_ipv6() {
            self.netmask = Netmask::V6(128);
        }
        self.address = address;
        self.port = port.unwrap_or(self.port);
        Ok(())
    }

    fn fwmark(&mut self, text: &str) -> Result<(), Failure> {
        self.mark_seen(Kind::Service)?;
        self.protocol = Some(Protocol::Tcp);
        self.mark = number::number(text, 1..=u32::MAX)
            .ok_or_else(|| fail(format!("invalid fwmark value `{text}' specified")))?;
        Ok(())
    }

    fn ipv6(&mut self) -> Result<(), Failure> {
        if self.mark == 0 {
            return Err(fail("-6 used before -f\n"));
        }
        self.address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        self.netmask = Netmask::V6(128);
        Ok(())
    }

    fn forward(&mut self, forward: Forward) -> Result<(), Failure> {
        self.mark_seen(Kind::Forward)?;
        self.forward = forward;
        Ok(())
    }

    fn kind(&mut self, kind: Kind, value: Option<&'a str>) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        match kind {
            Kind::Scheduler if text.is_empty() => self.scheduler = DEFAULT_SCHEDULER,
            Kind::Scheduler => self.scheduler = text,
            Kind::Engine => self.engine = text,
            Kind::SchedFlags => self.flags = text,
            Kind::Persistent => self.persistence = Some(persistence(value)?),
            Kind::Netmask => self.netmask = self.parse_netmask(text)?,
            Kind::Server if self.connections => {
                let server = listed_server(text, self.names)?;
                self.filter.real_servers.push(server);
            }
            Kind::Server => self.real_server(text)?,
            Kind::Client => {
                let client = text.parse().map_err(|error| filter_failure(kind, &error))?;
                self.filter.clients.push(client);
            }
            Kind::State => {
                for name in text.split(',') {
                    let state = name.parse().map_err(|error| filter_failure(kind, &error))?;
                    self.filter.states.push(state);
                }
            }
            Kind::OnDelete => {
                let unknown =
                    || fail(format!("`{text}' is no value of --on-delete: write drop or reset"));
                self.on_delete = text.parse().ok().ok_or_else(unknown)?;
            }
            Kind::Weight => self.weight = int(text, 0, "illegal weight specified")?,
            Kind::UpperThreshold => {
                self.upper_threshold = int(text, 0, "illegal u_threshold specified")?;
            }
            Kind::LowerThreshold => {
                self.lower_threshold = int(text, 0, "illegal l_threshold specified")?;
            }
            Kind::TunType => self.tunnel = tunnel_type(text)?,
            Kind::TunPort => self.tunnel_port = tunnel_port(text)?,
            Kind::SyncId => self.sync.syncid = small(text, 0..=255, "illegal syncid specified")?,
            Kind::SyncMaxlen => {
                self.sync.maxlen = small(text, 1..=65_507, "illegal sync-maxlen specified")?;
            }
            Kind::McastPort => {
                self.sync.port = small(text, 1..=65_535, "illegal mcast-port specified")?;
            }
            Kind::McastTtl => self.sync.ttl = small(text, 1..=255, "illegal mcast-ttl specified")?,
            Kind::McastGroup => self.sync.group = multicast_group(text)?,
            Kind::McastInterface if text.is_empty() => self.sync.interface = DEFAULT_INTERFACE,
            Kind::McastInterface => self.sync.interface = text,
            Kind::LocalAddress => self.local = Some(local_addresses(text)?),
            Kind::Ifname => {
                return Err(fail(
                    "--ifname (-F): ELVS finds the interface of a local address by its routes; leave the option out",
                ));
            }
            Kind::Numeric
            | Kind::Connection
            | Kind::Service
            | Kind::Forward
            | Kind::Timeout
            | Kind::Daemon
            | Kind::Stats
            | Kind::Rate
            | Kind::Thresholds
            | Kind::PersistentConn
            | Kind::NoSort
            | Kind::Exact
            | Kind::OnePacket
            | Kind::TunInfo
            | Kind::TunNocsum
            | Kind::TunCsum
            | Kind::TunRemcsum
            | Kind::Json => {}
        }
        Ok(())
    }

    fn parse_netmask(&self, text: &str) -> Result<Netmask, Failure> {
        if self.address.is_ipv4() {
            let mask = number::inet_aton(text)
                .ok_or_else(|| fail("illegal virtual server persistent mask specified"))?;
            return Ok(Netmask::V4(u32::from(mask)));
        }
        match u8::try_from(number::leading_number(text)) {
            Ok(prefix @ 1..=128) => Ok(Netmask::V6(prefix)),
            Ok(_) | Err(_) => Err(fail("illegal ipv6 netmask specified")),
        }
    }

    fn real_server(&mut self, text: &str) -> Result<(), Failure> {
        let (address, port) = endpoint(text, self.protocol, self.names)
            .ok_or_else(|| fail("illegal real server address[:port] specified"))?;
        self.server = DestinationKey { address, port: port.unwrap_or(self.port) };
        Ok(())
    }

    fn tunnel_kind(&self) -> Result<TunnelKind, Failure> {
        let (name, rules) = match self.tunnel {
            Tunnel::Ipip => ("ipip", [Rule::Illegal; 4]),
            Tunnel::Gue => {
                let rule = Rule::Exclusive;
                ("gue", [Rule::Required, rule, rule, rule])
            }
            Tunnel::Gre => {
                ("gre", [Rule::Illegal, Rule::Exclusive, Rule::Exclusive, Rule::Illegal])
            }
        };
        let mut first: Option<Kind> = None;
        for (kind, rule) in TUNNEL_OPTIONS.into_iter().zip(rules) {
            let option = kind.name();
            match (rule, self.has(kind)) {
                (Rule::Required, false) => {
                    return Err(fail(format!(
                        "You need to supply the '{option}' option for the '{name}' tunnel type"
                    )));
                }
                (Rule::Illegal, true) => {
                    let message =
                        format!("Illegal '{option}' option with the '{name}' tunnel type");
                    return Err(fail(message));
                }
                (Rule::Exclusive, true) => match first.replace(kind) {
                    None => {}
                    Some(first) => {
                        let other = first.name();
                        return Err(fail(format!(
                            "The option '{option}' conflicts with the '{other}' option in the '{name}' tunnel type"
                        )));
                    }
                },
                (Rule::Required | Rule::Optional, true)
                | (Rule::Optional | Rule::Exclusive | Rule::Illegal, false) => {}
            }
        }
        let checksum = if self.has(Kind::TunRemcsum) {
            TunnelChecksum::Remcsum
        } else if self.has(Kind::TunCsum) {
            TunnelChecksum::Csum
        } else {
            TunnelChecksum::None
        };
        Ok(match self.tunnel {
            Tunnel::Ipip => TunnelKind::Ipip,
            Tunnel::Gue => TunnelKind::Gue { port: self.tunnel_port, checksum },
            Tunnel::Gre => TunnelKind::Gre { checksum },
        })
    }
}

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// ipvsadm's default.
const DEFAULT_SCHEDULER: &str = "wlc";

/// ipvsadm's default of `--mcast-interface`.
const DEFAULT_INTERFACE: &str = "eth0";

/// Options that a tunnel type has rules for, in the order of the checks.
const TUNNEL_OPTIONS: [Kind; 4] = [Kind::TunPort, Kind::TunNocsum, Kind::TunCsum, Kind::TunRemcsum];

const fn bit(kind: Kind) -> u64 {
    1 << kind as u8
}

/// An address with an optional port: `1.2.3.4:80`, `www:http`, `[2001:db8::1]:80`, `2001:db8::1`.
fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, Some(rest.strip_prefix(':')?))
        }
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        let port = match port {
            Some(port) => Some(port_number(port, protocol, names)?),
            None => None,
        };
        return Some((address.into(), port));
    }
    // A port behind the bracket of anything but an IPv6 address is not looked at.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (host, None),
    };
    let address = number::inet_aton(host).or_else(|| names.address_of(host))?;
    let port = match port {
        Some(port) => Some(port_number(port, protocol, names)?),
        None => None,
    };
    Some((address.into(), port))
}

fn port_number(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number::number(text, 0..=65_535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port_of(text, protocol?),
    }
}

/// A real server whose connections are listed: as ipvsadm writes it, or a prefix.
fn listed_server(text: &str, names: &dyn Names) -> Result<EndpointFilter, Failure> {
    text.parse().or_else(|_: FilterError| {
        let (address, port) = endpoint(text, Some(Protocol::Tcp), names)
            .ok_or_else(|| fail("illegal real server address[:port] specified"))?;
        Ok(EndpointFilter { prefix: address.into(), port })
    })
}

fn persistence(value: Option<&str>) -> Result<Persistence, Failure> {
    /// Six minutes, the kernel's default for templates (the man page says 300).
    const DEFAULT_TIMEOUT_S: u32 = 360;
    let timeout = value.map_or(Ok(DEFAULT_TIMEOUT_S), |text| timeout(text, 1))?;
    Ok(Persistence { timeout })
}

fn tunnel_type(text: &str) -> Result<Tunnel, Failure> {
    match text {
        "ipip" => Ok(Tunnel::Ipip),
        "gue" => Ok(Tunnel::Gue),
        "gre" => Ok(Tunnel::Gre),
        _ => Err(fail("illegal tunnel type specified")),
    }
}

fn tunnel_port(text: &str) -> Result<u16, Failure> {
    let port = number::number(text, 1..=65_535).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| fail("illegal tunnel port specified"))
}

/// A number up to `INT_MAX`.
fn int(text: &str, least: u32, message: &str) -> Result<u32, Failure> {
    number::number(text, least..=i32::MAX.unsigned_abs()).ok_or_else(|| fail(message))
}

/// A number of a range that fits a small type.
fn small<T: TryFrom<u32>>(
    text: &str,
    range: std::ops::RangeInclusive<u32>,
    message: &str,
) -> Result<T, Failure> {
    let number = number::number(text, range).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| fail(message))
}

fn local_addresses(text: &str) -> Result<LocalRange, Failure> {
    text.parse().map_err(|error| fail(format!("--local-address (-z): {error}")))
}

fn multicast_group(text: &str) -> Result<IpAddr, Failure> {
    if let Ok(address) = text.parse::<IpAddr>()
        && address.is_multicast()
    {
        return Ok(address);
    }
    let family = if text.contains(':') { "IPv6" } else { "IPv4" };
    Err(fail(format!("invalid {family} mcast-group `{text}'")))
}

fn filter_failure(kind: Kind, error: &FilterError) -> Failure {
    fail(format!("--{}: {error}", kind.name()))
}
