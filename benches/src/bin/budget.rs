//! Prints what the proxy costs against the gates of `budget.toml`: counts that are the same on every
//! machine, and promises that hold on any.
//!
//! Exit codes: 0 all within, 1 a figure is over its gate or could not be had, 2 the command line
//! is wrong. With `--strict` a count more than 10 % under its gate fails too.

use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use benches::allocations::{self, Counting, Counts, Role};
use benches::budget::{Gates, Verdict};
use benches::mesh::in_memory::Taps;
use benches::mesh::{Client, Hosts, ProxyThreads, Server, start_control};
use benches::processes::{self, Proxies};
use benches::{side_by_side, untapped};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "\
usage: budget [-o json] [--strict] [--only PART,…] [--sites outbound|inbound]
  counts        allocations, heap and futures of both proxies in this process
  processes     memory and size of weft-proxy, built beside this program
  start         milliseconds until it is ready: of a quiet machine
  instructions  instructions per request, under valgrind where there is one
  peers         CPU beside the floor and Envoy, as ratios, in network namespaces, where root
  --sites       print where a request allocates, and nothing else";

/// Requests that are counted, and those before them.
const COUNTED: u64 = 2_000;
const WARM_UP: u64 = 300;

/// Connections whose memory is shared among them.
const CONNECTIONS: usize = 200;

/// After so long a proxy has given memory back for the first time.
const SETTLED: Duration = Duration::from_secs(2);

/// Starts of which the quickest counts: whatever else the machine does only adds to one.
const STARTS: usize = 9;

const ROLES: [(Role, &str); 2] = [(Role::Outbound, "outbound"), (Role::Inbound, "inbound")];

#[derive(Debug, Default)]
struct Arguments {
    json: bool,
    strict: bool,
    only: Option<String>,
    sites: Option<Role>,
    /// Send so many requests and end: what runs under valgrind.
    drive: Option<u64>,
    /// The same in memory.
    drive_in_memory: Option<(Taps, u64)>,
}

type Figures = Vec<(String, f64)>;

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("budget: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--strict" => arguments.strict = true,
            "-o" => arguments.json = given.next()? == "json",
            "--only" => {
                const PARTS: [&str; 5] = ["counts", "processes", "start", "instructions", "peers"];
                let only = given.next()?;
                if !only.split(',').all(|part| PARTS.contains(&part)) {
                    return None;
                }
                arguments.only = Some(only);
            }
            "--drive" => arguments.drive = Some(given.next()?.parse().ok()?),
            "--drive-in-memory" => {
                let taps = match given.next()?.as_str() {
                    "absent" => Taps::Absent,
                    "possible" => Taps::Possible,
                    _ => return None,
                };
                arguments.drive_in_memory = Some((taps, given.next()?.parse().ok()?));
            }
            "--sites" => {
                let name = given.next()?;
                arguments.sites = Some(ROLES.iter().find(|(_, role)| *role == name)?.0);
            }
            _ => return None,
        }
    }
    Some(arguments)
}

fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    if let Some(requests) = arguments.drive {
        return drive(requests).map(|()| ExitCode::SUCCESS);
    }
    if let Some((taps, requests)) = arguments.drive_in_memory {
        return untapped::drive(taps, requests).map(|()| ExitCode::SUCCESS);
    }
    if let Some(role) = arguments.sites {
        return sites(role).map(|()| ExitCode::SUCCESS);
    }
    let wanted = |part: &str| match &arguments.only {
        Some(only) => only.split(',').any(|only| only == part),
        None => true,
    };
    let gates = Gates::parse(include_str!("../../budget.toml")).map_err(io::Error::other)?;
    let mut figures = Figures::new();
    if wanted("counts") {
        counts(&mut figures)?;
    }
    if wanted("processes") {
        processes(&mut figures)?;
    }
    if wanted("start") {
        start(&mut figures)?;
    }
    if wanted("instructions") {
        instructions(&mut figures)?;
    }
    if wanted("peers") {
        let is_over = |name: &str, value| gates.judge(name, value) == Verdict::Over;
        match side_by_side::measure(is_over) {
            Ok(found) => figures.extend(found),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                eprintln!("skipped: peers: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    match arguments.json {
        true => println!("{}", json(&figures, &gates)),
        false => table(&figures, &gates),
    }
    let fails = |verdict| match verdict {
        Verdict::Over => true,
        Verdict::Loose => arguments.strict,
        Verdict::Within | Verdict::Ungated => false,
    };
    let failed = figures.iter().any(|(name, value)| fails(gates.judge(name, *value)));
    Ok(ExitCode::from(u8::from(failed)))
}

fn table(figures: &Figures, gates: &Gates) {
    println!("{:<52} {:>12} {:>12}", "figure", "measured", "gate");
    for (name, value) in figures {
        let gate = gates.of(name).map(|gate| gate.to_string());
        let verdict = gates.judge(name, *value).as_str();
        let gate = gate.unwrap_or_default();
        let decimals = if *value < 10.0 { 2 } else { 1 };
        println!("{name:<52} {value:>12.decimals$} {gate:>12} {verdict}");
    }
}

fn json(figures: &Figures, gates: &Gates) -> serde_json::Value {
    let figure = |(name, value): &(String, f64)| {
        let verdict = gates.judge(name, *value).as_str().to_lowercase();
        serde_json::json!({
            "figure": name, "value": value, "gate": gates.of(name), "verdict": verdict,
        })
    };
    serde_json::json!({ "figures": figures.iter().map(figure).collect::<Vec<_>>() })
}

/// A whole path in this process.
struct Path {
    proxies: ProxyThreads,
    server: std::sync::Arc<Server>,
    hosts: Hosts,
    _directory: tempfile::TempDir,
}

impl Path {
    fn start() -> io::Result<Self> {
        let proxies = ProxyThreads::new();
        let directory = tempfile::tempdir()?;
        let hosts = Hosts::new(0);
        let server = Server::start(hosts)?;
        start_control(hosts, directory.path())?;
        proxies.start(hosts, directory.path())?;
        Ok(Self { proxies, server, hosts, _directory: directory })
    }

    fn requests(&self, client: &mut Client, requests: u64) -> io::Result<()> {
        (0..requests).try_for_each(|_| client.exchange())
    }
}

fn drive(requests: u64) -> io::Result<()> {
    let path = Path::start()?;
    let mut client = Client::connect(path.hosts.call())?;
    path.requests(&mut client, requests)
}

fn counts(figures: &mut Figures) -> io::Result<()> {
    // First: no other thread has a role yet.
    let [absent, possible] = [Taps::Absent, Taps::Possible].map(untapped::allocations_per_request);
    figures.push(("allocations_per_request_more_where_tappable".to_string(), possible? - absent?));
    let path = Path::start()?;
    let mut client = Client::connect(path.hosts.call())?;
    path.requests(&mut client, WARM_UP)?;
    let before = ROLES.map(|(role, _)| allocations::counts(role));
    path.requests(&mut client, COUNTED)?;
    each_role(before, |role, before, now| {
        let per_request = |count| count as f64 / COUNTED as f64;
        let allocations = per_request(now.allocations - before.allocations);
        let bytes = per_request(now.bytes - before.bytes);
        figures.push((format!("allocations_per_request_{role}"), allocations));
        figures.push((format!("allocated_bytes_per_request_{role}"), bytes));
    });

    let per_connection = |now: Counts, before: Counts| {
        (now.held_bytes - before.held_bytes) as f64 / CONNECTIONS as f64
    };
    let before = ROLES.map(|(role, _)| allocations::counts(role));
    let mut clients = processes::open(path.hosts.call(), CONNECTIONS)?;
    let idle = ROLES.map(|(role, _)| allocations::counts(role));
    each_role(before, |role, before, now| {
        let name = match role {
            "outbound" => "heap_bytes_per_idle_connection_outbound",
            // One connection of HTTP/2 carries them all.
            _ => "heap_bytes_held_inbound_per_idle_client",
        };
        figures.push((name.to_string(), per_connection(now, before)));
    });
    for (held, client) in clients.iter_mut().enumerate() {
        client.send("/hold")?;
        // Not all at once: the proxy opens a connection for each, and the backlog is short.
        if held % 16 == 0 {
            path.server.wait_held(held + 1)?;
        }
    }
    path.server.wait_held(CONNECTIONS)?;
    each_role(idle, |role, idle, now| {
        let name = format!("heap_bytes_per_request_in_flight_{role}");
        figures.push((name, per_connection(now, idle)));
    });
    path.server.release();
    clients.iter_mut().try_for_each(Client::receive)?;
    let sizes = path.proxies.task_sizes.lock();
    for (name, bytes) in sizes.iter().flat_map(|sizes| sizes.iter()) {
        let name = format!("future_bytes_{}", name.replace([' ', '-'], "_"));
        figures.push((name, *bytes as f64));
    }
    Ok(())
}

fn each_role(before: [Counts; 2], mut tell: impl FnMut(&'static str, Counts, Counts)) {
    for ((role, name), before) in ROLES.into_iter().zip(before) {
        tell(name, before, allocations::counts(role));
    }
}

fn sites(role: Role) -> io::Result<()> {
    const RECORDED: u64 = 20;
    let path = Path::start()?;
    let mut client = Client::connect(path.hosts.call())?;
    path.requests(&mut client, WARM_UP)?;
    allocations::record_sites(role);
    path.requests(&mut client, RECORDED)?;
    for (stack, count, bytes) in allocations::recorded_sites() {
        let count = count as f64 / RECORDED as f64;
        println!("{count:6.2} x {:6} B  {stack}\n", bytes / RECORDED);
    }
    Ok(())
}

fn processes(figures: &mut Figures) -> io::Result<()> {
    let program = processes::beside("weft-proxy")?;
    let Ok(file) = std::fs::metadata(&program) else {
        eprintln!("skipped: memory and size, as {} was not built", program.display());
        return Ok(());
    };
    figures.push(("binary_bytes".to_string(), file.len() as f64));
    let directory = tempfile::tempdir()?;
    let hosts = Hosts::new(1);
    let _server = Server::start(hosts)?;
    start_control(hosts, directory.path())?;
    let proxies = Proxies::start(&program, hosts, directory.path())?;
    let mut tell = |what: &str, rss: [u64; 2]| {
        for ((_, role), kb) in ROLES.into_iter().zip(rss) {
            figures.push((format!("rss_kb_{what}_{role}"), kb as f64));
        }
    };
    tell("at_start", proxies.rss_kb()?);
    // A second after its start a proxy gives back what starting took.
    std::thread::sleep(SETTLED);
    tell("idle", proxies.rss_kb()?);
    let loaded = processes::load(hosts.call(), 100, 120)?;
    tell("after_12000_requests_on_100_connections", proxies.rss_kb()?);
    drop(loaded);
    let idle = processes::open(hosts.call(), 1_000)?;
    tell("with_1000_idle_connections", proxies.rss_kb()?);
    drop(idle);
    Ok(())
}

/// The shortest time to be ready of each proxy.
fn start(figures: &mut Figures) -> io::Result<()> {
    let program = processes::beside("weft-proxy")?;
    if !program.exists() {
        eprintln!("skipped: start, as {} was not built", program.display());
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let hosts = Hosts::new(2);
    start_control(hosts, directory.path())?;
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..STARTS {
        let taken = Proxies::start(&program, hosts, directory.path())?.ready_after;
        for (quickest, taken) in quickest.iter_mut().zip(taken) {
            *quickest = taken.min(*quickest);
        }
    }
    for ((_, role), ready) in ROLES.into_iter().zip(quickest) {
        figures.push((format!("start_to_ready_ms_{role}"), ready.as_secs_f64() * 1e3));
    }
    Ok(())
}

/// Instructions per request, from two runs of different lengths: what is the same in both (start,
/// handshakes) cancels out.
fn instructions(figures: &mut Figures) -> io::Result<()> {
    const SHORT: u64 = 200;
    const LONG: u64 = 700;
    let drive = |requests: u64| callgrind(&["--drive", &requests.to_string()], [2, 3]);
    let (Some(short), Some(long)) = (drive(SHORT)?, drive(LONG)?) else {
        eprintln!("skipped: instructions, as there is no valgrind");
        return Ok(());
    };
    for ((short, long), (_, role)) in short.into_iter().zip(long).zip(ROLES) {
        let per_request = (long - short) / (LONG - SHORT) as f64;
        figures.push((format!("instructions_per_request_{role}"), per_request));
    }
    // So many that what starting costs, which differs from run to run, does not show.
    const MANY: u64 = 5_000;
    let in_memory = |taps: &str| -> io::Result<f64> {
        let drive =
            |requests: u64| callgrind(&["--drive-in-memory", taps, &requests.to_string()], [1]);
        let [short, long] =
            [drive(SHORT)?, drive(SHORT + MANY)?].map(|run| run.map_or(0.0, |[all]| all));
        Ok((long - short) / MANY as f64)
    };
    let more = in_memory("possible")? / in_memory("absent")? - 1.0;
    figures.push(("instructions_per_request_more_where_tappable".to_string(), more));
    Ok(())
}

/// Instructions of these threads in a run of this program; none without valgrind.
fn callgrind<const N: usize>(arguments: &[&str], threads: [u8; N]) -> io::Result<Option<[f64; N]>> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !run.status.success() {
        let stderr = String::from_utf8_lossy(&run.stderr);
        return Err(io::Error::other(format!("under valgrind: {stderr}")));
    }
    // The main thread is 1; the proxies' are the first that it starts.
    let mut totals = [0.0; N];
    let thread = |number: u8| -> io::Result<f64> {
        let file = directory.path().join(format!("out-{number:02}"));
        let text = std::fs::read_to_string(file)?;
        let total = text.lines().rev().find_map(|line| {
            let numbers = line.strip_prefix("totals:").or(line.strip_prefix("summary:"));
            numbers.and_then(|numbers| numbers.trim().parse().ok())
        });
        total.ok_or_else(|| io::Error::other("callgrind's file without totals"))
    };
    for (total, number) in totals.iter_mut().zip(threads) {
        *total = thread(number)?;
    }
    Ok(Some(totals))
}
