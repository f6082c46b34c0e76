use proptest::prelude::*;

use super::*;

fn said(
    percent: Option<u32>,
    administrative: Option<AgentMode>,
    up: Option<bool>,
    reason: Option<&str>,
) -> AgentReply {
    AgentReply { percent, administrative, up, reason: reason.map(str::to_owned) }
}

#[test]
fn haproxy_agent_check_reads_lines() {
    for (bytes, reply, ignored) in [
        ("75%\n", said(Some(75), None, None, None), &[][..]),
        ("up", said(None, None, Some(true), None), &[]),
        ("ready\r\n", said(None, Some(AgentMode::Ready), None, None), &[]),
        ("DRAIN", said(None, Some(AgentMode::Drain), None, None), &[]),
        ("maint\nup", said(None, Some(AgentMode::Maint), None, None), &[]),
        ("up,ready\t50%", said(Some(50), Some(AgentMode::Ready), Some(true), None), &[]),
        ("down", said(None, None, Some(false), Some("down")), &[]),
        ("failed # disk full ", said(None, None, Some(false), Some("disk full")), &[]),
        ("stopped", said(None, None, Some(false), Some("stopped")), &[]),
        ("up maxconn:30", said(None, None, Some(true), None), &["maxconn:30"]),
        ("maxconn:30", said(None, None, None, None), &["maxconn:30"]),
        ("up sideways", said(None, None, Some(true), None), &["sideways"]),
    ] {
        let line = AgentLine::parse(bytes.as_bytes()).unwrap();
        assert_eq!(
            (line.reply, &*line.ignored),
            (reply, &*ignored.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()),
            "{bytes:?}"
        );
    }
}

#[test]
fn refuses_lines_that_say_nothing() {
    for (bytes, fault) in [
        (&b""[..], AgentFault::Empty),
        (b" \r\nup", AgentFault::Empty),
        (b"hello", AgentFault::Unknown(b"hello".to_vec())),
        (b"-5%", AgentFault::Unknown(b"-5%".to_vec())),
        (b"99999999999%", AgentFault::Unknown(b"99999999999%".to_vec())),
        (b"# up", AgentFault::Unknown(b"# up".to_vec())),
        (b"\xff\xfe", AgentFault::Unknown(b"\xff\xfe".to_vec())),
    ] {
        assert_eq!(AgentLine::parse(bytes), Err(fault));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_line_or_a_fault(bytes: Vec<u8>) {
        if let Err(fault) = AgentLine::parse(&bytes) {
            prop_assert!(!fault.to_string().contains('\n'));
        }
    }
}
