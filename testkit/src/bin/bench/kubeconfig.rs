//! The current context of a kubeconfig: where, and who we are there. No plug-ins, which no bench needs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Credential;
use serde_json::Value;

/// What a connection needs.
pub(crate) struct Context {
    pub(crate) server: http::Uri,
    pub(crate) ca_pem: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) token: Option<String>,
}

/// Reads a file; the paths in it are relative to it.
pub(crate) fn load(path: &Path) -> Result<Context> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: Value = serde_yaml_ng::from_str(&text)?;
    let context = entry(&document, "contexts", "context", &document["current-context"])?;
    let cluster = entry(&document, "clusters", "cluster", &context["cluster"])?;
    let user = entry(&document, "users", "user", &context["user"])?;
    let material = |owner: &Value, name: &str| material(path, owner, name);
    let server = cluster["server"].as_str().context("the cluster has a server")?.parse()?;
    let ca_pem = material(cluster, "certificate-authority")?.context("the cluster has a certificate authority")?;
    let credential = match (material(user, "client-certificate")?, material(user, "client-key")?) {
        (Some(certificate), Some(key)) => Some(Credential::from_pem(certificate, key)?),
        _ => None,
    };
    Ok(Context { server, ca_pem, credential, token: user["token"].as_str().map(str::to_owned) })
}

fn entry<'a>(document: &'a Value, list: &str, field: &str, name: &Value) -> Result<&'a Value> {
    let entries = document[list].as_array().with_context(|| format!("the kubeconfig has {list}"))?;
    let found = entries.iter().find(|entry| entry["name"] == *name);
    Ok(&found.with_context(|| format!("{name} is not among the {list}"))?[field])
}

/// PEM from within the file, or from the file that it names.
fn material(kubeconfig: &Path, owner: &Value, name: &str) -> Result<Option<String>> {
    if let Some(data) = owner[format!("{name}-data")].as_str() {
        return Ok(Some(String::from_utf8(STANDARD.decode(data)?)?));
    }
    let Some(file) = owner[name].as_str() else {
        return Ok(None);
    };
    let file = kubeconfig.parent().unwrap_or(Path::new("")).join(file);
    Ok(Some(fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?))
}
