//! Every keyword in every block it may stand in, with values that it was and was not made for.

use elvs_config::{Body, Context, KEYWORDS, MapSource, Options, Severity, read};

/// Values: fitting ones of every kind, those next to a limit, and nonsense.
const VALUES: [&str; 34] = [
    "0",
    "1",
    "-1",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "99999999999999999999999999999999999999999",
    "0.0000001",
    "1.5",
    ".",
    "on",
    "off",
    "192.0.2.1",
    "192.0.2.1-192.0.2.0",
    "0.0.0.0/1",
    "::1-ffff",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    "fe80::1",
    "\"\"",
    "\" \"",
    "\"'\"",
    "\"/bin/a 'b\\\\' c\"",
    "/",
    "é",
    "x",
    "0x",
    "f",
    "a..b",
    "<",
    "a@b>",
    "fwmark",
    "group",
    "name",
];

/// `line` in the block of `context`, with what encloses it.
fn inside(context: Context, line: &str) -> String {
    let in_check = |check: &str| inside(Context::RealServer, &format!("{check} {{\n{line}\n}}"));
    if context == Context::Root {
        format!("{line}\n")
    } else if context == Context::VirtualServer {
        format!(
            "virtual_server 192.0.2.1 80 {{\nprotocol TCP\nreal_server 192.0.2.2 80 {{\n}}\n{line}\n}}\n"
        )
    } else if context == Context::RealServer {
        inside(Context::VirtualServer, &format!("real_server 192.0.2.3 80 {{\n{line}\n}}"))
    } else if context == Context::HttpGet {
        in_check("SSL_GET")
    } else if context == Context::Url {
        inside(Context::HttpGet, &format!("url {{\n{line}\n}}"))
    } else if context == Context::SmtpHost {
        inside(Context::SmtpCheck, &format!("host {{\n{line}\n}}"))
    } else if matches!(context, Context::Authentication | Context::AuthHmac) {
        inside(Context::VrrpInstance, &format!("{} {{\n{line}\n}}", context.name()))
    } else if context.name().ends_with("_CHECK") {
        in_check(context.name())
    } else {
        format!("{} name {{\n{line}\n}}\n", context.name())
    }
}

fn assert_sound(text: &str) {
    let outcome = read(&MapSource::single("f", text), "f", &Options::default());
    let refused = outcome.diagnostics.iter().any(|d| d.severity == Severity::Error);
    assert_eq!(outcome.desired.is_none(), refused, "{text}");
    for diagnostic in &outcome.diagnostics {
        let line = outcome.sources.line(&diagnostic.span.file, diagnostic.span.line);
        assert!(line.is_some(), "{diagnostic} is in no line of {text}");
    }
}

#[test]
fn every_keyword_takes_any_value_without_harm() {
    let mut seen = 0;
    for row in KEYWORDS.iter() {
        for context in row.contexts {
            let block = if row.body == Body::None { "" } else { " {\n}" };
            let with = |arguments: &str| {
                let line = format!("{} {arguments}{block}", row.name);
                assert_sound(&inside(*context, &line));
            };
            with("");
            for (n, value) in VALUES.iter().enumerate() {
                with(value);
                let next = VALUES.get((n * 7 + 3) % VALUES.len()).unwrap_or(value);
                with(&format!("{value} {next} {value}"));
                seen += 1;
            }
        }
    }
    assert!(seen > 10_000, "{seen}");
}

#[test]
fn every_line_of_data_takes_any_value_without_harm() {
    for row in KEYWORDS.iter().filter(|row| row.body == Body::Lines) {
        for context in row.contexts {
            for value in VALUES {
                for next in VALUES {
                    let line = format!("{} name {{\n{value} {next}\n}}", row.name);
                    let user = "virtual_server group name {\nreal_server 192.0.2.3 80 {\n}\n}\n";
                    assert_sound(&(inside(*context, &line) + user));
                }
            }
        }
    }
}
