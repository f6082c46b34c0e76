//! A daemon's API over a table in memory, for tests of commands.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use elvs_api::{ApiError, Backend, Chunks, Drain, ErrorCode, Outcome, Plan, Reloaded, Status};
use elvs_model::health::HealthView;
use elvs_model::{
    Change, ChangeError, ConnectionFilter, Desired, MarkRules, NodeInfo, ServiceKey, ServiceView,
    SettingView, SyncDaemon, Table, Timeouts,
};

struct Memory(Mutex<Table>);

fn unused<T>() -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::Unavailable, "not asked by these commands"))
}

impl Backend for Memory {
    async fn info(&self) -> Result<NodeInfo, ApiError> {
        unused()
    }

    async fn status(&self) -> Result<Status, ApiError> {
        unused()
    }

    async fn services(&self) -> Result<Vec<ServiceView>, ApiError> {
        unused()
    }

    async fn timeouts(&self) -> Result<Timeouts, ApiError> {
        unused()
    }

    async fn sync_daemons(&self) -> Result<Vec<SyncDaemon>, ApiError> {
        unused()
    }

    async fn connections(&self, _: ConnectionFilter) -> Result<Chunks, ApiError> {
        unused()
    }

    async fn zero(&self, _: Option<ServiceKey>) -> Result<Result<(), ChangeError>, ApiError> {
        unused()
    }

    async fn reload(&self) -> Result<Reloaded, ApiError> {
        unused()
    }

    /// What a director without services would change.
    async fn plan(&self, desired: Option<Desired>) -> Result<Plan, ApiError> {
        let changes = elvs_model::diff(&Desired::default(), &desired.unwrap_or_default());
        Ok(Plan { changes, findings: vec!["one word of it".to_owned()] })
    }

    /// Takes what is in the table.
    async fn drain(&self, drain: Drain) -> Result<Result<(), ChangeError>, ApiError> {
        let table = self.0.lock().unwrap();
        let service = table.service(&drain.server.service).ok_or(ChangeError::NoSuchService);
        Ok(service.map(drop))
    }

    async fn health(&self) -> Result<HealthView, ApiError> {
        unused()
    }

    async fn marks(&self) -> Result<MarkRules, ApiError> {
        Ok(self.0.lock().unwrap().marks().clone())
    }

    async fn settings(&self) -> Result<Vec<SettingView>, ApiError> {
        Ok(self.0.lock().unwrap().settings().views())
    }

    async fn apply(&self, changes: Vec<Change>, atomic: bool) -> Result<Vec<Outcome>, ApiError> {
        assert!(atomic, "all or none");
        let mut table = self.0.lock().unwrap();
        let mut next = table.clone();
        let fates: Vec<Outcome> = changes.iter().map(|change| next.apply(change).into()).collect();
        if fates.iter().all(|fate| *fate == Outcome::Ok) {
            *table = next;
        }
        Ok(fates)
    }
}

/// Runs `work` against a daemon that lives as long as it does.
pub fn with_daemon(work: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("elvs.sock");
    let (started, wait) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let path = socket.clone();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = elvs_api::bind(&path).unwrap();
            started.send(()).unwrap();
            let shutdown = async move { stopped.await.unwrap_or_default() };
            let backend = Arc::new(Memory(Mutex::new(Table::new())));
            elvs_api::serve(listener, backend, shutdown).await.unwrap();
        });
    });
    wait.recv().unwrap();
    work(&socket);
    stop.send(()).unwrap();
    server.join().unwrap();
}
