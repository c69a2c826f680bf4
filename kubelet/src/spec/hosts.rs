//! `/etc/hosts` and host names of pods.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::pod;

/// Kernel's limit of a host name.
const MAX_HOSTNAME: usize = 63;

/// Host name and domain (empty: none).
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return (truncated(name), String::new());
    }
    let named = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = truncated(named.unwrap_or(pod::name(pod)));
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let domain = subdomain.map(|sub| format!("{sub}.{}.svc.{cluster_domain}", pod::namespace(pod)));
    (name, domain.unwrap_or_default())
}

fn truncated(name: &str) -> String {
    if name.len() <= MAX_HOSTNAME {
        return name.to_owned();
    }
    name[..MAX_HOSTNAME].trim_end_matches(['-', '.']).to_owned()
}

/// What the kernel is told: the full name when the pod asks for it.
pub(crate) fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = hostname(pod, cluster_domain);
    if !pod::spec(pod).set_hostname_as_fqdn.unwrap_or(false) || domain.is_empty() {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > MAX_HOSTNAME + 1 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The file for a pod with a network of its own.
pub(crate) fn managed(ips: &[String], name: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let _ = match domain {
            "" => writeln!(text, "{ip}\t{name}"),
            domain => writeln!(text, "{ip}\t{name}.{domain}\t{name}"),
        };
    }
    add_aliases(&mut text, aliases);
    text
}

/// The file for a pod on the host's network: the host's own.
pub(crate) fn of_host(host: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{host}");
    add_aliases(&mut text, aliases);
    text
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\t");
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn names() {
        let long = "a".repeat(62) + "-b";
        for (spec, name, domain) in [
            (json!({}), "p", ""),
            (json!({"hostname": "h"}), "h", ""),
            (json!({"hostname": "h", "subdomain": "s"}), "h", "s.ns.svc.cluster.local"),
            (json!({"hostname": long}), &"a".repeat(62), ""),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([]);
            assert_eq!(hostname(&pod(spec), "cluster.local"), (name.to_owned(), domain.to_owned()));
        }
        let fqdn = pod(json!({"containers": [], "subdomain": "s", "setHostnameAsFQDN": true}));
        assert_eq!(kernel_name(&fqdn, "cluster.local").unwrap(), "p.s.ns.svc.cluster.local");
    }

    #[test]
    fn files() {
        let alias = HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["x".into(), "y".into()]) };
        let text = managed(&["10.0.0.1".into()], "p", "d", &[alias]);
        assert!(text.ends_with("10.0.0.1\tp.d\tp\n\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"), "{text}");
        assert!(
            of_host("127.0.0.1 a\n", &[]).starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 a\n")
        );
    }
}
