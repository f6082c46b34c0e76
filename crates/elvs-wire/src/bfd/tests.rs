use proptest::prelude::*;

use super::*;

/// Up, Poll, multiplier 5, discriminators 0x0a0b0c0d and 0x01020304, 10 ms, 20 ms, no echo.
const GOLDEN: [u8; LENGTH] = [
    0x21, 0xe0, 0x05, 0x18, 0x0a, 0x0b, 0x0c, 0x0d, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x27, 0x10,
    0x00, 0x00, 0x4e, 0x20, 0x00, 0x00, 0x00, 0x00,
];

fn golden() -> Control {
    Control {
        diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
        state: State::Up,
        sequence: Sequence::Poll,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(5).unwrap(),
        my_discriminator: NonZeroU32::new(0x0a0b_0c0d).unwrap(),
        your_discriminator: NonZeroU32::new(0x0102_0304),
        desired_min_tx: 10_000,
        required_min_rx: 20_000,
        required_min_echo_rx: 0,
    }
}

#[test]
fn rfc5880_4_1_bytes_and_fields() {
    assert_eq!(Control::parse(&GOLDEN), Ok(golden()));
    assert_eq!(golden().emit(), GOLDEN);
}

#[test]
fn rfc5880_4_1_flags() {
    let flags = |bits: u8| {
        let mut bytes = GOLDEN;
        bytes[1] = bits;
        Control::parse(&bytes).unwrap()
    };
    assert_eq!(flags(0xd0).sequence, Sequence::Final);
    assert_eq!(flags(0xc0).sequence, Sequence::Neither);
    assert!(flags(0xc8).control_plane_independent);
    assert!(flags(0xc2).demand);
    let states = [0x00, 0x40, 0x80, 0xc0].map(|bits| flags(bits).state);
    assert_eq!(states, [State::AdminDown, State::Down, State::Init, State::Up]);
}

#[test]
fn rfc5880_6_8_6_discards() {
    type Edit = fn(&mut Vec<u8>);
    let cases: &[(Edit, DecodeError)] = &[
        (|b| b.clear(), DecodeError::Short { got: 0 }),
        (|b| b.truncate(3), DecodeError::Short { got: 3 }),
        (|b| b.truncate(23), DecodeError::Short { got: 23 }),
        (|b| b[0] = 0x01, DecodeError::Version { got: 0 }),
        (|b| b[0] = 0x41, DecodeError::Version { got: 2 }),
        (|b| b[3] = 23, DecodeError::Length { field: 23, bytes: 24 }),
        (|b| b[3] = 25, DecodeError::Length { field: 25, bytes: 24 }),
        (|b| b[2] = 0, DecodeError::Multiplier),
        (|b| b[1] |= MULTIPOINT, DecodeError::Multipoint),
        (|b| b[4..8].fill(0), DecodeError::MyDiscriminator),
        (|b| b[8..12].fill(0), DecodeError::YourDiscriminator { state: State::Up }),
        (
            |b| {
                b[1] = 0x80;
                b[8..12].fill(0);
            },
            DecodeError::YourDiscriminator { state: State::Init },
        ),
        (|b| b[1] |= AUTHENTICATION, DecodeError::Authentication),
        (|b| b[1] |= POLL | FINAL, DecodeError::PollAndFinal),
    ];
    for (edit, error) in cases {
        let mut bytes = GOLDEN.to_vec();
        edit(&mut bytes);
        assert_eq!(Control::parse(&bytes), Err(*error), "{error}");
    }
}

#[test]
fn rfc5880_6_8_6_accepts_no_your_discriminator_while_down() {
    for (bits, state) in [(0x00, State::AdminDown), (0x40, State::Down)] {
        let mut bytes = GOLDEN;
        bytes[1] = bits;
        bytes[8..12].fill(0);
        let packet = Control::parse(&bytes).unwrap();
        assert_eq!((packet.state, packet.your_discriminator), (state, None));
    }
}

#[test]
fn bytes_behind_the_length_field_do_not_count() {
    let mut bytes = GOLDEN.to_vec();
    bytes.extend([0xff; 8]);
    assert_eq!(Control::parse(&bytes), Ok(golden()));
}

#[test]
fn diagnostics_have_the_rfc_s_words() {
    let words = |code| Diagnostic::new(code).map(|d| d.to_string());
    assert_eq!(words(1).as_deref(), Some("control detection time expired"));
    assert_eq!(words(31).as_deref(), Some("unknown diagnostic 31"));
    assert_eq!(words(32), None);
}

prop_compose! {
    fn control()(
        (diagnostic, state, sequence) in (0u8..32, 0u8..4, 0u8..3),
        (control_plane_independent, demand, multiplier) in (any::<bool>(), any::<bool>(), 1u8..),
        (mine, yours) in (1u32.., any::<u32>()),
        (desired_min_tx, required_min_rx, required_min_echo_rx) in any::<(u32, u32, u32)>(),
    ) -> Control {
        let state = State::of_bits(state);
        let known = matches!(state, State::Init | State::Up);
        Control {
            diagnostic: Diagnostic(diagnostic),
            state,
            sequence: [Sequence::Neither, Sequence::Poll, Sequence::Final][usize::from(sequence)],
            control_plane_independent,
            demand,
            detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
            my_discriminator: NonZeroU32::new(mine).unwrap(),
            your_discriminator: NonZeroU32::new(if known { yours.max(1) } else { yours }),
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_parses_to_the_same(packet in control()) {
        prop_assert_eq!(Control::parse(&packet.emit()), Ok(packet));
    }

    #[test]
    fn any_bytes_give_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Control::parse(&bytes);
    }

    /// Version and length are right, so that one in five or so parses.
    #[test]
    fn what_parses_is_written_as_it_came(mut bytes in any::<[u8; LENGTH]>()) {
        bytes[0] = VERSION << 5 | bytes[0] & 0x1f;
        bytes[3] = LENGTH_FIELD;
        if let Ok(packet) = Control::parse(&bytes) {
            prop_assert_eq!(packet.emit(), bytes);
        }
    }
}
