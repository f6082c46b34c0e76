use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;

use elvs_model::health::PathCheck;

use super::hear::{Answer, Claim, News};
use super::{FIRST_NUMBER, NUMBERS, PathProber, Place, RUNS, Runs, lock};

/// The daemon may run checks on any thread.
fn run_anywhere(prober: &PathProber, check: &PathCheck) -> impl Send {
    prober.run(check)
}

#[test]
fn a_prober_is_shared_among_threads() {
    const fn shared<T: Send + Sync>() {}
    const { shared::<PathProber>() };
    let _ = run_anywhere;
}

fn echo(number: u16) -> News {
    News::Answer { number, from: IpAddr::from([192, 0, 2, 1]), what: Answer::Echo }
}

/// As many runs as there are turns have numbers of their own, and a run that is dropped gives its numbers back last.
#[test]
fn numbers_are_lent() {
    let runs = Mutex::new(Runs::new());
    let mut places: Vec<_> = (0..RUNS).map(|_| Place::take(&runs)).collect();
    let firsts: HashSet<u16> = places.iter().map(|place| place.first).collect();
    assert_eq!(firsts.len(), RUNS);
    assert!(firsts.iter().all(|first| *first >= FIRST_NUMBER && first % NUMBERS == 0));
    assert!(lock(&runs).free.is_empty());

    let [second, first] = [places.remove(1), places.remove(0)];
    let numbers = [second.first, first.first];
    drop(second);
    drop(first);
    assert_eq!(lock(&runs).listening.len(), RUNS - 2);
    let again = [Place::take(&runs), Place::take(&runs)];
    assert_eq!(again.map(|place| place.first), numbers, "free for longest");
}

#[test]
fn news_reach_the_run_that_they_concern() {
    let runs = Mutex::new(Runs::new());
    let (mut one, mut other) = (Place::take(&runs), Place::take(&runs));
    lock(&runs).tell(echo(one.first + 3));
    assert_eq!(one.news.try_recv(), Ok(echo(one.first + 3)));
    assert!(other.news.try_recv().is_err(), "another's");

    let claim = Claim { address: IpAddr::from([192, 0, 2, 9]), mac: [2; 6], asking: false };
    lock(&runs).tell(News::Claim(claim));
    for place in [&mut one, &mut other] {
        assert_eq!(place.news.try_recv(), Ok(News::Claim(claim)));
    }

    let gone = one.first;
    drop(one);
    lock(&runs).tell(echo(gone));
    // A run that does not listen keeps nobody waiting.
    (0..100).for_each(|_| lock(&runs).tell(echo(other.first)));
    assert_eq!(std::iter::from_fn(|| other.news.try_recv().ok()).count(), super::HEARD_AT_ONCE);
}
