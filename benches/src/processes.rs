//! The proxies as processes: what they hold of memory, idle and under load, and how large they
//! are. Linux only, as `/proc` is read.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::allocations::Role;
use crate::mesh::{self, Client, Hosts};

/// Two running `weft-proxy`. They end with this.
pub struct Proxies {
    children: [Child; 2],
}

impl Proxies {
    /// Starts both and waits until they are ready.
    ///
    /// # Errors
    /// Where they do not start.
    pub fn start(program: &Path, hosts: Hosts, directory: &Path) -> io::Result<Self> {
        let start = |role| {
            let mut command = Command::new(program);
            // Its own name: what `ps` shows.
            command.arg0(format!("weft-proxy ({role:?})"));
            command.env_clear();
            command.envs(mesh::environment(role, hosts, directory));
            command.stdout(Stdio::null()).spawn()
        };
        let proxies = Self { children: [start(Role::Outbound)?, start(Role::Inbound)?] };
        for role in [Role::Outbound, Role::Inbound] {
            mesh::wait_ready(hosts.admin(role))?;
        }
        Ok(proxies)
    }

    /// Resident memory, in kB: the outbound proxy's and the inbound one's.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn rss_kb(&self) -> io::Result<[u64; 2]> {
        Ok([rss_kb(&self.children[0])?, rss_kb(&self.children[1])?])
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn rss_kb(child: &Child) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no VmRSS"))
}

/// The proxy that was built along with this program.
pub fn program() -> io::Result<PathBuf> {
    let mut program = std::env::current_exe()?;
    program.set_file_name("weft-proxy");
    Ok(program)
}

/// Sends requests over so many connections, all at once, again and again. Gives the connections
/// back, idle.
///
/// # Errors
/// Where one fails.
pub fn load(to: SocketAddr, connections: usize, rounds: usize) -> io::Result<Vec<Client>> {
    let mut clients = open(to, connections)?;
    for _ in 0..rounds {
        clients.iter_mut().try_for_each(|client| client.send("/"))?;
        clients.iter_mut().try_for_each(Client::receive)?;
    }
    Ok(clients)
}

/// Idle connections, each of which has carried a request.
///
/// # Errors
/// Where one fails.
pub fn open(to: SocketAddr, connections: usize) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(to)?;
        client.exchange()?;
        clients.push(client);
    }
    Ok(clients)
}
