"""Envoy's configuration for the meshed path: by original destination to HTTP, gRPC or bytes, with mutual
TLS between the two; no access log, no request ids, limits out of the way."""
from topology import GRPC, HTTP, SERVER_IP, SERVICE_IP, TCP

T = "type.googleapis.com/envoy.extensions."
SERVICES = ((HTTP, "http"), (GRPC, "grpc"), (TCP, "tcp"))


def configuration(role, certificates, identity):
    """`role` is "c" (outbound) or "s" (inbound); `identity(role)` is a role's TLS name."""
    tls = tls_context(role, certificates, identity)
    chains, clusters = [], []
    for port, name in SERVICES:
        if role == "c":
            clusters.append(cluster(name, SERVER_IP, port, name != "tcp", dict(
                name="tls", typed_config={"@type": T + "transport_sockets.tls.v3.UpstreamTlsContext",
                                          "common_tls_context": tls, "sni": identity("s")})))
            chains.append(chain(name, port, SERVICE_IP))
        else:
            clusters.append(cluster(name, "127.0.0.1", port, name == "grpc"))
            chains.append(chain(name, port, transport=dict(
                name="tls", typed_config={"@type": T + "transport_sockets.tls.v3.DownstreamTlsContext",
                                          "common_tls_context": tls, "require_client_certificate": True})))
    original = {"@type": T + "filters.listener.original_dst.v3.OriginalDst"}
    listener = {
        "name": "mesh", "address": address("0.0.0.0", 4140 if role == "c" else 4143),
        "listener_filters": [{"name": "original_dst", "typed_config": original}], "filter_chains": chains,
    }
    return {"admin": {"address": address("0.0.0.0", 4191)},
            "static_resources": {"listeners": [listener], "clusters": clusters}}


def address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def tls_context(role, certificates, identity):
    own, peer = f"{certificates}/{role}", identity("s" if role == "c" else "c")
    return {
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": {"filename": f"{own}/crt.pem"},
                              "private_key": {"filename": f"{own}/key.pem"}}],
        "validation_context": {
            "trusted_ca": {"filename": f"{certificates}/ca.crt"},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": peer}}]}}


def cluster(name, host, port, http2, transport=None):
    endpoint = {"endpoint": {"address": address(host, port)}}
    limits = {"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}
    found = {"name": name, "type": "STATIC", "connect_timeout": "1s", "circuit_breakers": {"thresholds": [limits]},
             "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}
    if http2:
        options = T + "upstreams.http.v3.HttpProtocolOptions"
        found["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options, "explicit_http_config": {"http2_protocol_options": {}}}}
    if transport:
        found["transport_socket"] = transport
    return found


def chain(name, port, host=None, transport=None):
    match = {"destination_port": port}
    if host:
        match["prefix_ranges"] = [{"address_prefix": host, "prefix_len": 32}]
    found = {"name": name, "filter_chain_match": match, "filters": [bytes_filter(name) if name == "tcp" else http_filter(name)]}
    if transport:
        found["transport_socket"] = transport
    return found


def bytes_filter(name):
    return {"name": "tcp", "typed_config": {"@type": T + "filters.network.tcp_proxy.v3.TcpProxy",
                                            "stat_prefix": name, "cluster": name}}


def http_filter(name):
    router = {"name": "router", "typed_config": {"@type": T + "filters.http.router.v3.Router"}}
    everything = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
    return {"name": "http", "typed_config": {
        "@type": T + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name, "codec_type": "AUTO", "generate_request_id": False,
        "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [everything]}]},
        "http_filters": [router]}}
