//! Flags of a remote etcd, and of how objects are written into it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use store::{EtcdOptions, EtcdStore, EtcdTls, Store};

use super::{Error, duration, read};
use crate::storage::SharedStore;

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MediaType {
    /// As text, which costs a server the least.
    #[value(name = "application/json")]
    Json,
    /// As upstream does by default.
    #[value(name = "application/vnd.kubernetes.protobuf")]
    Protobuf,
}

/// Where etcd is, and how it is used.
#[derive(Clone, Debug, clap::Args)]
pub struct EtcdArgs {
    /// etcd's addresses; a store of our own when none is given
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// etcd's certificates come from this authority
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate shown to etcd
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Where all keys are
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// How often history is compacted; 0 is never
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub etcd_compaction_interval: Duration,
    /// How long a health check waits for etcd
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub etcd_healthcheck_timeout: Duration,
    /// How long one lease is given to further objects, in seconds
    #[arg(long, default_value_t = 60)]
    pub lease_reuse_duration_seconds: u64,
    /// Other servers for single resources, which is not supported
    #[arg(long, value_delimiter = ',', hide = true)]
    pub etcd_servers_overrides: Vec<String>,
    /// The protocol of the servers
    #[arg(long, value_parser = ["etcd3"], default_value = "etcd3", hide = true)]
    pub storage_backend: String,
    /// How objects are written to etcd; both are read
    #[arg(long, value_enum, default_value_t = MediaType::Json)]
    pub storage_media_type: MediaType,
}

impl EtcdArgs {
    /// The store in etcd; None when no server is given.
    pub(super) async fn store(&self) -> Result<Option<Arc<dyn Store>>, Error> {
        if !self.etcd_servers_overrides.is_empty() {
            let reason = "all resources are kept in the same etcd".to_owned();
            return Err(Error::Value { flag: "etcd-servers-overrides", reason });
        }
        if self.etcd_servers.is_empty() {
            return Ok(None);
        }
        let options = EtcdOptions {
            tls: self.tls()?,
            prefix: self.etcd_prefix.clone(),
            compaction_interval: self.etcd_compaction_interval,
            health_timeout: self.etcd_healthcheck_timeout,
            lease_reuse: Duration::from_secs(self.lease_reuse_duration_seconds),
            ..EtcdOptions::new(self.etcd_servers.clone())
        };
        let store: Arc<dyn Store> = Arc::new(EtcdStore::new(options).await.map_err(Error::Etcd)?);
        let writes_protobuf = self.storage_media_type == MediaType::Protobuf;
        Ok(Some(Arc::new(SharedStore::new(store, writes_protobuf))))
    }

    fn tls(&self) -> Result<Option<EtcdTls>, Error> {
        let certificate = read("etcd-certfile", self.etcd_certfile.as_deref())?;
        let key = read("etcd-keyfile", self.etcd_keyfile.as_deref())?;
        if certificate.is_some() != key.is_some() {
            let reason = "--etcd-certfile and --etcd-keyfile need each other".to_owned();
            return Err(Error::Value { flag: "etcd-certfile", reason });
        }
        let authority = read("etcd-cafile", self.etcd_cafile.as_deref())?;
        Ok(authority.map(|authority_pem| EtcdTls { authority_pem, identity_pem: certificate.zip(key) }))
    }
}
