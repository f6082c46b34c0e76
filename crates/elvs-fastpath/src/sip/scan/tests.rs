extern crate std;

use std::vec::Vec;
use std::{format, vec};

use super::find;
use crate::frame::Frame;

/// A frame to look at.
struct Bytes(Vec<u8>);

impl Frame for Bytes {
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.0.get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn grow_front<const N: usize>(&mut self) -> bool {
        false
    }

    fn shrink_front<const N: usize>(&mut self) -> bool {
        false
    }

    fn truncate(&mut self, _length: usize) -> bool {
        false
    }

    fn ingress(&self) -> u32 {
        0
    }
}

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// The Call-ID of a message, which lies in a frame with as many bytes before and behind it.
fn call_id(message: &[u8], around: usize) -> Option<(Vec<u8>, u64)> {
    let mut frame = Bytes(vec![b'\n'; around]);
    frame.0.extend_from_slice(message);
    let (start, end) = (around as u64, frame.0.len() as u64);
    frame.0.extend_from_slice(&b"\r\ni:behind\r\n".repeat(around.min(1)));
    let found = find(|value| value, &mut frame, start, end, SEED);
    let place = usize::try_from(found.place).unwrap();
    let length = usize::try_from(found.length).unwrap();
    found.hit.then(|| (message[place..place + length].to_vec(), found.hash))
}

#[test]
fn call_ids_are_those_that_linux_finds() {
    let long = |length: usize| {
        let id = "a".repeat(length);
        (format!("junk\r\ni:{id}\r\n").into_bytes(), id.into_bytes())
    };
    let ((longest, longest_id), (too_long, _)) = (long(255), long(256));
    let late =
        format!("junk\r\n{}i:@x\r\ni:late\r\n{}", "a: b\r\n".repeat(150), "a: b\r\n".repeat(30));
    // Recorded from Linux 6.12: messages, and the Call-ID in the template that they made, or none where they were dropped.
    let recorded: [(&[u8], Option<&[u8]>); 42] = [
        (b"INVITE sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID:  one@h\r\n\r\n", Some(b"one@h")),
        (b"x", None),
        (b"", None),
        (b"junk\r\nI : three\r\n", Some(b"three")),
        (b"junk\ni:four\n", Some(b"four")),
        (b"junk\ri:five\r", Some(b"five")),
        (b"junk\r\ni:six", None),
        (b"junk\r\ni:seven x\r\n", None),
        (b"junk\r\n\r\ni:ten\r\n", Some(b"ten")),
        (b"junk\n\ni:nine\r\n", None),
        (b"junk\r\nCall-ID-x: a\r\ni:eleven\r\n", None),
        (b"junk\r\ni:\r\n twelve\r\n", Some(b"twelve")),
        (b"junk\r\ni:thirteen@\r\ni:thirteenb\r\n", Some(b"thirteenb")),
        (b"i:fourteen\r\n", None),
        (&longest, Some(&longest_id)),
        (&too_long, None),
        (b"junk\r\ni:\xe4\xf7\r\n", None),
        (b"junk\r\ni:\xe4\xf8x\r\n", Some(b"\xe4\xf8x")),
        (b"junk\r\nix:n\r\ncall-id:fifteen\r\n", Some(b"fifteen")),
        (b"junk\r\nCALL-id\r\n :sixteen\r\n", Some(b"sixteen")),
        (b"junk\r\ni:@x\r\ni:seventeen\r\n", Some(b"seventeen")),
        (late.as_bytes(), Some(b"late")),
        (b"junk\r\ni:@x\r\nlong-header-to-skip: aaaaa\r\ni:nineteen\r\n", Some(b"nineteen")),
        (b"junk\r\ni:\teight\r\n", Some(b"eight")),
        (b"junk\r\ni \t: \t tabs\r\n", Some(b"tabs")),
        (b"junk\r\ni:\r\n\tfold1\r\n", Some(b"fold1")),
        (b"junk\r\ni:\r\n \r\n fold2\r\n", None),
        (b"junk\r\ni: \r \n fold4\r\n", None),
        (b"junk\r\ni:\n cont3\r\n", Some(b"cont3")),
        (b"junk\r\ni:\r\nx\r\ni:notfold\r\n", None),
        (b"junk\r\n i:indented\r\n", None),
        (b"junk\r\nCall-ID:\r\n", None),
        (b"junk\r\ni:@x\r\ni:@y\r\ni:lost\r\n", None),
        (b"junk\r\ni:@x\r\nii: z\r\ni:y12345678901234567890\r\n", Some(b"y12345678901234567890")),
        (b"junk\r\ni:a@b@c\r\n", None),
        (b"junk\r\nC\r\ni:afterC\r\n", Some(b"afterC")),
        (b"junk\r\ncall-i\r\ni:aftercalli\r\n", Some(b"aftercalli")),
        (b"junk\r\ni\xe4:x\r\ni:afterie4\r\n", Some(b"afterie4")),
        (b"junk\r\ni\x80:x\r\ni:afteri80\r\n", None),
        (b"junk\r\ni:nul\0x\r\n", None),
        (b"junk\r\ni:!\"%'()*+-./:<>?[\\]_`{}~1\r\n", Some(b"!\"%'()*+-./:<>?[\\]_`{}~1")),
        (b"junk\r\ni:c0\xc0\xdf\xff\r\n", Some(b"c0\xc0\xdf\xff")),
    ];
    for (message, wanted) in recorded {
        for around in [0, 1, 54] {
            let found = call_id(message, around).map(|(id, _)| id);
            assert_eq!(found.as_deref(), wanted, "{around} {}", message.escape_ascii());
        }
    }
    for other in b"#$&,;=^|\xd7\xaa\xb5" {
        let message = [&b"junk\r\ni:a"[..], &[*other], b"b\r\n"].concat();
        assert_eq!(call_id(&message, 3), None, "{}", message.escape_ascii());
    }
}

#[test]
fn hashes_depend_on_the_call_id_only() {
    let (_, one) = call_id(b"junk\r\ni:one@h\r\n", 0).unwrap();
    let (_, same) = call_id(b"INVITE x\r\nvia: y\r\ncall-id : one@h\n", 9).unwrap();
    let (_, other) = call_id(b"junk\r\ni:one@i\r\n", 0).unwrap();
    let (_, after) = call_id(b"junk\r\ni:x@\r\ni:one@h\r\n", 0).unwrap();
    assert_eq!((one, one), (same, after));
    assert_ne!(one, other);
}
