//! Trust anchors that signers publish (ClusterTrustBundles), as pods' volumes show them.
//!
//! The reflector starts when the first pod asks: most nodes have none that do.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use reconcile::Informers;

/// How long a volume waits for the first list.
const SYNC_WAIT: Duration = Duration::from_secs(10);
/// A longer selector is refused.
const MAX_SELECTOR_BYTES: usize = 100 * 1024;

pub(crate) struct TrustBundles {
    informers: Informers,
    /// Orders anchors: the same as long as this program runs, another the next time, so that nobody relies on it.
    order: RandomState,
}

impl TrustBundles {
    pub(crate) fn new(informers: Informers) -> Self {
        Self { informers, order: RandomState::new() }
    }

    /// The anchors as one PEM text, each of them once.
    ///
    /// # Errors
    /// A message when what is asked for does not exist and is not optional.
    pub(crate) async fn get(&self, source: &ClusterTrustBundleProjection) -> Result<Vec<u8>, String> {
        let informer = self.informers.of::<ClusterTrustBundle>();
        if tokio::time::timeout(SYNC_WAIT, informer.synced()).await.is_err() {
            return Err("ClusterTrustBundle informer has not yet synced".into());
        }
        let bundles = informer.list();
        let chosen = choose(bundles.iter().map(AsRef::as_ref), source)?;
        Ok(self.normalize(chosen.iter().map(|bundle| bundle.spec.trust_bundle.as_str())))
    }

    /// Only certificates, without headers and what stands between them.
    fn normalize<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
        let anchors: HashSet<Vec<u8>> = texts.flat_map(blocks).collect();
        let mut anchors: Vec<Vec<u8>> = anchors.into_iter().collect();
        anchors.sort_by_cached_key(|anchor| (self.order.hash_one(anchor), anchor.clone()));
        anchors.into_iter().map(certificate_pem).collect::<String>().into_bytes()
    }
}

/// The contents of a text's PEM blocks. What is no block is passed over, as by every reader of such texts.
pub(crate) fn blocks(text: &str) -> Vec<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN ";
    let starts: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().zip(ends).map(|(start, end)| &text[*start..end]);
    parts.filter_map(|part| pem::parse(part).ok()).map(pem::Pem::into_contents).collect()
}

pub(crate) fn certificate_pem(contents: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", contents), config)
}

/// The bundle of a name, or a signer's bundles with the labels.
fn choose<'a>(
    mut bundles: impl Iterator<Item = &'a ClusterTrustBundle>,
    source: &ClusterTrustBundleProjection,
) -> Result<Vec<&'a ClusterTrustBundle>, String> {
    let is_optional = source.optional.unwrap_or(false);
    if let Some(name) = &source.name {
        let found: Vec<_> = bundles.find(|bundle| bundle.metadata.name.as_ref() == Some(name)).into_iter().collect();
        return match found.is_empty() && !is_optional {
            true => Err(format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found"
            )),
            false => Ok(found),
        };
    }
    let Some(signer) = source.signer_name.as_deref() else {
        return Err("ClusterTrustBundle projection requires either name or signerName to be set".into());
    };
    let Some(selector) = selector(source.label_selector.as_ref())? else {
        return matched(Vec::new(), is_optional);
    };
    let fits = |bundle: &&ClusterTrustBundle| {
        let labels = bundle.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        bundle.spec.signer_name.as_deref() == Some(signer) && selector.matches(label)
    };
    matched(bundles.filter(fits).collect(), is_optional)
}

fn matched(found: Vec<&ClusterTrustBundle>, is_optional: bool) -> Result<Vec<&ClusterTrustBundle>, String> {
    if found.is_empty() && !is_optional {
        return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".into());
    }
    Ok(found)
}

/// No selector selects nothing; an empty one selects everything.
fn selector(selector: Option<&LabelSelector>) -> Result<Option<api::selector::LabelSelector>, String> {
    let Some(selector) = selector else { return Ok(None) };
    let tree = serde_json::to_value(selector).map_err(|error| format!("while parsing label selector: {error}"))?;
    let parsed = api::selector::LabelSelector::from_object(&tree);
    let parsed = parsed.map_err(|error| format!("while parsing label selector: {error}"))?;
    let length = parsed.to_string().len();
    if length > MAX_SELECTOR_BYTES {
        return Err(format!("label selector length ({length}) is larger than {MAX_SELECTOR_BYTES}"));
    }
    Ok(Some(parsed))
}

#[cfg(test)]
mod tests;
