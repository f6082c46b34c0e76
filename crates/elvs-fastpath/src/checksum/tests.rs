use proptest::prelude::*;

use super::{Delta, fold};

fn full(words: &[u16]) -> u16 {
    !fold(words.iter().map(|w| u64::from(*w)).sum())
}

proptest! {
    #[test]
    fn rfc1624_incremental_equals_full(mut words in proptest::collection::vec(any::<u16>(), 4..40), new in any::<u32>(), half in any::<u16>()) {
        // A header that is all zeros has two representations of its sum; real headers are not.
        words[3] |= 1;
        let before = full(&words);
        let old = u32::from(words[0]) | u32::from(words[1]) << 16;
        let delta = Delta::default().word(old, new).half(words[2], half);
        let [w0, w1, w2, w3] = new.to_le_bytes();
        words[0] = u16::from_le_bytes([w0, w1]);
        words[1] = u16::from_le_bytes([w2, w3]);
        words[2] = half;
        prop_assert_eq!(delta.apply(before), full(&words));
    }
}

#[test]
fn folds_the_largest_sums() {
    assert_eq!(fold(0), 0);
    assert_eq!(fold(0xffff), 0xffff);
    assert_eq!(fold(0x1_0000), 1);
    assert_eq!(fold(u64::MAX >> 16), 0xffff);
}
