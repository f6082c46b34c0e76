use super::*;

#[test]
fn knows_a_reply_by_its_source_address() {
    let mut packet = [0_u8; 20];
    packet[0] = 0x45;
    packet[12..16].copy_from_slice(&VIP.octets());
    assert!(is_reply(&packet));
    assert!(!is_reply(&packet[..15]), "cut short");
    assert!(!is_reply(&[]));
    packet[0] = 0x60;
    assert!(!is_reply(&packet), "IPv6");
    packet[0] = 0x45;
    packet[15] ^= 1;
    assert!(!is_reply(&packet), "another address");
}
