use super::{Control, Method};

#[test]
fn fields_do_not_overlap() {
    let word = Control::live(17, 10, Method::Dr, true, 0xdead_beef).with_distance(15);
    assert!(word.is_live_of(17));
    assert!(!word.is_live_of(6));
    assert_eq!(word.state(), 10);
    assert_eq!(word.distance(), 15);
    assert_eq!(Method::from_bits(word.method_bits()), Some(Method::Dr));
    assert!(word.inactive());
    assert_eq!(word.tick(), 0xdead_beef);
    let word = word.with_state(3, false).with_tick(1);
    assert_eq!((word.state(), word.inactive(), word.tick()), (3, false, 1));
    assert_eq!((word.protocol(), word.distance()), (17, 15));
}

#[test]
fn a_freed_slot_keeps_only_the_next_generation() {
    let mut word = Control::live(6, 1, Method::Nat, false, 9);
    for generation in 1..=255u64 {
        word = word.freed();
        assert!(word.is_free());
        assert_eq!(word.0, generation << 24);
    }
    assert_eq!(word.freed().0, 0, "the generation wraps inside its eight bits");
}

#[test]
fn a_reused_slot_is_another_connection() {
    let old = Control::live(6, 1, Method::Nat, false, 9);
    let new = Control::live(6, 1, Method::Nat, false, 9).with_generation_of(old.freed());
    assert!(old.same_connection(old.with_state(4, true).with_tick(10)));
    assert!(!old.same_connection(new));
    assert!(!old.same_connection(old.claimed()));
}

#[test]
fn a_place_leaves_the_other_fields() {
    let word = Control::live(255, 0, Method::Nat, false, 77).with_distance(15);
    for place in [0, 1, 15, 16, 17, 511, 512, Control::PLACES - 1] {
        let placed = word.with_place(place);
        assert_eq!(placed.place(), place);
        assert_eq!(placed.with_place(0), word, "place {place}");
        assert_eq!((placed.protocol(), placed.distance(), placed.tick()), (255, 15, 77));
    }
}
