extern crate std;

use std::vec::Vec;

use super::{MaglevEntry, MaglevProgress, dh_table, mh_table, sh_table};

#[test]
fn dh_takes_turns_and_sh_repeats_by_weight() {
    let dh: Vec<u16> = dh_table(3).collect();
    assert_eq!((dh.len(), &dh[..5]), (256, &[0, 1, 2, 0, 1][..]));
    let sh: Vec<u16> = sh_table(&[2, 0, 3]).collect();
    assert_eq!((sh.len(), &sh[..8]), (256, &[0, 0, 1, 2, 2, 2, 0, 0][..]));
    assert!(dh_table(0).all(|entry| entry == u16::MAX));
    assert_eq!(sh_table(&[]).filter(|entry| *entry == u16::MAX).count(), 256);
}

#[test]
fn mh_fills_its_table_by_weight() {
    let entry = |last: u8, last_weight| MaglevEntry {
        address: u32::from_be_bytes([10, 0, 0, last]),
        port: 80,
        last_weight,
    };
    let list = [entry(21, 1), entry(22, 2), entry(23, 0), entry(24, 5)];
    let mut progress = [MaglevProgress::default(); 4];
    let mut table = [0; 4093];
    mh_table(&list, &mut progress, &mut table);
    let shares: Vec<usize> =
        (0..4).map(|at| table.iter().filter(|entry| **entry == at).count()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 4093);
    assert_eq!(shares[2], 0, "never had a weight");
    for (share, wanted) in [(shares[0], 4093 / 8), (shares[1], 4093 / 4), (shares[3], 4093 * 5 / 8)]
    {
        assert!(share.abs_diff(wanted) <= 8, "{shares:?}");
    }
    mh_table(&[entry(21, 0)], &mut progress, &mut table);
    assert!(table.iter().all(|entry| *entry == u16::MAX));
}
