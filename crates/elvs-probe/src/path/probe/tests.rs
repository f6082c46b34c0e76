use super::{FIRST_NUMBER, NUMBERS, Role};

/// Numbers of runs do not overlap, none lies outside the probes' range, and each leads back to its role.
#[test]
fn numbers_lead_to_roles() {
    for (index, role) in Role::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(role.number(0)), index, "{role:?} is in its order");
        assert!(role.number(0) < NUMBERS, "{role:?}");
        for first in [FIRST_NUMBER, u16::MAX - NUMBERS + 1] {
            assert_eq!(Role::of(role.number(first)), Some(role));
            assert_eq!(role.number(first) - role.number(first) % NUMBERS, first);
        }
    }
    assert_eq!(Role::of(FIRST_NUMBER + NUMBERS - 1), None, "a number of no role");
    assert_eq!(FIRST_NUMBER % NUMBERS, 0);
}
