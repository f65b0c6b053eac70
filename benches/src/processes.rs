//! The proxies, and a control plane, as processes: what they hold of memory, idle and under load,
//! what they spend, and how large they are. Linux only, as `/proc` is read.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh_core::control::ListenConfig;

use crate::allocations::Role;
use crate::mesh::{self, Client, Hosts};

/// Two running `weft-proxy`. They end with this.
pub struct Proxies {
    children: [Process; 2],
    /// From each one's start until it said that it was ready.
    pub ready_after: [Duration; 2],
}

impl Proxies {
    /// Starts both and waits until they are ready.
    ///
    /// # Errors
    /// Where they do not start.
    pub fn start(program: &Path, hosts: Hosts, directory: &Path) -> io::Result<Self> {
        Self::start_with(program, hosts, directory, &[])
    }

    /// [`Self::start`], with more in the environment of the one beside the client.
    ///
    /// # Errors
    /// Where they do not start.
    pub fn start_with(
        program: &Path,
        hosts: Hosts,
        directory: &Path,
        more: &[(&str, String)],
    ) -> io::Result<Self> {
        let start = |role| {
            let mut command = Command::new(program);
            // Its own name: what `ps` shows.
            command.arg0(format!("weft-proxy ({role:?})"));
            command.env_clear();
            command.envs(mesh::environment(role, hosts, directory));
            if role == Role::Outbound {
                command.envs(more.iter().map(|(name, value)| (*name, value)));
            }
            command.stdout(Stdio::null());
            let began = Instant::now();
            let child = Process(command.spawn()?);
            mesh::wait_ready(hosts.admin(role))?;
            Ok::<_, io::Error>((child, began.elapsed()))
        };
        let (inbound, inbound_ready) = start(Role::Inbound)?;
        let (outbound, outbound_ready) = start(Role::Outbound)?;
        Ok(Self { children: [outbound, inbound], ready_after: [outbound_ready, inbound_ready] })
    }

    /// Resident memory, in kB: the outbound proxy's and the inbound one's.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn rss_kb(&self) -> io::Result<[u64; 2]> {
        Ok([self.children[0].rss_kb()?, self.children[1].rss_kb()?])
    }

    /// CPU time that each has spent, of all its threads.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn cpu(&self) -> io::Result<[Duration; 2]> {
        Ok([self.children[0].cpu()?, self.children[1].cpu()?])
    }
}

/// A process, which ends with this.
pub struct Process(pub Child);

impl Process {
    /// Resident memory, in kB.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn rss_kb(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
            .ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// CPU time that it has spent, to the nanosecond.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let spent = std::fs::read_to_string(task?.path().join("schedstat"));
            // A thread that has ended meanwhile.
            let spent = spent.unwrap_or_default();
            let first = spent.split_whitespace().next();
            nanoseconds += first.and_then(|spent| spent.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that was built along with this one.
///
/// # Errors
/// As the system's.
pub fn beside(name: &str) -> io::Result<PathBuf> {
    let mut program = std::env::current_exe()?;
    program.set_file_name(name);
    Ok(program)
}

/// A running `weft controller` of the manifests in `directory`, which ends with this.
pub struct ControlPlane {
    /// The process.
    pub process: Process,
    /// From its start until it said that it was ready.
    pub ready_after: Duration,
}

impl ControlPlane {
    /// Starts it, waits until it is ready, and has tokens written for both proxies.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(hosts: Hosts, directory: &Path) -> io::Result<Self> {
        let program = beside("weft")?;
        let (manifests, state) = (directory.join("manifests"), directory.join("state"));
        let ListenConfig { destination, identity, admin, .. } = hosts.controller();
        let mut command = Command::new(&program);
        command.args(["controller", "--log", "warn", "--manifests"]).arg(manifests);
        command.arg("--state-dir").arg(&state);
        command.args(["--listen", &destination.ip().to_string()]);
        command.args(["--identity-port", &identity.port().to_string()]);
        command.args(["--viz-listen", &format!("{}:8084", destination.ip())]);
        let began = Instant::now();
        let process = Process(command.stdout(Stdio::null()).spawn()?);
        mesh::wait_ready(admin)?;
        let ready_after = began.elapsed();
        for name in ["client", "server"] {
            let token = Command::new(&program)
                .args(["token", "create", "--namespace", "bench", "--service-account", name])
                .arg("--state-dir")
                .arg(&state)
                .output()?;
            if !token.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&token.stderr).into_owned()));
            }
            std::fs::write(directory.join(format!("{name}.token")), token.stdout.trim_ascii())?;
        }
        Ok(Self { process, ready_after })
    }
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
