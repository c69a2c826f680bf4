//! Upstream's flags that have no effect here. They are taken, so that a command line made for upstream works, and named in a
//! warning, so that nobody believes that they do something.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// Name, and whether the value may be left out.
const FLAGS: &[(&str, bool)] = &[
    ("admission-control", false),
    ("admission-control-config-file", false),
    ("aggregator-reject-forwarding-redirect", true),
    ("allow-metric-labels", false),
    ("allow-metric-labels-manifest", false),
    ("allow-privileged", true),
    ("audit-log-batch-buffer-size", false),
    ("audit-log-batch-max-size", false),
    ("audit-log-batch-max-wait", false),
    ("audit-log-batch-throttle-burst", false),
    ("audit-log-batch-throttle-enable", true),
    ("audit-log-batch-throttle-qps", false),
    ("audit-log-compress", true),
    ("audit-log-format", false),
    ("audit-log-maxage", false),
    ("audit-log-maxbackup", false),
    ("audit-log-maxsize", false),
    ("audit-log-mode", false),
    ("audit-log-path", false),
    ("audit-log-truncate-enabled", true),
    ("audit-log-truncate-max-batch-size", false),
    ("audit-log-truncate-max-event-size", false),
    ("audit-log-version", false),
    ("audit-policy-file", false),
    ("audit-webhook-batch-buffer-size", false),
    ("audit-webhook-batch-max-size", false),
    ("audit-webhook-batch-max-wait", false),
    ("audit-webhook-batch-throttle-burst", false),
    ("audit-webhook-batch-throttle-enable", true),
    ("audit-webhook-batch-throttle-qps", false),
    ("audit-webhook-config-file", false),
    ("audit-webhook-initial-backoff", false),
    ("audit-webhook-mode", false),
    ("audit-webhook-truncate-enabled", true),
    ("audit-webhook-truncate-max-batch-size", false),
    ("audit-webhook-truncate-max-event-size", false),
    ("audit-webhook-version", false),
    ("authentication-config", false),
    ("authentication-token-webhook-cache-ttl", false),
    ("authentication-token-webhook-config-file", false),
    ("authentication-token-webhook-version", false),
    ("authorization-config", false),
    ("authorization-policy-file", false),
    ("authorization-webhook-cache-authorized-ttl", false),
    ("authorization-webhook-cache-unauthorized-ttl", false),
    ("authorization-webhook-config-file", false),
    ("authorization-webhook-version", false),
    ("contention-profiling", true),
    ("coordinated-leadership-lease-duration", false),
    ("coordinated-leadership-renew-deadline", false),
    ("coordinated-leadership-retry-period", false),
    ("cors-allowed-origins", false),
    ("debug-socket-path", false),
    ("delete-collection-workers", false),
    ("disable-http2-serving", true),
    ("disabled-metrics", false),
    ("egress-selector-config-file", false),
    ("emulated-version", false),
    ("emulation-forward-compatible", true),
    ("enable-aggregator-routing", true),
    ("enable-garbage-collector", true),
    ("enable-logs-handler", true),
    ("enable-priority-and-fairness", true),
    ("encryption-provider-config", false),
    ("encryption-provider-config-automatic-reload", true),
    ("endpoint-reconciler-type", false),
    ("etcd-count-metric-poll-period", false),
    ("etcd-db-metric-poll-interval", false),
    ("etcd-readycheck-timeout", false),
    ("external-hostname", false),
    ("feature-gates", false),
    ("goaway-chance", false),
    ("http2-max-streams-per-connection", false),
    ("kubelet-timeout", false),
    ("kubernetes-service-node-port", false),
    ("livez-grace-period", false),
    ("log-flush-frequency", false),
    ("log-json-info-buffer-size", false),
    ("log-json-split-stream", true),
    ("log-text-info-buffer-size", false),
    ("log-text-split-stream", true),
    ("logging-format", false),
    ("max-connection-bytes-per-sec", false),
    ("min-compatibility-version", false),
    ("min-request-timeout", false),
    ("oidc-ca-file", false),
    ("oidc-client-id", false),
    ("oidc-groups-claim", false),
    ("oidc-groups-prefix", false),
    ("oidc-issuer-url", false),
    ("oidc-required-claim", false),
    ("oidc-signing-algs", false),
    ("oidc-username-claim", false),
    ("oidc-username-prefix", false),
    ("peer-advertise-ip", false),
    ("peer-advertise-port", false),
    ("peer-ca-file", false),
    ("permit-address-sharing", true),
    ("permit-port-sharing", true),
    ("profiling", true),
    ("proxy-client-cert-file", false),
    ("proxy-client-key-file", false),
    ("request-timeout", false),
    ("requestheader-allowed-names", false),
    ("requestheader-client-ca-file", false),
    ("requestheader-extra-headers-prefix", false),
    ("requestheader-group-headers", false),
    ("requestheader-uid-headers", false),
    ("requestheader-username-headers", false),
    ("runtime-config", false),
    ("runtime-config-emulation-forward-compatible", true),
    ("service-account-lookup", true),
    ("service-account-signing-endpoint", false),
    ("show-hidden-metrics-for-version", false),
    ("shutdown-send-retry-after", true),
    ("shutdown-watch-termination-grace-period", false),
    ("storage-initialization-timeout", false),
    ("strict-transport-security-directives", false),
    ("tls-cipher-suites", false),
    ("tls-curve-preferences", false),
    ("tls-min-version", false),
    ("tls-sni-cert-key", false),
    ("tracing-config-file", false),
    ("v", false),
    ("version", false),
    ("vmodule", false),
    ("watch-cache", true),
    ("watch-cache-sizes", false),
];

/// Which of them were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored(Vec<&'static str>);

impl Ignored {
    /// Names what was given.
    pub fn warn(&self) {
        for flag in &self.0 {
            tracing::warn!(flag, "this flag has no effect here");
        }
    }
}

impl clap::Args for Ignored {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|(name, is_switch)| {
            let arg = Arg::new(*name).long(*name).hide(true).action(ArgAction::Append);
            let arg = if *name == "v" { arg.short('v') } else { arg };
            if *is_switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Ignored {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut ignored = Self::default();
        ignored.update_from_arg_matches(matches)?;
        Ok(ignored)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let given = |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        self.0 = FLAGS.iter().map(|(name, _)| *name).filter(|name| given(name)).collect();
        Ok(())
    }
}
