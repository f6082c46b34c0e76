//! Telling others of changes: scripts, FIFOs and mail.
//!
//! **Invariant:** what concerns one object is told in the order in which it happened: a script is started when the one
//! before it has ended. Nothing here is waited for by the data plane or by checks.
//!
//! Called by the daemon: the applier of the health monitor's effects, and start and stop.

mod fifo;
mod mail;
mod reader;
mod script;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use elvs_model::health::{Fifo, MailView, Notifications, Script};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use fifo::Pipe;
use mail::queue::{Dropped, Letter, Queue};
use reader::Reader;

/// Something to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Run a program; those about one object run one after the other.
    Script {
        /// The object, as logs call it.
        about: String,
        /// The program.
        script: Script,
    },
    /// Write a line, without its end, into the FIFOs of virtual and real servers.
    Line(String),
    /// Send mail.
    Mail {
        /// Its subject, to which the name of this director is put in front.
        subject: String,
        /// Its text.
        body: String,
    },
}

/// Longest that a notify script may run.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
/// Scripts that may wait for one object.
const MOST_WAITING: usize = 256;

/// Who tells.
#[derive(Default)]
pub(super) struct Notifier {
    inner: Mutex<Inner>,
    /// Scripts and mails that are under way or wait.
    open: AtomicUsize,
    /// `open` became 0.
    idle: Notify,
    /// The daemon ends: mails are tried once more, and not later.
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    settings: Notifications,
    pipes: Vec<(Fifo, Pipe, Option<Reader>)>,
    /// Scripts that wait, by object; an object that has an entry has a task that empties it.
    scripts: HashMap<String, VecDeque<Script>>,
    /// Mails that wait, which a task sends while there are any.
    mails: Queue,
}

impl Notifier {
    /// Takes over settings: opens FIFOs, starts their readers; those that stay the same are left alone.
    pub(super) fn configure(&self, settings: &Notifications) {
        let mut inner = self.lock();
        let wanted = [&settings.lvs_fifo, &settings.fifo].into_iter().flatten();
        let mut before = std::mem::take(&mut inner.pipes);
        for fifo in wanted {
            let rules_stay = inner.settings.script_user == settings.script_user
                && inner.settings.script_security == settings.script_security;
            let known = before.iter().position(|(known, ..)| known == fifo && rules_stay);
            if let Some(known) = known {
                inner.pipes.push(before.swap_remove(known));
                continue;
            }
            match Pipe::open(&fifo.path, fifo.user.as_ref().or(settings.script_user.as_ref())) {
                Ok(pipe) => {
                    let reader = fifo.script.as_ref().map(|script| {
                        Reader::start(script.clone(), fifo.path.clone(), settings.clone())
                    });
                    inner.pipes.push((fifo.clone(), pipe, reader));
                }
                Err(error) => warn!("notifications are not written to a FIFO: {error}"),
            }
        }
        inner.settings = settings.clone();
        drop(inner);
        // One that goes, or whose reader changes.
        if !before.is_empty() {
            tokio::spawn(end(before));
        }
    }

    /// Tells of something; never waits.
    pub(super) fn tell(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Script { about, script } => self.queue_script(about, script),
            Notice::Line(line) => {
                for (_, pipe, _) in &mut self.lock().pipes {
                    pipe.write(&line);
                }
            }
            Notice::Mail { subject, body } => self.queue_mail(subject, body),
        }
    }

    fn queue_script(self: &Arc<Self>, about: String, script: Script) {
        let mut inner = self.lock();
        if let Some(waiting) = inner.scripts.get_mut(&about) {
            if waiting.len() >= MOST_WAITING {
                warn!(
                    "{about}: {MOST_WAITING} scripts wait, {} is not run",
                    script.words.join(" ")
                );
                return;
            }
            waiting.push_back(script);
            self.open.fetch_add(1, Ordering::Relaxed);
            return;
        }
        inner.scripts.insert(about.clone(), VecDeque::from([script]));
        drop(inner);
        self.open.fetch_add(1, Ordering::Relaxed);
        let notifier = self.clone();
        tokio::spawn(async move { notifier.run_scripts(&about).await });
    }

    /// Runs what waits for an object, one after the other.
    async fn run_scripts(&self, about: &str) {
        loop {
            let (script, settings) = {
                let mut inner = self.lock();
                let Some(script) = inner.scripts.get_mut(about).and_then(VecDeque::pop_front)
                else {
                    inner.scripts.remove(about);
                    return;
                };
                (script, inner.settings.clone())
            };
            let named = script.words.join(" ");
            match script::run(&script, &settings, SCRIPT_LIMIT).await {
                Ok(()) => info!("{about}: ran {named}"),
                Err(error) => warn!("{about}: {error}"),
            }
            self.done();
        }
    }

    fn queue_mail(self: &Arc<Self>, subject: String, body: String) {
        let mut inner = self.lock();
        if inner.settings.mail.is_none() {
            return;
        }
        let letter = Letter { subject: subject.clone(), body, date: SystemTime::now() };
        let pushed = inner.mails.push(letter);
        drop(inner);
        match pushed {
            Ok(begins) => {
                self.open.fetch_add(1, Ordering::Relaxed);
                if begins {
                    let notifier = self.clone();
                    tokio::spawn(async move { notifier.send_mails().await });
                }
            }
            Err(why) => warn!("mail `{subject}` is not sent: {}", why.words()),
        }
    }

    /// Sends what waits, one mail after the other; ends when nothing waits.
    async fn send_mails(&self) {
        let mut next = self.lock().mails.first();
        while let Some(letter) = next {
            let fate = self.send_mail(letter).await;
            let mut inner = self.lock();
            match fate {
                Ok(()) => inner.mails.sent(),
                Err(why) => inner.mails.drop_first(why),
            }
            // Under one lock with the above: whoever finds the queue empty begins to send.
            next = inner.mails.first();
            drop(inner);
            self.done();
        }
    }

    /// Sends the first mail that waits, or tries to for as long as it may be tried.
    async fn send_mail(&self, letter: Letter) -> Result<(), Dropped> {
        let Letter { subject, body, date } = letter;
        let mut stopping = self.stopping.subscribe();
        loop {
            let (settings, router, tries_over) = {
                let inner = self.lock();
                let router = inner.settings.router_id.clone().unwrap_or_else(mail::host_name);
                (inner.settings.mail.clone(), router, inner.mails.tries_over())
            };
            if tries_over {
                warn!("mail `{subject}` is not sent: {}", Dropped::TriesOver.words());
                return Err(Dropped::TriesOver);
            }
            let Some(settings) = settings else {
                warn!("mail `{subject}` is not sent: {}", Dropped::NoServer.words());
                return Err(Dropped::NoServer);
            };
            let last = *stopping.borrow();
            let full = format!("[{router}] {subject}");
            let Err(error) = mail::send(&settings, &full, body.clone(), date).await else {
                return Ok(());
            };
            if error.is_final() {
                warn!("mail `{subject}` is not sent: {error}");
                return Err(Dropped::Refused);
            }
            let pause = self.lock().mails.failed(&error.to_string());
            match pause {
                Some(_) if last => {
                    warn!("mail `{subject}` is not sent: {error}; {}", Dropped::Stopped.words());
                    return Err(Dropped::Stopped);
                }
                Some(pause) => {
                    warn!("mail `{subject}`: {error}; tried again in {} s", pause.as_secs());
                    // Who stops does not want to wait: one more try, at once.
                    let _ = timeout(pause, stopping.wait_for(|stopping| *stopping)).await;
                }
                None => warn!("mail `{subject}`: {error}"),
            }
        }
    }

    /// What became of mails.
    pub(super) fn mails(&self) -> MailView {
        self.lock().mails.view()
    }

    fn done(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until scripts have ended and mails are sent, but not beyond `limit`; then ends the FIFOs' readers.
    pub(super) async fn finish(&self, limit: Duration) {
        self.stopping.send_replace(true);
        let idle = async {
            loop {
                let idle = self.idle.notified();
                if self.open.load(Ordering::Relaxed) == 0 {
                    return;
                }
                idle.await;
            }
        };
        if timeout(limit, idle).await.is_err() {
            let open = self.open.load(Ordering::Relaxed);
            warn!("{open} scripts and mails were not done within {} s", limit.as_secs());
        }
        let pipes = std::mem::take(&mut self.lock().pipes);
        end(pipes).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes FIFOs, then ends their readers.
async fn end(pipes: Vec<(Fifo, Pipe, Option<Reader>)>) {
    let mut readers = Vec::new();
    for (_, pipe, reader) in pipes {
        drop(pipe);
        readers.extend(reader);
    }
    for reader in readers {
        reader.end().await;
    }
}

/// Runs a script of the daemon itself (`startup_script`, `shutdown_script`) and waits for it, no longer than it may take.
pub(super) async fn run_own(
    what: &str,
    script: Option<&(Script, Duration)>,
    settings: &Notifications,
) {
    let Some((script, limit)) = script else { return };
    match script::run(script, settings, *limit).await {
        Ok(()) => info!("{what}: ran {}", script.words.join(" ")),
        Err(error) => warn!("{what}: {error}"),
    }
}

#[cfg(test)]
mod tests;
