//! The demo's real server: says its name, and which client address it sees.
//!
//! **Invariant:** it prints `ready` once requests will be answered, and nothing else.
//!
//! Called by the command line as the hidden command `demo-server`, which the demo starts in each real server's
//! namespace.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use axum::extract::ConnectInfo;
use axum::{Json, Router};
use clap::Args;
use elvs_dataplane::helper::{self, Helper};
use elvs_model::XdpMode;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// Options of `elvs demo-server`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Name to answer with
    #[arg(long)]
    pub name: String,
    /// Address and port to listen on
    #[arg(long)]
    pub listen: SocketAddr,
    /// Interface on which IP-in-IP packets arrive that are to be unpacked
    #[arg(long)]
    pub decapsulate: Option<String>,
}

/// What a real server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Its name.
    pub server: String,
    /// Address the request came from, as the real server sees it.
    pub client: IpAddr,
}

/// Serves until a signal ends the process.
///
/// # Errors
/// An address that cannot be listened on, or an interface that takes no program.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<()> {
    // Held until the process ends: without it the real server would see IP-in-IP packets.
    let _decapsulation = match &options.decapsulate {
        Some(interface) => Some(
            helper::attach(Helper::Decap, interface, XdpMode::Auto)
                .with_context(|| format!("cannot decapsulate on {interface}"))?,
        ),
        None => None,
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let name = options.name.clone();
    let answer = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
        std::future::ready(Json(Answer { server: name.clone(), client: peer.ip() }))
    };
    let router = Router::new().fallback(answer);
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
