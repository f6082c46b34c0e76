//! The daemon's side: routes over a [`Backend`].
//!
//! **Invariant:** every answer carries `elvs-version`; a request that fits no route or no type gets an
//! [`ApiError`](crate::ApiError), never a bare page.
//!
//! Called by the daemon.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use elvs_model::health::HealthView;
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionView, Desired, MarkRules, NodeInfo,
    ServiceKey, ServiceView, SettingView, SyncDaemon, Timeouts,
};
use futures::stream;
use serde::Deserialize;
use tokio::net::UnixListener;

use crate::{ApiError, Drain, ErrorCode, Outcome, Plan, Reloaded, Status, VERSION};

/// Connections in portions; each is turned into text and sent before the next is taken.
///
/// Some hundreds a portion keep the daemon responsive while a million are listed; the server lets others have a turn
/// between two portions, so a portion of which nothing passes the filter is empty, not left out.
pub type Chunks = Box<dyn Iterator<Item = Vec<ConnectionView>> + Send>;

/// What the daemon does for its clients.
///
/// Methods run on the server's tasks: what blocks for long belongs on a thread of its own.
pub trait Backend: Send + Sync + 'static {
    /// `GET /v1/info`.
    fn info(&self) -> impl Future<Output = Result<NodeInfo, ApiError>> + Send;

    /// `GET /v1/status`.
    fn status(&self) -> impl Future<Output = Result<Status, ApiError>> + Send;

    /// `GET /v1/services`: in order of creation, destinations newest first.
    fn services(&self) -> impl Future<Output = Result<Vec<ServiceView>, ApiError>> + Send;

    /// `GET /v1/timeouts`.
    fn timeouts(&self) -> impl Future<Output = Result<Timeouts, ApiError>> + Send;

    /// `GET /v1/marks`: in the order in which they are tried.
    fn marks(&self) -> impl Future<Output = Result<MarkRules, ApiError>> + Send;

    /// `GET /v1/settings`: every one, by name.
    fn settings(&self) -> impl Future<Output = Result<Vec<SettingView>, ApiError>> + Send;

    /// `GET /v1/sync-daemons`: the master first.
    fn sync_daemons(&self) -> impl Future<Output = Result<Vec<SyncDaemon>, ApiError>> + Send;

    /// `GET /v1/connections`: those that pass the filter.
    fn connections(
        &self,
        filter: ConnectionFilter,
    ) -> impl Future<Output = Result<Chunks, ApiError>> + Send;

    /// `POST /v1/changes`: one outcome per change, in order.
    ///
    /// With `atomic` either all are in force or none is, and those that were not themselves refused are
    /// [`Outcome::NotApplied`].
    fn apply(
        &self,
        changes: Vec<Change>,
        atomic: bool,
    ) -> impl Future<Output = Result<Vec<Outcome>, ApiError>> + Send;

    /// `POST /v1/zero`: clears the counters of one service, or of all.
    fn zero(
        &self,
        service: Option<ServiceKey>,
    ) -> impl Future<Output = Result<Result<(), ChangeError>, ApiError>> + Send;

    /// `POST /v1/reload`: reads the configuration file again.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, ApiError>> + Send;

    /// `POST /v1/plan`: what a reload would change, with the daemon's own file (`None`) or with another configuration.
    fn plan(&self, desired: Option<Desired>)
    -> impl Future<Output = Result<Plan, ApiError>> + Send;

    /// `POST /v1/drain`: a real server of the configuration gets no new connections, or gets them again.
    fn drain(
        &self,
        drain: Drain,
    ) -> impl Future<Output = Result<Result<(), ChangeError>, ApiError>> + Send;

    /// `GET /v1/health`: every check and what follows from it.
    fn health(&self) -> impl Future<Output = Result<HealthView, ApiError>> + Send;
}

/// Routes of the API.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/v1/info", get(async |State(b): State<Arc<B>>| b.info().await.map(Json)))
        .route("/v1/status", get(async |State(b): State<Arc<B>>| b.status().await.map(Json)))
        .route("/v1/services", get(async |State(b): State<Arc<B>>| b.services().await.map(Json)))
        .route("/v1/timeouts", get(async |State(b): State<Arc<B>>| b.timeouts().await.map(Json)))
        .route("/v1/marks", get(async |State(b): State<Arc<B>>| b.marks().await.map(Json)))
        .route("/v1/settings", get(async |State(b): State<Arc<B>>| b.settings().await.map(Json)))
        .route(
            "/v1/sync-daemons",
            get(async |State(b): State<Arc<B>>| b.sync_daemons().await.map(Json)),
        )
        .route("/v1/connections", get(connections::<B>))
        .route("/v1/changes", post(changes::<B>))
        .route("/v1/zero", post(zero::<B>))
        .route("/v1/health", get(async |State(b): State<Arc<B>>| b.health().await.map(Json)))
        .route("/v1/plan", post(plan::<B>))
        .route("/v1/drain", post(drain::<B>))
        .route("/v1/reload", post(async |State(b): State<Arc<B>>| b.reload().await.map(Json)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::map_response(add_version))
        .with_state(backend)
}

/// Serves the API until `shutdown` completes; requests that have begun are answered first.
///
/// # Errors
/// Failures of the listening socket.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: Arc<B>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(backend)).with_graceful_shutdown(shutdown).await
}

/// Header that carries the version of ELVS.
pub(crate) const VERSION_HEADER: HeaderName = HeaderName::from_static("elvs-version");

/// Largest request: a hundred thousand destinations in one array of changes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Query of `POST /v1/changes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesQuery {
    #[serde(default)]
    atomic: bool,
}

async fn changes<B: Backend>(
    State(backend): State<Arc<B>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
    body: Result<Json<Vec<Change>>, JsonRejection>,
) -> Result<Json<Vec<Outcome>>, ApiError> {
    let Query(query) = query.map_err(|e| bad_request(e.body_text()))?;
    let Json(changes) = body.map_err(|e| bad_request(e.body_text()))?;
    backend.apply(changes, query.atomic).await.map(Json)
}

async fn zero<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Json<Option<ServiceKey>>, JsonRejection>,
) -> Result<Json<Outcome>, ApiError> {
    let Json(service) = body.map_err(|e| bad_request(e.body_text()))?;
    Ok(Json(backend.zero(service).await?.into()))
}

async fn plan<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Json<Option<Desired>>, JsonRejection>,
) -> Result<Json<Plan>, ApiError> {
    let Json(desired) = body.map_err(|e| bad_request(e.body_text()))?;
    backend.plan(desired).await.map(Json)
}

async fn drain<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Json<Drain>, JsonRejection>,
) -> Result<Json<Outcome>, ApiError> {
    let Json(drain) = body.map_err(|e| bad_request(e.body_text()))?;
    Ok(Json(backend.drain(drain).await?.into()))
}

async fn connections<B: Backend>(
    State(backend): State<Arc<B>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(pairs) = query.map_err(|e| bad_request(e.body_text()))?;
    let mut filter = ConnectionFilter::default();
    for (name, value) in pairs {
        filter.add(&name, &value).map_err(|error| bad_request(error.to_string()))?;
    }
    let chunks = backend.connections(filter).await?;
    let body = Body::from_stream(stream::unfold(chunks, async |mut chunks| {
        tokio::task::yield_now().await;
        let lines = to_lines(&chunks.next()?);
        Some((Ok::<_, Infallible>(lines), chunks))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// One JSON object a line. Serialising a view cannot fail: it holds neither maps nor floats.
fn to_lines(chunk: &[ConnectionView]) -> Bytes {
    let mut lines = Vec::with_capacity(chunk.len() * 160);
    for connection in chunk {
        if serde_json::to_writer(&mut lines, connection).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no such path {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}

async fn add_version(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    response
}

fn bad_request(message: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message)
}
