//! An event of a tap as a line, as `linkerd viz tap` writes it.

use serde_json::Value;

/// Kinds by their long names, as labels are called, with the short names that lines have.
const KINDS: [(&str, &str, &[&str]); 10] = [
    ("namespace", "ns", &["ns", "namespace", "namespaces"]),
    ("deployment", "deploy", &["deploy", "deployment", "deployments"]),
    ("statefulset", "sts", &["sts", "statefulset", "statefulsets"]),
    ("daemonset", "ds", &["ds", "daemonset", "daemonsets"]),
    ("replicaset", "rs", &["rs", "replicaset", "replicasets"]),
    ("replicationcontroller", "rc", &["rc", "replicationcontroller", "replicationcontrollers"]),
    ("job", "job", &["job", "jobs"]),
    ("cronjob", "cj", &["cj", "cronjob", "cronjobs"]),
    ("pod", "po", &["po", "pod", "pods"]),
    ("service", "svc", &["svc", "service", "services"]),
];

/// The label that tells a resource of the kind of `deploy/web`.
pub(super) fn kind_of(resource: &str) -> &'static str {
    let kind = resource.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let found = KINDS.iter().find(|(.., names)| names.contains(&kind.as_str()));
    found.map_or("pod", |(label, ..)| *label)
}

/// One line. `kind`: with the resources of this kind at both ends.
pub(super) fn line(event: &Value, kind: Option<&str>) -> String {
    let (proxy, tls) = match event["proxyDirection"].as_str() {
        // A space is behind it, so that it is as wide as `out`.
        Some("INBOUND") => ("in ", label(&event["source"], "tls")),
        Some("OUTBOUND") => ("out", label(&event["destination"], "tls")),
        _ => ("???", ""),
    };
    let (src, dst) = (address(&event["source"]), address(&event["destination"]));
    let flow = format!("proxy={proxy} src={src} dst={dst} tls={tls}");
    let resources = match kind {
        None => String::new(),
        Some(kind) => {
            resource("src", &event["source"], kind)
                + &resource("dst", &event["destination"], kind)
                + &route(&event["routeMeta"])
        }
    };
    if let Some(init) = object(&event["requestInitEvent"]) {
        let text = |name: &str| init[name].as_str().unwrap_or_default();
        format!(
            "req id={} {flow} :method={} :authority={} :path={}{resources}",
            id(init),
            text("method"),
            text("authority"),
            text("path"),
        )
    } else if let Some(init) = object(&event["responseInitEvent"]) {
        format!(
            "rsp id={} {flow} :status={} latency={}µs{resources}",
            id(init),
            init["httpStatus"],
            micros(&init["sinceRequestInit"]),
        )
    } else if let Some(end) = object(&event["responseEndEvent"]) {
        let how = match (end["grpcStatusCode"].as_u64(), end["resetErrorCode"].as_u64()) {
            (Some(code), _) => format!(" grpc-status={}", grpc(code)),
            (None, Some(code)) => format!(" reset-error={code}"),
            (None, None) => String::new(),
        };
        format!(
            "end id={} {flow}{how} duration={}µs response-length={}B{resources}",
            id(end),
            micros(&end["sinceResponseInit"]),
            end["responseBytes"],
        )
    } else {
        format!("unknown {flow}")
    }
}

fn object(value: &Value) -> Option<&Value> {
    value.is_object().then_some(value)
}

fn label<'a>(end: &'a Value, name: &str) -> &'a str {
    end["metadata"][name].as_str().unwrap_or_default()
}

fn address(end: &Value) -> String {
    let ip = end["ip"].as_str().unwrap_or_default();
    match ip.contains(':') {
        true => format!("[{ip}]:{}", end["port"]),
        false => format!("{ip}:{}", end["port"].as_u64().unwrap_or_default()),
    }
}

fn id(event: &Value) -> String {
    format!("{}:{}", event["id"]["base"], event["id"]["stream"])
}

fn micros(time: &Value) -> u64 {
    let part = |name: &str| time[name].as_u64().unwrap_or_default();
    part("seconds") * 1_000_000 + part("nanos") / 1_000
}

fn resource(side: &str, end: &Value, kind: &str) -> String {
    let mut text = String::new();
    let name = label(end, kind);
    if !name.is_empty() {
        let short = KINDS.iter().find(|(label, ..)| *label == kind).map_or(kind, |(_, s, _)| s);
        text.push_str(&format!(" {side}_res={short}/{name}"));
    }
    let namespace = label(end, "namespace");
    if !namespace.is_empty() {
        text.push_str(&format!(" {side}_ns={namespace}"));
    }
    text
}

fn route(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    labels
        .map(|(name, value)| format!(" rt_{name}={}", value.as_str().unwrap_or_default()))
        .collect()
}

/// A status of gRPC by the name that Go has for it.
fn grpc(code: u64) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(direction: &str, name: &str, what: Value) -> Value {
        let mut event = json!({
            "source": {"ip": "10.0.0.1", "port": 5000, "metadata": {
                "tls": "true", "deployment": "web", "namespace": "shop"}},
            "destination": {"ip": "fd00::2", "port": 8080, "metadata": {
                "tls": "not_provided_by_service_discovery", "namespace": "shop"}},
            "routeMeta": {"route": "list"},
            "proxyDirection": direction,
        });
        event[name] = what;
        event
    }

    fn all() -> Vec<Value> {
        let id = json!({"base": 1, "stream": 7});
        let end = |name: &str, code: u64| {
            let mut end = json!({
                "id": id, "sinceRequestInit": {"seconds": 2},
                "sinceResponseInit": {"seconds": 1, "nanos": 5_000}, "responseBytes": 12});
            if !name.is_empty() {
                end[name] = code.into();
            }
            event("INBOUND", "responseEndEvent", end)
        };
        vec![
            event(
                "OUTBOUND",
                "requestInitEvent",
                json!({
                "id": id, "method": "GET", "scheme": "", "authority": "api", "path": "/list"}),
            ),
            event(
                "INBOUND",
                "responseInitEvent",
                json!({
                "id": id, "sinceRequestInit": {"nanos": 123_456}, "httpStatus": 200}),
            ),
            end("", 0),
            end("grpcStatusCode", 0),
            end("grpcStatusCode", 14),
            end("grpcStatusCode", 99),
            end("resetErrorCode", 8),
        ]
    }

    #[test]
    fn lines_are_linkerds() {
        let lines: Vec<_> = all().iter().map(|event| line(event, None)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        req id=1:7 proxy=out src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=not_provided_by_service_discovery :method=GET :authority=api :path=/list
        rsp id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true :status=200 latency=123µs
        end id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true duration=1000005µs response-length=12B
        end id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true grpc-status=OK duration=1000005µs response-length=12B
        end id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true grpc-status=Unavailable duration=1000005µs response-length=12B
        end id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true grpc-status=Code(99) duration=1000005µs response-length=12B
        end id=1:7 proxy=in  src=10.0.0.1:5000 dst=[fd00::2]:8080 tls=true reset-error=8 duration=1000005µs response-length=12B
        ");
    }

    #[test]
    fn wide_lines_say_resources_namespaces_and_routes() {
        let wide = line(&all()[0], Some(kind_of("deploy/web")));
        let added = wide.strip_prefix(&line(&all()[0], None)).unwrap();
        assert_eq!(added, " src_res=deploy/web src_ns=shop dst_ns=shop rt_route=list");
    }

    #[test]
    fn kinds_are_known_by_each_of_their_names() {
        assert_eq!(kind_of("Deployments/web"), "deployment");
        assert_eq!(kind_of("po"), "pod");
    }
}
