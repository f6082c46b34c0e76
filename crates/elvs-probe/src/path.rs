//! `PATH_CHECK`: a probe takes the way of a client's packet, and what does not arrive is given a cause.
//!
//! **Invariant:** a run ends within its check's timeout, may be dropped at any await, and leaves nothing behind at the real
//! server but what a client who changed its mind would.
//!
//! Called by [`crate::Prober`] through [`PathProber`]. `docs/path-check.md` says what is found and how.
//!
//! ```text
//!  PathProber ── way (netlink: MAC, source) ── examination (no I/O: what to ask when) ── judgement (words)
//!       │                                            │ probe, packet: bytes       ▲ hear: bytes
//!       └──────────── socket: one packet socket ─────┴────────────────────────────┘
//! ```

mod examination;
mod hear;
mod judgement;
mod packet;
mod probe;
mod socket;
mod way;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elvs_model::health::{CheckResult, Finding, PathCheck};
use elvs_net::{Netlink, NetlinkError};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use examination::Examination;
use hear::{News, hear};
use probe::{FIRST_NUMBER, NUMBERS, Way};
use socket::PacketSocket;
use way::NoWay;

/// Runs path checks, all of them by one packet socket, in the network namespace in which it was opened.
///
/// At most 256 run at a time; others wait for their turn, and their timeout begins with it.
#[derive(Debug)]
pub struct PathProber {
    netlink: Netlink,
    socket: Arc<PacketSocket>,
    runs: Arc<Mutex<Runs>>,
    turns: Semaphore,
    listener: JoinHandle<()>,
}

/// Why there can be no path checks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No packet socket.
    #[error("cannot open a packet socket for path checks (needs CAP_NET_RAW)")]
    Socket(#[source] io::Error),
    /// No netlink socket.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl PathProber {
    /// Opens a prober in the calling thread's network namespace; needs CAP_NET_RAW, CAP_NET_ADMIN and a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`] if the kernel gives no socket.
    pub fn open() -> Result<Self, OpenError> {
        let netlink = Netlink::new()?;
        let socket = Arc::new(PacketSocket::open().map_err(OpenError::Socket)?);
        let runs = Arc::new(Mutex::new(Runs::new()));
        let listener = tokio::spawn(listen(Arc::clone(&socket), Arc::clone(&runs)));
        Ok(Self { netlink, socket, runs, turns: Semaphore::new(RUNS), listener })
    }

    /// Runs a check once.
    pub async fn run(&self, check: &PathCheck) -> Finding {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let deadline = Instant::now() + check.timeout;
        let mut place = Place::take(&self.runs);
        let isn = fastrand::u32(..);
        let found = timeout_at(deadline, way::find(&self.netlink, check, place.first, isn)).await;
        let mut way = match found {
            Ok(Ok(way)) => way,
            Ok(Err(NoWay::Local)) => {
                return Finding::passed("the real server is this host: nothing is on the way");
            }
            Ok(Err(error)) => return Finding::failed(error.to_string()),
            Err(_elapsed) => return Finding::failed(way::unresolved(check)),
        };
        way.check.timeout = deadline.saturating_duration_since(Instant::now());
        let (ifindex, neighbour) = (way.ifindex, way.neighbour);
        let finding = self.examine(way, &mut place, deadline).await;
        if finding.result == CheckResult::Failed {
            // Frames that pass by the kernel's stack do not tell it whether the MAC address still is that host's: a
            // replaced one would stay away for ever. Refused where an operator has set it.
            let _ = self.netlink.resolve(ifindex, neighbour).await;
        }
        finding
    }

    /// Sends what a run asks for and tells it what is heard, until it has a finding.
    async fn examine(&self, way: Way, place: &mut Place<'_>, deadline: Instant) -> Finding {
        let (ifindex, mac) = (way.ifindex, way.mac);
        let mut examination = Examination::new(way, Instant::now().into_std());
        loop {
            while let Some(frame) = examination.poll_send() {
                let sent = self.socket.send(ifindex, mac, frame.ethertype, &frame.payload);
                match timeout_at(deadline, sent).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        return Finding::failed(format!("cannot send a probe: {error}"));
                    }
                    Err(_elapsed) => break,
                }
            }
            if let Some(finding) = examination.poll_finding() {
                return finding;
            }
            let due = Instant::from_std(examination.poll_timeout());
            match timeout_at(due, place.news.recv()).await {
                Ok(Some(news)) => examination.handle_news(news, Instant::now().into_std()),
                // The place's own entry has the sender, so this cannot be; it would be silence.
                Ok(None) => {
                    tokio::time::sleep_until(due).await;
                    examination.handle_timeout(Instant::now().into_std());
                }
                Err(_elapsed) => examination.handle_timeout(Instant::now().into_std()),
            }
        }
    }
}

impl Drop for PathProber {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Hands what the socket hears to the runs that it concerns.
///
/// Cancel-safe: a packet that was received has been handed on before the next await.
async fn listen(socket: Arc<PacketSocket>, runs: Arc<Mutex<Runs>>) {
    // Longer packets are cut: what matters stands in the first headers.
    let mut buffer = [0; 2048];
    loop {
        let Ok(received) = socket.receive(&mut buffer).await else {
            // An interface went away (ENETDOWN) or memory is short.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let packet = buffer.get(..received.length).unwrap_or_default();
        if let Some(news) = hear(received.ethertype, received.mac, packet) {
            lock(&runs).tell(news);
        }
    }
}

/// The runs there are, and the numbers that are free.
#[derive(Debug)]
struct Runs {
    /// By their first number.
    listening: HashMap<u16, mpsc::Sender<News>>,
    /// First numbers; the one that was free for longest is at the front.
    free: VecDeque<u16>,
}

impl Runs {
    fn new() -> Self {
        let firsts = (FIRST_NUMBER..=u16::MAX).step_by(usize::from(NUMBERS));
        Self { listening: HashMap::new(), free: firsts.collect() }
    }

    /// Tells the run whose number it is, and of a claim all. A run that does not keep up has heard enough.
    fn tell(&self, news: News) {
        match news {
            News::Answer { number, .. } => {
                if let Some(run) = self.listening.get(&(number - number % NUMBERS)) {
                    let _ = run.try_send(news);
                }
            }
            News::Claim(_) => {
                for run in self.listening.values() {
                    let _ = run.try_send(news);
                }
            }
        }
    }
}

/// A run's numbers and what is heard of them; given back on drop.
#[derive(Debug)]
struct Place<'a> {
    runs: &'a Mutex<Runs>,
    first: u16,
    news: mpsc::Receiver<News>,
}

impl<'a> Place<'a> {
    fn take(runs: &'a Mutex<Runs>) -> Self {
        let (sender, news) = mpsc::channel(HEARD_AT_ONCE);
        let mut inner = lock(runs);
        // There are as many as turns, so one is free.
        let first = inner.free.pop_front().unwrap_or(FIRST_NUMBER);
        inner.listening.insert(first, sender);
        drop(inner);
        Self { runs, first, news }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut runs = lock(self.runs);
        runs.listening.remove(&self.first);
        runs.free.push_back(self.first);
    }
}

/// Nothing panics while it holds the lock; if something did, the runs are still whole.
fn lock(runs: &Mutex<Runs>) -> MutexGuard<'_, Runs> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs at a time: as many as there are numbers for.
const RUNS: usize = ((u16::MAX - FIRST_NUMBER) / NUMBERS) as usize + 1;
/// News that wait for a run.
const HEARD_AT_ONCE: usize = 32;
/// After an error of the socket.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
