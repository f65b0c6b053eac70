"""What holds on a cluster, in order: each fact builds on those before it."""

import base64
import json
import re
import threading
import time

import manifests
import observing
from cluster import CONTROL, SHOP, must, within

DEPLOYMENTS = ("linkerd-identity", "linkerd-destination", "linkerd-proxy-injector", "linkerd-viz")
WEB_ID = f"web.{SHOP}.serviceaccount.identity.linkerd.cluster.local"
CLIENT_ID = f"client.{SHOP}.serviceaccount.identity.linkerd.cluster.local"


def settings(cluster):
    name, _, tag = cluster.options.image.rpartition(":")
    values = [f"proxy.image.name={name}", f"proxy.image.version={tag}", f"proxyInit.image.name={name}",
              f"proxyInit.image.version={tag}", f"controllerImage={name}", f"controllerImageVersion={tag}"]
    return [word for value in values + cluster.options.set for word in ("--set", value)]


def weft_is_installed_and_the_server_accepts_every_manifest(cluster):
    cluster.weft("check", "--pre")
    cluster.apply(cluster.weft("install", "--crds"))
    certificate, key = cluster.authority.issuer()
    rendered = cluster.weft(
        "install", "--identity-trust-anchors-file", cluster.authority.anchor,
        "--identity-issuer-certificate-file", certificate, "--identity-issuer-key-file", key, *settings(cluster))
    # A dry run makes no namespace, so the namespace comes first.
    namespace = next(text for text in rendered.split("\n---\n") if re.search(r"^kind: Namespace$", text, re.M))
    cluster.apply(namespace)
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=rendered)
    cluster.apply(rendered)
    cluster.rolled_out(CONTROL, *DEPLOYMENTS)


def check_is_green(cluster):
    within(90, "weft check succeeds", lambda: cluster.weft("check", "--wait", "60s", secs=150))
    found = json.loads(cluster.weft("check", "-o", "json", secs=150))
    must(found["success"], json.dumps(found, indent=1))


def the_control_plane_is_meshed_itself(cluster):
    for deployment in DEPLOYMENTS:
        component = deployment.removeprefix("linkerd-")
        pods = cluster.objects("pods", CONTROL, f"linkerd.io/control-plane-component={component}")
        must(pods, f"no pod of {deployment}")
        for pod in pods:
            names = [container["name"] for container in pod["spec"]["containers"]]
            must("linkerd-proxy" in names, f"{pod['metadata']['name']} has {names}")


def annotated_namespaces_pods_get_sidecars(cluster):
    cluster.apply(cluster.weft("inject", "-", stdin=manifests.namespace(SHOP)))
    cluster.apply(manifests.apps(SHOP, cluster.options))
    cluster.rolled_out(SHOP, "web", "client", "other")
    for app in ("web", "client", "other"):
        for pod in cluster.pods(SHOP, app):
            spec = pod["spec"]
            names = [container["name"] for container in spec["containers"] + spec.get("initContainers", [])]
            must("linkerd-proxy" in names and "linkerd-init" in names, f"{app} has {names}")
    within(20, "an event Injected on a Deployment",
           lambda: [e for e in cluster.events(SHOP) if e[0] == "Injected" and e[1] == "Deployment"])
    cluster.weft("check", "--proxy", "-n", SHOP, secs=150)


def inject_and_apply_is_what_the_quick_start_says(cluster):
    deployments = cluster.kubectl("get", "deploy", "-n", SHOP, "-o", "yaml")
    injected = cluster.weft("inject", "-", stdin=deployments)
    must("linkerd.io/inject: enabled" in injected, injected[:2000])
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=injected)
    back = cluster.weft("uninject", "-", stdin=injected)
    must("linkerd.io/inject: enabled" not in back, back[:2000])


def requests_are_answered_over_mutual_tls(cluster):
    get = "curl -fsS -m 10 http://web/ && curl -fsS -m 10 http://web/"
    within(30, "an answer", lambda: cluster.shell(SHOP, "client", get))
    sent = [line for line in cluster.metrics(SHOP, "client") if line.startswith("request_total{")]
    must(any('tls="true"' in line and f'server_id="{WEB_ID}"' in line for line in sent), "\n".join(sent))
    must(any('dst_deployment="web"' in line for line in sent), "\n".join(sent))
    received = [line for line in cluster.metrics(SHOP, "web") if line.startswith("request_total{")]
    must(any(f'client_id="{CLIENT_ID}"' in line for line in received), "\n".join(received))


def identities_come_from_token_reviews(cluster):
    within(20, "an event IssuedLeafCertificate",
           lambda: [e for e in cluster.events(CONTROL) if e[0] == "IssuedLeafCertificate"])
    shown = cluster.weft("identity", "-n", SHOP, "-l", "app=web")
    must(WEB_ID in shown, shown)


def bytes_that_are_not_http_are_carried(cluster):
    said = within(30, "an echo", lambda: cluster.shell(SHOP, "client", "echo hello | nc -w 5 web 9000"))
    must("hello" in said, said)


def a_rollout_loses_no_request(cluster):
    before = {pod["metadata"]["name"] for pod in cluster.pods(SHOP, "web")}
    loop = "i=0; bad=0; while [ $i -lt 200 ]; do curl -fsS -o /dev/null -m 5 http://web/ || bad=$((bad+1)); " \
           "i=$((i+1)); sleep 0.1; done; echo bad=$bad of $i"
    said = []
    thread = threading.Thread(target=lambda: said.append(cluster.shell(SHOP, "client", loop, secs=180)))
    thread.start()
    time.sleep(2)
    cluster.kubectl("rollout", "restart", "deployment/web", "-n", SHOP)
    cluster.rolled_out(SHOP, "web")
    thread.join()
    must(said and "bad=0 of 200" in said[0], f"{said}\n{cluster.story(SHOP)}")
    after = {pod["metadata"]["name"] for pod in cluster.pods(SHOP, "web")}
    must(not before & after, f"still there: {before & after}")
    shown = within(20, "the new pods' endpoints alone", lambda: endpoints_are(cluster, after))
    must(shown, "no endpoints")


def endpoints_are(cluster, names):
    shown = cluster.weft("diagnostics", "endpoints", f"web.{SHOP}.svc.cluster.local:80")
    found = {name for name in names if name in shown}
    lines = [line for line in shown.splitlines()[1:] if line.strip()]
    return shown if found == set(names) and len(lines) == len(names) else None


def a_client_that_no_policy_names_is_denied(cluster):
    cluster.apply(manifests.policy(SHOP, CLIENT_ID))
    code = "curl -s -o /dev/null -m 10 -w '%{http_code}' http://web/"
    within(30, "the other client is refused", lambda: cluster.shell(SHOP, "other", code).strip() == "403")
    must(cluster.shell(SHOP, "client", code).strip() == "200", "the client that is named is refused too")
    # Outside of the mesh: no identity.
    within(60, "a pod outside of the mesh is refused", lambda: cluster.shell(SHOP, "stranger", code).strip() == "403")
    denied = [line for line in cluster.metrics(SHOP, "web") if line.startswith("inbound_http_authz_deny_total{")]
    must(denied, "no denial is counted")


def a_wrong_policy_is_refused_where_its_author_looks(cluster):
    said = cluster.apply(manifests.wrong_server(SHOP), fails=True)
    must("web-port" in said or "port" in said, said)
    said = cluster.apply(manifests.wrong_network(SHOP), fails=True)
    must("10.0.0.0/40" in said, said)


def a_new_issuer_is_taken_without_a_restart(cluster):
    certificate, key = cluster.authority.issuer()
    secret = cluster.kubectl("get", "secret", "linkerd-identity-issuer", "-n", CONTROL, "-o", "json")
    names = sorted(json.loads(secret)["data"])
    (crt,), (pem,) = [n for n in names if n.endswith((".crt", "crt.pem")) and n != "ca.crt"], [n for n in names if "key" in n]
    data = {crt: encoded(certificate), pem: encoded(key)}
    cluster.kubectl("patch", "secret", "linkerd-identity-issuer", "-n", CONTROL, "-p", json.dumps({"data": data}))
    # The kubelet brings it to the pod within a minute or so.
    within(150, "an event IssuerUpdated", lambda: [e for e in cluster.events(CONTROL) if e[0] == "IssuerUpdated"])
    cluster.kubectl("rollout", "restart", "deployment/other", "-n", SHOP)
    cluster.rolled_out(SHOP, "other")
    ready = "curl -s -o /dev/null -m 10 -w '%{http_code}' http://web/ready"
    within(20, "certificates of both issuers trust each other", lambda: cluster.shell(SHOP, "other", ready).strip() == "200")
    cluster.weft("check", "--proxy", "-n", SHOP, secs=150)


def encoded(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


def weft_is_uninstalled_and_leaves_nothing(cluster):
    cluster.kubectl("delete", "namespace", SHOP, "--ignore-not-found", secs=180)
    cluster.kubectl("delete", "-f", "-", stdin=cluster.weft("uninstall", "--force"), secs=240)
    within(60, "the control plane's namespace is gone",
           lambda: CONTROL not in cluster.kubectl("get", "namespaces", "-o", "name").replace("namespace/", "").split())
    for kind in ("crds", "clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations",
                 "validatingwebhookconfigurations", "apiservices"):
        left = [name for name in cluster.kubectl("get", kind, "-o", "name").split() if "linkerd" in name or "weft" in name]
        must(not left, f"left: {left}")


ALL = [
    weft_is_installed_and_the_server_accepts_every_manifest,
    check_is_green,
    the_control_plane_is_meshed_itself,
    annotated_namespaces_pods_get_sidecars,
    inject_and_apply_is_what_the_quick_start_says,
    requests_are_answered_over_mutual_tls,
    identities_come_from_token_reviews,
    bytes_that_are_not_http_are_carried,
    observing.a_prometheus_finds_every_proxy_and_the_control_plane,
    observing.both_sources_of_statistics_say_the_same,
    a_rollout_loses_no_request,
    a_client_that_no_policy_names_is_denied,
    observing.dashboards_show_all_that_there_is,
    a_wrong_policy_is_refused_where_its_author_looks,
    a_new_issuer_is_taken_without_a_restart,
    weft_is_uninstalled_and_leaves_nothing,
]
FIRST, LAST = ALL[0], ALL[-1]
