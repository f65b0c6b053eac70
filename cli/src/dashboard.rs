//! `weft dashboard`: the console of a controller, in a browser. Of a cluster it is brought to a port
//! of this host, through the API server.

use clap::{Args, ValueEnum};

use crate::cluster::ClusterArgs;
use crate::viz::VizClient;
use crate::{Failure, browser};

/// The port of this host that Linkerd's users know.
const PORT: u16 = 50_750;

#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    /// Port of this host that leads to the console of a cluster; 0 takes a free one
    #[arg(long, short, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    /// Open a browser, or print the address alone
    #[arg(long, value_enum, default_value_t = Show::Console)]
    show: Show,
}

/// What to do with the console's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// Open it in a browser, where there is one
    #[value(alias = "linkerd")]
    Console,
    /// Print it
    Url,
}

/// Shows the console. Where a port leads to it, until Ctrl-C.
pub(crate) async fn run(args: DashboardArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = VizClient::open(cluster).await?;
    let near = client.near(args.port).await?;
    // Whatever is wrong is better told here than by a browser.
    client.ask("/api/v1/version").await?;
    let url = near.url();
    crate::say(format!("{url}\n"))?;
    if args.show == Show::Console {
        browser::open(&url);
    }
    if near.is_forwarded() {
        eprintln!("weft: the console is there until Ctrl-C");
        tokio::signal::ctrl_c().await.map_err(Failure::failed)?;
    }
    Ok(())
}
