//! Kubeconfig files: a credential in the form that every client reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{Credential, Error};

/// How the user proves who it is.
#[derive(Debug, Clone)]
pub enum UserAuth {
    /// With a client certificate.
    Certificate(Credential),
    /// With a bearer token.
    Token(String),
}

/// One cluster, one user, one context.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// The name of the cluster and of the context.
    pub cluster: String,
    /// The name of the user entry.
    pub user: String,
    /// `https://host:port`.
    pub server: String,
    /// The authority of the server's certificate, PEM.
    pub ca_pem: String,
    /// The user's proof.
    pub auth: UserAuth,
}

impl Kubeconfig {
    /// The whole document.
    pub fn to_value(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [self.cluster_entry()],
            "users": [self.user_entry()],
            "contexts": [self.context_entry()],
            "current-context": self.cluster,
            "preferences": {},
        })
    }

    /// The whole document as YAML.
    pub fn to_yaml(&self) -> String {
        to_yaml(&self.to_value())
    }

    /// The cluster alone, as YAML: what is published for those who have no credential yet.
    pub fn without_user(&self) -> String {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [self.cluster_entry()],
            "users": null,
            "contexts": null,
            "current-context": "",
            "preferences": {},
        });
        to_yaml(&document)
    }

    /// Puts the entries into an existing document in place of those of the same names, and makes the context current.
    /// Everything else in the document stays.
    pub fn merge_into(&self, existing: &str) -> Result<String, Error> {
        let mut document = parse(existing)?;
        upsert(&mut document, "clusters", self.cluster_entry())?;
        upsert(&mut document, "users", self.user_entry())?;
        upsert(&mut document, "contexts", self.context_entry())?;
        document["apiVersion"] = json!("v1");
        document["kind"] = json!("Config");
        document["current-context"] = json!(self.cluster);
        Ok(to_yaml(&document))
    }

    /// Takes the entries of a cluster out of a document. Nothing when it did not hold them.
    pub fn remove_from(existing: &str, cluster: &str, user: &str) -> Result<Option<String>, Error> {
        let mut document = parse(existing)?;
        let before = document.clone();
        for (list, name) in [("clusters", cluster), ("users", user), ("contexts", cluster)] {
            if let Some(entries) = document.get_mut(list).and_then(Value::as_array_mut) {
                entries.retain(|entry| entry["name"] != name);
            }
        }
        if document["current-context"] == cluster {
            document["current-context"] = json!("");
        }
        Ok((document != before).then(|| to_yaml(&document)))
    }

    /// Whether a document holds no cluster, user or context any more.
    pub fn is_empty(document: &str) -> bool {
        let empty = |value: &Value| {
            ["clusters", "users", "contexts"].iter().all(|list| value[*list].as_array().is_none_or(Vec::is_empty))
        };
        parse(document).is_ok_and(|value| empty(&value))
    }

    fn cluster_entry(&self) -> Value {
        json!({ "name": self.cluster, "cluster": {
            "server": self.server,
            "certificate-authority-data": STANDARD.encode(&self.ca_pem),
        }})
    }

    fn context_entry(&self) -> Value {
        json!({ "name": self.cluster, "context": { "cluster": self.cluster, "user": self.user } })
    }

    fn user_entry(&self) -> Value {
        let user = match &self.auth {
            UserAuth::Token(token) => json!({ "token": token }),
            UserAuth::Certificate(credential) => json!({
                "client-certificate-data": STANDARD.encode(credential.certificate_pem()),
                "client-key-data": STANDARD.encode(credential.key_pem()),
            }),
        };
        json!({ "name": self.user, "user": user })
    }
}

fn parse(text: &str) -> Result<Value, Error> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|e| Error::parse("kubeconfig", e))?;
    match value {
        Value::Null => Ok(json!({})),
        Value::Object(_) => Ok(value),
        _ => Err(Error::parse("kubeconfig", "it is not a mapping")),
    }
}

fn to_yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).expect("a JSON tree is always YAML")
}

fn upsert(document: &mut Value, list: &'static str, entry: Value) -> Result<(), Error> {
    if document[list].is_null() {
        document[list] = json!([]);
    }
    let Some(entries) = document[list].as_array_mut() else {
        return Err(Error::parse("kubeconfig", format!("{list} is not a list")));
    };
    match entries.iter_mut().find(|known| known["name"] == entry["name"]) {
        Some(known) => *known = entry,
        None => entries.push(entry),
    }
    Ok(())
}
