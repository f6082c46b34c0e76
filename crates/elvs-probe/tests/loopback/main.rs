//! Checks against small servers on the loopback interface, each failing in a way of its own.

#![expect(clippy::unwrap_used, reason = "a test helper that cannot go on fails the test")]

mod agent;
mod datagrams;
mod http;
mod programs;
mod smtp;
mod tcp;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use elvs_model::health::{Check, CheckKind, Finding, Schedule, Target, Trial};
use elvs_probe::{ProbeSettings, Prober};
use tokio::net::{TcpListener, TcpStream};

/// A target with a timeout that a server on this machine keeps however busy it is.
fn target(address: SocketAddr) -> Target {
    let timeout = Duration::from_secs(20);
    Target { address, source: None, source_port: None, interface: None, mark: 0, timeout }
}

/// A target whose timeout is waited for.
fn hasty(address: SocketAddr) -> Target {
    Target { timeout: Duration::from_millis(200), ..target(address) }
}

fn trial(kind: CheckKind) -> Trial {
    let schedule = Schedule {
        delay_loop: Duration::from_secs(20),
        retry: 0,
        delay_before_retry: Duration::from_secs(1),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    };
    Trial::of(&Check { kind, schedule }).unwrap()
}

async fn run(kind: CheckKind) -> Finding {
    Prober::new(ProbeSettings::default()).run(&trial(kind)).await
}

/// What the check says, with a mark for whether it passed.
async fn words(kind: CheckKind) -> String {
    let finding = run(kind).await;
    let failed = finding.result == elvs_model::health::CheckResult::Failed;
    format!("{} {}", if failed { "-" } else { "+" }, finding.words)
}

/// A server that serves each connection with `serve`, until the test ends.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address on which nothing listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A server that takes connections and says nothing.
async fn silent() -> SocketAddr {
    serve(|stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await
}

/// A run is sent between threads.
#[test]
fn a_run_is_send() {
    fn is_send<T: Send>(_: &T) {}
    let prober = Prober::new(ProbeSettings::default());
    let kind = CheckKind::Tcp(elvs_model::health::TcpCheck {
        target: target(SocketAddr::from(([127, 0, 0, 1], 1))),
    });
    is_send(&prober.run(&trial(kind)));
}
