//! A small blocking client for the commands.
//!
//! **Invariant:** a call either returns what the daemon said or one error that tells whose fault it is: no daemon, no
//! permission, another version, or the daemon's own [`ApiError`].
//!
//! Called by `elvs adm`, `status`, `top` and the lab.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use elvs_model::health::HealthView;
use elvs_model::{
    Change, ConnectionFilter, ConnectionView, Desired, MarkRules, NodeInfo, ServiceKey,
    ServiceView, SettingView, SyncDaemon, Timeouts,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::error::ErrorBody;
use crate::server::VERSION_HEADER;
use crate::{ApiError, Drain, Outcome, Plan, Reloaded, Status, VERSION};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket is missing or nobody listens on it.
    #[error("no ELVS daemon answers on {}", .0.display())]
    NoDaemon(PathBuf),
    /// The socket belongs to another user.
    #[error("no permission to connect to {} (you must be root)", .0.display())]
    Permission(PathBuf),
    /// Any other failure to connect.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon speaks another version.
    #[error("this is elvs {VERSION}, the daemon is elvs {daemon}: restart the older one")]
    Version {
        /// Version of the daemon.
        daemon: String,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("lost the daemon on {}", path.display())]
    Http {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The answer does not fit its type although the versions agree.
    #[error("the answer to {request} cannot be read")]
    Answer {
        /// Method and path.
        request: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The daemon answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No runtime could be made.
    #[error("cannot start the client")]
    Runtime(#[source] io::Error),
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`], [`ClientError::Permission`] or another failure to connect.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
        let path = || socket.to_owned();
        let sender = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await.map_err(|source| {
                let is = |kind| source.kind() == kind;
                if is(io::ErrorKind::NotFound) || is(io::ErrorKind::ConnectionRefused) {
                    ClientError::NoDaemon(path())
                } else if is(io::ErrorKind::PermissionDenied) {
                    ClientError::Permission(path())
                } else {
                    ClientError::Connect { path: path(), source }
                }
            })?;
            let http = |source| ClientError::Http { path: path(), source };
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(http)?;
            // Its errors reach the caller through the request that was under way.
            tokio::spawn(connection);
            Ok::<_, ClientError>(sender)
        })?;
        Ok(Self { runtime, sender, socket: socket.to_owned() })
    }

    /// `GET /v1/info`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn info(&mut self) -> Result<NodeInfo, ClientError> {
        self.call(Method::GET, "/v1/info", Bytes::new())
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.call(Method::GET, "/v1/status", Bytes::new())
    }

    /// `GET /v1/services`: in order of creation.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn services(&mut self) -> Result<Vec<ServiceView>, ClientError> {
        self.call(Method::GET, "/v1/services", Bytes::new())
    }

    /// `GET /v1/timeouts`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn timeouts(&mut self) -> Result<Timeouts, ClientError> {
        self.call(Method::GET, "/v1/timeouts", Bytes::new())
    }

    /// `GET /v1/marks`: in the order in which they are tried.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn marks(&mut self) -> Result<MarkRules, ClientError> {
        self.call(Method::GET, "/v1/marks", Bytes::new())
    }

    /// `GET /v1/settings`: every one, by name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn settings(&mut self) -> Result<Vec<SettingView>, ClientError> {
        self.call(Method::GET, "/v1/settings", Bytes::new())
    }

    /// `GET /v1/sync-daemons`: the master first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, ClientError> {
        self.call(Method::GET, "/v1/sync-daemons", Bytes::new())
    }

    /// `POST /v1/changes`: one outcome per change.
    ///
    /// # Errors
    /// See [`ClientError`]; a refused change is an [`Outcome`], not an error.
    pub fn apply(&mut self, changes: &[Change], atomic: bool) -> Result<Vec<Outcome>, ClientError> {
        let path = if atomic { "/v1/changes?atomic=true" } else { "/v1/changes" };
        self.post(path, changes)
    }

    /// `POST /v1/zero`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn zero(&mut self, service: Option<ServiceKey>) -> Result<Outcome, ClientError> {
        self.post("/v1/zero", &service)
    }

    /// `POST /v1/reload`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn reload(&mut self) -> Result<Reloaded, ClientError> {
        self.call(Method::POST, "/v1/reload", Bytes::new())
    }

    /// `POST /v1/plan`: what a reload would change, with the daemon's own file (`None`) or with another configuration.
    ///
    /// # Errors
    /// See [`ClientError`]; a file with errors is an [`ApiError`] that has them.
    pub fn plan(&mut self, desired: Option<&Desired>) -> Result<Plan, ClientError> {
        self.post("/v1/plan", &desired)
    }

    /// `POST /v1/drain`: a real server of the configuration gets no new connections, or gets them again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn drain(&mut self, drain: Drain) -> Result<Outcome, ClientError> {
        self.post("/v1/drain", &drain)
    }

    /// `GET /v1/health`: every check and what follows from it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn health(&mut self) -> Result<HealthView, ClientError> {
        self.call(Method::GET, "/v1/health", Bytes::new())
    }

    /// `GET /v1/connections`, those that pass the filter, read as they arrive.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connections(
        &mut self,
        filter: &ConnectionFilter,
    ) -> Result<Connections<'_>, ClientError> {
        // Values are made of letters, digits and `.:/[]_`, all of which a query takes as they are.
        let query: Vec<String> =
            filter.pairs().map(|(name, value)| format!("{name}={value}")).collect();
        let path = match query.join("&").as_str() {
            "" => "/v1/connections".to_owned(),
            query => format!("/v1/connections?{query}"),
        };
        let response = self.request(Method::GET, &path, Bytes::new())?;
        let body = response.into_body();
        Ok(Connections { client: self, body, pending: Vec::new(), read: 0, done: false })
    }

    fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|source| ClientError::Answer { request: format!("POST {path}"), source })?;
        self.call(Method::POST, path, body.into())
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let request = format!("{method} {path}");
        let response = self.request(method, path, body)?;
        let version = version_of(&response);
        let bytes = self.collect(response.into_body())?;
        serde_json::from_slice(&bytes).map_err(|source| match version {
            Some(daemon) if daemon != VERSION => ClientError::Version { daemon },
            Some(_) | None => ClientError::Answer { request, source },
        })
    }

    /// Sends a request; an answer that is no success becomes the error it carries.
    fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::new(Full::new(body));
        // The paths are made in this file, so the default never comes to pass.
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("elvs"));
        let json = header::HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let sent = self.runtime.block_on(async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        });
        let response = sent.map_err(|e| self.lost(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, version) = (response.status(), version_of(&response));
        let bytes = self.collect(response.into_body())?;
        Err(refusal(status, version, &bytes))
    }

    fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let collected = self.runtime.block_on(body.collect()).map_err(|e| self.lost(e))?;
        Ok(collected.to_bytes())
    }

    fn lost(&self, source: hyper::Error) -> ClientError {
        ClientError::Http { path: self.socket.clone(), source }
    }
}

/// Connections as they arrive.
#[derive(Debug)]
pub struct Connections<'a> {
    client: &'a Client,
    body: Incoming,
    pending: Vec<u8>,
    read: usize,
    done: bool,
}

impl Iterator for Connections<'_> {
    type Item = Result<ConnectionView, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let rest = self.pending.get(self.read..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|&b| b == b'\n') {
                let line = rest.get(..end).unwrap_or_default();
                let parsed = serde_json::from_slice(line);
                self.read += end + 1;
                return Some(parsed.map_err(|source| {
                    self.done = true;
                    ClientError::Answer { request: "GET /v1/connections".to_owned(), source }
                }));
            }
            self.pending.drain(..self.read);
            self.read = 0;
            match self.client.runtime.block_on(self.body.frame()) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.pending.extend_from_slice(data);
                    }
                }
                Some(Err(e)) => {
                    self.done = true;
                    return Some(Err(self.client.lost(e)));
                }
                None => self.done = true,
            }
        }
        None
    }
}

fn version_of<T>(response: &Response<T>) -> Option<String> {
    Some(response.headers().get(VERSION_HEADER)?.to_str().ok()?.to_owned())
}

fn refusal(status: StatusCode, version: Option<String>, bytes: &[u8]) -> ClientError {
    match (serde_json::from_slice::<ErrorBody>(bytes), version) {
        // An unknown path or body is what a daemon of another version answers with.
        (_, Some(daemon)) if daemon != VERSION && status.is_client_error() => {
            ClientError::Version { daemon }
        }
        (Ok(body), _) => ClientError::Api(body.error),
        (Err(_), _) => ApiError::internal(format!("the daemon answered {status}")).into(),
    }
}
