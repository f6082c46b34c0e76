use std::time::{Duration, SystemTime};

use super::{Dropped, Letter, MOST_WAITING, Queue};

fn letter(number: usize) -> Letter {
    Letter { subject: number.to_string(), body: String::new(), date: SystemTime::UNIX_EPOCH }
}

fn first(queue: &Queue) -> String {
    queue.first().map(|letter| letter.subject).unwrap_or_default()
}

#[test]
fn a_mail_is_tried_again_with_growing_pauses_and_then_dropped() {
    let mut queue = Queue::default();
    assert_eq!(queue.push(letter(1)), Ok(true));
    let pauses: Vec<_> = std::iter::from_fn(|| queue.failed("refused")).collect();
    assert_eq!(pauses, [10, 30, 90].map(Duration::from_secs));
    assert!(queue.tries_over());
    queue.drop_first(Dropped::TriesOver);
    let view = queue.view();
    assert_eq!((view.waiting, view.sent, view.tried_again), (0, 0, 3));
    assert_eq!(view.dropped, [("all tries failed".to_owned(), 1)]);
    assert_eq!(view.trouble.as_deref(), Some("refused"));
}

#[test]
fn mails_keep_their_order_and_a_failure_counts_for_those_that_wait() {
    let mut queue = Queue::default();
    assert_eq!(queue.push(letter(1)), Ok(true));
    assert_eq!(queue.push(letter(2)), Ok(false));
    for _ in 0..3 {
        assert!(queue.failed("timeout").is_some());
    }
    assert_eq!(queue.push(letter(3)), Ok(false));
    assert_eq!(queue.failed("timeout"), None);
    for number in ["1", "2"] {
        assert_eq!(first(&queue), number);
        assert!(queue.tries_over(), "it waited as long");
        queue.drop_first(Dropped::TriesOver);
    }
    assert_eq!(first(&queue), "3");
    assert!(!queue.tries_over(), "it came late");
    queue.sent();
    assert_eq!((queue.view().sent, queue.view().trouble), (1, None));
    assert_eq!(queue.push(letter(4)), Ok(true), "nobody sends any more");
}

#[test]
fn no_more_mails_wait_than_the_limit() {
    let mut queue = Queue::default();
    for number in 0..MOST_WAITING {
        assert_eq!(queue.push(letter(number)), Ok(number == 0));
    }
    assert_eq!(queue.push(letter(0)), Err(Dropped::QueueFull));
    assert_eq!(queue.view().waiting, MOST_WAITING);
    assert_eq!(queue.view().dropped, [("too many mails wait".to_owned(), 1)]);
}
