//! What concerns the whole director, in words: interfaces, tables, timeouts, settings, marks, notifications, BFD.
//!
//! **Invariant:** what the configuration does not mention is not told.
//!
//! Part of [`super::explain`].

use elvs_model::health::{Fifo, MailServer, Notifications, OnDrift};
use elvs_model::{DataPlaneSettings, Desired, XdpMode};

use super::{Page, list, time};

/// The last paragraph, if there is anything to tell.
pub(super) fn explain(desired: &Desired, page: &mut Page) {
    let mut lines = Vec::new();
    data_plane(&desired.data_plane, &mut lines);
    if let Some(timeouts) = desired.timeouts {
        let times =
            [("TCP", timeouts.tcp), ("TCP after FIN", timeouts.tcp_fin), ("UDP", timeouts.udp)];
        let set = times.iter().filter(|(_, seconds)| *seconds != 0);
        let words: Vec<String> = set.map(|(what, seconds)| format!("{what} {seconds} s")).collect();
        if !words.is_empty() {
            lines.push(format!("Idle connections end after: {}.", list(&words)));
        }
    }
    for (setting, value) in desired.settings.changed() {
        lines.push(format!("Setting {setting} is {value}: {}.", setting.about()));
    }
    for rule in desired.marks.iter() {
        lines.push(format!("Packets are marked: {rule}."));
    }
    let health = &desired.health;
    for bfd in &health.bfd {
        let hops = if bfd.multihop { " over several hops" } else { "" };
        lines.push(format!(
            "BFD session {} with {}{hops}: a packet each {}, down after {} times {} without one.",
            bfd.name,
            bfd.neighbor,
            time(bfd.min_tx),
            bfd.multiplier,
            time(bfd.min_rx)
        ));
    }
    notifications(&health.notifications, &mut lines);
    if health.on_drift == OnDrift::Restore {
        lines.push("What somebody else changes in the table is changed back.".to_owned());
    }
    if health.flush_at_start {
        lines.push("The table is emptied when the daemon starts.".to_owned());
    }
    if health.flush_at_stop {
        lines.push("The table is emptied when the daemon stops.".to_owned());
    }
    if !lines.is_empty() {
        page.head("The director".to_owned());
        for line in lines {
            page.line(1, line);
        }
    }
}

fn data_plane(settings: &DataPlaneSettings, lines: &mut Vec<String>) {
    if !settings.interfaces.is_empty() {
        lines.push(format!("Packets are taken on {}.", list(&settings.interfaces)));
    }
    match settings.xdp_mode {
        XdpMode::Auto => {}
        XdpMode::Native => lines.push("The program runs in the driver or not at all.".to_owned()),
        XdpMode::Generic => {
            lines.push("The program runs behind the driver (generic XDP).".to_owned())
        }
    }
    let room = [
        (settings.connections, "connections"),
        (settings.wide_connections, "connections of IPv6 and full NAT"),
        (settings.local_addresses, "local addresses of full NAT"),
    ];
    for (number, what) in room {
        lines.extend(number.map(|number| format!("There is room for {number} {what}.")));
    }
    match settings.flood_threshold {
        None => {}
        Some(0) => lines.push("Half-open connections are always kept in the flow table.".to_owned()),
        Some(rate) => lines.push(format!(
            "From {rate} new flows a second and core on, half-open connections are kept out of the flow table."
        )),
    }
    if settings.without_local_traffic {
        lines.push("The host's own traffic to its services is left alone.".to_owned());
    }
}

fn notifications(notifications: &Notifications, lines: &mut Vec<String>) {
    if let Some(name) = &notifications.router_id {
        lines.push(format!("This director calls itself {name}."));
    }
    if let Some(mail) = &notifications.mail {
        let server = match &mail.server {
            MailServer::Address(address) => address.to_string(),
            MailServer::Name { host, port } => format!("{host}:{port}"),
        };
        let to = list(&mail.to);
        lines.push(format!(
            "Mail goes from {} to {to} by {server}, within {}.",
            mail.from,
            time(mail.timeout)
        ));
    }
    let mut fifo = |fifo: &Option<Fifo>, what: &str| {
        if let Some(fifo) = fifo {
            let reader = fifo.script.as_ref().map(|s| format!(", read by `{}`", s.words.join(" ")));
            let path = fifo.path.display();
            lines.push(format!(
                "Changes of {what} are written to {path}{}.",
                reader.unwrap_or_default()
            ));
        }
    };
    fifo(&notifications.lvs_fifo, "virtual and real servers");
    fifo(&notifications.fifo, "everything");
    if let Some(user) = &notifications.script_user {
        let group = user.group.as_ref().map(|g| format!(" and group {g}")).unwrap_or_default();
        lines.push(format!("Scripts run as user {}{group}.", user.user));
    }
    if notifications.script_security {
        lines.push("No script runs as root whose path others may write to.".to_owned());
    }
    if notifications.initial {
        lines.push("The first state of a real server is told like a change.".to_owned());
    }
    if let Some((script, limit)) = &notifications.startup {
        lines.push(format!(
            "`{}` runs when the daemon starts, for at most {}.",
            script.words.join(" "),
            time(*limit)
        ));
    }
    if let Some((script, limit)) = &notifications.shutdown {
        lines.push(format!(
            "`{}` runs when the daemon stops, for at most {}.",
            script.words.join(" "),
            time(*limit)
        ));
    }
}
