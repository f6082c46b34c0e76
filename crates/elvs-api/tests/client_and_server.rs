//! Client and server over a real unix socket.

#![expect(clippy::unwrap_used, reason = "a test helper that cannot go on fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use elvs_api::{
    ApiError, Backend, BindError, Chunks, Client, ClientError, Drain, ErrorCode, Outcome, Plan,
    Reloaded, Status, bind, serve,
};
use elvs_model::health::{Drained, HealthView};
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionState, ConnectionView, Desired,
    DestinationKey, MarkRule, MarkRules, NodeInfo, Protocol, Rates, Scheduler, ServiceKey,
    ServiceView, Setting, SettingValue, SettingView, Statistics, SyncDaemon, SyncRole, Table,
    Timeouts, VirtualService, diff,
};
use tokio::sync::oneshot;

/// A backend over a table in memory; listed connections are counted out, not stored.
struct Memory {
    table: Mutex<Table>,
    connections: u32,
}

impl Backend for Memory {
    async fn info(&self) -> Result<NodeInfo, ApiError> {
        Ok(NodeInfo { version: "test".to_owned(), connection_table_size: 4096 })
    }

    async fn status(&self) -> Result<Status, ApiError> {
        Err(ApiError::new(ErrorCode::Unavailable, "the daemon is stopping"))
    }

    async fn services(&self) -> Result<Vec<ServiceView>, ApiError> {
        let table = self.table.lock().unwrap();
        let view = |service: &VirtualService| ServiceView {
            service: service.clone(),
            statistics: Statistics::default(),
            rates: Rates::default(),
            destinations: Vec::new(),
            local_addresses: Vec::new(),
        };
        Ok(table.services().map(|s| view(s.service())).collect())
    }

    async fn timeouts(&self) -> Result<Timeouts, ApiError> {
        Ok(self.table.lock().unwrap().timeouts())
    }

    async fn marks(&self) -> Result<MarkRules, ApiError> {
        Ok(self.table.lock().unwrap().marks().clone())
    }

    async fn settings(&self) -> Result<Vec<SettingView>, ApiError> {
        Ok(self.table.lock().unwrap().settings().views())
    }

    async fn sync_daemons(&self) -> Result<Vec<SyncDaemon>, ApiError> {
        Ok(self.table.lock().unwrap().sync_daemons().iter().cloned().collect())
    }

    async fn connections(&self, filter: ConnectionFilter) -> Result<Chunks, ApiError> {
        let all = self.connections;
        Ok(Box::new((0..all).step_by(500).map(move |first| {
            let portion = (first..all.min(first + 500)).map(connection);
            portion.filter(|connection| filter.passes(connection)).collect()
        })))
    }

    async fn apply(&self, changes: Vec<Change>, _: bool) -> Result<Vec<Outcome>, ApiError> {
        let mut table = self.table.lock().unwrap();
        Ok(changes.iter().map(|change| table.apply(change).into()).collect())
    }

    async fn zero(&self, service: Option<ServiceKey>) -> Result<Result<(), ChangeError>, ApiError> {
        let table = self.table.lock().unwrap();
        Ok(match service {
            Some(key) if table.service(&key).is_none() => Err(ChangeError::NoSuchService),
            Some(_) | None => Ok(()),
        })
    }

    async fn reload(&self) -> Result<Reloaded, ApiError> {
        Ok(Reloaded { changes: 3 })
    }

    async fn plan(&self, desired: Option<Desired>) -> Result<Plan, ApiError> {
        let findings = vec![if desired.is_some() { "given" } else { "own" }.to_owned()];
        let changes = diff(&Desired::default(), &desired.unwrap_or_default());
        Ok(Plan { changes, findings })
    }

    async fn drain(&self, drain: Drain) -> Result<Result<(), ChangeError>, ApiError> {
        Ok(if drain.on { Ok(()) } else { Err(ChangeError::NoSuchDestination) })
    }

    async fn health(&self) -> Result<HealthView, ApiError> {
        Ok(HealthView { checks: 1, wanted: 2, ..HealthView::default() })
    }
}

fn connection(number: u32) -> ConnectionView {
    let [_, a, b, c] = number.to_be_bytes();
    ConnectionView {
        protocol: 6,
        expires_s: number,
        state: ConnectionState::Established,
        client: ([10, a, b, c], 1024).into(),
        service: ([10, 0, 0, 100], 80).into(),
        destination: ([10, 0, 0, 21], 80).into(),
        engine: None,
    }
}

/// Runs `work` against a server that lives as long as it does.
fn with_server(connections: u32, work: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/elvs.sock");
    let (started, wait) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let path = socket.clone();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = bind(&path).unwrap();
            started.send(()).unwrap();
            let backend = Arc::new(Memory { table: Mutex::new(Table::new()), connections });
            let shutdown = async move { stopped.await.unwrap_or_default() };
            serve(listener, backend, shutdown).await.unwrap();
        });
    });
    wait.recv().unwrap();
    work(&socket);
    stop.send(()).unwrap();
    server.join().unwrap();
}

fn service(port: u16) -> VirtualService {
    let address = "10.0.0.100".parse().unwrap();
    let key = ServiceKey::Address { protocol: Protocol::Tcp, address, port };
    VirtualService::new(key, Scheduler::Rr)
}

#[test]
fn every_call_carries_its_answer() {
    with_server(0, |socket| {
        let mut client = Client::connect(socket).unwrap();
        assert_eq!(client.plan(None).unwrap().findings, ["own"]);
        let timeouts = Timeouts { tcp: 1, tcp_fin: 2, udp: 3 };
        let desired = Desired { timeouts: Some(timeouts), ..Desired::default() };
        let plan = client.plan(Some(&desired)).unwrap();
        assert_eq!(plan.changes, [Change::SetTimeouts(timeouts)]);
        assert_eq!(client.health().unwrap().wanted, 2);
        assert_eq!(client.info().unwrap().connection_table_size, 4096);
        let add = Change::AddService(service(80));
        let outcomes = client.apply(&[add.clone(), add], false).unwrap();
        let refused = Err(ChangeError::ServiceExists);
        assert_eq!(outcomes, [Outcome::Ok, refused.into()]);
        assert_eq!(client.services().unwrap().len(), 1);
        assert_eq!(client.timeouts().unwrap().tcp, 900);
        let rule: MarkRule = "--destination 10.0.0.100 --protocol tcp --mark 7".parse().unwrap();
        let marked = client.apply(&[Change::AddMark(rule.clone())], true).unwrap();
        assert_eq!(marked, [Outcome::Ok]);
        assert_eq!(client.marks().unwrap().as_slice(), [rule]);
        let set = |number| {
            let (setting, value) = (Setting::DropEntry, SettingValue::Number(number));
            Change::Set { setting, value }
        };
        assert_eq!(client.apply(&[set(3)], true).unwrap(), [Outcome::Ok]);
        let refused = client.apply(&[set(4)], true).unwrap();
        let Outcome::Refused { message, .. } = &refused[0] else { panic!("{refused:?}") };
        assert_eq!(message, "`4` is no value of drop_entry: write a number from 0 to 3");
        let settings = client.settings().unwrap();
        assert_eq!(settings.len(), 33);
        let view = settings.iter().find(|view| view.setting == Setting::DropEntry).unwrap();
        assert_eq!(view.value, SettingValue::Number(3));
        assert_eq!(client.zero(None).unwrap(), Outcome::Ok);
        assert_eq!(client.zero(Some(service(80).key)).unwrap(), Outcome::Ok);
        let unknown = client.zero(Some(service(81).key)).unwrap();
        assert_eq!(unknown, Err(ChangeError::NoSuchService).into());
        let destination = DestinationKey { address: [10, 0, 0, 21].into(), port: 80 };
        let server = Drained { service: service(80).key, destination };
        assert_eq!(client.drain(Drain { server, on: true }).unwrap(), Outcome::Ok);
        let refused = client.drain(Drain { server, on: false }).unwrap();
        assert_eq!(refused, Err(ChangeError::NoSuchDestination).into());
        assert_eq!(client.reload().unwrap().changes, 3);
        assert_eq!(client.connections(&ConnectionFilter::default()).unwrap().count(), 0);
    });
}

#[test]
fn an_error_of_the_daemon_arrives_with_its_code() {
    with_server(0, |socket| {
        let mut client = Client::connect(socket).unwrap();
        let Err(ClientError::Api(error)) = client.status() else { panic!("no API error") };
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert_eq!(error.message, "the daemon is stopping");
        // The connection survives it.
        assert_eq!(client.reload().unwrap().changes, 3);
    });
}

#[test]
fn streams_connections_in_order_to_the_last_one() {
    let all = 100_001;
    with_server(all, |socket| {
        let mut client = Client::connect(socket).unwrap();
        let mut expected = 0;
        for listed in client.connections(&ConnectionFilter::default()).unwrap() {
            assert_eq!(listed.unwrap(), connection(expected));
            expected += 1;
        }
        assert_eq!(expected, all);
        // And the client can ask again afterwards.
        assert_eq!(client.timeouts().unwrap().udp, 300);
    });
}

#[test]
fn sends_only_what_passes_the_filter() {
    with_server(10_000, |socket| {
        let mut client = Client::connect(socket).unwrap();
        let expected: Vec<_> = [7, 4_321].map(connection).into();
        let mut filter = ConnectionFilter::default();
        for connection in &expected {
            filter.add("client", &connection.client.to_string()).unwrap();
        }
        let listed: Result<Vec<_>, _> = client.connections(&filter).unwrap().collect();
        assert_eq!(listed.unwrap(), expected);
        filter.add("state", "TIME_WAIT").unwrap();
        assert_eq!(client.connections(&filter).unwrap().count(), 0);
    });
}

#[test]
fn a_sync_daemon_is_started_listed_and_stopped() {
    with_server(0, |socket| {
        let mut client = Client::connect(socket).unwrap();
        let daemon = SyncDaemon {
            role: SyncRole::Backup,
            interface: "eth0".to_owned(),
            syncid: 7,
            maxlen: 1_472,
            group: SyncDaemon::DEFAULT_GROUP,
            port: SyncDaemon::DEFAULT_PORT,
            ttl: SyncDaemon::DEFAULT_TTL,
        };
        let start = Change::StartSync(daemon.clone());
        assert_eq!(client.apply(std::slice::from_ref(&start), false).unwrap(), [Outcome::Ok]);
        let again = client.apply(&[start], false).unwrap();
        assert_eq!(again, [Err(ChangeError::SyncDaemonRuns).into()]);
        assert_eq!(client.sync_daemons().unwrap(), [daemon]);
        let stop = Change::StopSync(SyncRole::Backup);
        assert_eq!(client.apply(&[stop], false).unwrap(), [Outcome::Ok]);
        assert_eq!(client.sync_daemons().unwrap(), []);
    });
}

#[test]
fn tells_a_missing_daemon_from_a_stale_socket_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.sock");
    assert!(matches!(Client::connect(&missing), Err(ClientError::NoDaemon(p)) if p == missing));
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(matches!(Client::connect(&stale), Err(ClientError::NoDaemon(_))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let listener = bind(&stale).unwrap();
    let mode = std::fs::metadata(&stale).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(bind(&stale), Err(BindError::Occupied(_))));
    drop(listener);
    let file: PathBuf = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn answers_garbage_with_a_json_error() {
    use std::io::{Read, Write};
    let cases = [
        ("GET /v2/nosuch", "", "404", "not_found"),
        ("POST /v1/info", "", "405", "method_not_allowed"),
        ("POST /v1/changes", "[{\"add_service\":7}]", "400", "bad_request"),
        ("POST /v1/changes?atomc=true", "[]", "400", "bad_request"),
        ("POST /v1/zero", "{{{", "400", "bad_request"),
        ("GET /v1/connections?state=OPEN", "", "400", "bad_request"),
        ("GET /v1/connections?client=10.0.0", "", "400", "bad_request"),
        ("GET /v1/connections?vip=10.0.0.1", "", "400", "bad_request"),
    ];
    with_server(0, |socket| {
        for (request, body, status, code) in cases {
            let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            let length = body.len();
            write!(
                stream,
                "{request} HTTP/1.1\r\nhost: elvs\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{request}: {answer}");
            assert!(answer.contains("elvs-version: "), "{request}: {answer}");
        }
    });
}

#[test]
fn a_daemon_of_another_version_is_named() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("old.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream
            .write_all(
                b"HTTP/1.1 404 Not Found\r\nelvs-version: 9.9.9\r\ncontent-length: 0\r\n\r\n",
            )
            .unwrap();
    });
    let mut client = Client::connect(&socket).unwrap();
    let error = client.info().unwrap_err();
    assert!(matches!(&error, ClientError::Version { daemon } if daemon == "9.9.9"), "{error}");
    server.join().unwrap();
}
