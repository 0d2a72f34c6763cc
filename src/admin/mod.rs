//! The admin port: /metrics, /healthz, /readyz. Plain HTTP, loopback only.
//!
//! In: GET requests. Out: Prometheus text; whether pgveil lives; whether it can serve, and if not, why. Never: a change
//! of anything, a value, an address other machines can reach.

mod ready;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::net::TcpListener;

use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::metrics::{HISTOGRAMS, Meters};

pub use ready::{Check, Facts, Readiness, Upstream};

/// Histograms are drained, and gauges that nobody pushes are refreshed, this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes the recorder behind [`Meters`] and installs it for the whole process. Call it before [`Meters::new`].
///
/// # Errors
/// The process has a recorder already.
pub fn install() -> Result<PrometheusHandle> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|_| Error::Bug("a metrics recorder is installed already"))?;
    Ok(handle)
}

fn recorder() -> Result<PrometheusRecorder> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in HISTOGRAMS {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
            .map_err(|_| Error::Bug("a histogram without bounds"))?;
    }
    Ok(builder.build_recorder())
}

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Door {
    /// From [`install`].
    pub metrics: PrometheusHandle,
    /// The same handles everybody counts with.
    pub meters: Arc<Meters>,
    /// For the queue's depth and whether the log can be written.
    pub desk: Desk,
    /// The PostgreSQL server.
    pub upstream: Upstream,
    /// What only the rest of the proxy knows.
    pub facts: Arc<Facts>,
}

/// Opens the admin port.
///
/// # Errors
/// The address is not loopback, or cannot be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        let why = "the admin port has no authentication, so only a loopback address will do";
        return Err(Error::Config(format!("[listen] admin = \"{address}\": {why}")));
    }
    TcpListener::bind(address).await.map_err(|e| Error::io(format!("opening the admin port {address}"), e))
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let served = axum::serve(listener, router(door)).with_graceful_shutdown(shutdown).await;
    served.map_err(|e| Error::io("serving the admin port", e))
}

fn router(door: Door) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/readyz", get(readyz))
        .with_state(door)
}

async fn metrics(State(door): State<Door>) -> impl IntoResponse {
    door.desk.measure();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], door.metrics.render())
}

async fn readyz(State(door): State<Door>) -> impl IntoResponse {
    let readiness = door.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness))
}

impl Door {
    /// Asks everybody, and sets `pgveil_ready` and `pgveil_upstream_up`.
    pub async fn readiness(&self) -> Readiness {
        let upstream = self.upstream.reachable().await;
        self.meters.upstream_seen(upstream.is_ok());
        let readiness = self.facts.judge(upstream, self.desk.writable());
        self.meters.ready(readiness.ready);
        readiness
    }
}

/// Keeps house while the metrics live, with or without a port: histograms would hold every sample until somebody
/// scrapes, and `pgveil_ready` would be as old as the last question.
pub async fn upkeep(door: Door) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        door.metrics.run_upkeep();
        door.desk.measure();
        door.readiness().await;
    }
}
