//! Original destinations behind real redirect rules: the contract's redirect case, for IPv4, IPv6
//! and IPv4 on a dual-stack listener, in a network namespace of its own.
//!
//! Needs `unshare`, `ip` and `nft`, and a kernel that lets this user make namespaces: where one is
//! missing, the test says so and passes.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use mesh_core::runtime::contract::{self, Bed, Redirect, Site};
use runtime_real::no_cluster::NoCluster;

/// Set in the copy of this test that runs inside of the namespace.
const INSIDE: &str = "WEFT_TEST_INSIDE_NAMESPACE";

/// Connections to port 1 arrive at port 4140, of whichever address.
const RULES: &str = "\
ip link set lo up
nft add table inet weft
nft add chain inet weft output '{ type nat hook output priority -100 ; }'
nft add rule inet weft output tcp dport 1 redirect to :4140
";

#[test]
fn redirected_connections_tell_where_they_were_going() {
    if std::env::var_os(INSIDE).is_some() {
        for (dialled, arrives) in [
            ("127.0.0.1:1", "127.0.0.1:4140"),
            ("[::1]:1", "[::1]:4140"),
            ("127.0.0.1:1", "[::]:4140"),
        ] {
            keeps_the_contract(dialled.parse().unwrap(), arrives.parse().unwrap());
        }
        return;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("{RULES}exit 0");
    let may = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-ec", script]);
        command
    };
    match may(&script).output() {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            let why = String::from_utf8_lossy(&tried.stderr);
            return eprintln!("skipped: no namespace with redirect rules: {why}");
        }
        Err(why) => return eprintln!("skipped: unshare: {why}"),
    }
    let script = format!("{RULES}exec {} --nocapture", program.display());
    let status = may(&script).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "see above");
}

fn keeps_the_contract(dialled: SocketAddr, arrives: SocketAddr) {
    let name = "net::a_redirected_connection_tells_its_original_destination";
    let cases = contract::cases();
    let case = cases.iter().find(|case| case.name == name).expect("a case of this name");
    let tokio = runtime_real::current_thread().unwrap();
    tokio.block_on(async {
        let site = Site::new(runtime_real::runtime(Arc::new(NoCluster)), arrives.ip());
        let mut bed = Bed::new(site.clone(), site);
        bed.redirect = Some(Redirect { dialled, arrives });
        case.run(bed).await;
    });
}
