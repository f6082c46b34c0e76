use proptest::prelude::*;

use super::*;

#[test]
fn rows_stand_in_the_order_of_their_variants_and_names() {
    for (place, row) in ROWS.iter().enumerate() {
        assert_eq!(row.setting as usize, place, "{}", row.name);
        assert_eq!(row.setting.name(), row.name);
        assert_eq!(row.name.parse(), Ok(row.setting));
        assert_eq!(serde_json::to_value(row.setting).unwrap(), row.name);
        assert!(row.setting.takes(&row.setting.default_value()), "{}", row.name);
        assert!(!row.about.is_empty() && !row.about.ends_with('.'), "{}", row.name);
        let warned = row.setting.warning().is_some();
        assert_eq!(warned, row.support != SettingSupport::InEffect, "{}", row.name);
        assert_eq!(warned, !row.instead.is_empty(), "{}: says what is so instead", row.name);
    }
    assert!(ROWS.windows(2).all(|pair| pair[0].name < pair[1].name));
}

/// `ipvs-sysctl.rst` of Linux 6.12 and `vs_vars` of its `ip_vs_ctl.c`, with the defaults that they give.
#[test]
fn ipvs_sysctl_names_and_defaults() {
    let expected = "am_droprate=10 amemthresh=1024 backup_only=0 cache_bypass=0 conn_reuse_mode=1 conntrack=0 \
        debug_level=0 drop_entry=0 drop_packet=0 est_cpulist= est_nice=0 expire_nodest_conn=0 \
        expire_quiescent_template=0 ignore_tunneled=0 lblc_expiration=86400 lblcr_expiration=86400 nat_icmp_send=0 \
        pmtu_disc=1 run_estimation=1 schedule_icmp=0 secure_tcp=0 sloppy_sctp=0 sloppy_tcp=0 snat_reroute=1 \
        sync_persist_mode=0 sync_ports=1 sync_qlen_max=32768 sync_refresh_period=0 sync_retries=0 sync_sock_size=0 \
        sync_threshold=3_50 sync_version=1";
    let found: Vec<String> = Setting::all()
        .filter(|setting| *setting != Setting::MhTableSize)
        .map(|setting| format!("{setting}={}", setting.default_value()).replace(' ', "_"))
        .collect();
    assert_eq!(found.join(" "), expected);
}

#[test]
fn takes_what_the_kernel_takes() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("drop_entry", &["0", "3"], &["4", "-1", "", "x", "1 2", "1.0"]),
        ("conn_reuse_mode", &["0", "1", "2", "3"], &["4"]),
        ("sloppy_tcp", &["0", "1", "2"], &["-1", "2147483648", "on"]),
        ("amemthresh", &["0", "2147483647"], &["2147483648", "99999999999999999999"]),
        ("est_nice", &["-20", "19"], &["-21", "20"]),
        ("sync_ports", &["1", "2", "64"], &["0", "3", "128"]),
        ("sync_threshold", &["3 50", "0 0", "7 0", " 3\t50 "], &["3", "50 50", "3 50 1", "-1 5"]),
        ("est_cpulist", &["", "0", "0-3,8"], &["3-0", "a", "0,", "1 2", "0-"]),
        ("sync_retries", &["3"], &["4"]),
        (
            "mh_table_size",
            &["251", "4093", "131071"],
            &["0", "-251", "4096", "131072", "4294971389"],
        ),
    ];
    for (name, good, bad) in cases {
        let setting: Setting = name.parse().unwrap();
        for text in *good {
            assert!(setting.value(text).is_ok(), "{name} {text}");
        }
        for text in *bad {
            let error = setting.value(text).expect_err(text).to_string();
            let start = format!("`{text}` is no value of {name}: write ");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}

#[test]
fn a_wrong_size_of_mh_is_told_the_primes() {
    let error = Setting::MhTableSize.value("4096").unwrap_err().to_string();
    assert_eq!(
        error,
        "`4096` is no value of mh_table_size: write one of the primes 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, \
         65521, 131071"
    );
}

#[test]
fn names_are_also_known_as_sysctl_writes_them() {
    assert_eq!("net.ipv4.vs.sloppy_tcp".parse(), Ok(Setting::SloppyTcp));
    assert_eq!("net/ipv4/vs/sloppy_tcp".parse(), Ok(Setting::SloppyTcp));
    let error = "sloppy".parse::<Setting>().unwrap_err();
    assert_eq!(error.to_string(), "there is no setting `sloppy`: `elvs get` lists those there are");
}

#[test]
fn a_default_is_the_same_as_nothing_set() {
    let mut settings = Settings::default();
    settings.set(Setting::SloppyTcp, SettingValue::Number(1)).unwrap();
    assert!(settings.is_on(Setting::SloppyTcp) && settings.is_on(Setting::PmtuDisc));
    assert_eq!(settings.changed().count(), 1);
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(json, r#"{"sloppy_tcp":1}"#);
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    settings.set(Setting::SloppyTcp, SettingValue::Number(0)).unwrap();
    assert_eq!(settings, Settings::default());
    assert!(settings.set(Setting::DropEntry, SettingValue::Number(9)).is_err());
    assert_eq!(settings, Settings::default());
    for wrong in [r#"{"sloppy":1}"#, r#"{"drop_entry":9}"#, r#"{"sync_threshold":3}"#] {
        assert!(serde_json::from_str::<Settings>(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn text_and_json_read_back_as_the_same_value(
        setting in proptest::sample::select(Setting::all().collect::<Vec<_>>()),
        text in "-?[0-9]{0,3}( [0-9]{1,3}|[-,][0-9]{1,2})?",
    ) {
        if let Ok(value) = setting.value(&text) {
            prop_assert_eq!(setting.value(&value.to_string()), Ok(value.clone()));
            let mut settings = Settings::default();
            settings.set(setting, value).unwrap();
            let json = serde_json::to_string(&settings).unwrap();
            prop_assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        }
    }
}
