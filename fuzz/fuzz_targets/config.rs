//! Any bytes as a configuration file: read, judged, shown and explained, without a panic or a hang.
#![no_main]

use elvs_config::{MapSource, Options, Severity, explain, read, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The file can include itself and a second one, so that `include` is reached too.
    let source = MapSource::single("d/f", bytes).with_file("d/g", "weight 1\n}\n$A=1\n");
    let options = Options { config_id: "a".to_owned(), ..Options::default() };
    let outcome = read(&source, "d/f", &options);
    let errors = outcome.diagnostics.iter().any(|d| d.severity == Severity::Error);
    assert_eq!(outcome.desired.is_none(), errors);
    render(&outcome.diagnostics, &outcome.sources, true);
    if let Some(desired) = &outcome.desired {
        explain(desired);
    }
});
