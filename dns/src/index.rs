//! What the cluster's names stand for, kept up to date by single changes.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use parking_lot::{Mutex, RwLock};
use reconcile::{Change, Informer, Informers};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "None";

/// One Service, as DNS sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What its name stands for.
    pub(crate) target: Target,
    /// Ports with a name, for SRV records. A headless service's are its endpoints'.
    pub(crate) ports: Vec<Port>,
}

/// What a Service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Its cluster IPs.
    Virtual(Vec<IpAddr>),
    /// Its ready endpoints.
    Endpoints(Vec<Endpoint>),
    /// Another name.
    External(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Endpoints(Vec::new())
    }
}

/// One ready address of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// The label in front of the Service's name: the pod's hostname, or the address with dashes.
    pub(crate) label: String,
    /// Its slice's ports.
    pub(crate) ports: Vec<Port>,
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Without the underscore.
    pub(crate) name: String,
    /// In lower case.
    pub(crate) protocol: String,
    /// The number.
    pub(crate) number: u16,
}

type ServiceKey = (String, String);

#[derive(Debug, Default)]
struct Tables {
    services: HashMap<ServiceKey, Arc<Entry>>,
    reverse: HashMap<IpAddr, Vec<Reverse>>,
    namespaces: HashSet<String>,
}

/// An address's name, as parts: the endpoint's label if any, Service and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reverse {
    pub(crate) label: Option<String>,
    pub(crate) service: ServiceKey,
}

/// The index. Readers never wait for anything but one change being written.
#[derive(Debug, Default)]
pub(crate) struct Index(RwLock<Tables>);

impl Index {
    /// A Service by namespace and name, in lower case.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.0.read().services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The namespace exists.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.0.read().namespaces.contains(name)
    }

    /// The names of an address.
    pub(crate) fn names(&self, ip: IpAddr) -> Vec<Reverse> {
        self.0.read().reverse.get(&ip).cloned().unwrap_or_default()
    }

    /// Replaces one Service's entry.
    pub(crate) fn set(&self, key: ServiceKey, entry: Option<Entry>) {
        let mut tables = self.0.write();
        if let Some(old) = tables.services.remove(&key) {
            tables.forget_addresses(&key, &old);
        }
        if let Some(entry) = entry {
            tables.note_addresses(&key, &entry);
            tables.services.insert(key, Arc::new(entry));
        }
    }

    pub(crate) fn set_namespace(&self, name: &str, exists: bool) {
        let mut tables = self.0.write();
        if exists {
            tables.namespaces.insert(name.to_owned());
        } else {
            tables.namespaces.remove(name);
        }
    }
}

impl Tables {
    fn note_addresses(&mut self, key: &ServiceKey, entry: &Entry) {
        for (ip, label) in addresses(entry) {
            self.reverse.entry(ip).or_default().push(Reverse { label, service: key.clone() });
        }
    }

    fn forget_addresses(&mut self, key: &ServiceKey, entry: &Entry) {
        for (ip, _) in addresses(entry) {
            let Some(names) = self.reverse.get_mut(&ip) else { continue };
            names.retain(|name| name.service != *key);
            if names.is_empty() {
                self.reverse.remove(&ip);
            }
        }
    }
}

fn addresses(entry: &Entry) -> Vec<(IpAddr, Option<String>)> {
    match &entry.target {
        Target::Virtual(ips) => ips.iter().map(|ip| (*ip, None)).collect(),
        Target::Endpoints(endpoints) => endpoints.iter().map(|e| (e.ip, Some(e.label.clone()))).collect(),
        Target::External(_) => Vec::new(),
    }
}

/// Keeps the index up to date; returns after the first complete lists.
pub(crate) async fn follow(index: &Arc<Index>, informers: &Informers) {
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let namespaces = informers.of::<Namespace>();
    let slices_of = reconcile::Index::new(&slices, |slice: &EndpointSlice| service_of(slice).into_iter().collect());
    let slices_of = Arc::new(slices_of);
    let refresh = {
        let (index, services, slices_of) = (index.clone(), services.clone(), slices_of);
        // Two reflectors come here: what one has read must not be written after what the other has read later.
        let turn = Mutex::new(());
        Arc::new(move |key: ServiceKey| {
            let _turn = turn.lock();
            let entry = entry_of(&services, &slices_of.get(&key), &key);
            index.set(key, entry);
        })
    };
    let on_service = refresh.clone();
    services.handle(move |change| on_service(key_of(change.object())));
    slices.handle(move |change| slice_changed(change, &*refresh));
    let index = index.clone();
    namespaces.handle(move |change| {
        let name = change.object().metadata.name.as_deref().unwrap_or("");
        index.set_namespace(name, !change.is_deleted());
    });
    services.synced().await;
    slices.synced().await;
    namespaces.synced().await;
}

fn slice_changed(change: &Change<EndpointSlice>, refresh: &dyn Fn(ServiceKey)) {
    let new = service_of(change.object());
    if let Change::Updated { old, .. } = change {
        let old = service_of(old);
        if old != new {
            old.into_iter().for_each(refresh);
        }
    }
    new.into_iter().for_each(refresh);
}

fn key_of(service: &Service) -> ServiceKey {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone()?, name.clone()))
}

fn entry_of(services: &Informer<Service>, slices: &[Arc<EndpointSlice>], key: &ServiceKey) -> Option<Entry> {
    let service = services.get(&key.0, &key.1)?;
    Some(entry(&service, slices))
}

/// What a Service and its slices mean. Pure.
pub(crate) fn entry(service: &Service, slices: &[Arc<EndpointSlice>]) -> Entry {
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Entry { target: Target::External(spec.external_name.unwrap_or_default()), ports: Vec::new() };
    }
    if spec.cluster_ip.as_deref() == Some(HEADLESS) {
        return Entry { target: Target::Endpoints(endpoints(slices)), ports: Vec::new() };
    }
    let ips = spec.cluster_ips.unwrap_or_default();
    let named = spec.ports.unwrap_or_default().into_iter();
    let ports = named.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port));
    Entry { target: Target::Virtual(ips.iter().filter_map(|ip| ip.parse().ok()).collect()), ports: ports.collect() }
}

fn endpoints(slices: &[Arc<EndpointSlice>]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = slices.iter().flat_map(|slice| slice_endpoints(slice)).collect();
    endpoints.sort();
    endpoints.dedup_by(|a, b| a.ip == b.ip && a.label == b.label);
    endpoints
}

fn slice_endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let numbered = slice.ports.iter().flatten();
    let ports: Vec<Port> =
        numbered.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port.unwrap_or(0))).collect();
    let ready =
        slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().is_none_or(|c| c.ready != Some(false)));
    let addressed = ready.filter_map(|e| Some((e.addresses.first()?.parse::<IpAddr>().ok()?, e.hostname.as_deref())));
    addressed
        .map(|(ip, hostname)| Endpoint {
            ip,
            label: hostname.filter(|h| !h.is_empty()).map_or_else(|| dashed(ip), str::to_owned),
            ports: ports.clone(),
        })
        .collect()
}

/// `10.1.2.3` as `10-1-2-3`.
pub(crate) fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

fn port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    let name = name.filter(|n| !n.is_empty())?;
    let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
    Some(Port { name: name.to_owned(), protocol, number: u16::try_from(number).ok()? })
}
