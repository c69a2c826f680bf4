//! Objects that every cluster has: made at start when they are missing, brought up to date when they are older than this
//! release. What an administrator has changed stays where upstream lets it stay.

mod members;
mod merge;
mod tracking;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::{GroupVersion, Reason, Status, Value, meta};
use daemon::{Backoff, Tasks};
use futures::StreamExt as _;
use serde_json::json;

use crate::config::Config;
use crate::front::FLOW_CONDITIONS;
use crate::health::Flag;
use crate::objects::{Handle, Manager, Ref};
use crate::server::Steps;

use self::members::Members;

pub(crate) use self::tracking::keep as keep_token_tracking;

/// How many writes are made at once: they share the store's syncs.
const CONCURRENT: usize = 64;
const RETRY_BASE: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

const AUTHENTICATION_CONFIG: &str = "extension-apiserver-authentication";

/// Makes the objects.
pub(crate) struct Bootstrap {
    objects: Handle,
    steps: Steps,
    advertise: SocketAddr,
    service_address: IpAddr,
    client_authority_pem: Option<String>,
    /// None when no other server can share the store, or when nobody could reach this one.
    members: Option<Members>,
}

impl Bootstrap {
    pub(crate) fn new(config: &Config, objects: Handle, steps: Steps) -> Self {
        Self {
            objects,
            steps,
            advertise: config.advertise,
            service_address: config.service_address(),
            client_authority_pem: config.client_authority_pem.clone(),
            members: (config.shares_store && !config.advertise.ip().is_loopback())
                .then(|| Members::new(config.store.clone(), config.advertise.ip())),
        }
    }

    /// Makes them in the background; the health checks say how far it is.
    pub(crate) fn start(self, tasks: &Tasks) {
        let drain = tasks.drain().clone();
        tasks.spawn("bootstrap", async move {
            let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.1);
            while let Some(Err(error)) = drain.run(self.make_all()).await {
                tracing::warn!(%error, "cannot make the cluster's first objects yet");
                drain.run(tokio::time::sleep(backoff.next_delay())).await;
            }
            self.keep_address(&drain).await;
        });
    }

    /// Keeps this server among the endpoints until it ends.
    async fn keep_address(&self, drain: &daemon::Drain) {
        let Some(members) = &self.members else { return };
        while drain.run(tokio::time::sleep(members::RENEW_EVERY)).await.is_some() {
            let kept = async { self.ensure(self.reachable().await?, &Flag::default()).await };
            if let Some(Err(error)) = drain.run(kept).await {
                tracing::warn!(%error, "cannot keep this server among the endpoints");
            }
        }
        members.leave().await;
    }

    async fn make_all(&self) -> Result<(), Status> {
        let mut recorded = by_kind(api::schema::recorded::bootstrap());
        let mut take = |kind: &str| recorded.remove(kind).unwrap_or_default();
        let namespaces = take("Namespace").iter().map(bare).collect();
        self.ensure(namespaces, &self.steps.namespaces).await?;
        let roles = self.ensure(api::schema::recorded::rbac(), &self.steps.roles);
        let classes = take("PriorityClass");
        let classes = self.ensure(classes, &self.steps.priority_classes);
        let flows = self.ensure(api::schema::recorded::flow_control(), &self.steps.flow_control);
        let services = take("APIService");
        let unwatched = Flag::default();
        let rest = self.ensure(services, &unwatched);
        let outcomes = futures::join!(roles, classes, flows, rest);
        let own = self.ensure(self.own().await?, &self.steps.service).await;
        [outcomes.0, outcomes.1, outcomes.2, outcomes.3, own].into_iter().collect()
    }

    /// The objects that name this server. No endpoint may be a loopback address: a server that advertises one has none,
    /// as upstream's, and its service leads nowhere.
    async fn own(&self) -> Result<Vec<Value>, Status> {
        let mut own = vec![self.service()];
        if self.advertise.ip().is_loopback() {
            let address = self.advertise.ip();
            tracing::warn!(%address, "pods cannot reach the advertised address: the kubernetes service gets no endpoints");
        } else {
            own.extend(self.reachable().await?);
        }
        own.extend(self.authentication_config());
        Ok(own)
    }

    /// Where the servers of this cluster are reached.
    async fn reachable(&self) -> Result<Vec<Value>, Status> {
        let addresses = match &self.members {
            Some(members) => members.renew().await?,
            None => vec![self.advertise.ip().to_string()],
        };
        Ok(vec![self.endpoints(&addresses), self.endpoint_slice(&addresses)])
    }

    /// Makes all that can be made; the first failure counts once everything has been tried.
    async fn ensure(&self, objects: Vec<Value>, done: &Flag) -> Result<(), Status> {
        let made = futures::stream::iter(objects).map(|object| self.ensure_one(object));
        let outcomes: Vec<_> = made.buffer_unordered(CONCURRENT).collect().await;
        outcomes.into_iter().collect::<Result<(), _>>()?;
        done.set();
        Ok(())
    }

    async fn ensure_one(&self, wanted: Value) -> Result<(), Status> {
        let kind = wanted.get("kind").and_then(Value::as_str).unwrap_or_default();
        let version = wanted.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let version = GroupVersion::parse(version).ok_or_else(|| Status::internal("an object without apiVersion"))?;
        let table = api::schema::table().resource_of_kind(&version.group, &version.version, kind);
        let resource = table.ok_or_else(|| Status::internal(format!("no resource of kind {kind}")))?;
        let reference = Ref {
            group: &version.group,
            resource: resource.name,
            namespace: meta::namespace(&wanted),
            name: meta::name(&wanted),
        };
        let objects = self.objects.get();
        let Some(found) = objects.get(reference) else {
            return match objects.create(reference, wanted.clone(), manager(kind)).await {
                Ok(_) => self.set_status(reference, &wanted).await,
                Err(error) if error.reason == Reason::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            };
        };
        match merge::updated(kind, &found, &wanted) {
            None => Ok(()),
            Some(changed) => objects.update(reference, "", changed, manager(kind)).await.map(drop),
        }
    }

    /// The conditions of a flow schema are not part of its creation; they are there before the step is done.
    async fn set_status(&self, reference: Ref<'_>, wanted: &Value) -> Result<(), Status> {
        let is_kept = reference.resource == "flowschemas";
        let Some(status) = wanted.get("status").filter(|_| is_kept) else { return Ok(()) };
        let config = json!({
            "apiVersion": wanted.get("apiVersion"), "kind": wanted.get("kind"),
            "metadata": {"name": reference.name}, "status": with_times(status.clone()),
        });
        self.objects.get().apply(reference, "status", config, FLOW_CONDITIONS).await.map(drop)
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": self.service_address.to_string(), "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None", "type": "ClusterIP",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": self.advertise.port()}],
            },
        })
    }

    fn endpoints(&self, addresses: &[String]) -> Value {
        let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": addresses,
                "ports": [{"name": "https", "port": self.advertise.port(), "protocol": "TCP"}],
            }],
        })
    }

    fn endpoint_slice(&self, addresses: &[String]) -> Value {
        let ready = |ip: &String| json!({"addresses": [ip], "conditions": {"ready": true}});
        let endpoints: Vec<_> = addresses.iter().map(ready).collect();
        let family = if self.advertise.is_ipv4() { "IPv4" } else { "IPv6" };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {
                "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": self.advertise.port(), "protocol": "TCP"}],
        })
    }

    /// What aggregated servers believe.
    fn authentication_config(&self) -> Option<Value> {
        let pem = self.client_authority_pem.as_ref()?;
        Some(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": AUTHENTICATION_CONFIG, "namespace": "kube-system"},
            "data": {"client-ca-file": pem},
        }))
    }
}

/// The object's name alone: the rest is filled in, and nobody owns it.
fn bare(object: &Value) -> Value {
    let name = meta::name(object);
    json!({"apiVersion": object.get("apiVersion"), "kind": object.get("kind"), "metadata": {"name": name}})
}

/// Who makes and updates objects of a kind.
fn manager(kind: &str) -> Manager {
    match kind {
        "FlowSchema" | "PriorityLevelConfiguration" => Manager("api-priority-and-fairness-config-producer-v1"),
        _ => Manager::SERVER,
    }
}

/// Recorded conditions have lost their times.
fn with_times(mut status: Value) -> Value {
    let now = api::time::seconds(daemon::clock::now());
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if condition.get("lastTransitionTime").is_none() {
            condition["lastTransitionTime"] = json!(now);
        }
    }
    status
}

fn by_kind(objects: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in objects {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        kinds.entry(kind).or_default().push(object);
    }
    kinds
}
