//! `HTTP_GET` and `SSL_GET`, with their URLs.
//!
//! **Invariant:** a check has a URL, a URL a path and the status codes that pass; the offsets of a regex leave room for a match.
//!
//! Called by the lowering of checks.

use elvs_model::health::{
    HttpCheck, HttpVersion, RegexRule, StatusRange, Target, TlsClient, UrlCheck,
};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::lower::shared::Shared;
use crate::lower::{Once, value};
use crate::sources::Extent;
use crate::text::{nearest, quote};
use crate::tree::Item;

/// Status codes that pass if none are given.
const SUCCESS: StatusRange = StatusRange { first: 200, last: 299 };
/// Least and greatest status code: keepalived's.
const STATUS: (u16, u16) = (100, 599);

const VERSIONS: [(&str, HttpVersion); 5] = [
    ("1.0", HttpVersion::V1_0),
    ("1.0C", HttpVersion::V1_0Close),
    ("1.0c", HttpVersion::V1_0Close),
    ("1.1", HttpVersion::V1_1),
    ("1.1C", HttpVersion::V1_1Close),
];

/// Options of regular expressions (pcre2api(3)).
const REGEX_OPTIONS: [&str; 24] = [
    "allow_empty_class",
    "alt_bsux",
    "alt_circumflex",
    "alt_verbnames",
    "auto_callout",
    "caseless",
    "dollar_endonly",
    "dotall",
    "dupnames",
    "extended",
    "firstline",
    "match_unset_backref",
    "multiline",
    "never_backslash_c",
    "never_ucp",
    "never_utf",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "ucp",
    "ungreedy",
    "use_offset_limit",
    "utf",
];

/// Statements of the check.
#[derive(Default)]
struct Settings {
    version: Once<HttpVersion>,
    virtual_host: Once<String>,
    fast_recovery: Once<bool>,
    enable_sni: Once<bool>,
    sni_name: Once<String>,
    compliant: Once<bool>,
    urls: Vec<UrlCheck>,
    /// A URL is given and was refused, so that none is missing.
    refused: bool,
}

pub(super) fn check(
    item: &Item,
    target: Target,
    virtual_host: Option<&str>,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Option<HttpCheck> {
    let mut settings = Settings::default();
    for line in item.items() {
        settings.statement(line, reporter);
    }
    let secure = item.keyword.text == "SSL_GET";
    if !secure {
        settings.only_tls(reporter);
    }
    if settings.urls.is_empty() {
        if !settings.refused {
            let message = format!("{} has no url", item.keyword.text);
            reporter
                .error(Code::MissingArgument, item.head(), message)
                .help("write `url { path / }` in it; keepalived leaves the check out");
        }
        return None;
    }
    let own = settings.virtual_host.get().cloned();
    let virtual_host = own.or_else(|| virtual_host.map(str::to_owned));
    let tls = secure.then(|| settings.tls(virtual_host.as_deref(), shared, reporter));
    Some(HttpCheck {
        target,
        tls,
        version: settings.version.get().copied().unwrap_or_default(),
        virtual_host,
        fast_recovery: settings.fast_recovery.get() == Some(&true),
        urls: settings.urls,
    })
}

impl Settings {
    fn statement(&mut self, line: &Item, reporter: &mut Reporter) {
        let keyword = line.keyword.text.as_str();
        match (keyword, line.arguments.first()) {
            ("url", _) => match Url::read(line, reporter) {
                Some(url) => self.urls.push(url),
                None => self.refused = true,
            },
            ("http_protocol", Some(word)) => {
                if let Some(version) = value::name("HTTP version", word, &VERSIONS, reporter) {
                    self.version.set(line, version, reporter);
                }
            }
            ("virtualhost", Some(word)) => {
                if let Some(name) = host_name(word, reporter) {
                    self.virtual_host.set(line, name, reporter);
                }
            }
            ("sni_name", Some(word)) => {
                if let Some(name) = host_name(word, reporter) {
                    self.sni_name.set(line, name, reporter);
                }
            }
            ("fast_recovery" | "enable_sni" | "tls_compliant", _) => {
                let Some(on) = value::switch(line, reporter) else { return };
                let set = match keyword {
                    "fast_recovery" => &mut self.fast_recovery,
                    "enable_sni" => &mut self.enable_sni,
                    _ => &mut self.compliant,
                };
                set.set(line, on, reporter);
            }
            _ => {}
        }
    }

    /// Reports what only `SSL_GET` has a use for.
    fn only_tls(&self, reporter: &mut Reporter) {
        let places = [
            ("enable_sni", self.enable_sni.place()),
            ("sni_name", self.sni_name.place()),
            ("tls_compliant", self.compliant.place()),
        ];
        for (keyword, at) in places {
            let Some(at) = at else { continue };
            reporter
                .warning(Code::NoEffect, at, format!("`{keyword}` has no meaning without TLS"))
                .help("write `SSL_GET` in place of `HTTP_GET`, or remove the line");
        }
    }

    /// TLS with the `SSL` block's files; the name is sent if it is asked for or given.
    fn tls(
        &self,
        virtual_host: Option<&str>,
        shared: &Shared<'_>,
        reporter: &mut Reporter,
    ) -> TlsClient {
        let of_url = self.urls.iter().find_map(|url| url.virtual_host.as_deref());
        let known = self.sni_name.get().map(String::as_str).or(virtual_host).or(of_url);
        let asked = self.sni_name.get().is_some() || self.enable_sni.get() == Some(&true);
        if let Some(at) = self.enable_sni.place().filter(|_| asked && known.is_none()) {
            reporter
                .warning(Code::NoEffect, at, "`enable_sni` has no name to send")
                .help("write `virtualhost NAME` or `sni_name NAME`");
        }
        // A name may have a port behind it, which is no part of what TLS asks for.
        let bare = |name: &str| name.split_once(':').map_or(name, |(name, _)| name).to_owned();
        TlsClient {
            server_name: known.filter(|_| asked).map(bare),
            compliant: self.compliant.get() == Some(&true),
            ..shared.tls.clone()
        }
    }
}

/// A name for `Host:` or TLS.
pub(in crate::lower) fn host_name(word: &Word, reporter: &mut Reporter) -> Option<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if word.text.is_empty() || word.text.contains(bad) {
        let message = format!("{} is no host name", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write the name as clients do, as in www.example.org");
        return None;
    }
    Some(word.text.clone())
}

/// Statements of one `url`.
#[derive(Default)]
struct Url {
    path: Once<String>,
    virtual_host: Once<String>,
    status: Vec<StatusRange>,
    digest: Once<[u8; 16]>,
    regex: Once<String>,
    no_match: Once<bool>,
    options: Once<Vec<String>>,
    min_offset: Once<u32>,
    max_offset: Once<u32>,
    compliant: Once<bool>,
    refused: bool,
}

impl Url {
    fn read(item: &Item, reporter: &mut Reporter) -> Option<UrlCheck> {
        let mut url = Self::default();
        for line in item.items() {
            if url.statement(line, reporter).is_none() {
                url.refused = true;
            }
        }
        let Some(path) = url.path.get().cloned() else {
            if !url.refused {
                reporter
                    .error(Code::MissingArgument, item.head(), "the url has no path")
                    .help("write `path /` in it; keepalived leaves the url out");
            }
            return None;
        };
        let regex = url.regex(reporter);
        if url.refused {
            return None;
        }
        if url.status.is_empty() {
            url.status.push(SUCCESS);
        }
        Some(UrlCheck {
            path,
            virtual_host: url.virtual_host.get().cloned(),
            status: url.status,
            digest: url.digest.get().copied(),
            regex,
            tls_compliant: url.compliant.get() == Some(&true),
        })
    }

    /// Takes a statement; none if it is refused.
    fn statement(&mut self, line: &Item, reporter: &mut Reporter) -> Option<()> {
        let keyword = line.keyword.text.as_str();
        match (keyword, line.arguments.first()) {
            ("path", Some(word)) => self.path.set(line, path(word, reporter)?, reporter),
            ("virtualhost", Some(word)) => {
                self.virtual_host.set(line, host_name(word, reporter)?, reporter);
            }
            ("digest", Some(word)) => self.digest.keep(line, digest(word, reporter)?, reporter),
            ("status_code", _) => {
                for word in &line.arguments {
                    self.status.push(status(word, reporter)?);
                }
            }
            ("regex", Some(word)) => self.regex.set(line, word.text.clone(), reporter),
            ("regex_options", _) => self.options.set(line, options(line, reporter), reporter),
            ("regex_no_match", _) => {
                self.no_match.set(line, value::switch(line, reporter)?, reporter);
            }
            ("tls_compliant", _) => {
                self.compliant.set(line, value::switch(line, reporter)?, reporter);
            }
            ("regex_min_offset", Some(word)) => {
                let offset = value::number(keyword, word, 0, u32::MAX, reporter)?;
                self.min_offset.set(line, offset, reporter);
            }
            ("regex_max_offset", Some(word)) => {
                let offset = value::number(keyword, word, 0, u32::MAX - 1, reporter)?;
                self.max_offset.set(line, offset, reporter);
            }
            _ => {}
        }
        Some(())
    }

    fn regex(&self, reporter: &mut Reporter) -> Option<RegexRule> {
        let Some(pattern) = self.regex.get().cloned() else {
            self.without_regex(reporter);
            return None;
        };
        let min_offset = self.min_offset.get().copied().unwrap_or(0);
        // What is written is the last byte at which a match may begin.
        let max_offset = self.max_offset.get().map_or(0, |last| last.saturating_add(1));
        let mut rule = RegexRule {
            pattern,
            must_not_match: self.no_match.get() == Some(&true),
            options: self.options.get().cloned().unwrap_or_default(),
            min_offset: usize::try_from(min_offset).unwrap_or(usize::MAX),
            max_offset: usize::try_from(max_offset).unwrap_or(usize::MAX),
        };
        if let Some(at) = self.max_offset.place().filter(|_| min_offset >= max_offset) {
            let last = max_offset.saturating_sub(1);
            let message = format!(
                "regex_min_offset {min_offset} exceeds regex_max_offset {last}: neither is used"
            );
            reporter
                .warning(Code::ValueReplaced, at, message)
                .help("no match could begin between them; keepalived drops both too");
            (rule.min_offset, rule.max_offset) = (0, 0);
        }
        Some(rule)
    }

    fn without_regex(&self, reporter: &mut Reporter) {
        let places: [Option<Extent>; 4] = [
            self.no_match.place(),
            self.options.place(),
            self.min_offset.place(),
            self.max_offset.place(),
        ];
        if let Some(at) = places.into_iter().flatten().min() {
            reporter
                .warning(Code::NoEffect, at, "there is no `regex` that this belongs to")
                .help("write `regex PATTERN`, or remove the line");
        }
    }
}

fn path(word: &Word, reporter: &mut Reporter) -> Option<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if !word.text.starts_with('/') || word.text.contains(bad) {
        let message = format!("path {} does not begin with `/`, or has blanks", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write it as it stands in a request, as in `path /index.html`");
        return None;
    }
    Some(word.text.clone())
}

/// An MD5 sum of 32 hexadecimal digits.
fn digest(word: &Word, reporter: &mut Reporter) -> Option<[u8; 16]> {
    let fits = word.text.len() == 32 && word.text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(&word.text, 16).ok().filter(|_| fits);
    if number.is_none() {
        let message =
            format!("digest {} is no MD5 sum of 32 hexadecimal digits", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write what `curl -s URL | md5sum` shows");
    }
    number.map(u128::to_be_bytes)
}

fn status(word: &Word, reporter: &mut Reporter) -> Option<StatusRange> {
    let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
    let code = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|code| digits && (STATUS.0..=STATUS.1).contains(code))
    };
    let range = code(first).zip(code(last)).filter(|(first, last)| first <= last);
    if range.is_none() {
        let message = format!("{} is no status code or range of them", quote(&word.text));
        reporter.error(Code::InvalidValue, word.extent, message).help(format!(
            "write codes from {} to {}, as in `status_code 200-299 404`",
            STATUS.0, STATUS.1
        ));
    }
    range.map(|(first, last)| StatusRange { first, last })
}

/// The options that are known, sorted; others are left out, as in keepalived.
fn options(line: &Item, reporter: &mut Reporter) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    // In quotes, several may stand in one word.
    for word in &line.arguments {
        for name in word.text.split_whitespace() {
            if REGEX_OPTIONS.contains(&name) {
                options.push(name.to_owned());
                continue;
            }
            let message = format!("unknown regex option {} is left out", quote(name));
            let help = match nearest(name, REGEX_OPTIONS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see pcre2api(3) for the options; keepalived leaves it out too".to_owned(),
            };
            reporter.warning(Code::UnknownName, word.extent, message).help(help);
        }
    }
    options.sort_unstable();
    options.dedup();
    options
}
