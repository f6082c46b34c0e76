//! The sample configurations of Debian's package, and what their authors meant by them: `samples.txt` has it for each, read
//! beside the samples by hand.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

/// Where the package has them.
pub const DIRECTORY: &str = "/usr/share/doc/keepalived/samples";
/// The package's sample beside the place of the real file.
pub const MAIN: &str = "/etc/keepalived/keepalived.conf.sample";

/// What `elvs check --explain` says of a sample, in short: services, how they choose and reach real servers, checks, quorum;
/// of one that is refused its errors.
pub fn describe(report: &Value, path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    let services = &report["services"];
    let mut text = format!("{name}: {services} services\n");
    for error in report["diagnostics"].as_array().unwrap() {
        if error["severity"] == "error" {
            let (line, message) = (&error["span"]["line"], error["message"].as_str().unwrap());
            let _ = writeln!(text, "  line {line}: {message}");
        }
    }
    let meaning = report["meaning"].as_str().unwrap_or_default();
    for line in meaning.lines().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "  {line}");
    }
    text
}
