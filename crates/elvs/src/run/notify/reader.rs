//! The program that reads a FIFO (`lvs_notify_fifo_script`).
//!
//! **Invariant:** as long as the value lives one instance of the program runs, or is started again after a pause that
//! grows; with the value it ends.
//!
//! Called by the notifier.

use std::path::PathBuf;
use std::time::Duration;

use elvs_model::health::{Notifications, Script};
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

/// A reader at work.
#[derive(Debug)]
pub(super) struct Reader(JoinHandle<()>);

impl Reader {
    /// Starts the program with the FIFO's path as its last argument.
    pub(super) fn start(mut script: Script, fifo: PathBuf, settings: Notifications) -> Self {
        script.words.push(fifo.to_string_lossy().into_owned());
        Self(tokio::spawn(async move {
            let mut pause = SHORTEST_PAUSE;
            loop {
                let begin = Instant::now();
                match script::start(&script, &settings) {
                    Ok(mut running) => {
                        info!(pid = running.pid(), "started {}", script.words.join(" "));
                        match running.wait().await {
                            Ok(status) => {
                                warn!("the reader of {} ended with {status}", fifo.display())
                            }
                            Err(error) => {
                                warn!(
                                    "the reader of {} cannot be waited for: {error}",
                                    fifo.display()
                                );
                            }
                        }
                    }
                    Err(error) => warn!("the reader of {}: {error}", fifo.display()),
                }
                if begin.elapsed() >= WELL {
                    pause = SHORTEST_PAUSE;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // What runs is dropped with the task, and ends so.
        self.0.abort();
    }
}
