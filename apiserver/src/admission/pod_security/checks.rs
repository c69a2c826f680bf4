//! What the baseline and restricted standards refuse, with upstream's words. One function for each check, one table.

use std::collections::BTreeSet;

use api::{Value, meta};

use super::policy::{Level, Standard};

/// What is forbidden, and where.
struct Violation {
    reason: &'static str,
    detail: String,
}

type Check = fn(&Pod<'_>, Standard) -> Option<Violation>;

/// The checks that both standards have, by upstream's ids.
const BASELINE: [Check; 12] = [
    app_armor,
    |pod, standard| if replaces(standard, 22) { None } else { capabilities_baseline(pod) },
    host_namespaces,
    |pod, standard| if replaces(standard, 0) { None } else { host_path(pod) },
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    se_linux,
    |pod, standard| if replaces(standard, 19) || !standard.has(19) { None } else { seccomp(pod, false) },
    sysctls,
    windows_host_process,
];

/// The checks that only the restricted standard has.
const RESTRICTED: [Check; 6] = [
    privilege_escalation,
    |pod, standard| if standard.has(22) { capabilities_restricted(pod, standard) } else { None },
    |pod, _| volume_types(pod),
    run_as_non_root,
    run_as_user,
    |pod, standard| {
        let applies = standard.has(19) && !(standard.has(25) && pod.is_windows());
        if applies { seccomp(pod, true) } else { None }
    },
];

/// The restricted standard has a stricter check in the place of a baseline one.
fn replaces(standard: Standard, minor: u32) -> bool {
    standard.level == Level::Restricted && standard.has(minor)
}

/// Everything a pod or template violates, in one line; None when nothing.
pub(super) fn violations(standard: &Standard, pod: &Value) -> Option<String> {
    let checks: Vec<&Check> = match standard.level {
        Level::Privileged => return None,
        Level::Baseline => BASELINE.iter().collect(),
        Level::Restricted => BASELINE.iter().chain(&RESTRICTED).collect(),
    };
    let pod = Pod::new(pod);
    let found: Vec<String> = checks
        .into_iter()
        .filter_map(|check| check(&pod, *standard))
        .map(|violation| match violation.detail.as_str() {
            "" => violation.reason.to_owned(),
            detail => format!("{} ({detail})", violation.reason),
        })
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// A pod with its containers in the order in which checks visit them.
struct Pod<'a> {
    object: &'a Value,
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Pod<'a> {
    fn new(object: &'a Value) -> Self {
        let spec = &object["spec"];
        let fields = ["initContainers", "containers", "ephemeralContainers"];
        let containers = fields.iter().filter_map(|field| spec.get(field)?.as_array()).flatten();
        Self { object, spec, containers: containers.collect() }
    }

    fn is_windows(&self) -> bool {
        meta::find(self.spec, "/os/name").and_then(Value::as_str) == Some("windows")
    }

    /// The pod has users of its own, so that its root is not the node's.
    fn has_own_users(&self) -> bool {
        self.spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
    }

    /// The names of the containers for which something holds.
    fn containers_where(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers.iter().filter(|container| holds(container));
        bad.map(|container| container.get("name").and_then(Value::as_str).unwrap_or_default()).collect()
    }

    fn context(&self, field: &str) -> Option<&'a Value> {
        self.spec.get("securityContext")?.get(field)
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        self.spec.get("volumes").and_then(Value::as_array).into_iter().flatten()
    }
}

fn context<'a>(container: &'a Value, field: &str) -> Option<&'a Value> {
    container.get("securityContext")?.get(field)
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

fn named(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers.iter().copied()))
}

/// `pod and containers "a", "b"`; None when neither.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !containers.is_empty() {
        all.push(named(containers));
    }
    (!all.is_empty()).then(|| all.join(" and "))
}

fn app_armor(pod: &Pod<'_>, _: Standard) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut is_bad = |profile: Option<&Value>| {
        let kind = profile.and_then(|profile| profile.get("type")?.as_str());
        let bad = kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"));
        bad.is_some_and(|kind| {
            values.insert(kind.to_owned());
            true
        })
    };
    let own = is_bad(pod.context("appArmorProfile"));
    let containers = pod.containers_where(|container| is_bad(context(container, "appArmorProfile")));
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = meta::strings(pod.object, "annotations");
    let annotations = annotations.filter(|(key, value)| key.starts_with(PREFIX) && !allowed(value));
    let annotations: BTreeSet<String> = annotations.map(|(key, value)| format!("{key}={value:?}")).collect();
    let mut who: Vec<String> = setters(own, &containers).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<&str> = values.iter().chain(&annotations).map(String::as_str).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len());
    let detail = format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(all));
    Some(Violation { reason, detail })
}

fn added(container: &Value) -> impl Iterator<Item = &str> {
    texts(context(container, "capabilities").and_then(|capabilities| capabilities.get("add")))
}

fn must_not_include(containers: &[&str], forbidden: &BTreeSet<String>) -> String {
    let capabilities = quoted(forbidden.iter().map(String::as_str));
    format!("{} must not include {capabilities} in securityContext.capabilities.add", named(containers))
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut forbidden = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let own: Vec<String> = added(container).filter(|one| !ALLOWED.contains(one)).map(str::to_owned).collect();
        let is_bad = !own.is_empty();
        forbidden.extend(own);
        is_bad
    });
    let detail = must_not_include(&bad, &forbidden);
    (!bad.is_empty()).then_some(Violation { reason: "non-default capabilities", detail })
}

fn capabilities_restricted(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    if standard.has(25) && pod.is_windows() {
        return None;
    }
    let keeps = pod.containers_where(|container| {
        let dropped = context(container, "capabilities").and_then(|capabilities| capabilities.get("drop"));
        !texts(dropped).any(|one| one == "ALL")
    });
    let mut forbidden = BTreeSet::new();
    let adds = pod.containers_where(|container| {
        let own: Vec<String> = added(container).filter(|one| *one != "NET_BIND_SERVICE").map(str::to_owned).collect();
        let is_bad = !own.is_empty();
        forbidden.extend(own);
        is_bad
    });
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeps)));
    }
    if !adds.is_empty() {
        details.push(must_not_include(&adds, &forbidden));
    }
    let detail = details.join("; ");
    (!details.is_empty()).then_some(Violation { reason: "unrestricted capabilities", detail })
}

fn host_namespaces(pod: &Pod<'_>, _: Standard) -> Option<Violation> {
    let is_set = |field: &&&str| pod.spec.get(field).and_then(Value::as_bool).unwrap_or(false);
    let set = ["hostNetwork", "hostPID", "hostIPC"];
    let set: Vec<String> = set.iter().filter(is_set).map(|field| format!("{field}=true")).collect();
    let detail = set.join(", ");
    (!set.is_empty()).then_some(Violation { reason: "host namespaces", detail })
}

fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.volumes().filter(|volume| volume.get("hostPath").is_some());
    let bad: Vec<&str> = bad.filter_map(|volume| volume.get("name")?.as_str()).collect();
    let detail = format!("{} {}", plural("volume", "volumes", bad.len()), quoted(bad.iter().copied()));
    (!bad.is_empty()).then_some(Violation { reason: "hostPath volumes", detail })
}

fn host_ports(pod: &Pod<'_>, _: Standard) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let own = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let own = own.filter_map(|port| port.get("hostPort")?.as_i64()).filter(|port| *port != 0);
        let own: Vec<String> = own.map(|port| port.to_string()).collect();
        let is_bad = !own.is_empty();
        ports.extend(own);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let (uses, word) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports: Vec<String> = ports.into_iter().collect();
    let detail = format!("{} {uses} {word} {}", named(&bad), ports.join(", "));
    Some(Violation { reason: "hostPort", detail })
}

fn host_probes(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    const HANDLERS: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    if !standard.has(34) {
        return None;
    }
    let mut hosts = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let handlers = HANDLERS.iter().filter_map(|pointer| meta::find(container, pointer));
        let own = handlers.flat_map(|handler| {
            ["/httpGet/host", "/tcpSocket/host"].into_iter().filter_map(|at| meta::find(handler, at)?.as_str())
        });
        let own: Vec<String> = own.filter(|host| !host.is_empty()).map(str::to_owned).collect();
        let is_bad = !own.is_empty();
        hosts.extend(own);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let bad: BTreeSet<&str> = bad.into_iter().collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    let uses = plural("uses", "use", bad.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = format!("{} {uses} {word} {}", named(&bad), quoted(hosts.iter().map(String::as_str)));
    Some(Violation { reason: "probe or lifecycle host", detail })
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

fn privileged(pod: &Pod<'_>, _: Standard) -> Option<Violation> {
    let bad = pod.containers_where(|container| is_true(context(container, "privileged")));
    let detail = format!("{} must not set securityContext.privileged=true", named(&bad));
    (!bad.is_empty()).then_some(Violation { reason: "privileged", detail })
}

fn proc_mount(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    if standard.level == Level::Baseline && standard.has(35) && pod.has_own_users() {
        return None;
    }
    let mut kinds = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let kind = context(container, "procMount").and_then(Value::as_str).filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    let kinds = quoted(kinds.iter().map(String::as_str));
    let detail = format!("{} must not set securityContext.procMount to {kinds}", named(&bad));
    (!bad.is_empty()).then_some(Violation { reason: "procMount", detail })
}

fn se_linux(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: Option<&Value>| {
        let Some(options) = options.filter(|options| options.is_object()) else {
            return false;
        };
        let text = |field: &str| options.get(field).and_then(Value::as_str).unwrap_or_default();
        let allowed = match text("type") {
            "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
            "container_engine_t" => standard.has(31),
            _ => false,
        };
        if !allowed {
            types.insert(text("type").to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        !allowed || !text("user").is_empty() || !text("role").is_empty()
    };
    let own = is_bad(pod.context("seLinuxOptions"));
    let containers = pod.containers_where(|container| is_bad(context(container, "seLinuxOptions")));
    let who = setters(own, &containers)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        let word = plural("type", "types", types.len());
        data.push(format!("{word} {}", quoted(types.iter().map(String::as_str))));
    }
    if user {
        data.push("user may not be set".to_owned());
    }
    if role {
        data.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    Some(Violation { reason: "seLinuxOptions", detail })
}

/// `required` is the restricted form: a profile has to be set.
fn seccomp(pod: &Pod<'_>, required: bool) -> Option<Violation> {
    let kind =
        |profile: Option<&Value>| profile.map(|p| p.get("type").and_then(Value::as_str).unwrap_or_default().to_owned());
    let is_good = |kind: &str| matches!(kind, "Localhost" | "RuntimeDefault");
    let own = kind(pod.context("seccompProfile"));
    let mut values: BTreeSet<String> = own.iter().filter(|kind| !is_good(kind)).cloned().collect();
    let is_bad = !values.is_empty();
    let containers = pod.containers_where(|container| {
        let bad = kind(context(container, "seccompProfile")).filter(|kind| !is_good(kind));
        values.extend(bad.clone());
        bad.is_some()
    });
    if let Some(who) = setters(is_bad, &containers) {
        let values = quoted(values.iter().map(String::as_str));
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {values}");
        return Some(Violation { reason: "seccompProfile", detail });
    }
    if !required || own.is_some() {
        return None;
    }
    let unset = pod.containers_where(|container| context(container, "seccompProfile").is_none());
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&unset)
    );
    (!unset.is_empty()).then_some(Violation { reason: "seccompProfile", detail })
}

fn sysctls(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    const ALLOWED: [(&str, u32); 14] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
        ("net.ipv4.tcp_slow_start_after_idle", 37),
        ("net.ipv4.tcp_notsent_lowat", 37),
    ];
    let is_allowed = |name: &str| ALLOWED.iter().any(|(known, minor)| *known == name && standard.has(*minor));
    let set = pod.context("sysctls").and_then(Value::as_array).into_iter().flatten();
    let bad: Vec<&str> = set.filter_map(|one| one.get("name")?.as_str()).filter(|name| !is_allowed(name)).collect();
    let detail = bad.join(", ");
    (!bad.is_empty()).then_some(Violation { reason: "forbidden sysctls", detail })
}

fn windows_host_process(pod: &Pod<'_>, _: Standard) -> Option<Violation> {
    let is_bad = |options: Option<&Value>| is_true(options.and_then(|options| options.get("hostProcess")));
    let containers = pod.containers_where(|container| is_bad(context(container, "windowsOptions")));
    let who = setters(is_bad(pod.context("windowsOptions")), &containers)?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation { reason: "hostProcess", detail })
}

fn privilege_escalation(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.has(8) || standard.has(25) && pod.is_windows() {
        return None;
    }
    let allows =
        |container: &Value| context(container, "allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false);
    let bad = pod.containers_where(allows);
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    (!bad.is_empty()).then_some(Violation { reason: "allowPrivilegeEscalation != false", detail })
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |volume: &Value| {
        let fields = volume.as_object().into_iter().flatten();
        fields.map(|(field, _)| field.clone()).find(|field| field != "name").unwrap_or_else(|| "unknown".to_owned())
    };
    let bad: Vec<&Value> = pod.volumes().filter(|volume| !ALLOWED.contains(&kind(volume).as_str())).collect();
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = bad.iter().map(|volume| kind(volume)).collect();
    let names = quoted(bad.iter().map(|volume| volume.get("name").and_then(Value::as_str).unwrap_or_default()));
    let (word, uses) = (plural("volume", "volumes", bad.len()), plural("uses", "use", bad.len()));
    let what = plural("restricted volume type", "restricted volume types", kinds.len());
    let detail = format!("{word} {names} {uses} {what} {}", quoted(kinds.iter().map(String::as_str)));
    Some(Violation { reason: "restricted volume types", detail })
}

fn run_as_non_root(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if standard.has(35) && pod.has_own_users() {
        return None;
    }
    let set = |value: Option<&Value>| value.and_then(Value::as_bool);
    let own = set(pod.context("runAsNonRoot"));
    let explicit = pod.containers_where(|container| set(context(container, "runAsNonRoot")) == Some(false));
    if let Some(who) = setters(own == Some(false), &explicit) {
        return Some(Violation {
            reason: REASON,
            detail: format!("{who} must not set securityContext.runAsNonRoot=false"),
        });
    }
    if own == Some(true) {
        return None;
    }
    let unset = pod.containers_where(|container| set(context(container, "runAsNonRoot")).is_none());
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named(&unset));
    (!unset.is_empty()).then_some(Violation { reason: REASON, detail })
}

fn run_as_user(pod: &Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.has(23) || standard.has(35) && pod.has_own_users() {
        return None;
    }
    let is_root = |value: Option<&Value>| value.and_then(Value::as_i64) == Some(0);
    let containers = pod.containers_where(|container| is_root(context(container, "runAsUser")));
    let who = setters(is_root(pod.context("runAsUser")), &containers)?;
    Some(Violation { reason: "runAsUser=0", detail: format!("{who} must not set runAsUser=0") })
}

#[cfg(test)]
mod tests;
