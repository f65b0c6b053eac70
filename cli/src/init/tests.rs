//! Which rules come of which flags, and how each tool is told.

use clap::{CommandFactory, Parser};

use super::options::Cli;
use super::rules::{Family, Rule, rules};
use super::{InitError, iptables, nft};

/// As the injector writes it, with everything that can be said.
const ALL: &str = "--proxy-uid=2102 --proxy-gid 2103 \
    --inbound-ports-to-ignore=4190,4191,4567-4568,4568 --outbound-ports-to-ignore 443,6443 \
    --subnets-to-ignore=10.1.2.3/16,10.0.0.0/8,fd00::/8";

fn families(flags: &str) -> Result<Vec<(Family, Vec<Rule>)>, InitError> {
    let words = std::iter::once("weft-init").chain(flags.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let capture = cli.options.capture()?;
    Ok([Family::V4, Family::V6].map(|family| (family, rules(&capture, family))).to_vec())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn nftables_gets_one_transaction_for_both_families() {
    insta::assert_snapshot!(nft::script(&families(ALL).unwrap()), @r#"
    add table ip weft
    delete table ip weft
    table ip weft {
      chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        meta l4proto != tcp return
        tcp dport { 4190-4191,4567-4568 } return comment "ports to ignore"
        ip saddr 10.0.0.0/8 return comment "subnet to ignore"
        meta l4proto tcp redirect to :4143 comment "to the proxy"
      }
      chain output {
        type nat hook output priority -100; policy accept;
        meta l4proto != tcp return
        meta skuid 2102 return comment "the proxy's own"
        meta skgid 2103 return comment "the proxy's own"
        oifname "lo" return comment "within the pod"
        tcp dport { 443,6443 } return comment "ports to ignore"
        meta l4proto tcp redirect to :4140 comment "to the proxy"
      }
    }
    add table ip6 weft
    delete table ip6 weft
    table ip6 weft {
      chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        meta l4proto != tcp return
        tcp dport { 4190-4191,4567-4568 } return comment "ports to ignore"
        ip6 saddr fd00::/8 return comment "subnet to ignore"
        meta l4proto tcp redirect to :4143 comment "to the proxy"
      }
      chain output {
        type nat hook output priority -100; policy accept;
        meta l4proto != tcp return
        meta skuid 2102 return comment "the proxy's own"
        meta skgid 2103 return comment "the proxy's own"
        oifname "lo" return comment "within the pod"
        tcp dport { 443,6443 } return comment "ports to ignore"
        meta l4proto tcp redirect to :4140 comment "to the proxy"
      }
    }
    "#);
}

#[test]
fn iptables_gets_a_transaction_for_each_family() {
    let families = families(ALL).unwrap();
    insta::assert_snapshot!(iptables::script(&families[0].1, ""), @r#"
    *nat
    :PROXY_INIT_REDIRECT - [0:0]
    :PROXY_INIT_OUTPUT - [0:0]
    -A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190:4191,4567:4568 -m comment --comment "ports to ignore" -j RETURN
    -A PROXY_INIT_REDIRECT -s 10.0.0.0/8 -p tcp -m comment --comment "subnet to ignore" -j RETURN
    -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4143
    -A PREROUTING -j PROXY_INIT_REDIRECT
    -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "the proxy's own" -j RETURN
    -A PROXY_INIT_OUTPUT -m owner --gid-owner 2103 -m comment --comment "the proxy's own" -j RETURN
    -A PROXY_INIT_OUTPUT -o lo -m comment --comment "within the pod" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 443,6443 -m comment --comment "ports to ignore" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4140
    -A OUTPUT -j PROXY_INIT_OUTPUT
    COMMIT
    "#);
    insta::assert_snapshot!(iptables::script(&families[1].1, ""), @r#"
    *nat
    :PROXY_INIT_REDIRECT - [0:0]
    :PROXY_INIT_OUTPUT - [0:0]
    -A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190:4191,4567:4568 -m comment --comment "ports to ignore" -j RETURN
    -A PROXY_INIT_REDIRECT -s fd00::/8 -p tcp -m comment --comment "subnet to ignore" -j RETURN
    -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4143
    -A PREROUTING -j PROXY_INIT_REDIRECT
    -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "the proxy's own" -j RETURN
    -A PROXY_INIT_OUTPUT -m owner --gid-owner 2103 -m comment --comment "the proxy's own" -j RETURN
    -A PROXY_INIT_OUTPUT -o lo -m comment --comment "within the pod" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 443,6443 -m comment --comment "ports to ignore" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4140
    -A OUTPUT -j PROXY_INIT_OUTPUT
    COMMIT
    "#);
}

#[test]
fn nothing_but_ports_means_everything_else_goes_to_the_proxy() {
    insta::assert_snapshot!(iptables::script(&families("-p 1 -o 2").unwrap()[0].1, ""), @r#"
    *nat
    :PROXY_INIT_REDIRECT - [0:0]
    :PROXY_INIT_OUTPUT - [0:0]
    -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 1
    -A PREROUTING -j PROXY_INIT_REDIRECT
    -A PROXY_INIT_OUTPUT -o lo -m comment --comment "within the pod" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 2
    -A OUTPUT -j PROXY_INIT_OUTPUT
    COMMIT
    "#);
    insta::assert_snapshot!(iptables::script(&families("-r 80,90-99").unwrap()[0].1, ""), @r#"
    *nat
    :PROXY_INIT_REDIRECT - [0:0]
    :PROXY_INIT_OUTPUT - [0:0]
    -A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 80,90:99 -m comment --comment "to the proxy" -j REDIRECT --to-ports 4143
    -A PREROUTING -j PROXY_INIT_REDIRECT
    -A PROXY_INIT_OUTPUT -o lo -m comment --comment "within the pod" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4140
    -A OUTPUT -j PROXY_INIT_OUTPUT
    COMMIT
    "#);
}

#[test]
fn what_is_there_is_replaced_and_what_is_others_stays() {
    let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
        :PROXY_INIT_OUTPUT - [0:0]\n:PROXY_INIT_REDIRECT - [0:0]\n:KUBE - [0:0]\n\
        -A PREROUTING -j KUBE\n-A PREROUTING -j PROXY_INIT_REDIRECT\n\
        -A PREROUTING -m comment --comment \"again\" -j PROXY_INIT_REDIRECT\n\
        -A OUTPUT -j PROXY_INIT_OUTPUT\n-A PROXY_INIT_OUTPUT -o lo -j RETURN\nCOMMIT\n";
    insta::assert_snapshot!(iptables::script(&families("").unwrap()[0].1, saved), @r#"
    *nat
    :PROXY_INIT_REDIRECT - [0:0]
    :PROXY_INIT_OUTPUT - [0:0]
    -D PREROUTING -j PROXY_INIT_REDIRECT
    -D PREROUTING -m comment --comment "again" -j PROXY_INIT_REDIRECT
    -D OUTPUT -j PROXY_INIT_OUTPUT
    -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4143
    -A PREROUTING -j PROXY_INIT_REDIRECT
    -A PROXY_INIT_OUTPUT -o lo -m comment --comment "within the pod" -j RETURN
    -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "to the proxy" -j REDIRECT --to-ports 4140
    -A OUTPUT -j PROXY_INIT_OUTPUT
    COMMIT
    "#);
    insta::assert_snapshot!(iptables::removal(saved).unwrap(), @r#"
    *nat
    -D PREROUTING -j PROXY_INIT_REDIRECT
    -D PREROUTING -m comment --comment "again" -j PROXY_INIT_REDIRECT
    -D OUTPUT -j PROXY_INIT_OUTPUT
    -F PROXY_INIT_REDIRECT
    -F PROXY_INIT_OUTPUT
    -X PROXY_INIT_REDIRECT
    -X PROXY_INIT_OUTPUT
    COMMIT
    "#);
    assert_eq!(iptables::removal("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"), None);
}

#[test]
fn what_a_flag_cannot_be_is_said_with_its_name() {
    let fault = |flags: &str| families(flags).unwrap_err().to_string();
    insta::assert_snapshot!(fault("--inbound-ports-to-ignore 25,99-80"), @"--inbound-ports-to-ignore: `99-80` is no port or range such as 80-90");
    insta::assert_snapshot!(fault("--subnets-to-ignore 10.0.0.0"), @"--subnets-to-ignore: `10.0.0.0` is no network such as 10.0.0.0/8");
    insta::assert_snapshot!(fault("--proxy-uid 99999999999"), @"--proxy-uid: `99999999999` is no id of a user or group");
}

#[test]
fn booleans_are_written_as_linkerd_writes_them() {
    let read = |flags: &[&str]| {
        let words = std::iter::once("weft-init").chain(flags.iter().copied());
        let options = Cli::try_parse_from(words).unwrap().options;
        (options.ipv6, options.use_wait_flag, options.simulate)
    };
    assert_eq!(read(&[]), (true, false, false));
    assert_eq!(read(&["--ipv6=false", "-w", "--simulate"]), (false, true, true));
    assert_eq!(read(&["--ipv6", "--use-wait-flag=true", "--simulate=1"]), (true, true, true));
}
