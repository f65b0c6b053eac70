//! Checks over made-up clusters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::control::ca::Validity;
use mesh_core::control::keys::InstallationKeys;
use mesh_core::manifest::{Values, install};
use mesh_core::model::identity::DnsName;
use mesh_core::runtime::Runtime;
use mesh_core::time::WallTime;
use serde_json::{Value, json};

use super::facts::{CREATED, crd, crd_names};
use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn question(stage: Stage) -> Question {
    Question {
        namespace: "linkerd".into(),
        stage,
        proxies: stage == Stage::After,
        workloads: None,
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// What happens in a test: it has the doors of a runtime.
fn with_runtime<T>(test: impl FnOnce(&Runtime) -> T) -> T {
    let tokio = runtime_real::current_thread().unwrap();
    tokio.block_on(async { test(&runtime_real::runtime(Arc::new(NoCluster))) })
}

fn told(question: &Question, facts: &Facts, runtime: &Runtime, time: WallTime) -> Vec<Category> {
    judge::judge(question, facts, &Now { time, crypto: &*runtime.crypto })
}

fn installed(runtime: &Runtime) -> Values {
    let keys = InstallationKeys::make(runtime, "cluster.local").unwrap();
    let mut values = Values { identity_trust_anchors_pem: keys.anchors_pem, ..Values::default() };
    values.identity.issuer.tls.certificate_pem = keys.issuer_pem;
    values.identity.issuer.tls.key_pem = keys.key_pem;
    values
}

/// Where an API server has an object that an installation made.
fn path_of(question: &Question, document: &Value) -> Option<String> {
    let (_, kind, _, name) = install::object_of(document);
    let plural = format!("{}s", kind.to_lowercase());
    let paths = question.paths();
    let suffix = format!("/{plural}/{name}");
    paths.into_iter().find(|path| path.ends_with(&suffix))
}

/// A cluster in which an installation runs.
fn running(question: &Question, runtime: &Runtime) -> Facts {
    let values = installed(runtime);
    let mut facts = Facts::default();
    for path in question.paths() {
        facts.found.insert(path, Found::Absent);
    }
    let version = json!({"major": "1", "minor": "33+", "gitVersion": "v1.33.1"});
    facts.found.insert(facts::VERSION.into(), Found::Object(version));
    let documents = install::install(&values);
    for document in documents.iter().chain(&install::crds(&values)) {
        if let Some(path) = path_of(question, document) {
            facts.found.insert(path, Found::Object(document.clone()));
        }
    }
    facts.found.insert(question.namespace_path(), Found::Object(documents[0].clone()));
    let deployments = documents.iter().filter(|d| d["kind"] == "Deployment");
    let mut pods = Vec::new();
    let ready: Vec<_> = deployments
        .map(|deployment| {
            let mut deployment = deployment.clone();
            deployment["status"] = json!({"readyReplicas": 1});
            let mut pod = deployment["spec"]["template"].clone();
            pod["metadata"]["name"] = deployment["metadata"]["name"].clone();
            pod["metadata"]["namespace"] = "linkerd".into();
            pod["status"] = json!({"phase": "Running", "podIP": "10.1.0.1", "containerStatuses": [
                {"name": "linkerd-proxy", "ready": true}, {"name": "own", "ready": true},
            ]});
            pods.push(pod);
            deployment
        })
        .collect();
    facts.found.insert(question.deployments(), Found::Object(json!({"items": ready})));
    facts.found.insert(question.pods(), Found::Object(json!({"items": pods})));
    certify_webhooks(question, &mut facts, runtime);
    facts
}

/// The webhooks' secrets and bundles, as the control plane makes them.
fn certify_webhooks(question: &Question, facts: &mut Facts, runtime: &Runtime) {
    let keys = InstallationKeys::make(runtime, "webhooks").unwrap();
    let names = facts::WEBHOOKS.map(|webhook| format!("{}.linkerd.svc", webhook.service));
    let names = names.map(|name| DnsName::new(&name).unwrap());
    let key = runtime.crypto.generate_key().unwrap();
    let validity = Validity::new(runtime.clock.wall(), 48 * HOUR, HOUR);
    let authority = keys.check(runtime).unwrap();
    let leaf = authority.issue(&*runtime.entropy, key.public_key(), &names, validity).unwrap();
    let leaf = STANDARD.encode(leaf.leaf_der);
    let leaf = format!("-----BEGIN CERTIFICATE-----\n{leaf}\n-----END CERTIFICATE-----\n");
    let (chain, anchors) = (leaf + &keys.issuer_pem, keys.anchors_pem);
    for webhook in &facts::WEBHOOKS {
        let secret = json!({"data": {"tls.crt": STANDARD.encode(&chain)}});
        facts.found.insert(question.secret(webhook.secret), Found::Object(secret));
        let Some(Found::Object(configuration)) = facts.found.get_mut(&webhook.path()) else {
            panic!("{} is not installed", webhook.configuration);
        };
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = STANDARD.encode(&anchors).into();
    }
}

#[test]
fn a_running_control_plane_is_fine() {
    with_runtime(|runtime| {
        let question = Question { proxies: false, ..question(Stage::After) };
        let facts = running(&question, runtime);
        let categories = told(&question, &facts, runtime, runtime.clock.wall());
        insta::assert_snapshot!(report::table(&categories, false), @r#"
        kubernetes-api
        --------------
        √ can initialize the client
        √ can query the Kubernetes API

        kubernetes-version
        ------------------
        √ is running the minimum Kubernetes API version

        linkerd-crd
        -----------
        √ control plane CustomResourceDefinitions exist

        linkerd-existence
        -----------------
        √ 'linkerd-config' config map exists
        √ control plane replica sets are ready
        √ no unschedulable pods
        √ control plane pods are ready
        √ cluster networks contains all node podCIDRs
        √ cluster networks contains all pods

        linkerd-config
        --------------
        √ control plane Namespace exists
        √ control plane ClusterRoles exist
        √ control plane ClusterRoleBindings exist
        √ control plane ServiceAccounts exist
        √ control plane MutatingWebhookConfigurations exist
        √ control plane ValidatingWebhookConfigurations exist

        linkerd-identity
        ----------------
        √ certificate config is valid
        √ trust anchors are using supported crypto algorithm
        √ trust anchors are within their validity period
        √ trust anchors are valid for at least 60 days
        √ issuer cert is using supported crypto algorithm
        √ issuer cert is within its validity period
        √ issuer cert is valid for at least 60 days
        √ issuer cert is issued by the trust anchor

        linkerd-webhooks-and-apisvc-tls
        -------------------------------
        √ proxy-injector webhook has valid cert
        √ proxy-injector cert is valid for at least a day
        √ sp-validator webhook has valid cert
        √ sp-validator cert is valid for at least a day
        √ policy-validator webhook has valid cert
        √ policy-validator cert is valid for at least a day

        control-plane-version
        ---------------------
        √ can retrieve the control plane version
        √ control plane and cli versions match

        linkerd-control-plane-proxy
        ---------------------------
        √ control plane proxies are healthy
        √ control plane proxies and cli versions match

        Status check results are √
        "#);
    });
}

#[test]
fn nothing_else_is_told_of_a_cluster_that_cannot_be_reached() {
    with_runtime(|runtime| {
        let question = question(Stage::After);
        let no_client = Some("no kubeconfig".to_string());
        let facts = Facts { no_client, ..Facts::default() };
        let categories = told(&question, &facts, runtime, runtime.clock.wall());
        insta::assert_snapshot!(report::table(&categories, false), @r#"
        kubernetes-api
        --------------
        × can initialize the client
            no kubeconfig
            to do: give a kubeconfig with --kubeconfig or $KUBECONFIG, and a context of it with --context

        Status check results are ×
        "#);
        assert!(!report::may_pass(&categories));
    });
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    with_runtime(|runtime| {
        let question = question(Stage::After);
        let mut facts = running(&question, runtime);
        let version = json!({"major": "1", "minor": "20", "gitVersion": "v1.20.2"});
        facts.found.insert(facts::VERSION.into(), Found::Object(version));
        let definition = crd(&crd_names()[0]);
        facts.found.insert(definition, Found::Absent);
        let other = installed(runtime);
        let roots = json!({"data": {"ca-bundle.crt": other.identity_trust_anchors_pem}});
        facts.found.insert(question.trust_roots(), Found::Object(roots));
        facts.found.insert(question.deployments(), Found::Object(json!({"items": []})));
        facts.found.insert(question.pods(), Found::Unknown("forbidden".into()));
        let configuration = facts::WEBHOOKS[0].path();
        facts.found.insert(configuration, Found::Object(json!({"webhooks": [{}]})));
        let pods = json!({"items": [{
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"},
                "annotations": {
                    "linkerd.io/proxy-version": "0.0.1", "linkerd.io/trust-root-sha256": "other",
                    "config.linkerd.io/opaque-ports": "5432", "config.linkerd.io/proxy-uidd": "1",
                }},
            "status": {"phase": "Running",
                "initContainerStatuses": [{"name": "linkerd-proxy", "ready": false}]},
        }]});
        facts.found.insert(question.meshed_pods(), Found::Object(pods));
        let services = json!({"items": [{
            "metadata": {"name": "web", "namespace": "shop",
                "annotations": {"config.linkerd.io/opaque-ports": "80,90-95"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }]});
        facts.found.insert(question.services(), Found::Object(services));
        let categories = told(&question, &facts, runtime, runtime.clock.wall());
        insta::assert_snapshot!(report::table(&categories, true), @r#"
        kubernetes-version
        ------------------
        ‼ is running the minimum Kubernetes API version
            Kubernetes is v1.20.2, older than 1.21
            to do: upgrade Kubernetes; until then, EndpointSlices have to be served as discovery.k8s.io/v1, and values have to leave out what it lacks: proxy.nativeSidecar=false, enablePodDisruptionBudget=false

        linkerd-crd
        -----------
        × control plane CustomResourceDefinitions exist
            missing: servers.policy.linkerd.io
            to do: weft install --crds | kubectl apply -f -

        linkerd-existence
        -----------------
        × control plane replica sets are ready
            there is no Deployment linkerd-identity
            there is no Deployment linkerd-destination
            there is no Deployment linkerd-proxy-injector
            to do: kubectl -n linkerd describe pods, and their logs
        × no unschedulable pods
            /api/v1/namespaces/linkerd/pods: forbidden
            to do: see that the credentials may read it
        × control plane pods are ready
            /api/v1/namespaces/linkerd/pods: forbidden
            to do: see that the credentials may read it
        × cluster networks contains all pods
            /api/v1/namespaces/linkerd/pods: forbidden
            to do: see that the credentials may read it

        linkerd-identity
        ----------------
        × issuer cert is issued by the trust anchor
            CN=identity.linkerd.cluster.local is signed by none of the trust anchors
            to do: add the anchor that signed it to ConfigMap linkerd-identity-trust-roots, or give an issuer of the anchors there: `weft upgrade --identity-trust-anchors-file …`

        linkerd-webhooks-and-apisvc-tls
        -------------------------------
        × proxy-injector webhook has valid cert
            linkerd-proxy-injector-webhook-config has no caBundle: nobody is trusted
            to do: the control plane makes it when it starts: see the log of its pods

        linkerd-control-plane-proxy
        ---------------------------
        × control plane proxies are healthy
            /api/v1/namespaces/linkerd/pods: forbidden
            to do: see that the credentials may read it

        linkerd-identity-data-plane
        ---------------------------
        ‼ data plane proxies certificate match CA
            sidecars that began with other trust anchors: shop/web-1
            to do: restart these pods: kubectl rollout restart

        linkerd-data-plane
        ------------------
        × data plane proxies are ready
            shop/web-1: its linkerd-proxy is not ready
            to do: see the log of these containers: kubectl logs POD -c linkerd-proxy
        ‼ data plane and cli versions match
            sidecars of another version than 0.1.0: shop/web-1: 0.0.1
            to do: restart these pods once the control plane is upgraded: kubectl rollout restart
        ‼ data plane pod annotations mean something
            shop/web-1: annotation config.linkerd.io/proxy-uidd means nothing; did you mean config.linkerd.io/proxy-uid?
            to do: mend them where the pods come from

        linkerd-opaque-ports-definition
        -------------------------------
        ‼ opaque ports are properly annotated
            service shop/web has port 80 opaque, and pod shop/web-1 has not 8080
            to do: annotate the service and its pods with the same opaque ports

        Status check results are ×
        "#);
        assert!(!report::succeeded(&categories));
    });
}

#[test]
fn certificates_that_end_are_told() {
    with_runtime(|runtime| {
        let question = Question { proxies: false, ..question(Stage::After) };
        let facts = running(&question, runtime);
        let days = |days: u32| runtime.clock.wall() + 24 * days * HOUR;
        let identity = |time| {
            let categories = told(&question, &facts, runtime, time);
            let mut categories = categories.into_iter();
            let identity = categories.find(|category| category.name == "linkerd-identity").unwrap();
            let faults = identity.checks.into_iter().filter(|check| check.fault.is_some());
            faults.map(|check| check.description).collect::<Vec<_>>()
        };
        assert_eq!(identity(days(0)), [""; 0]);
        assert_eq!(
            identity(days(330)),
            [
                "trust anchors are valid for at least 60 days",
                "issuer cert is valid for at least 60 days"
            ]
        );
        assert_eq!(
            identity(days(370)),
            [
                "trust anchors are within their validity period",
                "issuer cert is within its validity period"
            ]
        );
    });
}

#[test]
fn before_an_installation_rights_are_checked() {
    with_runtime(|runtime| {
        let question = question(Stage::Before);
        let mut facts = Facts::default();
        let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1"});
        facts.found.insert(facts::VERSION.into(), Found::Object(version));
        for path in question.paths() {
            facts.found.entry(path).or_insert(Found::Absent);
        }
        for (name, _) in question.reviews() {
            let allowed = name != "create secrets";
            let review = json!({"status": {"allowed": allowed}});
            facts.allowed.insert(name, Found::Object(review));
        }
        assert_eq!(facts.allowed.len(), CREATED.len());
        let categories = told(&question, &facts, runtime, runtime.clock.wall());
        insta::assert_snapshot!(report::table(&categories, false), @r#"
        kubernetes-api
        --------------
        √ can initialize the client
        √ can query the Kubernetes API

        kubernetes-version
        ------------------
        √ is running the minimum Kubernetes API version

        gateway-api-crd
        ---------------
        ‼ httproutes.gateway.networking.k8s.io exists
            there is no httproutes.gateway.networking.k8s.io
            to do: routes of Gateway API need it: apply the standard channel of https://github.com/kubernetes-sigs/gateway-api/releases
        ‼ grpcroutes.gateway.networking.k8s.io exists
            there is no grpcroutes.gateway.networking.k8s.io
            to do: routes of Gateway API need it: apply the standard channel of https://github.com/kubernetes-sigs/gateway-api/releases

        pre-kubernetes-setup
        --------------------
        √ control plane namespace does not already exist
        √ can create namespaces
        √ can create customresourcedefinitions
        √ can create clusterroles
        √ can create clusterrolebindings
        √ can create mutatingwebhookconfigurations
        √ can create validatingwebhookconfigurations
        √ can create serviceaccounts
        √ can create services
        √ can create deployments
        √ can create configmaps
        × can create secrets
            not allowed to create secrets
            to do: install with credentials that may, such as of the group system:masters or with the ClusterRole cluster-admin
        √ can create roles
        √ no clock skew detected

        Status check results are ×
        "#);
    });
}

#[test]
fn the_json_is_linkerds() {
    let mut category = Category::new("linkerd-config");
    category.check("one", Ok(()));
    category.check("two", Err(report::Fault::warning("it is so", "")));
    category.check("three", Err(report::Fault::error("it is not", "make it so")));
    insta::assert_snapshot!(format!("{:#}", report::json(&[category])), @r#"
    {
      "categories": [
        {
          "categoryName": "linkerd-config",
          "checks": [
            {
              "description": "one",
              "result": "success"
            },
            {
              "description": "two",
              "error": "it is so",
              "result": "warning"
            },
            {
              "description": "three",
              "error": "it is not",
              "hint": "make it so",
              "result": "error"
            }
          ]
        }
      ],
      "success": false
    }
    "#);
}

#[test]
fn opaque_ports_are_compared_through_the_names_of_ports() {
    with_runtime(|runtime| {
        let question = question(Stage::After);
        let mut facts = running(&question, runtime);
        let pod = |opaque: &str| {
            json!({
                "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"},
                    "annotations": {"config.linkerd.io/opaque-ports": opaque}},
                "spec": {"containers": [{"ports": [{"name": "tls", "containerPort": 8443}]}]},
                "status": {"phase": "Running"},
            })
        };
        let services = json!({"items": [{
            "metadata": {"name": "web", "namespace": "shop",
                "annotations": {"config.linkerd.io/opaque-ports": "443"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 443, "targetPort": "tls"}]},
        }]});
        facts.found.insert(question.services(), Found::Object(services));
        for (opaque, is_fine) in [("8443", true), ("443", false)] {
            let pods = json!({"items": [pod(opaque)]});
            facts.found.insert(question.meshed_pods(), Found::Object(pods));
            let category = workloads::opaque_ports(&question, &facts);
            assert_eq!(category.checks[0].fault.is_none(), is_fine, "{opaque}");
        }
    });
}
