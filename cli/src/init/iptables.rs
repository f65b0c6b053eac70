//! Rules as iptables-restore takes them: one transaction a family, in chains of our own, which have
//! the names that Linkerd's have.

use std::fmt::Write;

use super::rules::{Rule, Then, Way, Which};

/// Our chains, and the kernel's that lead to them.
const CHAINS: [(Way, &str, &str); 2] =
    [(Way::In, "PROXY_INIT_REDIRECT", "PREROUTING"), (Way::Out, "PROXY_INIT_OUTPUT", "OUTPUT")];

/// A rule of multiport has no more ports; a range counts as two.
const PORTS_MAX: usize = 15;

/// What `iptables-restore --noflush` is given to set these rules, where the table is as
/// `iptables-save -t nat` shows it.
pub(super) fn script(rules: &[Rule], saved: &str) -> String {
    let mut script = "*nat\n".to_string();
    // Says of a chain that is there that it begins empty.
    for (_, chain, _) in CHAINS {
        let _ = writeln!(script, ":{chain} - [0:0]");
    }
    script.push_str(&without_jumps(saved));
    for (way, chain, from) in CHAINS {
        for rule in rules.iter().filter(|rule| rule.way == way) {
            lines(rule, chain, &mut script);
        }
        let _ = writeln!(script, "-A {from} -j {chain}");
    }
    script.push_str("COMMIT\n");
    script
}

/// What takes away what of ours is in the table; none where nothing is.
pub(super) fn removal(saved: &str) -> Option<String> {
    let is_there = |chain: &&str| saved.lines().any(|line| line.starts_with(&format!(":{chain} ")));
    let chains = CHAINS.map(|(_, chain, _)| chain);
    let there: Vec<_> = chains.iter().filter(|chain| is_there(chain)).collect();
    if there.is_empty() {
        return None;
    }
    let mut script = format!("*nat\n{}", without_jumps(saved));
    for command in ["-F", "-X"] {
        for chain in &there {
            let _ = writeln!(script, "{command} {chain}");
        }
    }
    script.push_str("COMMIT\n");
    Some(script)
}

/// Takes away each way into our chains, however often it is there.
fn without_jumps(saved: &str) -> String {
    let is_jump = |line: &&str| {
        let leads = |chain: &str| line.split(' ').any(|word| word == chain);
        line.starts_with("-A ")
            && CHAINS.iter().any(|(_, chain, from)| {
                line.starts_with(&format!("-A {from} ")) && leads("-j") && leads(chain)
            })
    };
    let jumps = saved.lines().filter(is_jump);
    jumps.map(|line| line.replacen("-A", "-D", 1) + "\n").collect()
}

fn lines(rule: &Rule, chain: &str, script: &mut String) {
    let which = match &rule.which {
        Which::User(uid) => vec![format!("-m owner --uid-owner {uid}")],
        Which::Group(gid) => vec![format!("-m owner --gid-owner {gid}")],
        Which::OverLoopback => vec!["-o lo".to_string()],
        Which::ToPorts(ports) => {
            let lists = ports.in_lists(PORTS_MAX, ":").into_iter();
            lists.map(|list| format!("-p tcp -m multiport --dports {list}")).collect()
        }
        Which::From(network) => vec![format!("-s {network} -p tcp")],
        Which::All => vec!["-p tcp".to_string()],
    };
    let then = match rule.then {
        Then::Pass => "RETURN".to_string(),
        Then::Redirect(port) => format!("REDIRECT --to-ports {port}"),
    };
    for which in which {
        let _ =
            writeln!(script, "-A {chain} {which} -m comment --comment \"{}\" -j {then}", rule.why);
    }
}
