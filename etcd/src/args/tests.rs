//! Flags as etcd's users give them.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn config(words: &str) -> Result<Config, String> {
    let line = Line::try_parse_from(["etcd"].into_iter().chain(words.split_whitespace()));
    line.map_err(|error| error.to_string())?.args.config().map_err(|error| error.to_string())
}

#[test]
fn flags_are_etcds() {
    let plain = config("--data-dir d").unwrap();
    assert_eq!(plain.listen, [Listen { address: "127.0.0.1:2379".into(), secure: false, metrics: false }]);
    assert_eq!(plain.client_urls, ["http://127.0.0.1:2379"]);
    assert_eq!(plain.history, FOR_EVER);
    let tls = "--data-dir=d --listen-client-urls=https://[::1]:1,http://127.0.0.1:2 --cert-file=c --key-file=k \
               --trusted-ca-file=ca --client-cert-auth=true --advertise-client-urls=https://a:1 --listen-metrics-urls=http://127.0.0.1:3";
    let tls = tls.replace("--client-cert-auth=true", "--client-cert-auth");
    let config = config(&tls).unwrap();
    assert_eq!(config.listen[0], Listen { address: "[::1]:1".into(), secure: true, metrics: false });
    assert!(!config.listen[1].secure && config.tls.unwrap().client_required);
    assert_eq!(config.listen[2], Listen { address: "127.0.0.1:3".into(), secure: false, metrics: true });
    assert_eq!(config.client_urls, ["https://a:1"]);
}

#[test]
fn named_authorities_turn_away_clients_without_a_certificate() {
    let required = |words: &str| {
        let words = format!("--data-dir d --cert-file c --key-file k {words}");
        config(&words).unwrap().tls.unwrap().client_required
    };
    assert!(!required(""));
    assert!(required("--trusted-ca-file ca"));
    assert!(required("--trusted-ca-file ca --client-cert-auth"));
}

#[test]
fn what_cannot_work_is_refused() {
    let refused = |words: &str, because: &str| {
        let error = config(words).unwrap_err();
        assert!(error.contains(because), "{words}: {error}");
    };
    refused("--data-dir d --listen-client-urls https://127.0.0.1:1", "needs --cert-file");
    refused("--data-dir d --listen-client-urls unix://x", "expected http://host:port");
    refused("--data-dir d --cert-file c", "--key-file");
    refused("--data-dir d --client-cert-auth", "--trusted-ca-file");
    refused("", "--data-dir");
}
