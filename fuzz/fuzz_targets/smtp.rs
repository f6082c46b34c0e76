//! Any lines are a reply of an SMTP server or a named fault, said in one line, and no reply goes on for ever.

#![no_main]

use elvs_probe::SmtpReply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reply = SmtpReply::default();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        assert!(number <= 100, "a reply of more than 100 lines");
        match reply.line(line) {
            Ok(None) => {}
            Ok(Some(code)) => {
                assert!((200..600).contains(&code));
                return;
            }
            Err(fault) => {
                assert!(!fault.to_string().contains('\n'));
                return;
            }
        }
    }
});
