//! What a configuration means, in plain words.
//!
//! **Invariant:** pure; everything that a [`Desired`] asks for has its sentence, and what it leaves to a default that is worth
//! knowing has one too.
//!
//! Called by `elvs check --explain`.

mod checks;
mod director;
mod service;

use std::borrow::Cow;
use std::time::Duration;

use elvs_model::health::Watched;
use elvs_model::{Desired, DesiredService};

use crate::text::printable;

/// What the configuration means: a paragraph for each virtual server, then what concerns the whole director.
///
/// ```
/// use elvs_config::{MapSource, Options, explain, read};
///
/// let text = "virtual_server 192.0.2.1 80 {\n lvs_sched wrr\n lvs_method DR\n protocol TCP\n real_server 192.0.2.2 80 {\n weight 3\n }\n}\n";
/// let outcome = read(&MapSource::single("web.conf", text), "web.conf", &Options::default());
/// let words = explain(&outcome.desired.unwrap());
/// assert!(words.starts_with("Virtual server TCP 192.0.2.1:80\n  New connections go to the real servers in turn, by weight (wrr).\n"));
/// ```
pub fn explain(desired: &Desired) -> String {
    let mut page = Page::default();
    for services in watched_as_one(&desired.services) {
        service::explain(&services, &mut page);
    }
    if desired.services.is_empty() {
        page.head("No virtual server: nothing is forwarded".to_owned());
    }
    director::explain(desired, &mut page);
    page.text
}

/// Services in the order of the file, those of one group together.
fn watched_as_one(services: &[DesiredService]) -> Vec<Vec<&DesiredService>> {
    let mut all: Vec<(Watched, Vec<&DesiredService>)> = Vec::new();
    for service in services {
        let watched = service.watched();
        // The services of a group stand side by side: a block makes all of them.
        match all.last_mut() {
            Some((last, together)) if *last == watched => together.push(service),
            _ => all.push((watched, vec![service])),
        }
    }
    all.into_iter().map(|(_, together)| together).collect()
}

/// Text that grows line by line.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    /// The first line of a paragraph.
    fn head(&mut self, line: String) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(0, line);
    }

    /// A line that is indented `deep` times. What an operator wrote cannot steer the terminal.
    fn line(&mut self, deep: usize, line: String) {
        self.text.push_str(&"  ".repeat(deep));
        self.text.push_str(&safe(&line));
        self.text.push('\n');
    }
}

fn safe(line: &str) -> Cow<'_, str> {
    printable(line)
}

/// A time in seconds: `6 s`, `0.5 s`.
fn time(duration: Duration) -> String {
    let fraction = format!("{:06}", duration.subsec_micros());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction} s", duration.as_secs())
}

/// Words with commas and "and" before the last: `a`, `a and b`, `a, b and c`.
fn list(words: &[String]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests;
