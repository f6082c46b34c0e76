//! How much of one core ten thousand checks a second take, and how late they run.
//!
//! Runs `TCP_CHECK`s of a local listener, each once a second, all on one thread, and prints that thread's share of a
//! core and the percentiles of lateness and duration. Arguments: number of checks (10000), seconds (10). Allow that
//! many files (`ulimit -n`). The listener is a thread of its own, which is not counted.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use elvs_model::health::{CheckResult, Target, TcpCheck, Trial};
use elvs_probe::{ProbeSettings, Prober};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

type Error = Box<dyn std::error::Error>;

/// One run of a check.
struct Run {
    late: Duration,
    took: Duration,
    failure: Option<String>,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let checks = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let seconds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let addresses = listeners()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = processor_time()?;
    let began = std::time::Instant::now();
    let runs = runtime.block_on(all(&addresses, checks, seconds));
    let (elapsed, used) = (began.elapsed(), processor_time()?.saturating_sub(before));
    let failures: Vec<_> = runs.iter().filter_map(|run| run.failure.as_ref()).collect();
    println!("{} runs in {:.1} s, {} failed", runs.len(), elapsed.as_secs_f64(), failures.len());
    if let Some(words) = failures.first() {
        println!("first failure: {words}");
    }
    println!("{:.1} % of one core", used.as_secs_f64() / elapsed.as_secs_f64() * 100.0);
    percentiles("lateness", runs.iter().map(|run| run.late).collect());
    percentiles("duration", runs.iter().map(|run| run.took).collect());
    Ok(())
}

/// Runs each check once a second, the first ones spread over the first second.
async fn all(addresses: &[SocketAddr], checks: u32, seconds: u32) -> Vec<Run> {
    let prober = Arc::new(Prober::new(ProbeSettings::default()));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let start = Instant::now();
    for (number, address) in (0..checks).zip(addresses.iter().cycle()) {
        let (prober, sender, check) = (Arc::clone(&prober), sender.clone(), tcp(*address));
        tokio::spawn(async move {
            for second in 0..seconds {
                let offset = Duration::from_secs(1) * number / checks;
                let due = start + offset + Duration::from_secs(u64::from(second));
                sleep_until(due).await;
                let began = Instant::now();
                let finding = prober.run(&check).await;
                let failure = (finding.result == CheckResult::Failed).then_some(finding.words);
                // The receiver lives until all senders are gone.
                let _ = sender.send(Run { late: began - due, took: began.elapsed(), failure });
            }
        });
    }
    drop(sender);
    let mut runs = Vec::new();
    while let Some(run) = receiver.recv().await {
        runs.push(run);
    }
    runs
}

fn tcp(address: SocketAddr) -> Trial {
    let timeout = Duration::from_secs(5);
    let target =
        Target { address, source: None, source_port: None, interface: None, mark: 0, timeout };
    Trial::Tcp(TcpCheck { target })
}

/// Listeners on several addresses of this host, each with a thread that takes what comes.
fn listeners() -> Result<Vec<SocketAddr>, Error> {
    let mut addresses = Vec::new();
    for last in 1..=4 {
        let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        addresses.push(listener.local_addr()?);
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    Ok(addresses)
}

/// Time that this thread has used, in user and kernel mode.
fn processor_time() -> Result<Duration, Error> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
    let shown = [50, 90, 99, 100].map(|percent| {
        let time = at(percent).copied().unwrap_or_default();
        format!("p{percent} {:.2} ms", time.as_secs_f64() * 1000.0)
    });
    println!("{what}: {}", shown.join(", "));
}
