//! Tests of what both planes export: programs that are not ours read it, and what is shipped to look
//! at it (`deploy/prometheus`, `deploy/grafana`) asks for nothing that is not there.

mod foreign;
mod promql;
mod queries;
mod scraped;

use std::collections::BTreeMap;
use std::path::Path;

use super::metrics::{ControlMetrics, IndexFigures};
use super::webhook::AdmissionCounters;
use super::{state, testing};
use crate::resource::Kind;
use crate::telemetry::format::Format;
use crate::telemetry::tests::with_everything;
use crate::time::Timestamp;

/// Every family of a proxy.
fn proxy(format: Format) -> String {
    with_everything().scrape_as(Timestamp::ZERO, format).into_text()
}

/// Every family of a controller.
async fn controller(format: Format) -> String {
    let (runtime, ..) = testing::runtime();
    let authority = state::authority(&runtime, Path::new("state")).await.unwrap();
    let mut metrics = ControlMetrics::default();
    metrics.admission = AdmissionCounters::test();
    let accepted = (Kind::HTTPRoute, "Accepted".to_string(), "True".to_string());
    let index = IndexFigures {
        objects: vec![(Kind::Service, 3)],
        conditions: BTreeMap::from([(accepted, 2)]),
        is_synced: true,
    };
    metrics.render(format, Some(&index), Some(&authority), runtime.clock.wall())
}
