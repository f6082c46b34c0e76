//! Configurations made by rules: each keyword of the LVS part with good and bad values, mistakes of form, the language's own
//! features, and whole files of chance.
//!
//! The same files every time: chance is a generator with a fixed seed.

use std::fmt::Write as _;

use super::language::LANGUAGE;
use super::tables::{CHECKERS, CONNECTING, GLOBAL, REAL, Row, VIRTUAL};

/// One configuration: the main file, and what it includes.
pub struct Case {
    /// File name without `.conf`.
    pub name: String,
    /// The main file.
    pub text: String,
}

/// What stands before every service, so that scripts and mail are not complained of.
const PREAMBLE: &str = "global_defs {\nscript_user root\nenable_script_security\n}\n";

/// Chance that is the same every time (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// A service that both take as it is; `virtual_lines`, `real_lines` and `checker` are put in.
fn service(virtual_lines: &str, real_lines: &str, checker: &str) -> String {
    let own = |word: &str, line: &str| {
        if virtual_lines.contains(word) { String::new() } else { line.to_owned() }
    };
    let (sched, method) =
        (own("lvs_sched", "lvs_sched rr\n"), own("lvs_method", "lvs_method NAT\n"));
    let (sched, method) = (
        if virtual_lines.contains("lb_algo") { String::new() } else { sched },
        if virtual_lines.contains("lb_kind") { String::new() } else { method },
    );
    let protocol = own("protocol", "protocol TCP\n");
    let weight = if real_lines.contains("weight") { "" } else { "weight 1\n" };
    format!(
        "virtual_server 192.0.2.1 80 {{\n{sched}{method}{protocol}{virtual_lines}\nreal_server 192.0.2.10 80 {{\n{weight}{real_lines}\n{checker}\n}}\nreal_server 192.0.2.11 80 {{\nweight 1\n}}\n}}\n"
    )
}

fn statement(keyword: &str, value: &str) -> String {
    format!("{keyword} {value}").trim_end().to_owned()
}

/// A file for each value of each keyword.
fn keywords(out: &mut Vec<(String, String)>) {
    let mut rows = |place: &str, rows: &[Row], build: &dyn Fn(&str) -> String| {
        for (keyword, good, bad) in rows {
            for (kind, values) in [("good", good), ("bad", bad)] {
                for value in *values {
                    let word = keyword.split_whitespace().next().unwrap();
                    out.push((format!("{place}-{word}-{kind}"), build(&statement(keyword, value))));
                }
            }
        }
    };
    rows("virtual_server", VIRTUAL, &|line| PREAMBLE.to_owned() + &service(line, "", ""));
    rows("real_server", REAL, &|line| PREAMBLE.to_owned() + &service("", line, ""));
    rows("global_defs", GLOBAL, &|line| {
        let script = if line.starts_with("script_user") { "" } else { "script_user root\n" };
        format!("global_defs {{\n{script}enable_script_security\n{line}\n}}\n")
            + &service("", "", "")
    });
    for (name, needed, own) in CHECKERS {
        let checker = |line: &str| {
            let needed = if line.starts_with("url") { "" } else { needed };
            let block = format!("{name} {{\n{needed}\n{line}\n}}");
            let dns = if *name == "DNS_CHECK" { "protocol UDP" } else { "" };
            PREAMBLE.to_owned() + &service(dns, "", &block)
        };
        rows(name, own, &checker);
        if *name != "MISC_CHECK" {
            rows(name, CONNECTING, &checker);
        }
    }
}

/// Whole files of chance: services with several keywords each, of which every third file then has one mistake.
fn by_chance(out: &mut Vec<(String, String)>) {
    let mut chance = Chance(4);
    for n in 0..150 {
        let mut lines = |rows: &[Row], most: usize| {
            let mut used = Vec::new();
            let mut text = String::new();
            for _ in 0..chance.below(most + 1) {
                let (keyword, good, _) = &rows[chance.below(rows.len())];
                // These are said once by `service`, and have an effect on what goes with them.
                let fixed = [
                    "lvs_sched",
                    "lb_algo",
                    "lvs_method",
                    "lb_kind",
                    "protocol",
                    "sorry_server_inhibit",
                    "persistence_engine",
                    "weight",
                    "lthreshold",
                    "hysteresis",
                ];
                if !good.is_empty() && !used.contains(keyword) && !fixed.contains(keyword) {
                    used.push(*keyword);
                    let _ = writeln!(text, "{}", statement(keyword, chance.of(good)));
                }
            }
            text
        };
        let (virtual_lines, real_lines) = (lines(VIRTUAL, 6), lines(REAL, 4));
        let common = lines(CONNECTING, 3);
        let (name, needed, _) = CHECKERS[chance.below(CHECKERS.len())];
        let common = if name == "MISC_CHECK" { String::new() } else { common };
        let checker = format!("{name} {{\n{needed}\n{common}}}");
        let mut text = PREAMBLE.to_owned() + &service(&virtual_lines, &real_lines, &checker);
        if n % 3 == 0 {
            text = mistake(&mut chance, &text);
        }
        out.push((format!("chance-{n:03}"), text));
    }
}

/// One line left out, doubled, misspelt or given a word too many, or a brace lost.
fn mistake(chance: &mut Chance, text: &str) -> String {
    let mut lines: Vec<String> =
        text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let at = chance.below(lines.len());
    match chance.below(5) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at].insert(0, 'x'),
        3 => lines[at].push_str(" extra"),
        _ => lines[at] = lines[at].replace(['{', '}'], ""),
    }
    lines.join("\n") + "\n"
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    keywords(&mut all);
    for (name, text) in LANGUAGE {
        let text = text.replace("<VS>", &service("", "", ""));
        all.push((format!("language-{name}"), text));
    }
    by_chance(&mut all);
    let number = |(n, (name, text)): (usize, (String, String))| Case {
        name: format!("{n:03}-{}", name.replace(['{', '\n'], "").trim()),
        text,
    };
    all.into_iter().enumerate().map(number).collect()
}
