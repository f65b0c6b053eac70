//! Flags that say whose requests are looked at as they pass, and which of them: of `weft tap` and of
//! `weft top`.

use clap::Args;
use mesh_core::control::public_api::query::encode;

use crate::Failure;
use crate::statistics::args;

/// Whose requests, and which.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Whose pods: deploy/web, sts/db, po/web-1, svc/api, ns/shop, or a kind and a name
    #[arg(value_name = "RESOURCE", required = true, num_args = 1..=2)]
    resource: Vec<String>,
    /// The resource's namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// Requests to this resource alone, as their clients see them
    #[arg(long, value_name = "RESOURCE", value_parser = args::resource)]
    to: Option<String>,
    /// The namespace of --to [default: that of the resource]
    #[arg(long, value_name = "NAME")]
    to_namespace: Option<String>,
    /// Requests in a second, of all pods together
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0)]
    max_rps: f64,
    /// Requests of this scheme
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<String>,
    /// Requests of this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Requests to this authority
    #[arg(long, value_name = "NAME")]
    authority: Option<String>,
    /// Requests whose path begins so
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
}

impl RequestArgs {
    /// The resource, in one word.
    pub(crate) fn resource(&self) -> String {
        self.resource.join("/")
    }

    /// What a controller is asked, `what` being `tap` or `top`; more may be added to it.
    pub(crate) fn path_and_query(&self, what: &str) -> Result<String, Failure> {
        let wrong = |message: String| Failure { code: 2, message };
        let resource = match args::resources(&self.resource).map_err(wrong)?.as_slice() {
            [one] => one.clone(),
            several => {
                let all = several.join(" ");
                return Err(wrong(format!("{all} is {} resources; give one", several.len())));
            }
        };
        let max_rps = self.max_rps.to_string();
        let all = [
            ("resource", Some(&resource)),
            ("namespace", Some(&self.namespace)),
            ("max_rps", Some(&max_rps)),
            ("to", self.to.as_ref()),
            ("to_namespace", self.to_namespace.as_ref()),
            ("scheme", self.scheme.as_ref()),
            ("method", self.method.as_ref()),
            ("authority", self.authority.as_ref()),
            ("path", self.path.as_ref()),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let pairs: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
        Ok(format!("/api/v1/{what}?{}", pairs.join("&")))
    }
}
