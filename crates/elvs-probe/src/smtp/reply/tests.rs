use proptest::prelude::*;

use super::*;

#[test]
fn rfc5321_4_2_reads_replies() {
    let no_reply = |line: &str| Err(SmtpFault::NoReply(line.as_bytes().to_vec()));
    for (lines, expected) in [
        (&["220 mail.example.org ESMTP"][..], Ok(Some(220))),
        (&["250"], Ok(Some(250))),
        (&["220-two", "220 lines"], Ok(Some(220))),
        (&["250-only the first"], Ok(None)),
        (&["250-two", "251 codes"], Err(SmtpFault::Codes { first: 250, then: 251 })),
        (&["SSH-2.0-OpenSSH_9.6"], no_reply("SSH-2.0-OpenSSH_9.6")),
        (&["22"], no_reply("22")),
        (&[""], no_reply("")),
        (&["2200 x"], no_reply("2200 x")),
        (&["999 x"], no_reply("999 x")),
    ] {
        let mut reply = SmtpReply::default();
        let mut last = Ok(None);
        for line in lines {
            last = reply.line(line.as_bytes());
        }
        assert_eq!(last, expected, "{lines:?}");
    }
}

#[test]
fn ends_a_reply_without_end() {
    let mut reply = SmtpReply::default();
    let fault = (0..SMTP_LINES).find_map(|_| reply.line(b"250-x").err());
    assert_eq!(fault, Some(SmtpFault::Endless));
}

proptest! {
    #[test]
    fn any_bytes_are_a_reply_or_a_fault(lines: Vec<Vec<u8>>) {
        let mut reply = SmtpReply::default();
        for line in lines {
            if let Err(fault) = reply.line(&line) {
                prop_assert!(!fault.to_string().contains('\n'));
            }
        }
    }
}
