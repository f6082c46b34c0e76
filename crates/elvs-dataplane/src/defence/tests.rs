use elvs_common::Settings as Record;
use elvs_model::{Setting, Settings};

use super::{Defence, available, is_automatic, may_act};

fn settings(words: &[(Setting, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (setting, text) in words {
        settings.set(*setting, setting.value(text).unwrap()).unwrap();
    }
    settings
}

/// Mode of all three settings, pages available, then what is in force (`update_defense_level`, `amemthresh` 1024).
const LEVELS: &[(&str, u64, bool, u32)] = &[
    ("0", 0, false, 0),
    ("1", 1024, false, 0),
    ("1", 1023, true, 1024),
    ("2", 1023, true, 1024),
    ("2", 1024, false, 0),
    ("1", 512, true, 2),
    ("1", 511, true, 1),
    ("1", 0, true, 1),
    ("3", u64::MAX, true, 10),
];

#[test]
fn levels_are_the_kernels() {
    for (mode, pages, acts, drop_rate) in LEVELS {
        let all = [Setting::DropEntry, Setting::DropPacket, Setting::SecureTcp];
        let settings = settings(&all.map(|setting| (setting, *mode)));
        let wanted = Defence { drop_entry: *acts, drop_rate: *drop_rate, secure_tcp: *acts };
        assert_eq!(Defence::of(&settings, *pages), wanted, "mode {mode}, {pages} pages");
    }
}

#[test]
fn the_rate_of_mode_3_is_am_droprate() {
    for (rate, wanted) in [("0", 0), ("1", 1), ("2147483647", i32::MAX.cast_unsigned())] {
        let settings = settings(&[(Setting::DropPacket, "3"), (Setting::AmDroprate, rate)]);
        assert_eq!(Defence::of(&settings, u64::MAX).drop_rate, wanted);
    }
}

#[test]
fn a_threshold_of_nothing_never_acts() {
    let settings = settings(&[(Setting::Amemthresh, "0"), (Setting::DropPacket, "1")]);
    assert_eq!(Defence::of(&settings, 0), Defence::default());
}

#[test]
fn automatic_modes_are_shown_as_2_while_they_act() {
    let configured = settings(&[(Setting::DropEntry, "1"), (Setting::SecureTcp, "2")]);
    let shown = |pages| {
        let shown = Defence::of(&configured, pages).shown(&configured);
        [Setting::DropEntry, Setting::DropPacket, Setting::SecureTcp].map(|s| shown.number(s))
    };
    assert_eq!(shown(0), [2, 0, 2]);
    assert_eq!(shown(u64::MAX), [1, 0, 1]);
    let always = settings(&[(Setting::DropPacket, "3")]);
    assert_eq!(Defence::of(&always, 0).shown(&always), always);
}

#[test]
fn what_is_scarcest_decides() {
    let settings = Settings::default();
    let record = Record { connections: 1_600, wide_connections: 160, ..Record::default() };
    let pages = |occupied, free| available(&settings, &record, occupied, free);
    assert_eq!(pages([0, 0], Some(77)), 77, "the host");
    assert_eq!(pages([0, 0], None), 16 * 1024, "empty tables");
    assert_eq!(pages([1_500, 0], Some(u64::MAX)), 1024, "a sixteenth of the first is left");
    assert_eq!(pages([1_501, 0], None), 1013);
    assert_eq!(pages([0, 155], None), 512, "a thirty-second of the second");
    assert_eq!(pages([1_601, 0], None), 0, "more than it was made for");
    let without = Record { connections: 1_600, ..Record::default() };
    assert_eq!(available(&settings, &without, [0, 9], None), 16 * 1024, "no second table");
}

#[test]
fn only_settings_about_new_connections_are_in_their_way() {
    for (setting, way, automatic) in [
        (Setting::DropEntry, false, true),
        (Setting::DropPacket, true, true),
        (Setting::SecureTcp, true, true),
        (Setting::SloppyTcp, false, false),
    ] {
        let settings = settings(&[(setting, "1")]);
        assert_eq!((may_act(&settings), is_automatic(&settings)), (way, automatic), "{setting}");
    }
    assert!(!is_automatic(&settings(&[(Setting::DropPacket, "3")])));
}
