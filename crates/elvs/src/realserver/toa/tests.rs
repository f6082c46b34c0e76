use clap::Parser;

use super::{Options, prefix};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn parse(arguments: &str) -> Result<Options, String> {
    let words = std::iter::once("toa").chain(arguments.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.options).map_err(|error| error.to_string())
}

#[test]
fn refuses_to_start_without_a_trusted_prefix() {
    for arguments in ["", "--json", "--pin", "--cgroup /sys/fs/cgroup"] {
        let error = parse(arguments).unwrap_err();
        assert!(error.contains("--trust <PREFIX>"), "{arguments}: {error}");
    }
    assert_eq!(parse("--trust 192.0.2.1 --trust 2001:db8::/64").unwrap().trust.len(), 2);
    assert!(parse("--status --json").is_ok());
    assert!(parse("--clean").is_ok());
}

#[test]
fn refuses_options_that_contradict_each_other() {
    for arguments in ["--status --clean", "--status --trust 192.0.2.1", "--clean --pin"] {
        assert!(parse(arguments).unwrap_err().contains("cannot be used with"), "{arguments}");
    }
}

#[test]
fn prefixes_are_addresses_or_networks() {
    let rows = [
        ("192.0.2.1", Ok("192.0.2.1/32")),
        ("192.0.2.0/24", Ok("192.0.2.0/24")),
        ("2001:db8::1", Ok("2001:db8::1/128")),
        ("0.0.0.0/0", Ok("0.0.0.0/0")),
        ("192.0.2.1/24", Err("192.0.2.1/24 has bits beyond its length: 192.0.2.0/24 is meant?")),
        (
            "192.0.2.0/33",
            Err("`192.0.2.0/33` is neither an address nor a prefix such as 192.0.2.0/24"),
        ),
        ("director", Err("`director` is neither an address nor a prefix such as 192.0.2.0/24")),
        ("", Err("`` is neither an address nor a prefix such as 192.0.2.0/24")),
    ];
    for (text, wanted) in rows {
        let got = prefix(text).map(|net| net.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), wanted, "{text}");
    }
}
