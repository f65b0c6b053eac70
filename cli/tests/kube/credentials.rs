//! Whom a kubeconfig makes of a client, and what of one is refused.

use std::path::PathBuf;

use mesh_core::resource::Kind;
use runtime_real::kube::{ApiClient, KubeOptions};

use super::front::Front;
use super::watching::{QUICK, Watching, cluster};

/// The front's kubeconfig with a part replaced.
fn changed(front: &Front, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(front.kubeconfig()).expect("a file");
    assert!(text.contains(from), "{text}");
    let path = front.kubeconfig().with_file_name("changed");
    std::fs::write(&path, text.replace(from, to)).expect("to write");
    path
}

async fn refusal(kubeconfig: PathBuf, context: Option<&str>) -> String {
    let context = context.map(str::to_owned);
    let options = KubeOptions { kubeconfig: Some(kubeconfig), context, ..KubeOptions::default() };
    ApiClient::open(&options).await.expect_err("refused").to_string()
}

const TOKEN: &str = "user: {token: let-me-in}";

fn plugin(status: &str) -> String {
    let credential = format!(
        "{{\\\"apiVersion\\\": \\\"client.authentication.k8s.io/v1\\\", \\\"kind\\\": \
         \\\"ExecCredential\\\", \\\"status\\\": {status}}}"
    );
    format!(
        "user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: echo, args: \
         [\"{credential}\"], interactiveMode: Never}}}}"
    )
}

#[tokio::test]
async fn a_token_may_come_from_a_file_or_a_plugin() {
    let front = Front::start().await;
    let file = front.kubeconfig().with_file_name("token");
    std::fs::write(&file, "let-me-in").expect("to write");
    let of_file = format!("user: {{tokenFile: {}}}", file.display());
    let of_plugin = plugin("{\\\"token\\\": \\\"let-me-in\\\"}");
    for user in [of_file, of_plugin] {
        let kubeconfig = changed(&front, TOKEN, &user);
        let mut watching = Watching::of(&cluster(&kubeconfig, QUICK).await, Kind::Service);
        assert_eq!(watching.take(2).await, ["init", "done"], "{user}");
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_and_said() {
    let front = Front::start().await;
    let unsafe_tls =
        changed(&front, "    certificate-authority:", "    insecure-skip-tls-verify: true\n    x:");
    let told = refusal(unsafe_tls, None).await;
    assert!(told.contains("insecure-skip-tls-verify is not supported"), "{told}");
    let certificate =
        "{\\\"clientCertificateData\\\": \\\"x\\\", \\\"clientKeyData\\\": \\\"y\\\"}";
    let told = refusal(changed(&front, TOKEN, &plugin(certificate)), None).await;
    assert!(told.contains("a credential plugin that gives client certificates"), "{told}");
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_told_of() {
    let front = Front::start().await;
    let told = refusal(front.kubeconfig(), Some("elsewhere")).await;
    assert!(told.contains("elsewhere"), "{told}");
    let told = refusal(front.kubeconfig().with_file_name("nothing"), None).await;
    assert!(told.starts_with("no Kubernetes credentials: "), "{told}");
    assert!(told.contains("nothing"), "{told}");
}
