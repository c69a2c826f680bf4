//! What resource quotas count: which names a resource is counted under, what one object uses, which scopes it is in.
//!
//! Admission and the controller that counts again use the same [`Evaluator`] and [`Measured`], so that they cannot
//! disagree. Mirrors upstream's `pkg/quota/v1/evaluator/core` and `k8s.io/apiserver/pkg/quota/v1`.

mod claims;
mod pods;
mod scope;
mod services;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::Value;
use crate::amounts::Amounts;
use crate::quantity::{Format, Quantity};

pub use scope::Requirement;
use scope::Scopes;

/// Resources that are never counted: they are not stored, or never were.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("events.k8s.io", "events"),
];
/// Names without `count/` that some counts had before.
const ALIASES: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// How objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods: number, compute resources, extended resources.
    Pods,
    /// Services: number, node ports, load balancers.
    Services,
    /// Persistent volume claims: number and storage, also by class.
    VolumeClaims,
    /// Claims of devices: number, and devices by class.
    DeviceClaims,
    /// Everything else: the number, under these names.
    Count(Vec<String>),
}

/// A write that may change what is used.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The new object.
    pub new: &'a Value,
    /// The stored object; None for a new one.
    pub old: Option<&'a Value>,
}

impl Evaluator {
    /// How a resource is counted; None when it never is.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        match (group, resource) {
            ("", "pods") => Some(Self::Pods),
            ("", "services") => Some(Self::Services),
            ("", "persistentvolumeclaims") => Some(Self::VolumeClaims),
            ("resource.k8s.io", "resourceclaims") => Some(Self::DeviceClaims),
            _ if IGNORED.contains(&(group, resource)) => None,
            ("", _) => {
                let alias = ALIASES.contains(&resource).then(|| resource.to_owned());
                Some(Self::Count([format!("count/{resource}")].into_iter().chain(alias).collect()))
            }
            _ => Some(Self::Count(vec![format!("count/{resource}.{group}")])),
        }
    }

    /// The resource that is counted under a name that only counts objects: `count/jobs.batch` gives `("batch", "jobs")`.
    pub fn counted(name: &str) -> Option<(&str, &str)> {
        match name.strip_prefix("count/") {
            Some(counted) => {
                let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
                Some((group, resource))
            }
            None => ALIASES.contains(&name).then_some(("", name)),
        }
    }

    /// The write can change what is used.
    pub fn handles(&self, write: &Write<'_>) -> bool {
        match (self, write.subresource, write.old) {
            (Self::Pods, "", Some(old)) => pods::has_deadline(old) != pods::has_deadline(write.new),
            (Self::Pods, "resize", Some(_)) => true,
            (Self::VolumeClaims, "status", Some(_)) => true,
            (Self::VolumeClaims | Self::Services | Self::DeviceClaims, "", _) => true,
            (_, "", None) => true,
            _ => false,
        }
    }

    /// A resource of this name is counted here.
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => pods::counts(name),
            Self::Services => services::counts(name),
            Self::VolumeClaims => claims::counts_volumes(name),
            Self::DeviceClaims => claims::counts_devices(name),
            Self::Count(names) => names.iter().any(|own| own == name),
        }
    }

    /// Those of the names that are counted here, sorted.
    pub fn matching<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let mut found: Vec<&str> = names.filter(|name| self.counts(name)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The object says everything that quotas of these resources want to know.
    ///
    /// # Errors
    /// What it has to say, as clients are told.
    pub fn check(&self, required: &[&str], object: &Value) -> Result<(), String> {
        match self {
            Self::Pods => pods::check(required, object),
            _ => Ok(()),
        }
    }

    /// What an object uses.
    pub fn measure(&self, object: &Value) -> Measured {
        match self {
            Self::Pods => pods::measure(object),
            Self::Services => Measured::lasting(services::usage(object), Scopes::None),
            Self::VolumeClaims => Measured::lasting(claims::volume_usage(object), claims::scopes(object)),
            Self::DeviceClaims => Measured::lasting(claims::device_usage(object), Scopes::None),
            Self::Count(names) => {
                let usage = names.iter().map(|name| (name.clone(), whole(1))).collect();
                Measured::lasting(usage, Scopes::None)
            }
        }
    }

    /// A quota with these names and requirements is about this object.
    pub fn matches<'n>(
        &self,
        hard: impl Iterator<Item = &'n str>,
        requirements: &[Requirement],
        measured: &Measured,
    ) -> bool {
        !self.matching(hard).is_empty() && measured.is_in(requirements)
    }
}

/// What one object uses, and which scopes it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    usage: Amounts,
    /// From then on only the rest is used: a pod that should have ended no longer counts.
    until: Option<(Timestamp, Amounts)>,
    scopes: Scopes,
}

impl Measured {
    fn lasting(usage: Amounts, scopes: Scopes) -> Self {
        Self { usage, until: None, scopes }
    }

    /// What is used at a time.
    pub fn usage(&self, now: Timestamp) -> &Amounts {
        match &self.until {
            Some((end, rest)) if now > *end => rest,
            _ => &self.usage,
        }
    }

    /// When less will be used without any change of the object.
    pub fn until(&self) -> Option<Timestamp> {
        self.until.as_ref().map(|(end, _)| *end)
    }

    /// The object is in all of these scopes.
    pub fn is_in(&self, requirements: &[Requirement]) -> bool {
        requirements.iter().all(|requirement| self.scopes.meet(requirement))
    }
}

/// What objects of one resource use together in a quota's scopes: every name of the quota that is counted here has an amount.
pub fn total<'m>(
    evaluator: &Evaluator,
    names: &[&str],
    requirements: &[Requirement],
    objects: impl Iterator<Item = &'m Measured>,
    now: Timestamp,
) -> Amounts {
    let wanted = evaluator.matching(names.iter().copied());
    let mut used: Amounts = wanted.iter().map(|name| ((*name).to_owned(), Quantity::zero())).collect();
    for measured in objects.filter(|measured| measured.is_in(requirements)) {
        used.add(&measured.usage(now).only(|name| wanted.binary_search(&name).is_ok()));
    }
    used
}

fn whole(amount: i64) -> Quantity {
    Quantity::new(amount, Format::DecimalSi)
}

fn length(list: Option<&Value>) -> i64 {
    list.and_then(Value::as_array).map_or(0, |list| i64::try_from(list.len()).unwrap_or(i64::MAX))
}
