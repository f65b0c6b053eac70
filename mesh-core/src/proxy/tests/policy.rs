//! What policies refuse, on either side.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{
    all_to, anybody, balance, detect, detecting, http_routes, meshed_clients, opaque_to, port, rule,
};
use super::world::{APP, CLIENT, PATH, Pair, SERVICE, at, get, get2, grpc, ok};
use crate::model::client_policy::{
    ClientPolicy, ClientProtocol, ConnectionFilter, HttpFilter, HttpRoutes,
};
use crate::model::identity::Identity;
use crate::model::route::http::{HttpMatch, PathMatch};
use crate::model::server_policy::{Authentication, Authorization, ServerHttpFilter};
use crate::traffic::authorize::Denied;
use crate::traffic::denial::{DenialId, DeniedWhat, identity_hash};

#[tokio::test(start_paused = true)]
async fn no_route_is_404() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut only = rule(balance(PATH));
    only.matches =
        vec![HttpMatch { path: Some(PathMatch::Prefix("/only".into())), ..HttpMatch::default() }];
    let policy = detect(http_routes(only), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    assert_eq!(mesh.get("/only/this").await.status(), 200);
    let refused = mesh.get("/other").await;
    assert_eq!(refused.status(), 404);
    assert_eq!(refused.headers()["l5d-proxy-error"], "no route found for request");
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let refused = connection.send(&mut grpc("http://web/other")).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "5");
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_unknown_and_a_rule_without_backends_are_500() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut unknown = rule(balance(PATH));
    unknown.filters = vec![HttpFilter::Unknown];
    let mut empty = rule(balance(PATH));
    empty.backends = crate::model::client_policy::Distribution::Empty;
    for wrong in [unknown, empty] {
        let policy = detect(http_routes(wrong), balance(PATH));
        mesh.world.control.set_client_policy(SERVICE, policy);
        mesh.world.sleep(1).await;
        assert_eq!(mesh.get("/").await.status(), 500);
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_connection_is_closed_without_a_dial() {
    let mesh = Pair::new().await;
    let mut policy = opaque_to(balance(PATH));
    let ClientProtocol::Opaque(routes) = &mut policy.protocol else { unreachable!() };
    routes.routes[0].rules[0].filters = vec![ConnectionFilter::Forbidden];
    mesh.world.control.set_client_policy(SERVICE, policy);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let mut rest = Vec::new();
    let _ = io.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    let dialed = mesh.world.wires.dialed(super::world::ip("10.0.0.1"));
    assert!(!dialed.contains(&at("10.0.0.2:4143")));
    let closed = ["outbound_tcp_route_close_total", "forbidden"];
    assert_eq!(mesh.world.metric(&mesh.client, &closed).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_enter_gets_403_or_permission_denied() {
    let mesh = Pair::with(&[], &[("LINKERD2_PROXY_INBOUND_PORTS", "8080")]).await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let other = Authorization {
        authentication: Authentication::TlsAuthenticated {
            identities: vec![Identity::new("other.test").unwrap()],
            suffixes: vec![],
        },
        ..anybody()
    };
    let control = &mesh.world.control;
    control.set_server_policy(8080, port(detecting(), vec![other]));
    mesh.world.sleep(20_000).await;
    let denied = mesh.get("/").await;
    assert_eq!(denied.status(), 403);
    let reference = denied.headers()["weft-reference"].to_str().unwrap();
    let denial = reference.parse::<DenialId>().unwrap().denial();
    assert_eq!((denial.what, denial.why), (DeniedWhat::Request, Denied::Identity));
    assert!(denial.client.may_be(mesh.client.host) && denial.server.may_be(mesh.server.host));
    assert_eq!(denial.port, 8080);
    assert_eq!(denial.identity, Some(identity_hash(&Identity::new(CLIENT).unwrap())));
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let denied = connection.send(&mut grpc("http://web/pkg.Service/Method")).await.unwrap();
    assert_eq!(denied.status(), 200);
    assert_eq!(denied.headers()["grpc-status"], "7");
    assert!(denied.headers().contains_key("weft-reference"));
    assert_eq!(app.count(), 0);
    let count = ["inbound_http_authz_deny_total", CLIENT];
    assert_eq!(mesh.world.metric(&mesh.server, &count).await, 2.0);

    // The next request is by the new policy, on connections that are open.
    control.set_server_policy(8080, port(detecting(), vec![meshed_clients()]));
    mesh.world.sleep(1).await;
    let allowed = connection.send(&mut get2("http://web/")).await.unwrap();
    assert_eq!(allowed.status(), 200);
    // Who is not meshed is denied, and told nothing but the status.
    let io = mesh.world.dial_from("10.0.0.7", APP).await;
    let denied = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(denied.status(), 403);
    assert!(denied.headers().get("l5d-proxy-error").is_none());
    assert!(denied.headers().get("weft-reference").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_filter_on_the_way_in_is_heeded() {
    let mesh = Pair::with(&[], &[("LINKERD2_PROXY_INBOUND_PORTS", "8080")]).await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let route = crate::model::server_policy::ServerHttpRoute {
        metadata: crate::model::metadata::Metadata::new_default("route"),
        hosts: vec![],
        authorizations: vec![],
        rules: vec![crate::model::server_policy::ServerRule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix("/wrong".into())),
                ..HttpMatch::default()
            }],
            filters: vec![ServerHttpFilter::Unknown],
        }],
    };
    let protocol = crate::model::server_policy::ServerProtocol::Detect {
        timeout: std::time::Duration::from_secs(10),
        routes: vec![route],
        rate_limit: None,
    };
    mesh.world.control.set_server_policy(8080, port(protocol, vec![anybody()]));
    mesh.world.sleep(20_000).await;
    assert_eq!(mesh.get("/wrong").await.status(), 500);
    assert_eq!(mesh.get("/other").await.status(), 404);
    assert_eq!(app.count(), 0);
    let count = ["inbound_http_route_not_found_total"];
    assert_eq!(mesh.world.metric(&mesh.server, &count).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_default_policy_holds_where_the_control_plane_knows_none() {
    let deny = [("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY", "all-authenticated")];
    let mesh = Pair::with(&[], &deny).await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(mesh.get("/").await.status(), 200);
    let io = mesh.world.dial_from("10.0.0.7", APP).await;
    let denied = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(denied.status(), 403);
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_holds_for_the_next_request_of_an_open_connection() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let response = connection.send(&mut get2("http://web/")).await.unwrap();
    assert_eq!(response.status(), 200);
    let none = ClientPolicy {
        protocol: ClientProtocol::Http2(HttpRoutes::default()),
        ..all_to(balance(PATH))
    };
    mesh.world.control.set_client_policy(SERVICE, none);
    mesh.world.sleep(1).await;
    let response = connection.send(&mut get2("http://web/")).await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test(start_paused = true)]
async fn parts_that_are_not_enforced_are_counted_by_policy_not_by_connection() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut unenforced = rule(balance(PATH));
    unenforced.allow_l5d_request_headers = true;
    let mut policy = detect(http_routes(unenforced), balance(PATH));
    let ClientProtocol::Detect { http2, .. } = &mut policy.protocol else { unreachable!() };
    *http2 = HttpRoutes::default();
    mesh.world.control.set_client_policy(SERVICE, policy);
    for _ in 0..5 {
        assert_eq!(mesh.get("/").await.status(), 200);
    }
    assert_eq!(mesh.world.metric(&mesh.client, &["L5dRequestHeaders"]).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_nobody_and_one_to_somebody_else_are_closed() {
    let mesh = Pair::new().await;
    // No redirect rule brought it: dialing on would come back here.
    let mut looped = mesh.world.dial_listener("10.0.0.1", "10.0.0.1:4140");
    looped.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert!(looped.read_u8().await.is_err());
    // Sent on for somebody else.
    let inbound = at("10.0.0.2:4143");
    let stray =
        mesh.world.wires.net.dial(super::world::ip("10.0.0.7"), inbound, Some(at("10.0.0.9:80")));
    let mut stray = stray.unwrap().io;
    let _ = stray.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    assert!(stray.read_u8().await.is_err());
    assert!(!mesh.world.wires.dialed(super::world::ip("10.0.0.2")).contains(&at("10.0.0.9:80")));
    // The port of transport headers is for meshed clients alone.
    let mut plain = mesh.world.dial_from("10.0.0.7", "10.0.0.2:4143").await;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert!(plain.read_u8().await.is_err());
}
