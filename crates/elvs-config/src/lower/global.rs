//! `lvs_timeouts` and `data_plane`.
//!
//! **Invariant:** what is not given stays open, so that the daemon's defaults apply.
//!
//! Called by the lowering of the root statements.

use elvs_model::health::OnDrift;
use elvs_model::{DataPlaneSettings, LocalRange, Timeouts, XdpMode};

use super::{Once, value};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::text::quote;
use crate::tree::Item;

/// Longest timeout of IPVS, in seconds: 31 days.
const MAX_TIMEOUT: u32 = 2_678_400;
/// Fewest connections a flow table is made for.
const MIN_CONNECTIONS: u32 = 1024;
/// Most connections a flow table is made for.
const MAX_CONNECTIONS: u32 = 268_435_456;

/// `lvs_timeouts` lines of every `global_defs` block.
#[derive(Default)]
pub(super) struct TimeoutSettings {
    timeouts: Option<Timeouts>,
}

#[derive(Clone, Copy)]
enum Timeout {
    Tcp,
    TcpFin,
    Udp,
}

const TIMEOUTS: [(&str, Timeout); 3] =
    [("tcp", Timeout::Tcp), ("tcpfin", Timeout::TcpFin), ("udp", Timeout::Udp)];

impl TimeoutSettings {
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        for line in item.items().iter().filter(|i| i.keyword.text == "lvs_timeouts") {
            self.line(line, reporter);
        }
    }

    fn line(&mut self, item: &Item, reporter: &mut Reporter) {
        let timeouts = self.timeouts.get_or_insert(Timeouts { tcp: 0, tcp_fin: 0, udp: 0 });
        for pair in item.arguments.chunks(2) {
            let Some(word) = pair.first() else { continue };
            let Some(which) = value::name("timeout", word, &TIMEOUTS, reporter) else { continue };
            let Some(seconds) = pair.get(1) else {
                // A line with one argument alone was reported by the checker.
                if item.arguments.len() > 1 {
                    let message = format!("timeout {} has no value", quote(&word.text));
                    let help = format!("write `{} SECONDS`", word.text);
                    reporter.error(Code::MissingArgument, word.extent, message).help(help);
                }
                continue;
            };
            let what = format!("{} timeout", word.text);
            let Some(seconds) = value::number(&what, seconds, 0, MAX_TIMEOUT, reporter) else {
                continue;
            };
            match which {
                Timeout::Tcp => timeouts.tcp = seconds,
                Timeout::TcpFin => timeouts.tcp_fin = seconds,
                Timeout::Udp => timeouts.udp = seconds,
            }
        }
    }

    pub fn finish(self) -> Option<Timeouts> {
        self.timeouts
    }
}

/// Every `data_plane` block.
#[derive(Default)]
pub(super) struct DataPlane {
    interfaces: Vec<String>,
    connections: Once<u32>,
    wide_connections: Once<u32>,
    local_addresses: Once<u32>,
    flood_threshold: Once<u32>,
    xdp_mode: Once<XdpMode>,
    local_traffic: Once<bool>,
    on_drift: Once<OnDrift>,
}

const ON_DRIFT: [(&str, OnDrift); 2] = [("keep", OnDrift::Keep), ("restore", OnDrift::Restore)];

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

/// Greatest `flood_threshold`: more than a core can receive packets.
const MAX_FLOOD_THRESHOLD: u32 = 1_000_000_000;

/// Value of `flood_threshold`; 0 = off.
fn flood_threshold(word: &Word, reporter: &mut Reporter) -> Option<u32> {
    if word.text == "off" {
        return Some(0);
    }
    value::number("flood_threshold", word, 1, MAX_FLOOD_THRESHOLD, reporter)
}

const XDP_MODES: [(&str, XdpMode); 3] =
    [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

impl DataPlane {
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        for item in item.items() {
            let first = item.arguments.first();
            match (item.keyword.text.as_str(), first) {
                ("interface", _) => {
                    item.arguments.iter().for_each(|word| self.interface(word, reporter));
                }
                (keyword @ ("connections" | "wide_connections"), Some(word)) => {
                    let (least, most) = (MIN_CONNECTIONS, MAX_CONNECTIONS);
                    let wide = keyword == "wide_connections";
                    let set = if wide { &mut self.wide_connections } else { &mut self.connections };
                    if let Some(value) = value::number(keyword, word, least, most, reporter) {
                        set.set(item, value, reporter);
                    }
                }
                (keyword @ "local_addresses", Some(word)) => {
                    let value = value::number(keyword, word, 1, LocalRange::MOST, reporter);
                    if let Some(value) = value {
                        self.local_addresses.set(item, value, reporter);
                    }
                }
                ("flood_threshold", Some(word)) => {
                    if let Some(flows) = flood_threshold(word, reporter) {
                        self.flood_threshold.set(item, flows, reporter);
                    }
                }
                ("xdp_mode", Some(word)) => {
                    if let Some(mode) = value::name("xdp_mode", word, &XDP_MODES, reporter) {
                        self.xdp_mode.set(item, mode, reporter);
                    }
                }
                ("local_traffic", Some(word)) => {
                    if let Some(on) = value::name("local_traffic", word, &SWITCH, reporter) {
                        self.local_traffic.set(item, on, reporter);
                    }
                }
                (keyword @ "on_drift", Some(word)) => {
                    if let Some(choice) = value::name(keyword, word, &ON_DRIFT, reporter) {
                        self.on_drift.set(item, choice, reporter);
                    }
                }
                _ => {}
            }
        }
    }

    /// What is done with a change that somebody else made.
    pub fn on_drift(&self) -> OnDrift {
        self.on_drift.get().copied().unwrap_or_default()
    }

    fn interface(&mut self, word: &Word, reporter: &mut Reporter) {
        let Some(name) = value::interface(word, reporter) else { return };
        if self.interfaces.contains(&name) {
            let message = format!("interface {} is named twice", quote(&name));
            reporter.warning(Code::Duplicate, word.extent, message).help("remove one of the two");
            return;
        }
        self.interfaces.push(name);
    }

    /// Room for local addresses of full NAT.
    pub const fn local_addresses(&self) -> &Once<u32> {
        &self.local_addresses
    }

    pub fn finish(self) -> DataPlaneSettings {
        DataPlaneSettings {
            interfaces: self.interfaces,
            connections: self.connections.get().copied(),
            wide_connections: self.wide_connections.get().copied(),
            local_addresses: self.local_addresses.get().copied(),
            flood_threshold: self.flood_threshold.get().copied(),
            xdp_mode: self.xdp_mode.get().copied().unwrap_or_default(),
            without_local_traffic: self.local_traffic.get() == Some(&false),
        }
    }
}
