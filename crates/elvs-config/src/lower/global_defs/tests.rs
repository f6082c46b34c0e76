use std::time::Duration;

use elvs_model::health::{HealthSettings, MailServer, OnDrift, ScriptUser};

use crate::lower::tests::{read_text, service, shown};

fn health(lines: &str) -> HealthSettings {
    let outcome = read_text(&format!("global_defs {{\n{lines}\n}}\n"));
    let found = shown(&outcome);
    outcome.desired.unwrap_or_else(|| panic!("{lines}: {found:?}")).health
}

fn findings(lines: &str) -> Vec<String> {
    shown(&read_text(&format!("global_defs {{\n{lines}\n}}\n")))
}

const MAIL: &str = "smtp_server 192.0.2.25\nnotification_email {\nops@example.org\n}\nnotification_email_from lb@example.org\n";

#[test]
fn nothing_is_said_by_default() {
    assert_eq!(health(""), HealthSettings::default());
}

#[test]
fn mail_is_as_written() {
    let mail = health(MAIL).notifications.mail.unwrap();
    assert_eq!(mail.server, MailServer::Address("192.0.2.25:25".parse().unwrap()));
    assert_eq!((mail.helo_name, mail.timeout), (None, Duration::from_secs(30)));
    assert_eq!(
        (mail.from.as_str(), mail.to),
        ("lb@example.org", vec!["ops@example.org".to_owned()])
    );
    let lines = "smtp_server mail.example.org 587\nsmtp_helo_name lb.example.org\nsmtp_connect_timeout 7\nnotification_email_from \"The Balancer <lb@example.org>\"\nnotification_email {\na@example.org b@example.org\nThe Ops <c@example.org>\nroot\n}";
    let mail = health(lines).notifications.mail.unwrap();
    let host = "mail.example.org".to_owned();
    assert_eq!(mail.server, MailServer::Name { host, port: 587 });
    assert_eq!(mail.helo_name.as_deref(), Some("lb.example.org"));
    assert_eq!((mail.from.as_str(), mail.timeout), ("lb@example.org", Duration::from_secs(7)));
    assert_eq!(mail.to, ["a@example.org", "b@example.org", "c@example.org", "root"]);
}

#[test]
fn mail_without_its_other_half_is_said() {
    let no_sender = MAIL.replace("notification_email_from lb@example.org\n", "");
    assert_eq!(
        findings(&no_sender),
        ["f:2:1: warning: no sender of mail is given: elvs@localhost is used"]
    );
    let server = "smtp_server 192.0.2.25";
    assert!(health(server).notifications.mail.is_none());
    assert_eq!(findings(server), ["f:2:1: warning: no mail is sent: it has no receivers"]);
    let no_server = "f:2:1: warning: no mail is sent: there is no mail server";
    assert_eq!(findings("smtp_alert"), [no_server]);
    assert_eq!(findings("smtp_alert_checker"), [no_server]);
    assert_eq!(findings("notification_email {\na@example.org\n}"), [no_server]);
    assert_eq!(findings("smtp_alert_checker no"), Vec::<String>::new());
    assert_eq!(
        findings(&format!("{MAIL}notification_email {{\nops@example.org\n}}")),
        ["f:8:1: warning: receiver `ops@example.org` is named twice"]
    );
    assert_eq!(
        shown(&read_text(&service("192.0.2.1 80", "smtp_alert"))),
        ["f:2:1: warning: no mail is sent: there is no mail server"]
    );
}

/// keepalived.conf(5): of real servers yes, of virtual servers no, unless a global setting says otherwise.
#[test]
fn alerts_follow_the_nearest_that_says_something() {
    let alerts = |global: &str, own: &str, server: &str| {
        let text = format!("global_defs {{\n{global}\n}}\n")
            + &service("192.0.2.1 80", own).replace("{\n}\n}", &format!("{{\n{server}\n}}\n}}"));
        let desired = read_text(&text).desired.unwrap();
        let health = &desired.services[0].health;
        (health.mail, health.servers[0].mail)
    };
    let with = |lines: &str| format!("{MAIL}{lines}");
    assert_eq!(alerts("", "", ""), (false, false), "without a mail server nobody is told");
    assert_eq!(alerts("", "smtp_alert", "smtp_alert"), (false, false));
    assert_eq!(alerts(MAIL, "", ""), (false, true));
    assert_eq!(alerts(MAIL, "smtp_alert", "smtp_alert off"), (true, false));
    assert_eq!(alerts(&with("smtp_alert"), "", ""), (true, true));
    assert_eq!(alerts(&with("smtp_alert no"), "", ""), (false, false));
    assert_eq!(alerts(&with("smtp_alert no\nsmtp_alert_checker"), "", ""), (true, true));
    assert_eq!(alerts(&with("smtp_alert_checker no"), "smtp_alert", ""), (true, false));
}

#[test]
fn scripts_and_pipes_are_as_written() {
    let lines = "router_id lb1\nscript_user u g\nenable_script_security\nrs_init_notifies\nlvs_flush\nlvs_flush_on_stop VS\nnotify_fifo /run/all p\nnotify_fifo_script \"/bin/a b\"\nlvs_notify_fifo /run/lvs\nstartup_script \"/bin/up 'x y'\" u g\nstartup_script_timeout 20\nshutdown_script /bin/down";
    let health = health(lines);
    let told = &health.notifications;
    let user = |group: Option<&str>| {
        Some(ScriptUser { user: "u".to_owned(), group: group.map(str::to_owned) })
    };
    assert_eq!(told.router_id.as_deref(), Some("lb1"));
    assert_eq!(told.script_user, user(Some("g")));
    assert!(told.script_security && told.initial && health.flush_at_start && health.flush_at_stop);
    let fifo = told.fifo.as_ref().unwrap();
    assert_eq!(
        (fifo.path.to_str(), fifo.user.as_ref().unwrap().user.as_str()),
        (Some("/run/all"), "p")
    );
    assert_eq!(fifo.script.as_ref().unwrap().words, ["/bin/a", "b"]);
    let lvs = told.lvs_fifo.as_ref().unwrap();
    assert_eq!((lvs.path.to_str(), &lvs.script), (Some("/run/lvs"), &None));
    let (script, timeout) = told.startup.as_ref().unwrap();
    assert_eq!(
        (script.words.as_slice(), *timeout),
        (["/bin/up", "x y"].map(str::to_owned).as_slice(), Duration::from_secs(20))
    );
    assert_eq!(script.user, user(Some("g")));
    assert_eq!(told.shutdown.as_ref().unwrap().1, Duration::from_secs(10));
}

#[test]
fn drift_is_kept_unless_it_shall_be_restored() {
    let of = |line: &str| {
        read_text(&format!("data_plane {{\n{line}\n}}\n")).desired.unwrap().health.on_drift
    };
    assert_eq!(of(""), OnDrift::Keep);
    assert_eq!(of("on_drift keep"), OnDrift::Keep);
    assert_eq!(of("on_drift restore"), OnDrift::Restore);
    let bad = shown(&read_text("data_plane {\non_drift undo\n}\n"));
    assert_eq!(bad, ["f:2:10: error: unknown on_drift `undo`"]);
}

#[test]
fn what_cannot_be_meant_is_refused_or_said() {
    let cases = [
        (
            "smtp_server 192.0.2.25:25",
            "f:2:13: error: `192.0.2.25:25` is neither an address nor a host name",
        ),
        ("smtp_server mail 0", "f:2:18: error: port 0 is below 1"),
        ("notification_email {\nb<\n}", "f:3:1: error: `b<` is no mail address"),
        ("notification_email {\n}", "f:2:1: warning: notification_email has no receiver"),
        ("smtp_connect_timeout 4295", "f:2:22: error: smtp_connect_timeout 4295 exceeds 4294"),
        ("smtp_connect_timeout 0", "f:2:1: warning: mail needs time: 1 second is used"),
        ("smtp_alert maybe", "f:2:12: error: unknown value of `smtp_alert` `maybe`"),
        ("lvs_flush_on_stop RS", "f:2:19: error: unknown kind of flush `RS`"),
        (
            "lvs_flush_on_stop\nlvs_flush_onstop",
            "f:3:1: warning: `lvs_flush_onstop` is given again; this one counts",
        ),
        ("notify_fifo_script /bin/a", "f:2:1: warning: `notify_fifo_script` has no pipe to read"),
        (
            "notify_fifo /a\nnotify_fifo /b",
            "f:3:1: warning: `notify_fifo` is given again; the first one counts",
        ),
        (
            "notify_fifo /a\nlvs_notify_fifo /a",
            "f:3:1: warning: `lvs_notify_fifo` is the pipe of `notify_fifo`, which gets its lines already",
        ),
        ("startup_script_timeout 1001", "f:2:24: error: startup_script_timeout 1001 exceeds 1000"),
        (
            "shutdown_script_timeout 5",
            "f:2:1: warning: `shutdown_script_timeout` has no `shutdown_script`",
        ),
        ("startup_script /bin/a u g x", "f:2:27: error: `x` is one word too many after a command"),
        ("startup_script \"\"", "f:2:16: error: command `` names no program"),
    ];
    for (lines, want) in cases {
        assert_eq!(findings(lines), [want], "{lines}");
    }
    let both = health("notify_fifo /a\nlvs_notify_fifo /a").notifications;
    assert!(both.fifo.is_some() && both.lvs_fifo.is_none());
}

#[test]
fn the_ssl_block_is_there_once_and_whole() {
    let block = |lines: &str| shown(&read_text(&format!("SSL {{\n{lines}\n}}\n")));
    assert_eq!(block("ca /ca"), Vec::<String>::new());
    assert_eq!(
        block("certificate /c"),
        ["f:2:1: warning: `certificate` has no meaning without `key`"]
    );
    assert_eq!(block("key /k"), ["f:2:1: warning: `key` has no meaning without `certificate`"]);
    assert_eq!(block("password p"), ["f:2:1: warning: `password` has no meaning without `key`"]);
    assert_eq!(block("}\nSSL {"), ["f:3:1: warning: `SSL` is given again; this one counts"]);
}
