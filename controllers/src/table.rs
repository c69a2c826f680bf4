//! The controllers there are: name, identity, whether they run by default, how they start.

use std::pin::Pin;

use crate::{Error, context::Context};

type Started = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// One controller.
pub(crate) struct Descriptor {
    /// As `--controllers` and upstream's logs call it.
    pub(crate) name: &'static str,
    /// Its former name, still accepted by `--controllers`; "" if it never had another.
    pub(crate) alias: &'static str,
    /// The service account it speaks as.
    pub(crate) identity: &'static str,
    /// Part of `*`.
    pub(crate) default: bool,
    pub(crate) start: fn(Context) -> Started,
}

macro_rules! descriptor {
    ($name:literal, $alias:literal, $identity:literal, $default:literal, $start:path) => {
        Descriptor {
            name: $name,
            alias: $alias,
            identity: $identity,
            default: $default,
            start: |context| Box::pin($start(context)),
        }
    };
}

/// In the order in which they start.
pub(crate) const DESCRIPTORS: &[Descriptor] = &[
    // It speaks as the process; the name is that of upstream's client.
    descriptor!(
        "serviceaccount-token-controller",
        "serviceaccount-token",
        "tokens-controller",
        true,
        crate::legacytokens::run
    ),
    descriptor!(
        "serviceaccount-controller",
        "serviceaccount",
        "service-account-controller",
        true,
        crate::serviceaccount::run
    ),
    descriptor!(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        "root-ca-cert-publisher",
        true,
        crate::root_ca::run
    ),
    descriptor!("namespace-controller", "namespace", "namespace-controller", true, crate::namespace::run),
    descriptor!("deployment-controller", "deployment", "deployment-controller", true, crate::deployment::run),
    descriptor!("replicaset-controller", "replicaset", "replicaset-controller", true, crate::replicaset::run),
    descriptor!(
        "replicationcontroller-controller",
        "replicationcontroller",
        "replication-controller",
        true,
        crate::replicaset::run_replication_controllers
    ),
    descriptor!(
        "endpointslice-controller",
        "endpointslice",
        "endpointslice-controller",
        true,
        crate::endpointslice::run
    ),
    descriptor!("endpoints-controller", "endpoint", "endpoint-controller", true, crate::endpoints::run),
    descriptor!(
        "garbage-collector-controller",
        "garbagecollector",
        "generic-garbage-collector",
        true,
        crate::garbage::run
    ),
    descriptor!("pod-garbage-collector-controller", "podgc", "pod-garbage-collector", true, crate::podgc::run),
    descriptor!("node-ipam-controller", "nodeipam", "node-controller", true, crate::nodeipam::run),
    descriptor!("taint-eviction-controller", "", "node-controller", true, crate::tainteviction::run),
    descriptor!("node-lifecycle-controller", "nodelifecycle", "node-controller", true, crate::nodelifecycle::run),
    descriptor!(
        "certificatesigningrequest-approving-controller",
        "csrapproving",
        "certificate-controller",
        true,
        crate::certificates::run_approving
    ),
    descriptor!(
        "certificatesigningrequest-signing-controller",
        "csrsigning",
        "certificate-controller",
        true,
        crate::certificates::run_signing
    ),
    descriptor!(
        "certificatesigningrequest-cleaner-controller",
        "csrcleaner",
        "certificate-controller",
        true,
        crate::certificates::run_cleaner
    ),
    descriptor!(
        "podcertificaterequest-cleaner-controller",
        "",
        "podcertificaterequestcleaner",
        true,
        crate::certificates::run_pod_cleaner
    ),
    descriptor!("ttl-controller", "ttl", "ttl-controller", true, crate::nodettl::run),
    descriptor!(
        "bootstrap-signer-controller",
        "bootstrapsigner",
        "bootstrap-signer",
        false,
        crate::bootstrap::run_signer
    ),
    descriptor!("token-cleaner-controller", "tokencleaner", "token-cleaner", false, crate::bootstrap::run_cleaner),
    descriptor!(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation",
        "clusterrole-aggregation-controller",
        true,
        crate::clusterroles::run
    ),
    descriptor!(
        "ttl-after-finished-controller",
        "ttl-after-finished",
        "ttl-after-finished-controller",
        true,
        crate::finished::run
    ),
    descriptor!("daemonset-controller", "daemonset", "daemon-set-controller", true, crate::daemonset::run),
    descriptor!("job-controller", "job", "job-controller", true, crate::job::run),
    descriptor!("cronjob-controller", "cronjob", "cronjob-controller", true, crate::cronjob::run),
    descriptor!("statefulset-controller", "statefulset", "statefulset-controller", true, crate::statefulset::run),
    descriptor!("disruption-controller", "disruption", "disruption-controller", true, crate::disruption::run),
    descriptor!(
        "persistentvolume-binder-controller",
        "persistentvolume-binder",
        "persistent-volume-binder",
        true,
        crate::volumebinder::run
    ),
    descriptor!(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection",
        "pvc-protection-controller",
        true,
        crate::protection::run_claims
    ),
    descriptor!(
        "persistentvolume-protection-controller",
        "pv-protection",
        "pv-protection-controller",
        true,
        crate::protection::run_volumes
    ),
    descriptor!(
        "volumeattributesclass-protection-controller",
        "",
        "volumeattributesclass-protection-controller",
        true,
        crate::protection::run_classes
    ),
    descriptor!(
        "ephemeral-volume-controller",
        "ephemeral-volume",
        "ephemeral-volume-controller",
        true,
        crate::ephemeral::run
    ),
    descriptor!(
        "resourcequota-controller",
        "resourcequota",
        "resourcequota-controller",
        true,
        crate::resourcequota::run
    ),
    descriptor!(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring",
        "endpointslicemirroring-controller",
        true,
        crate::mirroring::run
    ),
    descriptor!(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy-service-account-token-cleaner",
        "legacy-service-account-token-cleaner",
        true,
        crate::legacytokens::run_cleaner
    ),
    descriptor!("service-cidr-controller", "", "service-cidrs-controller", true, crate::servicecidrs::run),
];

/// Refuses names that no controller has.
pub(crate) fn check(selected: &[String]) -> Result<(), Error> {
    let known = |name: &str| name == "*" || DESCRIPTORS.iter().any(|it| it.name == name || it.alias == name);
    match selected.iter().find(|name| !known(name.trim_start_matches('-'))) {
        Some(name) => Err(Error::UnknownController { name: name.clone() }),
        None => Ok(()),
    }
}

/// The controllers that a `--controllers` list selects: by name, `-name` to leave one out, `*` for the default ones.
pub(crate) fn enabled(selected: &[String]) -> impl Iterator<Item = &'static Descriptor> {
    let is_enabled = |it: &Descriptor| {
        let names = |entry: &str| entry == it.name || entry == it.alias;
        let said = selected.iter().find_map(|entry| match entry.strip_prefix('-') {
            Some(entry) => names(entry).then_some(false),
            None => names(entry).then_some(true),
        });
        said.unwrap_or_else(|| it.default && selected.iter().any(|entry| entry == "*"))
    };
    DESCRIPTORS.iter().filter(move |it| is_enabled(it))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn names_and_aliases_select() {
        let names = |text: &str| enabled(&list(text)).map(|it| it.alias).collect::<Vec<_>>();
        assert_eq!(names("namespace"), ["namespace"]);
        assert_eq!(names("namespace-controller"), ["namespace"]);
        assert!(!names("*,-namespace").contains(&"namespace"));
        assert!(names("*,-namespace").contains(&"serviceaccount"));
        assert!(check(&list("*,-namespace-controller")).is_ok());
        assert!(check(&list("*,nonsense")).is_err());
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        assert!(
            DESCRIPTORS
                .iter()
                .flat_map(|it| [it.name, it.alias])
                .filter(|name| !name.is_empty())
                .all(|name| seen.insert(name))
        );
    }
}
