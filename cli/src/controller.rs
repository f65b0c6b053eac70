//! `weft controller`: the control plane as a process, of a Kubernetes cluster or of a directory of
//! manifests.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::control::{
    ControlConfig, ControlError, Controller, IdentityConfig, LeaseConfig, ListenConfig, MeshConfig,
    MountedIdentity, Roles, VizConfig, WebhookConfig,
};
use mesh_core::runtime::Cluster;
use mesh_core::wire::drain;
use runtime_real::directory::DirectoryCluster;
use runtime_real::kube::{ApiClient, KubeCluster, KubeOptions};
use runtime_real::logging::{self, Format, Output};
use tokio::signal::unix::{SignalKind, signal};

use crate::{ControllerArgs, Failure, Role, viz};

/// Runs it until a signal; a second one ends the process at once.
pub(crate) async fn run(args: ControllerArgs) -> Result<(), Failure> {
    let config = config(&args)?;
    let format = Format::new(&args.log.log_format).map_err(Failure::misconfigured)?;
    logging::set_up(&args.log.log, format, Output::Stderr).map_err(Failure::misconfigured)?;

    let runtime = runtime_real::runtime(cluster(&args).await?);
    let (begin, watch) = drain::channel();
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    tokio::spawn(async move {
        for nth in 1.. {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 1 {
                tracing::warn!("second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!("signal: finishing what is in flight");
            begin.start();
        }
    });
    let serve = config.serve;
    let controller = Controller::bind(runtime, config).await.map_err(failure)?;
    tell_addresses(&controller.addresses(), serve);
    if let Some(address) = controller.viz_address() {
        tracing::info!("console at http://{address}/");
    }
    controller.serve(watch).await;
    Ok(())
}

fn tell_addresses(listen: &ListenConfig, serve: Roles) {
    let ListenConfig { destination, policy, identity, admin } = listen;
    match serve {
        Roles { destination: true, identity: true, .. } => {
            tracing::info!(%destination, %policy, %identity, %admin, "serving");
        }
        Roles { destination: true, .. } => {
            tracing::info!(%destination, %policy, %admin, "serving");
        }
        Roles { identity: true, .. } => tracing::info!(%identity, %admin, "serving"),
        _ => tracing::info!(%admin, "serving"),
    }
}

/// Where the objects come from.
async fn cluster(args: &ControllerArgs) -> Result<Arc<dyn Cluster>, Failure> {
    if let Some(manifests) = &args.source.manifests {
        let cluster = DirectoryCluster::open(manifests.clone()).await.map_err(|error| {
            let manifests = manifests.display();
            Failure::misconfigured(format!(
                "manifests {manifests}: {error}; give a directory that can be read"
            ))
        })?;
        return Ok(Arc::new(cluster));
    }
    let (kubeconfig, context) = (args.kubeconfig.clone(), args.context.clone());
    let client =
        ApiClient::open(&KubeOptions { kubeconfig, context, ..KubeOptions::default() }).await;
    let client = client.map_err(Failure::misconfigured)?;
    tracing::info!(server = client.server(), "following a Kubernetes cluster");
    Ok(Arc::new(KubeCluster::new(client, &args.control_namespace)))
}

fn failure(error: ControlError) -> Failure {
    match error {
        ControlError::State(_) | ControlError::Mesh(_) => Failure::misconfigured(error),
        _ => Failure::failed(error),
    }
}

fn config(args: &ControllerArgs) -> Result<ControlConfig, Failure> {
    let at = |port| SocketAddr::new(args.listen, port);
    let default_inbound_policy = args
        .default_inbound_policy
        .parse()
        .map_err(|error| Failure::misconfigured(format!("--default-inbound-policy: {error}")))?;
    let defaults = MeshConfig::default();
    let cluster_networks = match args.cluster_networks.as_slice() {
        [] => defaults.cluster_networks,
        given => given
            .iter()
            .map(|network| {
                network.parse().map_err(|_| {
                    Failure::misconfigured(format!(
                        "--cluster-networks: {network:?} is not a network such as 10.0.0.0/8"
                    ))
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let mut config = ControlConfig {
        listen: ListenConfig {
            destination: at(args.destination_port),
            policy: at(args.policy_port),
            identity: at(args.identity_port),
            admin: at(args.admin_port),
        },
        serve: roles(&args.serve),
        webhook: webhook(args, at(args.webhook_port)),
        viz: viz_config(args)?,
        mesh: MeshConfig {
            control_namespace: args.control_namespace.clone(),
            cluster_domain: args.cluster_domain.clone(),
            trust_domain: args.trust_domain.clone(),
            cluster_networks,
            default_inbound_policy,
            prefer_ipv6: args.prefer_ipv6,
            ..defaults
        },
        identity: IdentityConfig {
            state_directory: args.state_dir.clone(),
            mounted: mounted(args),
            certificate_lifetime: args.certificate_lifetime,
            ..IdentityConfig::default()
        },
        lease: lease(),
        ..ControlConfig::default()
    };
    args.mesh.apply(&mut config.mesh, &mut config.identity)?;
    Ok(config)
}

fn roles(given: &[Role]) -> Roles {
    match given {
        [] => Roles::default(),
        given => Roles {
            destination: given.contains(&Role::Destination),
            identity: given.contains(&Role::Identity),
            injector: given.contains(&Role::Injector),
        },
    }
}

/// An API server asks only those who follow it.
fn webhook(args: &ControllerArgs, listen: SocketAddr) -> Option<WebhookConfig> {
    let Roles { destination, injector, .. } = roles(&args.serve);
    let values = injector.then(|| args.values.clone());
    let is_asked = args.source.kubernetes && (destination || injector);
    let trust_roots = args.trust_roots.clone();
    is_asked.then_some(WebhookConfig { listen, values, trust_roots, validates: destination })
}

/// Who is not of this host must know the token.
fn viz_config(args: &ControllerArgs) -> Result<Option<VizConfig>, Failure> {
    if !args.serve.is_empty() && !args.serve.contains(&Role::Viz) {
        return Ok(None);
    }
    let listen = args.viz_listen;
    let token = match &args.viz_token_file {
        Some(path) => Some(viz::read_token(path)?),
        None if listen.ip().is_loopback() => None,
        None => {
            return Err(Failure::misconfigured(format!(
                "--viz-listen {listen}: other hosts reach it, and nothing says who may ask; give \
                 --viz-token-file, or listen on 127.0.0.1"
            )));
        }
    };
    let prometheus = args.prometheus_url.clone();
    Ok(Some(VizConfig { token, prometheus, ..VizConfig::new(listen) }))
}

fn mounted(args: &ControllerArgs) -> Option<MountedIdentity> {
    Some(MountedIdentity {
        issuer_directory: args.issuer_dir.clone()?,
        trust_roots: args.trust_roots.clone()?,
    })
}

/// Named as its host, which in a cluster is its pod: no two control planes have the same.
fn lease() -> LeaseConfig {
    let defaults = LeaseConfig::default();
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => defaults,
        name => LeaseConfig { holder: name.to_owned(), ..defaults },
    }
}
