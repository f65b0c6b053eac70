//! Facts of selection: which of many matches wins, by the rules of the Gateway API.

use http::HeaderValue;
use http::header::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::model::client_policy::Distribution;
use crate::model::metadata::Metadata;
use crate::model::pattern::Pattern;
use crate::model::route::http::{HeaderMatch, QueryParamMatch, Timeouts};

fn rule<M, F, C>(matches: Vec<M>) -> Rule<M, F, C> {
    Rule {
        matches,
        filters: vec![],
        backends: Distribution::Empty,
        timeouts: Timeouts::default(),
        retry: None,
        allow_l5d_request_headers: false,
    }
}

fn host(text: &str) -> HostMatch {
    match text.strip_prefix("*.") {
        Some(suffix) => HostMatch::Suffix(suffix.rsplit('.').map(String::from).collect()),
        None => HostMatch::Exact(text.into()),
    }
}

fn route(name: &str, hosts: &[&str], matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute {
        metadata: Metadata::new_default(name),
        hosts: hosts.iter().map(|text| host(text)).collect(),
        rules: vec![rule(matches)],
    }
}

fn on(path: PathMatch) -> HttpMatch {
    HttpMatch { path: Some(path), ..HttpMatch::default() }
}

fn exact(path: &str) -> HttpMatch {
    on(PathMatch::Exact(path.into()))
}

fn prefix(path: &str) -> HttpMatch {
    on(PathMatch::Prefix(path.into()))
}

fn regex(path: &str) -> HttpMatch {
    on(PathMatch::Regex(Pattern::new(path).unwrap()))
}

fn header_is(name: &'static str, value: &'static str) -> HeaderMatch {
    HeaderMatch::Exact(HeaderName::from_static(name), HeaderValue::from_static(value))
}

/// The name of the route selected for a GET with headers `x-a: 1` and `x-b: 2`.
fn selected(routes: &[HttpRoute], uri: &str) -> String {
    let request = http::Request::get(uri)
        .header("x-a", "0")
        .header("x-a", "1")
        .header("x-b", "2")
        .body(())
        .unwrap();
    client_http(routes, Request::from(&request))
        .map_or("none", |selected| selected.route.metadata.name())
        .to_string()
}

#[test]
fn a_host_goes_before_a_path() {
    let routes = [
        route("all", &[], vec![exact("/a")]),
        route("suffix", &["*.com"], vec![exact("/a")]),
        route("longer", &["*.example.com", "*.com"], vec![prefix("/")]),
        route("exact", &["web.example.com"], vec![prefix("/")]),
    ];
    assert_eq!(selected(&routes, "http://web.example.com:80/a"), "exact");
    assert_eq!(selected(&routes, "http://b.example.com/a"), "longer");
    assert_eq!(selected(&routes, "http://b.com/a"), "suffix");
    assert_eq!(selected(&routes, "http://b.org/a"), "all");
    assert_eq!(selected(&routes, "http://b.org/b"), "none");
}

#[test]
fn a_host_header_counts_where_the_uri_has_no_authority() {
    let routes = [route("web", &["web"], vec![])];
    let request = http::Request::get("/").header("host", "web:80").body(()).unwrap();
    assert!(client_http(&routes, Request::from(&request)).is_some());
    let request = http::Request::get("http://other/").header("host", "web").body(()).unwrap();
    assert!(client_http(&routes, Request::from(&request)).is_none());
}

#[test]
fn the_longest_path_wins_and_exact_among_equals() {
    let routes = [
        route("default", &[], vec![]),
        route("/a/", &[], vec![prefix("/a/")]),
        route("/a/b", &[], vec![prefix("/a/b")]),
        route("regex", &[], vec![regex("/a/b/[0-9]+")]),
        route("exact", &[], vec![exact("/a/b/1")]),
        route("root", &[], vec![prefix("/")]),
    ];
    assert_eq!(selected(&routes, "/a/b/1"), "exact");
    assert_eq!(selected(&routes, "/a/b/2"), "regex");
    assert_eq!(selected(&routes, "/a/b/c"), "/a/b");
    assert_eq!(selected(&routes, "/a/b/"), "/a/b");
    assert_eq!(selected(&routes, "/a"), "/a/");
    assert_eq!(selected(&routes, "/ab"), "default");
    assert_eq!(selected(&routes[1..], "/ab"), "root");
}

#[test]
fn then_method_then_headers_then_query_then_order() {
    let with =
        |method: Option<Method>, headers: &[HeaderMatch], query: &[(&str, &str)]| HttpMatch {
            method,
            headers: headers.to_vec(),
            query_params: query
                .iter()
                .map(|(n, v)| QueryParamMatch::Exact((*n).into(), (*v).into()))
                .collect(),
            ..HttpMatch::default()
        };
    let (a, b) = (header_is("x-a", "1"), header_is("x-b", "2"));
    let mut routes = vec![
        route("first", &[], vec![prefix("/")]),
        route("second", &[], vec![]),
        route("query", &[], vec![with(None, &[], &[("q", "1")])]),
        route("header", &[], vec![with(None, std::slice::from_ref(&a), &[])]),
        route("headers", &[], vec![with(None, &[a.clone(), b], &[])]),
        route("method", &[], vec![with(Some(Method::GET), &[], &[])]),
        route("other method", &[], vec![with(Some(Method::PUT), &[a], &[])]),
    ];
    for expected in ["method", "headers", "header", "query", "first"] {
        assert_eq!(selected(&routes, "/?q=1"), expected);
        routes.retain(|route| route.metadata.name() != expected);
    }
    assert_eq!(selected(&routes, "/?q=1"), "second");
}

#[test]
fn query_parameters_are_decoded() {
    let wants = |param| {
        let wanted = HttpMatch { query_params: vec![param], ..HttpMatch::default() };
        [route("hit", &[], vec![wanted])]
    };
    let exact = wants(QueryParamMatch::Exact("a b".into(), "c/d".into()));
    assert_eq!(selected(&exact, "/?a+b=c%2fd"), "hit");
    assert_eq!(selected(&exact, "/?x&a%20b=1&a%20b=c/d"), "hit");
    assert_eq!(selected(&exact, "/?a%2=c/d"), "none");
    assert_eq!(selected(&exact, "/"), "none");
    let regex = wants(QueryParamMatch::Regex("n".into(), Pattern::new("[0-9 ]+").unwrap()));
    assert_eq!(selected(&regex, "/?n=1+2"), "hit");
    assert_eq!(selected(&regex, "/?n=12"), "hit");
    assert_eq!(selected(&regex, "/?n=a"), "none");
}

#[test]
fn what_matched_is_told_for_rewriting() {
    let mut route = route("r", &[], vec![exact("/x"), prefix("/a")]);
    route.rules.push(rule(vec![prefix("/a/b")]));
    let routes = [route];
    let request = http::Request::get("/a/b/c").body(()).unwrap();
    let selected = client_http(&routes, Request::from(&request)).unwrap();
    assert_eq!(selected.prefix(), Some("/a/b"));
    assert!(std::ptr::eq(selected.rule, &routes[0].rules[1]));
}

#[test]
fn grpc_is_selected_by_service_then_method_then_headers() {
    let wants = |service: Option<&str>, method: Option<&str>, headers: Vec<HeaderMatch>| {
        GrpcMatch { service: service.map(String::from), method: method.map(String::from), headers }
    };
    let route = |name: &str, matches| GrpcRoute {
        metadata: Metadata::new_default(name),
        hosts: vec![],
        rules: vec![rule(matches)],
    };
    let routes = [
        route("default", vec![]),
        route("method", vec![wants(None, Some("Get"), vec![])]),
        route("service", vec![wants(Some("a.B"), None, vec![])]),
        route("both", vec![wants(Some("a.B"), Some("Get"), vec![])]),
        route("header", vec![wants(Some("a.B"), Some("Get"), vec![header_is("x-a", "1")])]),
    ];
    let selected = |routes: &[GrpcRoute], method: Method, path: &str, a: &str| {
        let request = http::Request::builder().method(method).uri(path).header("x-a", a);
        client_grpc(routes, Request::from(&request.body(()).unwrap()))
            .map_or("none", |selected| selected.route.metadata.name())
            .to_string()
    };
    assert_eq!(selected(&routes, Method::POST, "/a.B/Get", "1"), "header");
    assert_eq!(selected(&routes, Method::POST, "/a.B/Get", "2"), "both");
    assert_eq!(selected(&routes, Method::POST, "/a.B/Put", "1"), "service");
    assert_eq!(selected(&routes, Method::POST, "/a.C/Get", "1"), "method");
    assert_eq!(selected(&routes, Method::POST, "/a.C/Put", "1"), "default");
    assert_eq!(selected(&routes[1..], Method::GET, "/a.B/Get", "1"), "none");
    assert_eq!(selected(&routes[1..], Method::POST, "/a.B", "1"), "none");
}

#[test]
fn a_server_selects_as_a_client_does() {
    let route = |name: &str, matches| ServerHttpRoute {
        metadata: Metadata::new_default(name),
        hosts: vec![],
        authorizations: vec![],
        rules: vec![ServerRule { matches, filters: vec![] }],
    };
    let routes = [route("all", vec![]), route("probe", vec![exact("/live")])];
    let name = |path: &str| {
        let request = http::Request::get(path).body(()).unwrap();
        let selected = server_http(&routes, Request::from(&request)).unwrap();
        selected.route.metadata.name().to_string()
    };
    assert_eq!((name("/live").as_str(), name("/").as_str()), ("probe", "all"));
}

#[test]
fn an_sni_selects_the_most_specific_route() {
    let route = |name: &str, snis: &[&str]| TlsRoute {
        metadata: Metadata::new_default(name),
        snis: snis.iter().map(|text| host(text)).collect(),
        rules: vec![ConnectionRule { backends: Distribution::Empty, filters: vec![] }],
    };
    let without_rules = TlsRoute { rules: vec![], ..route("empty", &["a.example"]) };
    let routes = [
        without_rules,
        route("all", &[]),
        route("suffix", &["*.example"]),
        route("exact", &["a.example"]),
    ];
    let name = |sni_name: &str| {
        let selected = sni(&routes, &DnsName::new(sni_name).unwrap());
        selected.unwrap().0.metadata.name().to_string()
    };
    assert_eq!(name("a.example"), "exact");
    assert_eq!(name("b.example"), "suffix");
    assert_eq!(name("b.test"), "all");
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        Just(None),
        "(/[ab]{1,2}){0,3}".prop_map(|p| Some(PathMatch::Exact(p))),
        "(/[ab]{1,2}){0,3}/?".prop_map(|p| Some(PathMatch::Prefix(p))),
        Just(Some(PathMatch::Regex(Pattern::new("/a.*").unwrap()))),
    ];
    let method = prop_oneof![Just(None), Just(Some(Method::GET)), Just(Some(Method::PUT))];
    let headers = prop::sample::subsequence(
        vec![header_is("x-a", "1"), header_is("x-b", "2"), header_is("x-c", "3")],
        0..=3,
    );
    (path, method, headers).prop_map(|(path, method, headers)| HttpMatch {
        path,
        method,
        headers,
        query_params: vec![],
    })
}

proptest! {
    /// What is selected matches, and no rule that matches outranks it.
    #[test]
    fn the_selected_rule_is_the_first_of_the_highest_rank(
        matches in prop::collection::vec(prop::collection::vec(any_match(), 0..3), 0..6),
        path in "(/[ab]{1,2}){1,3}/?",
    ) {
        let routes: Vec<_> = matches.into_iter().map(|m| route("r", &[], m)).collect();
        let request = http::Request::get(&path)
            .header("x-a", "1")
            .header("x-b", "2")
            .body(())
            .unwrap();
        let rank = |route: &HttpRoute| {
            let matches = &route.rules[0].matches;
            if matches.is_empty() {
                return Some(HttpRank::ALL);
            }
            matches.iter().filter_map(|m| HttpRank::of(m, Request::from(&request))).max()
        };
        let ranks: Vec<_> = routes.iter().map(rank).collect();
        let highest = ranks.iter().flatten().max();
        let expected = highest.and_then(|h| ranks.iter().position(|r| r.as_ref() == Some(h)));
        let selected = client_http(&routes, Request::from(&request));
        let at = selected.map(|s| routes.iter().position(|r| std::ptr::eq(r, s.route)).unwrap());
        prop_assert_eq!(at, expected);
    }
}

/// Routes with matches, hosts among `*.b`, `a.b` and none, in the order given; and where each goes
/// when they are put into another order.
fn any_routes() -> impl Strategy<Value = (Vec<HttpRoute>, Vec<usize>)> {
    let hosts = prop::sample::select(vec![&[][..], &["*.b"], &["a.b"], &["c.b"], &["*.a.b", "b"]]);
    let routes = prop::collection::vec((hosts, prop::collection::vec(any_match(), 0..3)), 0..6);
    routes.prop_flat_map(|routes| {
        let routes = routes.into_iter().enumerate();
        let named =
            |(at, (hosts, matches)): (usize, (&[&str], _))| route(&at.to_string(), hosts, matches);
        let routes: Vec<_> = routes.map(named).collect();
        let order = Just((0..routes.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(routes), order)
    })
}

fn rank(route: &HttpRoute, request: Request<'_>) -> Option<(HostRank, HttpRank)> {
    let host = HostRank::of_any(&route.hosts, request.host)?;
    let matches = &route.rules[0].matches;
    let all = matches.is_empty().then_some(HttpRank::ALL);
    Some((host, all.or_else(|| matches.iter().filter_map(|m| HttpRank::of(m, request)).max())?))
}

proptest! {
    /// The order of routes decides among equals alone: in any order the same rank is selected, and
    /// where one route alone has it, the same route.
    #[test]
    fn precedence_does_not_depend_on_the_order_of_routes(
        (routes, order) in any_routes(),
        path in "(/[ab]{1,2}){1,3}/?",
    ) {
        let request =
            http::Request::get(format!("http://a.b{path}")).header("x-a", "1").body(()).unwrap();
        let request = Request::from(&request);
        let reordered: Vec<_> = order.iter().map(|at| routes[*at].clone()).collect();
        let (first, second) = (client_http(&routes, request), client_http(&reordered, request));
        let ranked = |selected: Option<ClientHttp<'_>>| selected.and_then(|s| rank(s.route, request));
        prop_assert_eq!(ranked(first), ranked(second));
        let highest = routes.iter().filter_map(|route| rank(route, request)).max();
        prop_assert_eq!(ranked(first), highest, "a host goes before what follows it");
        let holders = routes.iter().filter(|r| rank(r, request) == highest).count();
        if let (Some(first), Some(second), 1) = (first, second, holders) {
            prop_assert_eq!(first.route.metadata.name(), second.route.metadata.name());
        }
    }

    /// A route that does not match is as if it were not there.
    #[test]
    fn what_does_not_match_changes_nothing(
        (routes, _) in any_routes(),
        path in "(/[ab]{1,2}){1,3}/?",
    ) {
        let request = http::Request::get(format!("http://a.b{path}")).body(()).unwrap();
        let request = Request::from(&request);
        let matching: Vec<_> =
            routes.iter().filter(|route| rank(route, request).is_some()).cloned().collect();
        let name = |routes: &[HttpRoute]| {
            client_http(routes, request).map(|s| s.route.metadata.name().to_string())
        };
        prop_assert_eq!(name(&routes), name(&matching));
    }
}
