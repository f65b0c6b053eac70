"""Facts about who watches: a real Prometheus with the configuration, rules and dashboards of deploy/."""

import glob
import json
import math
import os
import re
import time

import manifests
from agreement import agreed, difference, pause
from cluster import CONTROL, SHOP, must, needs, within
from prometheus import DEPLOY, Prometheus

QUESTIONS = {
    "services": ["stat", "svc"],
    "authorities": ["stat", "authority"],
    "what the client sends": ["stat", "deploy/client", "--to", "svc/web"],
    "outbound": ["stat-outbound", "deploy"],
    "routes": ["routes", "svc/web"],
    "edges": ["edges", "deploy"],
}
# Of the windows that are asked about; through an API server it takes a while.
SAMPLES = 4
# How often each is asked in one round.
GOOD, MISSING, ECHOES = 40, 12, 2

# What the traffic here has nothing of, by the beginnings of families. All else has to be seen.
NOTHING = (
    "outbound_grpc_route_", "inbound_grpc_requests_total",  # no gRPC
    "outbound_tls_route_open_total",  # no TLS that clients bring
    "inbound_http_route_not_found_total",  # no Server with routes
    "inbound_tcp_authz_terminate_total",  # no connection while a policy changes
    "inbound_tcp_errors_total", "outbound_tcp_errors_total",  # nothing breaks
    "outbound_http_route_retry_",  # nothing is sent again
    "weft_control_conditions",  # of those that are not true
)


@needs("prometheus", "promtool")
def a_prometheus_finds_every_proxy_and_the_control_plane(cluster):
    cluster.prometheus = prometheus = Prometheus(cluster)
    prometheus.start()
    wanted = _wanted(cluster)
    within(60, "every target is there and up", lambda: _finds(prometheus, wanted))
    rules = lambda: [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    must(len(rules()) > 10, rules())
    within(30, "every rule is evaluated", lambda: all(rule["health"] == "ok" for rule in rules()))


def _finds(prometheus, wanted):
    """Whether there are these targets and no others, and all are up."""
    found = {}
    for target in prometheus.targets():
        labels = frozenset((name, value) for name, value in target["labels"].items() if name != "instance")
        found[labels] = (target["health"], target["lastError"])
    missing, beyond = wanted - found.keys(), found.keys() - wanted
    down = {labels: of for labels, of in found.items() if of[0] != "up"}
    must(not missing and not beyond and not down, f"missing {missing}; beyond {beyond}; not up {down}")
    return True


def _wanted(cluster):
    """The labels that each target has under Linkerd's own Prometheus."""
    found = set()
    for namespace in (CONTROL, SHOP):
        for pod in cluster.objects("pods", namespace):
            metadata, containers = pod["metadata"], pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
            names = {container["name"] for container in containers}
            own, labels = ("namespace", namespace), metadata["labels"]
            component = labels.get("linkerd.io/control-plane-component")
            if "linkerd-proxy" in names:
                deployment = labels["linkerd.io/proxy-deployment"]
                must(metadata["name"].startswith(f"{deployment}-"), labels)
                of = {"deployment": deployment, "control_plane_ns": CONTROL, "workload_ns": namespace,
                      "pod_template_hash": labels["pod-template-hash"]}
                if component:
                    of["control_plane_component"] = component
                if "app" in labels:
                    of["app"] = labels["app"]
                found.add(frozenset([("job", "linkerd-proxy"), own, ("pod", metadata["name"]), *of.items()]))
            if component:
                found.add(frozenset([("job", "linkerd-controller"), own, ("pod", metadata["name"]), ("component", component)]))
    return found


@needs("prometheus", "promtool")
def both_sources_of_statistics_say_the_same(cluster):
    # One replica: a balancer's choices are not the same in each round.
    cluster.kubectl("scale", "deployment/web", "-n", SHOP, "--replicas=1")
    within(60, "one pod is left", lambda: len(cluster.objects("pods", SHOP, "app=web")) == 1)
    _traffic(cluster, rounds=10)
    warmed = time.monotonic()
    time.sleep(pause(SAMPLES))
    began = time.monotonic()
    _traffic(cluster, rounds=1)
    times = warmed, began, time.monotonic()
    said, sampled = agreed(SAMPLES, *times, QUESTIONS, lambda question, window: _answers(cluster, question, window))
    count = GOOD + MISSING
    (web,) = [row for row in said["services"] if row["name"] == "web"]
    wanted = {"rps": count / sampled, "success": 1.0, "secured": 1.0}
    must(not difference({name: web[name] for name in wanted}, wanted), f"{web}, of {wanted}")
    edge = [row["http"]["rps"] for row in said["edges"] if (row["src"]["name"], row["dst"]["name"]) == ("client", "web")]
    must(not difference(edge, [count / sampled]), f"{edge}, of {count / sampled}")
    # What is asked all the time, by a kubelet, is cut by each elsewhere.
    within(30, "the same of workloads", lambda: _is_nearly_the_same(*_answers(cluster, ["stat", "deploy"], "30s")))
    cluster.kubectl("scale", "deployment/web", "-n", SHOP, "--replicas=3")
    cluster.rolled_out(SHOP, "web")


def _traffic(cluster, rounds):
    get = "curl -s -o /dev/null -m 10 'http://web{}?[1-{}]'"
    echo = f"for i in $(seq {ECHOES * rounds}); do echo hello | nc -w 2 web 9000; done"
    commands = [get.format("/", GOOD * rounds), get.format("/missing", MISSING * rounds), echo]
    cluster.shell(SHOP, "client", "; ".join(commands), secs=120)


def _answers(cluster, question, window):
    """Of linkerd-viz, which scrapes for itself, and of those that ask the Prometheus."""
    prometheus = cluster.prometheus
    sources = [[], ["--api-addr", prometheus.console]]
    if question[0] == "stat-outbound":
        sources.append(["--prometheusURL", prometheus.url])
    ask = lambda source: json.loads(cluster.weft(*question, "-n", SHOP, "-t", window, "-o", "json", *source))
    # linkerd-viz, which scrapes, is a client all the time.
    is_of_the_shop = lambda row: row.get("src", {}).get("namespace") != CONTROL
    return [list(filter(is_of_the_shop, ask(source))) for source in sources]


def _is_nearly_the_same(one, other):
    """The same workloads with the same proxies, and as many requests but for two in twenty seconds."""
    names = [[(row["name"], row["meshed"]) for row in rows] for rows in (one, other)]
    rates = [[row["rps"] or 0.0 for row in rows] for rows in (one, other)]
    is_close = all(abs(a - b) <= 2 / 20 + 0.01 * a for a, b in zip(*rates))
    must(names[0] == names[1] and is_close, f"{one}, {other}")
    return True


@needs("prometheus", "promtool")
def dashboards_show_all_that_there_is(cluster):
    prometheus = cluster.prometheus
    _unusual_traffic(cluster)
    pods = {app: cluster.pods(SHOP, app)[0]["metadata"]["name"] for app in ("web", "client")}
    # Chosen in turn, as a person would who looks for something.
    choices = [{"namespace": SHOP, "kind": "deployment", "workload": app, "pod": pod, "service": service,
                "authority": f"{service}.{SHOP}.svc.cluster.local:80"}
               for app, pod in pods.items() for service in ("web", "nobody")]
    queries = list(_queries())
    must(len(queries) > 100, f"{len(queries)} queries")

    def look():
        # A look may take as long as the time that a rate is of.
        _unusual_calls(cluster)
        empty = [f"{place}: {text}" for place, text in queries if not _shows(prometheus, text, choices)]
        must(not empty, "\n".join(empty))
        return True

    within(60, "every query gives something", look)
    _variables_offer_what_there_is(prometheus, choices[0])


def _unusual_traffic(cluster):
    """Refusals, twice: a rate wants two samples."""
    cluster.apply(manifests.opaque_server(SHOP) + "---\n" + manifests.service_of_nobody(SHOP))
    for _ in range(2):
        _unusual_calls(cluster)
        time.sleep(11)


def _unusual_calls(cluster):
    curl = "curl -s -o /dev/null -m 10"
    # What this server does not know it answers with 501.
    commands = [f"{curl} http://web/", f"{curl} -X DELETE http://web/", "echo hello | nc -w 2 web 9000",
                f"{curl} http://nobody/"]
    cluster.shell(SHOP, "client", "; ".join([*commands, "true"]))
    cluster.shell(SHOP, "other", f"{commands[0]}; true")


def _queries():
    for path in sorted(glob.glob(os.path.join(DEPLOY, "grafana", "*.json"))):
        with open(path, encoding="utf-8") as file:
            dashboard = json.load(file)
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{os.path.basename(path)}: {panel['title']}", target["expr"]


def _shows(prometheus, text, choices):
    """Whether a query gives a number for one of the choices, or there is nothing that it could show."""
    if any(re.search(rf"\b{family}", text) for family in NOTHING):
        return True
    filled = {_filled(text, choice) for choice in choices}
    return any(not math.isnan(value) for query in filled for _, value in prometheus.ask(query))


def _filled(text, choice):
    for name, value in choice.items():
        text = re.sub(rf"\${name}\b", value, text)
    return text.replace("$__rate_interval", "1m")


def _variables_offer_what_there_is(prometheus, choice):
    for path in sorted(glob.glob(os.path.join(DEPLOY, "grafana", "*.json"))):
        with open(path, encoding="utf-8") as file:
            variables = [each for each in json.load(file)["templating"]["list"] if each["type"] == "query"]
        for variable in variables:
            asked = re.fullmatch(r"label_values\((.+), (\S+)\)", _filled(variable["query"]["query"], choice))
            offered = prometheus.get(f"/api/v1/label/{asked[2]}/values", **{"match[]": asked[1]})
            wanted = choice[variable["name"]]
            must(wanted in offered, f"{os.path.basename(path)}: {variable['name']} offers {offered}, not {wanted}")
