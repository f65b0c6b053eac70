//! The console: the mesh as pages for people. Pages are made here, whole, and work without a script;
//! a small one makes them live. It only reads.
//!
//! Law: what comes from elsewhere (names, paths, headers) enters a page through
//! `html`, which escapes it; an address says all that a page shows, so that it can be
//! given to others.

mod assets;
mod authorities;
mod certificates;
mod chart;
mod detail;
mod edges;
mod explained;
mod facts;
mod figures;
mod format;
mod golden;
mod graph;
mod health;
mod html;
mod inventory;
mod link;
mod live;
mod namespaces;
mod overview;
mod policy;
mod routes;
mod shell;
mod source;
mod table;
mod tap;
mod workloads;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderValue, StatusCode};

use super::public_api::check::CheckRow;
use super::viz::{Viz, events};
use crate::wire::http::{Body, Request, Response};

use inventory::Name;
use link::Asked;
use shell::{Page, Section};
use source::Source;

/// Answers a request for a page, for one of the files that pages load, or for a page's changes.
pub(super) async fn answer(viz: &Viz, request: Request) -> Response {
    let uri = request.uri();
    let asked = Asked::read(uri.path(), uri.query().unwrap_or_default());
    match asked.path().as_slice() {
        ["assets", name] => asset(name),
        ["favicon.ico"] => asset("icon.svg"),
        ["live"] => {
            let parts = viz.parts();
            let of = Asked::read_both(asked.value("at"));
            events::response(&parts.runtime, &parts.drain, live::events(viz, of))
        }
        _ => {
            let mut page = page(viz, &asked).await;
            if let Some(address) = viz.own_address() {
                let said =
                    |command: &mut String| command.push_str(&format!(" --api-addr {address}"));
                page.commands.iter_mut().for_each(said);
            }
            let html = page.render(&viz.parts().mesh.control_namespace);
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            respond(page.status, kind, html)
        }
    }
}

/// What the page of the control plane finds out.
pub(super) fn checks(viz: &Viz) -> Vec<CheckRow> {
    Source::new(viz, &Asked::default()).findings().into_iter().map(CheckRow::from).collect()
}

/// Makes the page that an address asks for.
async fn page(viz: &Viz, asked: &Asked) -> Page {
    let source = Source::new(viz, asked);
    match asked.path().as_slice() {
        [] => overview::page(asked, source.overview().await),
        ["namespaces"] => {
            let (lines, troubles) = source.namespaces().await;
            namespaces::page(asked, lines, &troubles)
        }
        ["namespaces", name] => match source.namespace(name).await {
            Some(view) => namespaces::one(asked, view),
            None => Page::missing(Section::Namespaces, &format!("namespace {name}")),
        },
        ["workloads"] => workloads::page(asked, source.workloads().await),
        ["workloads", namespace, kind, name] => {
            let name = Name::new(namespace, kind, name);
            match source.workload(&name).await {
                Some(view) => detail::page(asked, view),
                None => Page::missing(
                    Section::Workloads,
                    &format!("{} in namespace {namespace}", name.of_command()),
                ),
            }
        }
        ["topology"] => edges::topology(asked, source.edges().await),
        ["authorities"] => authorities::page(asked, source.authorities().await),
        ["edges"] => edges::page(asked, source.edges().await),
        ["routes"] => routes::page(asked, source.routes().await),
        ["tap"] => tap::tap(asked, &source.tap()),
        ["top"] => tap::top(asked, &source.tap()),
        ["policy"] => policy::page(asked, source.policy()),
        ["certificates"] => certificates::page(asked, source.certificates().await),
        ["health"] => health::page(source.health().await),
        path => Page::missing(Section::Overview, &format!("page /{}", path.join("/"))),
    }
}

fn asset(name: &str) -> Response {
    let Some(asset) = assets::find(name) else {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        return respond(StatusCode::NOT_FOUND, kind, "there is no such file\n".to_string());
    };
    let kind = HeaderValue::from_static(asset.kind);
    let mut response = respond(StatusCode::OK, kind, asset.content.to_string());
    // It is asked for by its version.
    let keep = HeaderValue::from_static("max-age=31536000, immutable");
    response.headers_mut().insert(CACHE_CONTROL, keep);
    response
}

fn respond(status: StatusCode, kind: HeaderValue, content: String) -> Response {
    let mut response = Response::new(Body::full(content));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
