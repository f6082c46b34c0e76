//! The drivers of checks: which of them runs what.
//!
//! **Invariant:** sockets and threads that only some kinds of checks need are there only while such a check is configured.
//!
//! Called by the checker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use elvs_model::Desired;
use elvs_model::health::{BfdSession, BfdSessions, CheckKind, Finding, Trial};
use elvs_probe::bfd::{Bfd, Change, SessionReport};
use elvs_probe::{ProbeSettings, Prober};
use tokio::sync::mpsc;
use tracing::warn;

/// Changes of BFD sessions that wait; of those that do not fit, the driver keeps the newest of each session.
const SESSION_CHANGES: usize = 64;

/// The drivers.
pub(super) struct Drivers {
    prober: Arc<Prober>,
    bfd: Option<Bfd>,
    sessions: mpsc::Sender<Change>,
    /// An earlier daemon's knowledge was restored: the first sessions are patient.
    restored: bool,
}

impl Drivers {
    /// Drivers without settings, and where sessions of BFD say how they stand.
    pub(super) fn new(restored: bool) -> (Self, mpsc::Receiver<Change>) {
        let (sessions, changes) = mpsc::channel(SESSION_CHANGES);
        let prober = Arc::new(Prober::new(ProbeSettings::default()));
        (Self { prober, bfd: None, sessions, restored }, changes)
    }

    /// Takes over a configuration. Files of keys and certificates are read again.
    pub(super) async fn configure(&mut self, desired: &Desired) {
        let settings = ProbeSettings::from(&desired.health);
        self.prober = Arc::new(if any_path_check(desired) {
            self.prober.renew(settings)
        } else {
            Prober::new(settings)
        });
        self.configure_bfd(desired).await;
    }

    async fn configure_bfd(&mut self, desired: &Desired) {
        let restored = std::mem::take(&mut self.restored);
        let instances = &desired.health.bfd;
        if instances.is_empty() {
            self.bfd = None;
            return;
        }
        if let Some(bfd) = &self.bfd {
            match bfd.configure(instances.clone()).await {
                Ok(()) => return,
                Err(error) => warn!("{error}; it is started again"),
            }
        }
        self.bfd = None;
        let start = if restored { Bfd::take_over } else { Bfd::spawn };
        match start(instances.clone(), self.sessions.clone()) {
            Ok(bfd) => self.bfd = Some(bfd),
            Err(error) => warn!("BFD sessions stay down: {error}"),
        }
    }

    /// Sessions of BFD at this moment, which is `wall` in Unix milliseconds.
    pub(super) async fn bfd_sessions(&self, wall: u64) -> BfdSessions {
        let Some(bfd) = &self.bfd else { return BfdSessions::default() };
        // A driver that has ended is started again at the next reload, and its sessions are down.
        let Ok(view) = bfd.view().await else { return BfdSessions::default() };
        let session = |report: SessionReport| {
            let SessionReport { session, sent, unsent, trouble } = report;
            let ago = session.since.elapsed().as_millis();
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            BfdSession {
                instance: session.instance,
                neighbor: session.neighbor,
                state: session.state.to_string(),
                since: wall.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)),
                diagnostic: session.diagnostic.to_string(),
                neighbor_state: session.neighbor_state.to_string(),
                transmit_us: micros(session.transmit_interval),
                detection_us: micros(session.detection_time),
                sent,
                unsent,
                trouble,
            }
        };
        let refused = view.refused.into_iter().map(|(why, number)| (why.to_owned(), number));
        BfdSessions {
            sessions: view.sessions.into_iter().map(session).collect(),
            received: view.received,
            refused: refused.collect(),
            closed_ports: view.closed_ports,
        }
    }

    /// Runs a check once.
    pub(super) fn run(&self, what: Trial) -> impl Future<Output = Finding> + Send + 'static {
        let prober = self.prober.clone();
        async move { prober.run(&what).await }
    }
}

fn any_path_check(desired: &Desired) -> bool {
    let servers = desired.services.iter().flat_map(|service| &service.health.servers);
    let mut checks = servers.flat_map(|server| &server.checks);
    checks.any(|check| matches!(check.kind, CheckKind::Path(_)))
}
