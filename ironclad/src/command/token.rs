//! `ironclad token`: what lets a node join.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use pki::{BootstrapToken, Certificate, JoinToken};

use crate::client;
use crate::paths::{STATE, ServerPaths};

/// The group that join tokens put their bearer into, bound by the add-ons.
const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The administrator's kubeconfig; that of the control plane on this host when absent
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token and print what `ironclad agent --token` wants
    Create {
        /// How long it can be used, such as 24h; 0 for ever
        #[arg(long, default_value = "24h")]
        ttl: SignedDuration,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the tokens
    List,
    /// Delete a token
    Delete {
        /// Its id, the part before the dot, or all of it
        token: String,
    },
}

pub(super) async fn run(args: Args) -> Result<()> {
    let path = args.kubeconfig.unwrap_or_else(|| ServerPaths::new(STATE.as_ref()).admin_kubeconfig());
    let ca = ca_of(&path)?;
    let client = client::connect(client::from_file(&path).await?)?;
    match args.command {
        Command::Create { ttl, description } => create(client, &ca, ttl, &description).await,
        Command::List => list(client).await,
        Command::Delete { token } => delete(client, &token).await,
    }
}

/// The authority that the kubeconfig trusts is the one that joining nodes shall trust.
fn ca_of(path: &std::path::Path) -> Result<Certificate> {
    use base64::Engine;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: serde_json::Value =
        serde_yaml_ng::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
    let data = document["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
    let data = data.with_context(|| format!("{} holds no certificate-authority-data", path.display()))?;
    let pem = base64::engine::general_purpose::STANDARD.decode(data).context("certificate-authority-data")?;
    Ok(Certificate::from_pem(&String::from_utf8_lossy(&pem))?)
}

async fn create(client: Client, ca: &Certificate, ttl: SignedDuration, description: &str) -> Result<()> {
    let token = BootstrapToken::generate();
    let mut data = BTreeMap::from([
        ("token-id", token.id().to_owned()),
        ("token-secret", token.secret().to_owned()),
        ("description", description.to_owned()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", NODE_GROUP.to_owned()),
    ]);
    if !ttl.is_zero() {
        // To the second: the API's dates have no fractions.
        let end = daemon::clock::now() + ttl;
        let end = Timestamp::from_second(end.as_second()).context("the token's end is not a date")?;
        data.insert("expiration", end.to_string());
    }
    let mut secret = Secret { type_: Some(SECRET_TYPE.to_owned()), ..Secret::default() };
    secret.metadata.name = Some(token.secret_name());
    secret.string_data = Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    let secrets = Api::<Secret>::namespaced(client, "kube-system");
    secrets.create(&PostParams::default(), &secret).await.context("cannot create the token")?;
    println!("{}", JoinToken { token, pin: ca.pin });
    Ok(())
}

async fn list(client: Client) -> Result<()> {
    let selected = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    let secrets = Api::<Secret>::namespaced(client, "kube-system").list(&selected).await;
    println!("{:<8} {:<26} DESCRIPTION", "ID", "EXPIRES");
    for secret in secrets.context("cannot list the tokens")? {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(&v.0).into_owned()).unwrap_or_default();
        let end = if data.contains_key("expiration") { text("expiration") } else { "never".to_owned() };
        println!("{:<8} {end:<26} {}", text("token-id"), text("description"));
    }
    Ok(())
}

async fn delete(client: Client, token: &str) -> Result<()> {
    let id = token.split('.').next().unwrap_or_default();
    let secrets = Api::<Secret>::namespaced(client, "kube-system");
    let deleted = secrets.delete(&format!("bootstrap-token-{id}"), &DeleteParams::default()).await;
    deleted.with_context(|| format!("cannot delete token {id}"))?;
    println!("deleted {id}");
    Ok(())
}
