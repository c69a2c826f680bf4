//! Name servers, search domains and options of a pod, by its DNS policy.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::pod;

/// Limits of resolvers, as upstream enforces them.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// What the cluster and the host offer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolvers {
    pub cluster_servers: Vec<String>,
    pub cluster_domain: String,
    pub host: DnsConfig,
}

/// Parses a resolv.conf.
pub(crate) fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let domains = words.filter(|word| *word != ".");
                config.searches = domains.map(|word| word.trim_end_matches('.').to_owned()).collect();
            }
            Some("options") => words.for_each(|option| set_option(&mut config.options, option.to_owned())),
            _ => {}
        }
    }
    config
}

fn option_name(option: &str) -> &str {
    option.split_once(':').map_or(option, |(name, _)| name)
}

/// Replaces an option of the same name.
fn set_option(options: &mut Vec<String>, option: String) {
    match options.iter_mut().find(|o| option_name(o) == option_name(&option)) {
        Some(existing) => *existing = option,
        None => options.push(option),
    }
}

pub(crate) fn for_pod(pod: &Pod, resolvers: &Resolvers) -> DnsConfig {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let on_host = pod::is_host_network(pod) && policy == "ClusterFirst";
    let mut config = match policy {
        "None" => DnsConfig::default(),
        "Default" => resolvers.host.clone(),
        _ if on_host || resolvers.cluster_servers.is_empty() => resolvers.host.clone(),
        _ => cluster(pod, resolvers),
    };
    if let Some(own) = &spec.dns_config {
        add(&mut config, own);
    }
    limit(&mut config);
    config
}

fn cluster(pod: &Pod, resolvers: &Resolvers) -> DnsConfig {
    let domain = &resolvers.cluster_domain;
    let own = [format!("{}.svc.{domain}", pod::namespace(pod)), format!("svc.{domain}"), domain.clone()];
    let mut searches = own.to_vec();
    searches.extend(resolvers.host.searches.iter().cloned());
    unique(&mut searches);
    DnsConfig { servers: resolvers.cluster_servers.clone(), searches, options: vec!["ndots:5".into()] }
}

fn add(config: &mut DnsConfig, own: &PodDNSConfig) {
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.searches.extend(own.searches.iter().flatten().cloned());
    unique(&mut config.servers);
    unique(&mut config.searches);
    for option in own.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        let value = option.value.as_ref().map(|value| format!(":{value}")).unwrap_or_default();
        set_option(&mut config.options, format!("{name}{value}"));
    }
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn limit(config: &mut DnsConfig) {
    config.servers.truncate(MAX_SERVERS);
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        config.searches.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn policies() {
        let resolvers = Resolvers {
            cluster_servers: vec!["10.96.0.10".into()],
            cluster_domain: "c.local".into(),
            host: parse("nameserver 9.9.9.9\nsearch a.example. .\noptions ndots:2 rotate\n# x\n"),
        };
        let in_cluster = "10.96.0.10|ns.svc.c.local svc.c.local c.local a.example|ndots:5";
        let of_host = "9.9.9.9|a.example|ndots:2 rotate";
        let own = json!({"nameservers": ["1.1.1.1"], "searches": ["s"], "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]});
        for (spec, expected) in [
            (json!({}), in_cluster),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), of_host),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), in_cluster),
            (json!({"dnsPolicy": "Default"}), of_host),
            (json!({"dnsPolicy": "None", "dnsConfig": own}), "1.1.1.1|s|ndots:1 edns0"),
            (json!({"dnsPolicy": "Default", "dnsConfig": own}), "9.9.9.9 1.1.1.1|a.example s|ndots:1 rotate edns0"),
        ] {
            let mut with = spec.clone();
            with["containers"] = json!([]);
            let config = for_pod(&pod(with), &resolvers);
            let got = [config.servers.join(" "), config.searches.join(" "), config.options.join(" ")].join("|");
            assert_eq!(got, expected, "{spec}");
        }
    }
}
