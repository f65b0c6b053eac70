//! Draws policies: who may come in, how long requests may take, and where they go. They allow every
//! honest workload all that it does, and nothing to a stranger.

use serde_json::{Value, json};

use super::{Draw, Plan};

impl Draw {
    /// Adds to some programs a Server, an authorization and a stranger, a route, or a time limit.
    pub(super) fn add_policies(&mut self, protocols: &[(&str, &str)], plan: &mut Plan) {
        let mut programs: Vec<_> = protocols.iter().map(|(_, program)| *program).collect();
        programs.sort_unstable();
        programs.dedup();
        for program in programs {
            let meshed = plan.apps[program]["meshed"] != false;
            if meshed && self.chance(2) {
                let (protocol, _) = protocols.iter().find(|(_, p)| *p == program).expect("its own");
                self.add_server(protocol, program, plan);
            }
            if program == "http" {
                match self.below(4) {
                    0 => self.add_route(plan),
                    1 => {
                        let limit = format!("{}ms", 4_000 + self.below(4_000));
                        plan.apps[program]["service_annotations"] =
                            json!({"timeout.linkerd.io/request": limit});
                    }
                    _ => {}
                }
            }
        }
    }

    /// Clients may come in, and nobody else.
    fn add_server(&mut self, protocol: &str, program: &str, plan: &mut Plan) {
        let named = |kind: &str, version: &str, name: &str, spec: Value| {
            let metadata = json!({"name": name, "namespace": "default"});
            let version = format!("policy.linkerd.io/{version}");
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
        };
        let server = json!({"podSelector": {"matchLabels": {"app": program}}, "port": 8080});
        let authentication = format!("{program}-clients");
        let refs = |kind: &str, name: &str| json!({"group": "policy.linkerd.io", "kind": kind, "name": name});
        let policy = json!({
            "targetRef": refs("Server", program),
            "requiredAuthenticationRefs": [refs("MeshTLSAuthentication", &authentication)],
        });
        let clients = json!({"identityRefs": [{"kind": "ServiceAccount", "name": "client"}]});
        plan.objects.extend([
            named("Server", "v1beta3", program, server),
            named("AuthorizationPolicy", "v1alpha1", program, policy),
            named("MeshTLSAuthentication", "v1alpha1", &authentication, clients),
        ]);
        // What starts while the control plane is away would let everybody in otherwise.
        plan.apps[program]["annotations"] =
            json!({"config.linkerd.io/default-inbound-policy": "deny"});
        if self.chance(2) {
            return;
        }
        plan.apps["stranger"] = json!({"meshed": self.chance(2)});
        let name = format!("strange-{program}");
        plan.workloads.push(json!({
            "name": name,
            "from": "stranger",
            "to": format!("{program}.default.svc.cluster.local:80"),
            "protocol": protocol,
            "arrivals": {"constant": {"rate": (1 + self.below(8)) as f64}},
            // Who says nothing may yet begin TLS: it is refused when detection has waited for it.
            "timeout": "15s",
        }));
        plan.strangers.push(name);
    }

    /// A route that sends some of the requests to a second program, and gives them a time limit.
    fn add_route(&mut self, plan: &mut Plan) {
        let mut backends = vec![json!({"name": "http", "port": 80, "weight": 9})];
        // It would have to admit its clients as the first does.
        if plan.objects.is_empty() && self.chance(2) {
            let mut canary = self.server("http");
            // Its servers see who their client is as the others do.
            canary["meshed"] = json!(plan.apps["http"]["meshed"] != false);
            plan.apps["canary"] = canary;
            backends.push(json!({"name": "canary", "port": 80, "weight": 1 + self.below(9)}));
        }
        let mut rule = json!({"backendRefs": backends});
        if self.chance(2) {
            rule["timeouts"] = json!({"request": format!("{}ms", 4_000 + self.below(4_000))});
        }
        plan.objects.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "http", "namespace": "default"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "http", "port": 80}],
                "rules": [rule],
            },
        }));
    }

    /// Takes objects away and puts them back before all has healed, or puts another in their place for
    /// a while.
    pub(super) fn add_changes(&mut self, heal_by: u64, plan: &mut Plan) {
        for object in plan.objects.clone() {
            if !self.chance(3) {
                continue;
            }
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            let from = 4 + self.below(heal_by - 6);
            let to = from + 1 + self.below(heal_by - from - 1);
            let apply = |at: u64, object: &Value| {
                let manifest = object.to_string();
                json!({"at": format!("{at}s"), "do": {"apply": {"manifest": manifest}}})
            };
            let delete = json!({"object": kind, "name": name});
            let mut other = object.clone();
            let first = match kind.as_str() {
                Some("HTTPRoute") if self.chance(2) => {
                    other["spec"]["rules"][0]["backendRefs"] =
                        json!([{"name": "http", "port": 80}]);
                    apply(from, &other)
                }
                Some("Server") if self.chance(2) => {
                    // Of another port: this one is nobody's, and the pods' default holds.
                    other["spec"]["port"] = json!(9999);
                    apply(from, &other)
                }
                _ => json!({"at": format!("{from}s"), "do": {"delete": delete}}),
            };
            plan.changes.extend([first, apply(to, &object)]);
        }
        if plan.apps.get("http").is_some() && self.chance(6) {
            // A wrong target port, until somebody sees it.
            let from = 4 + self.below(heal_by - 6);
            let to = from + 1 + self.below(heal_by - from - 1);
            for (at, port) in [(from, 9999), (to, 8080)] {
                let service = json!({
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {
                        "name": "http",
                        "namespace": "default",
                        "annotations": plan.apps["http"]["service_annotations"],
                    },
                    "spec": {
                        "selector": {"app": "http"},
                        "ports": [{"name": "app", "port": 80, "targetPort": port}],
                    },
                });
                let manifest = service.to_string();
                let apply = json!({"apply": {"manifest": manifest}});
                plan.changes.push(json!({"at": format!("{at}s"), "do": apply}));
            }
        }
    }
}
