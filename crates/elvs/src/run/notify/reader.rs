//! The program that reads a FIFO (`lvs_notify_fifo_script`).
//!
//! **Invariant:** as long as the value lives one instance of the program runs, or is started again after a pause that
//! grows; with the value it ends.
//!
//! Called by the notifier.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use elvs_model::health::{Notifications, Script};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::script;

/// First pause before a program that ended is started again.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A program that ran this long is well.
const WELL: Duration = Duration::from_secs(60);

/// How long a program may take to end, first by itself at the end of what it reads, then by SIGTERM.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A reader at work; it is killed with this value unless [`Self::end`] comes first.
#[derive(Debug)]
pub(super) struct Reader {
    task: JoinHandle<()>,
    end: Arc<Notify>,
}

impl Reader {
    /// Starts the program with the FIFO's path as its last argument.
    pub(super) fn start(mut script: Script, fifo: PathBuf, settings: Notifications) -> Self {
        script.words.push(fifo.to_string_lossy().into_owned());
        let end = Arc::new(Notify::new());
        let asked = end.clone();
        let task = tokio::spawn(async move {
            let mut pause = SHORTEST_PAUSE;
            loop {
                let begin = Instant::now();
                match script::start(&script, &settings) {
                    Ok(mut running) => {
                        info!(pid = running.pid(), "started {}", script.words.join(" "));
                        let ended = tokio::select! {
                            ended = running.wait() => ended,
                            () = asked.notified() => {
                                // However it ends.
                                let _ = running.end(LAST_WORDS).await;
                                return;
                            }
                        };
                        match ended {
                            Ok(status) => {
                                warn!("the reader of {} ended with {status}", fifo.display());
                            }
                            Err(error) => {
                                let fifo = fifo.display();
                                warn!("the reader of {fifo} cannot be waited for: {error}");
                            }
                        }
                    }
                    Err(error) => warn!("the reader of {}: {error}", fifo.display()),
                }
                if begin.elapsed() >= WELL {
                    pause = SHORTEST_PAUSE;
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    () = asked.notified() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        Self { task, end }
    }

    /// Ends the program, whose FIFO was closed before; takes two seconds at most.
    pub(super) async fn end(mut self) {
        self.end.notify_one();
        // It ended, or failed and is ended so.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // What runs is dropped with the task, and ends so.
        self.task.abort();
    }
}
