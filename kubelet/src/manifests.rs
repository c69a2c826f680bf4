//! Static pods: manifests in a directory, run without being asked for by the API, and shown there as mirrors.

mod references;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest as _, Sha256};

use crate::kubelet::Kubelet;
use crate::node::pause;
use crate::pod;
use crate::pods::Pods;
use crate::statuses;

/// The directory is read this often: a notification would not tell about network file systems.
const PERIOD: Duration = Duration::from_secs(5);
/// As upstream's limit.
const MAX_MANIFEST_BYTES: u64 = 10 << 20;
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";
const MIRROR: &str = "kubernetes.io/config.mirror";
const NODE_CRITICAL: &str = "system-node-critical";
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// Takes in the manifests that are there by now, and follows them.
pub(crate) fn start(kubelet: &Arc<Kubelet>) {
    let Some(directory) = kubelet.config.manifest_dir.clone() else { return };
    look(kubelet, &directory);
    let shared = kubelet.clone();
    kubelet.tasks.supervise("static pods", move || run(shared.clone()));
}

async fn run(kubelet: Arc<Kubelet>) -> Result<(), std::convert::Infallible> {
    let directory = kubelet.config.manifest_dir.clone().unwrap_or_default();
    loop {
        if let Some(found) = look(&kubelet, &directory) {
            mirror(&kubelet, &found).await;
        }
        if !pause(&kubelet, PERIOD).await {
            return Ok(());
        }
    }
}

/// Reads the manifests and brings the static pods to them. That nothing can be read does not say that nothing is wanted.
fn look(kubelet: &Arc<Kubelet>, directory: &Path) -> Option<BTreeMap<String, Arc<Pod>>> {
    let found = read(directory, &kubelet.config.node_name)
        .inspect_err(
            |error| tracing::warn!(%error, path = %directory.display(), "cannot read the static pods' manifests"),
        )
        .ok()?;
    take(kubelet, &found);
    kubelet.pods.static_pods_are_known();
    Some(found)
}

/// Brings the static pods that there are to those that were found.
fn take(kubelet: &Arc<Kubelet>, found: &BTreeMap<String, Arc<Pod>>) {
    for view in kubelet.pods.list().into_iter().filter(|view| pod::is_static(&view.pod)) {
        if !found.contains_key(pod::uid(&view.pod)) {
            Pods::remove(kubelet, &view.pod);
        }
    }
    for pod in found.values() {
        // A changed manifest is another pod of the same name, and one that comes back a new life of the same pod:
        // both wait for the earlier one's end.
        if kubelet.pods.find(pod::namespace(pod), pod::name(pod), None).is_none() {
            Pods::apply(kubelet, pod);
        }
    }
}

/// By uid. A directory that does not exist holds nothing; one that cannot be read is an error.
fn read(directory: &Path, node: &str) -> std::io::Result<BTreeMap<String, Arc<Pod>>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut pods = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') || !path.is_file() {
            continue;
        }
        match text_of(&path).and_then(|text| parse(&text, node)) {
            Ok(pod) => {
                pods.insert(pod::uid(&pod).to_owned(), Arc::new(pod));
            }
            Err(error) => tracing::warn!(path = %path.display(), error, "cannot use a manifest"),
        }
    }
    Ok(pods)
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(MAX_MANIFEST_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_MANIFEST_BYTES {
        return Err(format!("the manifest is larger than {MAX_MANIFEST_BYTES} bytes"));
    }
    Ok(text)
}

/// A pod as the API would have made it, with a uid that depends on nothing but the text and the node.
fn parse(text: &str, node: &str) -> Result<Pod, String> {
    let mut tree: api::Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    if tree.get("kind").and_then(api::Value::as_str) != Some("Pod") {
        return Err("the manifest is no pod".into());
    }
    if !tree.get("metadata").is_some_and(api::Value::is_object) {
        return Err("the manifest's metadata is no object".into());
    }
    let name = api::meta::name(&tree).to_owned();
    let hash: String = Sha256::digest(format!("{node}\n{text}")).iter().take(16).map(|b| format!("{b:02x}")).collect();
    tree["metadata"]["name"] = format!("{name}-{node}").into();
    if api::meta::namespace(&tree).is_empty() {
        tree["metadata"]["namespace"] = "default".into();
    }
    complete(&mut tree)?;
    let mut pod: Pod = serde_json::from_value(tree).map_err(|error| error.to_string())?;
    if let Some(resource) = references::of(&pod) {
        return Err(format!("static pods may not reference {resource}"));
    }
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    if spec.priority_class_name.as_deref() == Some(NODE_CRITICAL) {
        spec.priority.get_or_insert(NODE_CRITICAL_PRIORITY);
    }
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
    }
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.into(), hash.clone());
    annotations.insert(SOURCE.into(), "file".into());
    annotations.entry(SEEN.into()).or_insert_with(|| api::time::seconds(daemon::clock::now()));
    pod.metadata.uid = Some(hash);
    pod.status = None;
    Ok(pod)
}

/// Defaults and validation, as on the API's way in.
fn complete(tree: &mut api::Value) -> Result<(), String> {
    let strategy = kinds::strategy("", "pods");
    let namespace = api::meta::namespace(tree).to_owned();
    let request = kinds::Request {
        now: daemon::clock::now(),
        namespace: &namespace,
        version: "v1",
        user: "",
        groups: &[],
        user_uid: "",
    };
    if let Some(id) = api::schema::table().type_of("", "v1", "Pod") {
        api::schema::apply_defaults(id, tree);
    }
    strategy.default(tree, &request);
    let errors = kinds::validate::create(strategy, tree, true, &request);
    if errors.is_empty() { Ok(()) } else { Err(format!("{errors:?}")) }
}

/// Makes missing mirrors, replaces outdated ones, removes those of pods that are gone. One that fails does not stop the
/// others: the next pass tries again.
async fn mirror(kubelet: &Kubelet, found: &BTreeMap<String, Arc<Pod>>) {
    let wanted = |mirror: &Pod| found.contains_key(pod::annotation(mirror, MIRROR).unwrap_or_default());
    for mirror in kubelet.pods.mirrors() {
        if wanted(&mirror) && !pod::is_deleted(&mirror) {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(kubelet.client.clone(), pod::namespace(&mirror));
        if let Err(error) = statuses::delete(&api, &mirror).await {
            tracing::warn!(pod = pod::describe(&mirror), %error, "cannot remove a mirror pod");
        }
    }
    for (uid, pod) in found.iter().filter(|(uid, _)| kubelet.pods.contains(uid)) {
        if kubelet.pods.mirror(pod).is_none()
            && let Err(error) = create(kubelet, uid, pod).await
        {
            tracing::warn!(pod = pod::describe(pod), %error, "cannot make a mirror pod");
        }
    }
}

async fn create(kubelet: &Kubelet, uid: &str, pod: &Pod) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(kubelet.client.clone());
    let Some(node) = nodes.get_opt(&kubelet.config.node_name).await? else { return Ok(()) };
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.into(), uid.to_owned());
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: kubelet.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    let api: Api<Pod> = Api::namespaced(kubelet.client.clone(), pod::namespace(pod));
    match api.create(&PostParams::default(), &mirror).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: c, image: i}]\n";

    #[test]
    fn a_manifest_becomes_a_pod() {
        let pod = parse(TEXT, "n1").unwrap();
        assert_eq!(pod::name(&pod), "web-n1");
        assert!(pod::is_static(&pod) && !pod::is_mirror(&pod));
        assert_eq!(pod::spec(&pod).containers[0].image_pull_policy.as_deref(), Some("Always"));
        assert_eq!(pod::uid(&pod).len(), 32);
        assert_eq!(pod::uid(&pod), pod::uid(&parse(TEXT, "n1").unwrap()), "the same text is the same pod");
        assert_ne!(pod::uid(&pod), pod::uid(&parse(TEXT, "n2").unwrap()));
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        assert!(parse("kind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "n").is_err());
        assert!(parse("kind: Service\nmetadata: {name: x}", "n").is_err());
        assert!(parse("[", "n").is_err());
        for metadata in ["5", "[]", "null", "text"] {
            assert!(parse(&format!("kind: Pod\nmetadata: {metadata}\nspec: {{}}"), "n").is_err(), "{metadata}");
        }
        assert!(parse("kind: Pod\nmetadata: {name: x}\nspec: 7", "n").is_err());
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_no_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(&directory.path().join("absent"), "n").unwrap().is_empty());
        let file = directory.path().join("file");
        std::fs::write(&file, TEXT).unwrap();
        assert!(read(&file, "n").is_err(), "no directory");
        std::fs::write(directory.path().join("garbage"), [0xff, 0xfe, 0]).unwrap();
        std::fs::write(directory.path().join(".hidden"), TEXT).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("dangling")).unwrap();
        let found = read(directory.path(), "n").unwrap();
        assert_eq!(found.values().map(|pod| pod::name(pod)).collect::<Vec<_>>(), ["web-n"]);
    }

    #[test]
    fn a_manifest_that_is_too_large_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_MANIFEST_BYTES + 1).unwrap();
        assert!(text_of(file.path()).unwrap_err().contains("larger"));
    }
}
