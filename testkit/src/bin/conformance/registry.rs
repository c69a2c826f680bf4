//! A registry on the cluster's wire, which the nodes take for upstream's: for the tests that pull although the image is
//! there.
//!
//! Debian's `docker-registry` runs in the network namespace of the first node, so that nothing of it is on the machine;
//! its certificate is trusted by the nodes' containerd for this registry only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use host::Host;
use serde_json::json;
use testkit::image::{self, Finished};

/// The registry of every image of the suite.
const HOST: &str = "registry.k8s.io";
const PORT: u16 = 5000;
/// Where a node's containerd looks for hosts of registries.
const CERTIFICATES: &str = "own/etc/containerd/certs.d";

/// A registry that ends with its owner.
pub(crate) struct Registry(Child);

impl Registry {
    /// Serves `images` to the nodes whose files are in `hosts`, from the first of them, which has this address.
    pub(crate) fn start(images: &[Finished], hosts: &[PathBuf], address: &str, folder: &Path) -> Result<Self> {
        let folder = folder.join("registry");
        image::publish(images, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let authority = pki::Authority::create("conformance registry", daemon::clock::now())?;
        let served = authority.issue(&pki::Profile::server(HOST, [address]), daemon::clock::now())?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display())).map(|()| path)
        };
        let certificate = write("tls.crt", served.certificate_pem())?;
        let key = write("tls.key", served.key_pem())?;
        let config = json!({
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": folder}},
            "http": {"addr": format!("{address}:{PORT}"), "tls": {"certificate": certificate, "key": key}},
        });
        // JSON is YAML, too.
        let config = write("config.yml", &config.to_string())?;
        let Some(first) = hosts.first() else { bail!("a cluster has a node") };
        let first = Host::find(first)?.with_context(|| format!("no host runs in {}", first.display()))?;
        let log = fs::File::create(folder.join("log.txt"))?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", first.pid())).args(["docker-registry", "serve"]).arg(config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let registry = Self(command.spawn().context("cannot start docker-registry")?);
        hosts.iter().try_for_each(|host| trust(host, address, authority.certificate_pem()))?;
        Ok(registry)
    }
}

/// Tells a node's containerd where the registry is. It reads this with every pull.
fn trust(host: &Path, address: &str, authority: &str) -> Result<()> {
    let folder = host.join(CERTIFICATES).join(HOST);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let hosts = format!(
        "[host.\"https://{address}:{PORT}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  \
         ca = \"/etc/containerd/certs.d/{HOST}/ca.crt\"\n"
    );
    fs::write(folder.join("ca.crt"), authority)?;
    fs::write(folder.join("hosts.toml"), hosts)?;
    Ok(())
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
