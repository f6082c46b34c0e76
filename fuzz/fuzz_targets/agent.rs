//! Any bytes are a line of an agent or a named fault, said in one line.

#![no_main]

use elvs_probe::AgentLine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(fault) = AgentLine::parse(bytes) {
        assert!(!fault.to_string().contains('\n'));
    }
});
