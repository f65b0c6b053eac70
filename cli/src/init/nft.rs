//! Rules as nftables takes them: one transaction, in tables of our own.

use std::fmt::Write;

use super::rules::{Family, Rule, Then, Way, Which};

/// The tables' name.
pub(super) const TABLE: &str = "weft";

/// What `nft -f -` is given to set these rules, whatever of ours is there.
pub(super) fn script(families: &[(Family, Vec<Rule>)]) -> String {
    let mut script = String::new();
    for (family, rules) in families {
        let name = name(*family);
        script.push_str(&removal(*family));
        let _ = writeln!(script, "table {name} {TABLE} {{");
        for (way, hook) in [(Way::In, "prerouting"), (Way::Out, "output")] {
            let _ = writeln!(script, "  chain {hook} {{");
            let _ = writeln!(script, "    type nat hook {hook} priority -100; policy accept;");
            let _ = writeln!(script, "    meta l4proto != tcp return");
            for rule in rules.iter().filter(|rule| rule.way == way) {
                let _ = writeln!(script, "    {}", line(rule, name));
            }
            script.push_str("  }\n");
        }
        script.push_str("}\n");
    }
    script
}

/// What takes our table away where it is, and does nothing where it is not: older versions have no
/// word for that.
pub(super) fn removal(family: Family) -> String {
    let name = name(family);
    format!("add table {name} {TABLE}\ndelete table {name} {TABLE}\n")
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn line(rule: &Rule, family: &str) -> String {
    let which = match &rule.which {
        Which::User(uid) => format!("meta skuid {uid} "),
        Which::Group(gid) => format!("meta skgid {gid} "),
        Which::OverLoopback => "oifname \"lo\" ".to_string(),
        Which::ToPorts(ports) => format!("tcp dport {{ {ports} }} "),
        Which::From(network) => format!("{family} saddr {network} "),
        // A redirection must be told the protocol.
        Which::All => "meta l4proto tcp ".to_string(),
    };
    let then = match rule.then {
        Then::Pass => "return".to_string(),
        Then::Redirect(port) => format!("redirect to :{port}"),
    };
    format!("{which}{then} comment \"{}\"", rule.why)
}
