//! What flags come to, where they stand for more than they say.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    args: Args,
}

fn parse(flags: &[&str]) -> Args {
    Flags::parse_from(["kube-apiserver"].iter().chain(flags)).args
}

#[test]
fn what_is_bound_is_advertised_when_others_can_reach_it() {
    let advertised = |flags: &[&str]| parse(flags).advertised().ip().to_string();
    assert_eq!(advertised(&["--advertise-address=192.0.2.9", "--bind-address=127.0.0.1"]), "192.0.2.9");
    assert_eq!(advertised(&["--bind-address=192.0.2.9"]), "192.0.2.9");
    let outward = outward_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    assert_eq!(advertised(&["--bind-address=127.0.0.1"]), outward);
    assert_eq!(advertised(&["--advertise-address=0.0.0.0"]), outward);
    // Who says so gets it.
    assert_eq!(advertised(&["--advertise-address=127.0.0.1"]), "127.0.0.1");
}

#[test]
fn a_made_certificate_comes_with_its_authority() {
    let directory = tempfile::tempdir().unwrap();
    let args = parse(&["--bind-address=127.0.0.3", &format!("--cert-dir={}", directory.path().display())]);
    let registry =
        registry::Config { service_ips: args.service_ips().unwrap(), node_ports: 1..=2, event_ttl: Duration::ZERO };
    let made = args.serving(args.advertised().ip(), &registry).unwrap();
    let facts = made.certificate().unwrap();
    for address in ["127.0.0.1", "127.0.0.3", "10.96.0.1"] {
        assert!(facts.ip_addresses.contains(&address.parse().unwrap()), "{address}");
    }
    let [_, authority] = made.chain_der().unwrap().try_into().unwrap();
    assert!(pki::Certificate::from_der(&authority).unwrap().is_ca);
    let again = args.serving(args.advertised().ip(), &registry).unwrap();
    assert_eq!(again.certificate_pem(), made.certificate_pem());
}

#[test]
fn flags_of_upstream_s_logs_are_taken() {
    parse(&["-v=2", "--vmodule=a=1"]);
    parse(&["--v", "4"]);
}

#[test]
fn ranges_are_of_each_family_at_most() {
    let shown = |flag: &str| match parse(&[&format!("--service-cluster-ip-range={flag}")]).service_ips() {
        Ok(ranges) => ranges.iter().map(|range| range.to_string()).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    };
    let wrong = |why: &str| format!("--service-cluster-ip-range: {why}");
    for (flag, expected) in [
        ("10.96.0.1/16", "10.96.0.0/16".to_owned()),
        ("fd00::/112", "fd00::/112".to_owned()),
        ("10.96.0.0/16,fd00::/112", "10.96.0.0/16 fd00::/112".to_owned()),
        ("fd00::/112,10.96.0.0/16", "fd00::/112 10.96.0.0/16".to_owned()),
        ("10.96.0.0/16,10.97.0.0/16", wrong("the two ranges must be of different IP families")),
        ("10.96.0.0/16,fd00::/112,10.97.0.0/16", wrong("there may be two ranges at most")),
        ("10.96.0.0/30", wrong("a range must have 8 addresses at least")),
        ("x", wrong("\"x\" is no range of addresses")),
    ] {
        assert_eq!(shown(flag), expected, "{flag}");
    }
}
