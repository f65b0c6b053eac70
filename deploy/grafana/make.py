#!/usr/bin/env python3
"""Writes the dashboards beside it, which are what is shipped: python3 deploy/grafana/make.py

    --check     writes nothing; exits 1 where a dashboard is not what this would write

A test of mesh-core holds that every query names metrics and labels that there are.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RATE = "$__rate_interval"
WORKLOADS = ["deployment", "statefulset", "daemonset", "replicaset", "cronjob", "k8s_job"]


def total(metric, by, *labels):
    """The rate of a counter, summed."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{', '.join(labels)}}}[{RATE}]))"


def share(metric, by, part, *labels):
    """The part of a counter's rate that has one more label."""
    return f"{total(metric, by, *labels, part)} / {total(metric, by, *labels)}"


def success(by, *labels):
    return share("response_total", by, 'classification="success"', *labels)


def quantile(q, metric, by, *labels):
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {total(metric + '_bucket', grouped, *labels)})"


def panel(title, unit, *targets, kind="timeseries", width=8, height=8, **more):
    """`targets` are pairs of a query and its legend."""
    return {"title": title, "unit": unit, "targets": targets, "kind": kind, "width": width, "height": height, **more}


def stat(title, unit, query, **more):
    return panel(title, unit, (query, ""), kind="stat", width=6, height=4, **more)


def golden(legend, by, *labels):
    """Success, requests, latency: the three that tell whether something is well."""
    latency = [(quantile(q, "response_latency_ms", by, *labels), f"p{name} {legend}") for q, name in ((0.5, 50), (0.95, 95), (0.99, 99))]
    return [
        panel("Success rate", "percentunit", (success(by, *labels), legend), max=1),
        panel("Requests", "reqps", (total("request_total", by, *labels), legend)),
        panel("Latency", "ms", *latency),
    ]


def tcp(legend, by, *labels):
    grouped = f" by ({by})" if by else ""
    return [
        panel("TCP connections", "short", (f"sum{grouped} (tcp_open_connections{{{', '.join(labels)}}})", legend)),
        panel("TCP bytes read", "Bps", (total("tcp_read_bytes_total", by, *labels), legend)),
        panel("TCP bytes written", "Bps", (total("tcp_write_bytes_total", by, *labels), legend)),
    ]


def query(name, text, title=None):
    return {"name": name, "type": "query", "query": text, "label": title or name, "many": False}


NAMESPACE = query("namespace", "label_values(process_start_time_seconds{job=~\"(.+/)?linkerd-proxy\"}, namespace)")
KIND = {"name": "kind", "type": "custom", "options": WORKLOADS, "label": "kind"}
INBOUND, OUTBOUND = 'direction="inbound"', 'direction="outbound"'
FAILURE = 'classification="failure"'
PARENT = 'parent_namespace="$namespace", parent_name=~"$service"'


def top_line():
    proxies = 'count(process_start_time_seconds{job=~"(.+/)?linkerd-proxy"})'
    return "Top line", [], [
        stat("Success rate", "percentunit", success("", INBOUND), max=1),
        stat("Requests", "reqps", total("request_total", "", INBOUND)),
        stat("Meshed pods", "short", proxies),
        stat("Under mesh TLS", "percentunit", share("request_total", "", 'tls="true"', INBOUND), max=1),
        *golden("{{namespace}}", "namespace", INBOUND),
        panel("Worst workloads: failures", "reqps", (f"topk(10, {total('response_total', 'namespace, deployment, statefulset, daemonset', INBOUND, FAILURE)})", "{{namespace}}/{{deployment}}{{statefulset}}{{daemonset}}"), width=12),
        panel("Proxies in trouble", "reqps", (total("outbound_http_errors_total", "error"), "out: {{error}}"), (total("inbound_http_errors_total", "error"), "in: {{error}}"), width=12),
        *tcp("{{namespace}}", "namespace", INBOUND, 'peer="src"'),
    ]


def namespace():
    own = 'namespace="$namespace"'
    workload = "deployment, statefulset, daemonset, k8s_job"
    legend = "{{deployment}}{{statefulset}}{{daemonset}}{{k8s_job}}"
    return "Namespace", [NAMESPACE], [
        stat("Success rate", "percentunit", success("", own, INBOUND), max=1),
        stat("Requests", "reqps", total("request_total", "", own, INBOUND)),
        stat("Meshed pods", "short", f'count(process_start_time_seconds{{job=~"(.+/)?linkerd-proxy", {own}}})'),
        stat("Under mesh TLS", "percentunit", share("request_total", "", 'tls="true"', own, INBOUND), max=1),
        *golden(legend, workload, own, INBOUND),
        *tcp(legend, workload, own, INBOUND, 'peer="src"'),
        panel("Denied", "reqps", (total("inbound_http_authz_deny_total", "srv_name", own), "{{srv_name}}"), width=12),
        panel("Proxies' memory", "bytes", (f'process_resident_memory_bytes{{job=~"(.+/)?linkerd-proxy", {own}}}', "{{pod}}"), width=12),
    ]


def of_one(name, variables, own, peers):
    """What one workload or pod takes and sends."""
    clients = "client_id"
    return name, variables, [
        stat("Success rate", "percentunit", success("", *own, INBOUND), max=1),
        stat("Requests", "reqps", total("request_total", "", *own, INBOUND)),
        stat("p95", "ms", quantile(0.95, "response_latency_ms", "", *own, INBOUND)),
        stat("Under mesh TLS", "percentunit", share("request_total", "", 'tls="true"', *own, INBOUND), max=1),
        *golden("in", "", *own, INBOUND),
        panel("Requests by client", "reqps", (total("request_total", clients, *own, INBOUND), "{{client_id}}"), width=12),
        panel("Answers", "reqps", (total("response_total", "status_code, grpc_status", *own, INBOUND), "{{status_code}} {{grpc_status}}"), width=12),
        panel("Success rate, sent", "percentunit", (success(peers, *own, OUTBOUND), "{{dst_namespace}}/{{dst_service}}"), max=1),
        panel("Requests sent", "reqps", (total("request_total", peers, *own, OUTBOUND), "{{dst_namespace}}/{{dst_service}}")),
        panel("Latency of what is sent (p95)", "ms", (quantile(0.95, "response_latency_ms", peers, *own, OUTBOUND), "{{dst_namespace}}/{{dst_service}}")),
        *tcp("{{peer}}", "peer", *own, INBOUND),
        panel("Denied", "reqps", (total("inbound_http_authz_deny_total", "srv_name, route_name, tls", *own), "{{srv_name}} {{route_name}} tls={{tls}}"), width=8),
        panel("Refused by the proxy", "reqps", (total("outbound_http_errors_total", "error", *own), "out: {{error}}"), (total("inbound_http_errors_total", "error", *own), "in: {{error}}"), width=8),
        panel("Proxy: processor and memory", "short", (f'sum by (pod) (rate(process_cpu_seconds_total{{job=~"(.+/)?linkerd-proxy", {", ".join(own)}}}[{RATE}]))', "{{pod}} cores"), width=8),
    ]


def workload():
    chosen = query("workload", 'label_values(process_start_time_seconds{namespace="$namespace"}, $kind)')
    own = ['namespace="$namespace"', '$kind="$workload"']
    return of_one("Workload", [NAMESPACE, KIND, chosen], own, "dst_namespace, dst_service")


def pod():
    chosen = query("pod", 'label_values(process_start_time_seconds{job=~"(.+/)?linkerd-proxy", namespace="$namespace"}, pod)')
    return of_one("Pod", [NAMESPACE, chosen], ['namespace="$namespace"', 'pod="$pod"'], "dst_namespace, dst_service")


def service():
    chosen = query("service", 'label_values(response_total{direction="outbound", dst_namespace="$namespace"}, dst_service)')
    spaces = query("namespace", 'label_values(response_total{direction="outbound"}, dst_namespace)')
    own = [OUTBOUND, 'dst_namespace="$namespace"', 'dst_service="$service"']
    client = "namespace, deployment, statefulset, daemonset"
    legend = "{{namespace}}/{{deployment}}{{statefulset}}{{daemonset}}"
    balancer = 'backend_namespace="$namespace", backend_name="$service"'
    return "Service", [spaces, chosen], [
        stat("Success rate", "percentunit", success("", *own), max=1),
        stat("Requests", "reqps", total("request_total", "", *own)),
        stat("p95", "ms", quantile(0.95, "response_latency_ms", "", *own)),
        stat("Endpoints ready, at worst", "short", f'min(sum by (namespace, pod) (outbound_http_balancer_endpoints{{endpoint_state="ready", {balancer}}}))'),
        *golden(legend, client, *own),
        panel("Requests by endpoint", "reqps", (total("request_total", "dst_pod", *own), "{{dst_pod}}")),
        panel("Success rate by endpoint", "percentunit", (success("dst_pod", *own), "{{dst_pod}}"), max=1),
        panel("Latency by endpoint (p95)", "ms", (quantile(0.95, "response_latency_ms", "dst_pod", *own), "{{dst_pod}}")),
        panel("Endpoints that clients see", "short", (f"sum by (namespace, pod, endpoint_state) (outbound_http_balancer_endpoints{{{balancer}}})", "{{namespace}}/{{pod}} {{endpoint_state}}")),
        panel("Waiting for an endpoint", "short", (f"sum by (namespace, pod) (outbound_http_balancer_queue_length{{{balancer}}})", "{{namespace}}/{{pod}}")),
        panel("Wait for an endpoint (p99)", "s", (quantile(0.99, "outbound_http_balancer_queue_latency_seconds", "namespace, pod", balancer), "{{namespace}}/{{pod}}")),
    ]


def route():
    spaces = query("namespace", "label_values(outbound_http_route_request_duration_seconds_count, parent_namespace)")
    chosen = query("service", 'label_values(outbound_http_route_request_duration_seconds_count{parent_namespace="$namespace"}, parent_name)')
    panels = []
    for protocol, status in (("http", "http_status"), ("grpc", "grpc_status")):
        base, shown = f"outbound_{protocol}_route", protocol if protocol == "http" else "gRPC"
        shown = shown.replace("http", "HTTP")
        panels += [
            panel(f"{shown}: answers by route", "reqps", (total(f"{base}_request_statuses_total", f"route_kind, route_name, {status}, error", PARENT), f"{{{{route_kind}}}} {{{{route_name}}}} {{{{{status}}}}} {{{{error}}}}")),
            panel(f"{shown}: latency by route (p95)", "s", (quantile(0.95, f"{base}_request_duration_seconds", "route_kind, route_name", PARENT), "{{route_kind}} {{route_name}}")),
            panel(f"{shown}: retries", "reqps",
                  (total(f"{base}_retry_requests_total", "route_name", PARENT), "{{route_name}} sent again"),
                  (total(f"{base}_retry_successes_total", "route_name", PARENT), "{{route_name}} well then"),
                  (total(f"{base}_retry_limit_exceeded_total", "route_name", PARENT), "{{route_name}} given up")),
            panel(f"{shown}: attempts by backend", "reqps", (total(f"{base}_backend_requests_total", "route_name, backend_namespace, backend_name, backend_port", PARENT), "{{route_name}} to {{backend_namespace}}/{{backend_name}}:{{backend_port}}")),
            panel(f"{shown}: answers of backends", "reqps", (total(f"{base}_backend_response_statuses_total", f"backend_name, {status}, error", PARENT), f"{{{{backend_name}}}} {{{{{status}}}}} {{{{error}}}}")),
            panel(f"{shown}: latency of backends (p95)", "s", (quantile(0.95, f"{base}_backend_response_duration_seconds", "backend_name", PARENT), "{{backend_name}}")),
        ]
    inbound = 'namespace="$namespace"'
    panels += [
        panel("On the way in: requests by route", "reqps", (total("inbound_http_requests_total", "parent_name, route_name", inbound), "{{parent_name}} {{route_name}}"), (total("inbound_grpc_requests_total", "parent_name, route_name", inbound), "gRPC {{parent_name}} {{route_name}}")),
        panel("On the way in: latency by route (p95)", "s", (quantile(0.95, "inbound_http_request_duration_seconds", "parent_name, route_name", inbound), "{{parent_name}} {{route_name}}")),
        panel("On the way in: no route", "reqps", (total("inbound_http_route_not_found_total", "srv_name", inbound), "{{srv_name}}")),
    ]
    return "Route", [spaces, chosen], panels


def authority():
    chosen = query("authority", 'label_values(response_total{direction="outbound"}, authority)')
    own = [OUTBOUND, 'authority="$authority"']
    client = "namespace, deployment, statefulset, daemonset"
    legend = "{{namespace}}/{{deployment}}{{statefulset}}{{daemonset}}"
    return "Authority", [chosen], [
        stat("Success rate", "percentunit", success("", *own), max=1),
        stat("Requests", "reqps", total("request_total", "", *own)),
        stat("p95", "ms", quantile(0.95, "response_latency_ms", "", *own)),
        stat("Under mesh TLS", "percentunit", share("request_total", "", 'tls="true"', *own), max=1),
        *golden(legend, client, *own),
        panel("Answers", "reqps", (total("response_total", "status_code, grpc_status, error", *own), "{{status_code}} {{grpc_status}} {{error}}"), width=12),
        panel("Requests by endpoint", "reqps", (total("request_total", "target_addr", *own), "{{target_addr}}"), width=12),
    ]


def connections():
    own = 'namespace="$namespace"'
    at = "pod, direction, peer"
    legend = "{{pod}} {{direction}} {{peer}}"
    return "TCP", [NAMESPACE], [
        *tcp(legend, at, own),
        panel("Opened", "cps", (total("tcp_open_total", at, own), legend)),
        panel("Closed", "cps", (total("tcp_close_total", "pod, errno", own), "{{pod}} {{errno}}")),
        panel("Under mesh TLS", "percentunit", (share("tcp_open_total", "pod", 'tls="true"', own, 'peer="dst"', OUTBOUND), "{{pod}}"), max=1),
        panel("What connections speak", "cps", (total("outbound_tcp_protocol_connections_total", "protocol", own), "{{protocol}}")),
        panel("Protocol detection on the way in", "cps", (total("inbound_tcp_detect_http_results_total", "result", own), "{{result}}")),
        panel("Protocol detection on the way out", "cps", (total("outbound_tcp_detect_http_results_total", "result", own), "{{result}}")),
        panel("Routes of connections", "cps",
              (total("outbound_tcp_route_open_total", "parent_name, route_name", own), "{{parent_name}} {{route_name}}"),
              (total("outbound_tls_route_open_total", "parent_name, route_name", own), "TLS {{parent_name}} {{route_name}}")),
        panel("Denied and ended", "cps",
              (total("inbound_tcp_authz_deny_total", "srv_name", own), "{{srv_name}} denied"),
              (total("inbound_tcp_authz_terminate_total", "srv_name", own), "{{srv_name}} ended")),
        panel("Errors", "cps",
              (total("inbound_tcp_errors_total", "error", own), "in: {{error}}"),
              (total("outbound_tcp_errors_total", "error", own), "out: {{error}}")),
        panel("Bytes by zone", "Bps", (total("outbound_tcp_transfer_cost_bytes_total", "direction, tcp_zone_locality", own), "{{direction}} {{tcp_zone_locality}}"), width=24),
    ]


def health():
    job = 'job=~"(.+/)?linkerd-controller"'
    where = "namespace, pod, component"
    legend = "{{pod}} {{component}}"
    return "Control plane", [], [
        stat("Up", "short", f"sum(up{{{job}}})"),
        stat("Not synced", "short", "count(weft_control_synced == 0) or vector(0)"),
        stat("Leaders", "short", "sum(leader_election_master_status)"),
        stat("Streams to proxies", "short", "sum(weft_control_streams_open)"),
        panel("Streams and connections", "short", ("weft_control_streams_open", legend + " streams"), ("weft_control_connections_open", legend + " connections")),
        panel("Answers that changed", "ops", (total("weft_control_updates_total", where), legend)),
        panel("Events of the cluster", "ops", (total("weft_control_cluster_events_total", where), legend), (total("weft_control_cluster_errors_total", where), legend + " troubles")),
        panel("Objects", "short", ("sum by (kind) (weft_control_objects)", "{{kind}}")),
        panel("Conditions that are not true", "short", ('sum by (kind, type) (weft_control_conditions{status!="True"})', "{{kind}} {{type}}")),
        panel("Writes of statuses", "ops", (total("resource_status_patches_total", ""), "written"), (total("resource_status_patch_api_errors_total", ""), "refused"), (total("resource_status_patch_timeouts_total", ""), "not answered")),
        panel("Pods that the injector saw", "ops", (total("proxy_inject_admission_responses_total", "namespace, skip_reason"), "{{namespace}} {{skip_reason}}")),
        panel("Resources checked", "ops", (total("weft_control_validations_total", "webhook, allowed"), "{{webhook}} allowed={{allowed}}")),
        panel("Leases taken", "short", (f"increase(weft_control_leases_taken_total[{RATE}])", legend)),
        panel("Proxies that do not reach it", "ops", (total("control_response_total", "namespace, pod", 'classification="failure"', 'status_code=""'), "{{namespace}}/{{pod}}")),
        panel("Look-ups of its names that failed", "ops", (total("control_dns_resolutions_total", "client", 'result="error"'), "{{client}}")),
        panel("Label sets folded", "ops", (total("weft_metrics_label_sets_folded_total", "namespace, pod, group"), "{{namespace}}/{{pod}} {{group}}")),
    ]


def certificates():
    left = "control_identity_cert_expiration_timestamp_seconds - time()"
    return "Certificates", [], [
        stat("Proxies: the first to end", "s", f"min({left})"),
        stat("Issuer ends in", "s", "min(weft_control_issuer_expiration_timestamp_seconds - time())"),
        stat("Trust anchors: the first ends in", "s", "min(weft_control_anchor_expiration_timestamp_seconds - time())"),
        stat("Refreshes that failed, 1 h", "short", 'sum(increase(control_identity_cert_refreshes_total{result="error"}[1h])) or vector(0)'),
        panel("Ten proxies whose certificates end first", "s", (f"bottomk(10, {left})", "{{namespace}}/{{pod}}"), width=12),
        panel("Life left, of the whole", "percentunit", (f"bottomk(10, ({left}) / (control_identity_cert_expiration_timestamp_seconds - control_identity_cert_refresh_timestamp_seconds))", "{{namespace}}/{{pod}}"), width=12, max=1),
        panel("Refreshes", "ops", (total("control_identity_cert_refreshes_total", "result"), "{{result}}")),
        panel("Issued and refused", "ops", (total("weft_control_certificates_issued_total", ""), "issued"), (total("weft_control_certificates_refused_total", ""), "refused")),
        panel("Handshakes with the control plane that failed", "ops", (total("weft_control_handshake_errors_total", "pod"), "{{pod}}"), (total("weft_control_reload_errors_total", "pod"), "{{pod}} reads of files")),
        panel("Trust anchors", "s", ("weft_control_anchor_expiration_timestamp_seconds - time()", "{{sha256}}"), width=24),
    ]


DASHBOARDS = {
    "top-line": top_line, "namespace": namespace, "workload": workload, "pod": pod, "service": service, "route": route,
    "authority": authority, "tcp": connections, "control-plane": health, "certificates": certificates,
}


def variable(of):
    if of["type"] == "custom":
        first = of["options"][0]
        options = [{"selected": text == first, "text": text, "value": text} for text in of["options"]]
        return {"name": of["name"], "label": of["label"], "type": "custom", "query": ",".join(of["options"]),
                "options": options, "current": options[0], "hide": 0}
    return {"name": of["name"], "label": of["label"], "type": "query", "datasource": SOURCE, "definition": of["query"],
            "query": {"query": of["query"], "refId": of["name"]}, "refresh": 2, "sort": 1, "hide": 0,
            "includeAll": False, "multi": False}


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def laid_out(panels):
    x = y = row = 0
    for number, of in enumerate(panels, 1):
        if x + of["width"] > 24:
            x, y, row = 0, y + row, 0
        defaults = {"unit": of["unit"], "min": 0}
        if "max" in of:
            defaults["max"] = of["max"]
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        if of["kind"] == "stat":
            options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "area"}
        else:
            defaults["custom"] = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": True}
        targets = [{"refId": chr(65 + at), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
                   for at, (expression, legend) in enumerate(of["targets"])]
        yield {"id": number, "title": of["title"], "type": of["kind"], "datasource": SOURCE, "targets": targets,
               "gridPos": {"x": x, "y": y, "w": of["width"], "h": of["height"]},
               "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}
        x, row = x + of["width"], max(row, of["height"])


def dashboard(name, title, variables, panels):
    source = {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "hide": 0}
    link = {"title": "Weft", "type": "dashboards", "tags": ["weft"], "asDropdown": True, "includeVars": False, "keepTime": True}
    return {
        "uid": f"weft-{name}", "title": f"Weft: {title}", "tags": ["weft"], "schemaVersion": 39, "version": 1, "editable": True,
        "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser",
        "links": [link], "templating": {"list": [source, *map(variable, variables)]}, "panels": list(laid_out(panels)),
    }


def main():
    stale = []
    for name, make in DASHBOARDS.items():
        path = os.path.join(HERE, f"{name}.json")
        text = json.dumps(dashboard(name, *make()), indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        elif not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
            stale.append(path)
    if stale:
        print("not as make.py writes them:", *stale, sep="\n  ")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
