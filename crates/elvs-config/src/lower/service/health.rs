//! How a virtual server is watched: quorum, sorry server, scripts, and what its real servers inherit.
//!
//! **Invariant:** the quorum can be reached with the weights of the file, and the hysteresis is below it.
//!
//! Called for each virtual server.

use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::{Script, ServiceHealth, SorryServer};
use elvs_model::{Destination, ForwardingMethod};

use super::settings::Settings;
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::lower::care::{self, Care, Given};
use crate::lower::global_defs::GlobalDefs;
use crate::lower::real_server::{Defaults, Heading, RealServer, Server};
use crate::lower::shared::Shared;
use crate::lower::timing::{Level, Times, Timing};
use crate::lower::{Once, checks, method, script, value};
use crate::sources::Extent;
use crate::tree::Item;

/// Statements of the block.
#[derive(Default)]
pub(super) struct Health {
    timing: Timing,
    care: Care,
    inhibit: Once<bool>,
    omega: Once<bool>,
    suspend: Once<bool>,
    alert: Once<bool>,
    quorum: Once<u32>,
    hysteresis: Once<u32>,
    quorum_up: Once<Script>,
    quorum_down: Once<Script>,
    virtual_host: Once<String>,
    drain: Once<Option<Duration>>,
    sorry: Once<Sorry>,
    sorry_refused: bool,
    sorry_inhibit: Once<bool>,
    sorry_method: Once<ForwardingMethod>,
}

/// `sorry_server ADDRESS [PORT]`.
#[derive(Clone, Copy)]
struct Sorry {
    address: IpAddr,
    at: Extent,
    port: Option<(u16, Extent)>,
}

/// What the block says of all its services.
pub(super) struct Plan {
    health: ServiceHealth,
    sorry: Option<(Server, bool)>,
    suspend_at: Option<Extent>,
}

impl Health {
    /// Takes a statement, if it is one of these.
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        self.timing.read(item, Level::Server, reporter);
        self.care.read(item, reporter);
        let keyword = item.keyword.text.as_str();
        let switch = match keyword {
            "inhibit_on_failure" => Some(&mut self.inhibit),
            "omega" => Some(&mut self.omega),
            "ha_suspend" => Some(&mut self.suspend),
            "smtp_alert" => Some(&mut self.alert),
            "sorry_server_inhibit" => Some(&mut self.sorry_inhibit),
            _ => None,
        };
        if let Some(set) = switch {
            if let Some(on) = value::switch(item, reporter) {
                set.set(item, on, reporter);
            }
        } else if !item.arguments.is_empty() {
            self.value(keyword, item, reporter);
        }
    }

    /// Statements with a value.
    fn value(&mut self, keyword: &str, item: &Item, reporter: &mut Reporter) {
        let Some(word) = item.arguments.first() else { return };
        match keyword {
            "quorum" => {
                if let Some(weight) = value::number(keyword, word, 1, u32::MAX, reporter) {
                    self.quorum.set(item, weight, reporter);
                }
            }
            "hysteresis" => {
                if let Some(weight) = value::number(keyword, word, 0, u32::MAX, reporter) {
                    self.hysteresis.set(item, weight, reporter);
                }
            }
            "quorum_up" | "quorum_down" => {
                let Some(script) = script::with_user(item, reporter) else { return };
                let up = keyword == "quorum_up";
                let set = if up { &mut self.quorum_up } else { &mut self.quorum_down };
                set.keep(item, script, reporter);
            }
            "virtualhost" => {
                if let Some(name) = checks::host_name(word, reporter) {
                    self.virtual_host.set(item, name, reporter);
                }
            }
            "drain" => {
                if let Some(time) = care::time_or_off(keyword, word, reporter) {
                    self.drain.set(item, time, reporter);
                }
            }
            "sorry_server" => match sorry(item, reporter) {
                Some(sorry) => self.sorry.set(item, sorry, reporter),
                None => self.sorry_refused = true,
            },
            "sorry_server_lvs_method" => {
                if let Some(method) = method::method(item, reporter) {
                    self.sorry_method.set(item, method, reporter);
                }
            }
            _ => {}
        }
    }

    /// Where alerts are asked for.
    pub fn alert_at(&self) -> Option<Extent> {
        self.alert.place().filter(|_| self.alert.get() == Some(&true))
    }

    /// What real servers inherit.
    pub fn defaults(
        &self,
        method: ForwardingMethod,
        weight: u32,
        global: &GlobalDefs,
    ) -> Defaults<'_> {
        let outermost = Times { log_all_failures: global.log_all_failures(), ..Times::default() };
        Defaults {
            method,
            weight,
            times: self.timing.over(&outermost),
            care: self.care.over(&Given::default()),
            inhibit: self.inhibit.get() == Some(&true),
            virtual_host: self.virtual_host.get().map(String::as_str),
        }
    }

    /// What is said of all services of the block.
    pub fn plan(
        &self,
        settings: &Settings,
        servers: &[RealServer],
        shared: &Shared<'_>,
        reporter: &mut Reporter,
    ) -> Plan {
        let (quorum, hysteresis) = self.quorum(servers, reporter);
        let suspend = self.suspend.get() == Some(&true);
        let health = ServiceHealth {
            alpha: self.timing.over(&Times::default()).alpha.unwrap_or(false),
            omega: self.omega.get() == Some(&true),
            quorum,
            hysteresis,
            quorum_up: self.quorum_up.get().cloned(),
            quorum_down: self.quorum_down.get().cloned(),
            ha_suspend: suspend,
            mail: shared.global.mails(self.alert.get().copied(), false),
            drain: self.drain.get().copied().flatten(),
            ..ServiceHealth::default()
        };
        let suspend_at = self.suspend.place().filter(|_| suspend);
        let sorry = self.sorry_server(settings, servers, shared.capabilities, reporter);
        Plan { health, sorry, suspend_at }
    }

    /// Quorum and hysteresis that the weights of the real servers allow, as in keepalived.
    fn quorum(&self, servers: &[RealServer], reporter: &mut Reporter) -> (u32, u32) {
        let given = self.quorum.get().copied().unwrap_or(1);
        let total: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        if let Some(first) = servers.first().filter(|_| total == 0) {
            reporter
                .warning(Code::Doubtful, first.at, "no real server has a weight above 0: the quorum is never reached")
                .help("give one a weight; without a quorum the sorry server takes the traffic, or nobody");
        }
        let mut quorum = given;
        if let Some(at) = self.quorum.place().filter(|_| given > total && total > 0) {
            quorum = total;
            let message = format!(
                "quorum {given} exceeds the total weight of the real servers, {total}: {quorum} is used"
            );
            reporter
                .warning(Code::ValueReplaced, at, message)
                .help(format!("write `quorum {quorum}` or less; keepalived lowers it too"));
        }
        let hysteresis = self.hysteresis.get().copied().unwrap_or(0);
        let Some(at) = self.hysteresis.place().filter(|_| hysteresis >= quorum) else {
            return (quorum, hysteresis);
        };
        let used = quorum - 1;
        let message =
            format!("hysteresis {hysteresis} is not below the quorum of {quorum}: {used} is used");
        reporter
            .warning(Code::ValueReplaced, at, message)
            .help(format!("write `hysteresis {used}` or less; keepalived lowers it too"));
        (quorum, used)
    }

    fn sorry_server(
        &self,
        settings: &Settings,
        servers: &[RealServer],
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) -> Option<(Server, bool)> {
        let Some(Sorry { address, at, port }) = self.sorry.get().copied() else {
            let places = [self.sorry_inhibit.place(), self.sorry_method.place()];
            let first = places.into_iter().flatten().min();
            if let Some(at) = first.filter(|_| !self.sorry_refused) {
                reporter
                    .warning(Code::NoEffect, at, "there is no `sorry_server` that this belongs to")
                    .help("write `sorry_server ADDRESS [PORT]`, or remove the line");
            }
            return None;
        };
        let own = self.sorry_method.get().copied();
        let method =
            own.or_else(|| settings.method.get().copied()).unwrap_or(ForwardingMethod::Nat);
        if let Some(at) = self.sorry_method.place() {
            method::check(method, at, capabilities, reporter);
        }
        let full_nat = |method| method == ForwardingMethod::FullNat;
        if servers.iter().any(|server| full_nat(server.method) != full_nat(method)) {
            reporter
                .error(Code::InvalidValue, at, "the sorry server and the real servers must all be by FNAT, or none")
                .help("write `sorry_server_lvs_method`, or leave it out to use the virtual server's method");
            return None;
        }
        let server = Server { what: "sorry server", address, at, port, method };
        let mut inhibit = self.sorry_inhibit.get() == Some(&true);
        let twin = servers.iter().find(|server| server.is_at(address, port.map(|(port, _)| port)));
        if let Some(twin) = twin.filter(|twin| twin.inhibit != inhibit) {
            inhibit = twin.inhibit;
            let (used, write) = if inhibit {
                ("it is inhibited too", "write")
            } else {
                ("it is removed too", "remove")
            };
            let message = format!(
                "sorry server {address} is also a real server: {used} when it is not needed"
            );
            reporter
                .warning(Code::ValueReplaced, at, message)
                .help(format!("{write} `sorry_server_inhibit`: both must be the same"))
                .related(twin.at, "the real server");
        }
        Some((server, inhibit))
    }
}

impl Plan {
    /// Drops `ha_suspend` of services by firewall mark, which have no address to wait for.
    pub fn check_suspend(&mut self, marks: bool, reporter: &mut Reporter) {
        if let Some(at) = self.suspend_at.filter(|_| marks) {
            self.health.ha_suspend = false;
            reporter
                .warning(
                    Code::ValueReplaced,
                    at,
                    "`ha_suspend` has no meaning with a firewall mark: checks go on",
                )
                .help("remove it: a mark has no address whose presence could be seen");
        }
    }

    /// The health of one service, without its real servers and its group.
    pub fn finish(
        &self,
        heading: &Heading,
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) -> ServiceHealth {
        let sorry_server = self.sorry.as_ref().and_then(|(server, inhibit)| {
            let key = server.key(heading, capabilities, reporter)?;
            let method = server.method;
            let destination =
                Destination { key, method, weight: 1, upper_threshold: 0, lower_threshold: 0 };
            Some(SorryServer { destination, inhibit: *inhibit })
        });
        ServiceHealth { sorry_server, ..self.health.clone() }
    }
}

fn sorry(item: &Item, reporter: &mut Reporter) -> Option<Sorry> {
    let word = item.arguments.first()?;
    let address = value::host_address("sorry server", word, reporter)?;
    let port = match item.arguments.get(1) {
        Some(word) => Some((value::port(word, reporter)?, word.extent)),
        None => None,
    };
    Some(Sorry { address, at: word.extent, port })
}

#[cfg(test)]
mod tests;
