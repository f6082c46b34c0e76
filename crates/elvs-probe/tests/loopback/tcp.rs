//! `TCP_CHECK` and the options of every connection.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use elvs_model::health::{CheckKind, Target, TcpCheck};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{hasty, nowhere, serve, silent, target, words};

async fn tcp(target: Target) -> String {
    words(CheckKind::Tcp(TcpCheck { target })).await
}

#[tokio::test]
async fn passes_when_a_connection_opens() {
    assert_eq!(tcp(target(silent().await)).await, "+ connected");
}

#[tokio::test]
async fn says_that_nothing_listens() {
    assert_eq!(tcp(target(nowhere().await)).await, "- connection refused");
}

#[tokio::test]
async fn says_that_nobody_answers() {
    // With a full queue of connections the kernel does not answer another SYN.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut open = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, hasty(address).timeout) {
        open.push(stream);
    }
    assert_eq!(tcp(hasty(address)).await, "- connect timed out after 200 ms");
}

#[tokio::test]
async fn connects_from_the_configured_address_and_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The stream itself no longer knows once the reset has come.
    let peer = async || listener.accept().await.unwrap().1;
    let ip = IpAddr::from([127, 0, 0, 5]);
    let source = Some(ip);
    let port = nowhere().await.port();
    assert_eq!(tcp(Target { source, ..target(address) }).await, "+ connected");
    assert_eq!(peer().await.ip(), ip);
    let with_port = Target { source, source_port: Some(port), ..target(address) };
    // Twice: a connection that lingered would hold the port.
    for _ in 0..2 {
        assert_eq!(tcp(with_port.clone()).await, "+ connected");
        assert_eq!(peer().await, (ip, port).into());
    }
}

#[tokio::test]
async fn closes_with_a_reset() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let sender = Arc::new(Mutex::new(sender));
    let address = serve(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let end = stream.read(&mut [0; 8]).await.map_err(|error| error.kind());
            sender.lock().unwrap().send(end).unwrap();
        }
    })
    .await;
    assert_eq!(tcp(target(address)).await, "+ connected");
    assert_eq!(ends.recv().await.unwrap(), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn says_which_option_this_host_cannot_fulfil() {
    let address = silent().await;
    let source = Some(IpAddr::from([192, 0, 2, 1]));
    assert_eq!(
        tcp(Target { source, ..target(address) }).await,
        "- this host could not bind to 192.0.2.1:0: cannot assign requested address"
    );
    let interface = Some("nosuch0".to_owned());
    assert_eq!(
        tcp(Target { interface, ..target(address) }).await,
        "- this host could not bind to interface nosuch0: no such device"
    );
}
