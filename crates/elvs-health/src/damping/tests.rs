use super::*;

const DAMPING: Damping = Damping {
    window: Duration::from_secs(60),
    first: Duration::from_secs(10),
    most: Duration::from_secs(65),
};

#[test]
fn hold_down_doubles_up_to_the_most_and_is_forgotten() {
    let mut flaps = Flaps::default();
    let mut holds = Vec::new();
    let soon = Some(Duration::from_secs(59));
    for up in [None, soon, soon, soon, soon, Some(Duration::from_secs(60)), soon] {
        flaps.failed(&DAMPING, up);
        holds.push(flaps.hold(&DAMPING).as_secs());
    }
    assert_eq!(holds, [0, 10, 20, 40, 65, 0, 10]);
}

#[test]
fn many_flaps_do_not_overflow() {
    let mut flaps = Flaps::default();
    (0..100).for_each(|_| flaps.failed(&DAMPING, Some(Duration::ZERO)));
    assert_eq!(flaps.hold(&DAMPING), DAMPING.most);
}
