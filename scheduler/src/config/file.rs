//! `KubeSchedulerConfiguration`, v1. What is not supported is refused by name: a setting that has no effect would be
//! worse.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use serde::Deserialize;

use super::{Config, ConfigError, Configured, DEFAULT_NAME, Profile};

/// Plug-ins of upstream that are always there and cannot be configured here.
const FIXED: [&str; 4] = ["SchedulingGates", "PrioritySort", "DefaultBinder", "DefaultPreemption"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    #[expect(dead_code, reason = "checked by its type")]
    api_version: ApiVersion,
    #[expect(dead_code, reason = "checked by its type")]
    kind: Kind,
    #[serde(default)]
    profiles: Vec<FileProfile>,
    #[serde(default)]
    leader_election: Option<LeaderElection>,
    percentage_of_nodes_to_score: Option<usize>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    /// Accepted and without effect: one decision is made at a time.
    #[expect(dead_code, reason = "accepted for files written for upstream")]
    parallelism: Option<u32>,
    /// The client is the caller's.
    #[expect(dead_code, reason = "accepted for files written for upstream")]
    client_connection: Option<serde_yaml_ng::Value>,
}

#[derive(Debug, Deserialize)]
enum ApiVersion {
    #[serde(rename = "kubescheduler.config.k8s.io/v1")]
    V1,
}

#[derive(Debug, Deserialize)]
enum Kind {
    KubeSchedulerConfiguration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaderElection {
    leader_elect: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<usize>,
    #[serde(default)]
    plugins: HashMap<String, PluginSet>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginSet {
    #[serde(default)]
    enabled: Vec<FilePlugin>,
    #[serde(default)]
    disabled: Vec<FilePlugin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePlugin {
    name: String,
    weight: Option<i64>,
}

pub(super) fn read(path: &Path) -> Result<File, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}

impl File {
    pub(super) fn apply(self, config: &mut Config) -> Result<(), ConfigError> {
        let seconds = |value: Option<u64>, default| value.map_or(default, Duration::from_secs);
        config.delays.initial = seconds(self.pod_initial_backoff_seconds, config.delays.initial);
        config.delays.max = seconds(self.pod_max_backoff_seconds, config.delays.max);
        if config.delays.initial > config.delays.max {
            return Err(invalid("podInitialBackoffSeconds is greater than podMaxBackoffSeconds"));
        }
        let elect = self.leader_election.and_then(|l| l.leader_elect);
        config.leader_elect = elect.unwrap_or(config.leader_elect);
        if !self.profiles.is_empty() {
            config.profiles.clear();
        }
        for profile in self.profiles {
            let profile = profile.build()?;
            let name = profile.name.clone();
            if config.profiles.insert(name.clone(), profile).is_some() {
                return Err(invalid(format!("schedulerName {name:?} is used by two profiles")));
            }
        }
        let percentage = self.percentage_of_nodes_to_score.unwrap_or(0);
        for profile in config.profiles.values_mut().filter(|p| p.percentage_of_nodes_to_score == 0) {
            profile.percentage_of_nodes_to_score = percentage;
        }
        Ok(())
    }
}

impl FileProfile {
    fn build(self) -> Result<Profile, ConfigError> {
        let mut profile = Profile::standard(self.scheduler_name.as_deref().unwrap_or(DEFAULT_NAME));
        profile.percentage_of_nodes_to_score = self.percentage_of_nodes_to_score.unwrap_or(0);
        if profile.percentage_of_nodes_to_score > 100 {
            return Err(invalid("percentageOfNodesToScore is not between 0 and 100"));
        }
        for (point, set) in self.plugins {
            let point = Point::parse(&point)?;
            set.disabled.iter().try_for_each(|p| point.disable(&mut profile, &p.name))?;
            set.enabled.iter().try_for_each(|p| point.enable(&mut profile, p))?;
        }
        Ok(profile)
    }
}

/// Where a plug-in is switched on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    All,
    Filter,
    Score,
    /// Points where plug-ins have no switch of their own here.
    Other,
}

impl Point {
    fn parse(name: &str) -> Result<Self, ConfigError> {
        match name {
            "multiPoint" => Ok(Self::All),
            "filter" | "preFilter" => Ok(Self::Filter),
            "score" | "preScore" => Ok(Self::Score),
            "postFilter" | "queueSort" | "preEnqueue" | "reserve" | "permit" | "preBind" | "bind" | "postBind" => {
                Ok(Self::Other)
            }
            _ => Err(invalid(format!("there is no extension point {name:?}"))),
        }
    }

    fn disable(self, profile: &mut Profile, name: &str) -> Result<(), ConfigError> {
        if matches!(name, "*" | "DefaultPreemption") && matches!(self, Self::All | Self::Other) {
            profile.preempts = false;
        }
        if name == "*" {
            profile.plugins.iter_mut().for_each(|p| self.switch(p, false));
            return Ok(());
        }
        self.configured(profile, name, |plugin| self.switch(plugin, false))
    }

    fn enable(self, profile: &mut Profile, wanted: &FilePlugin) -> Result<(), ConfigError> {
        profile.preempts |= wanted.name == "DefaultPreemption";
        self.configured(profile, &wanted.name, |plugin| {
            self.switch(plugin, true);
            plugin.entry.weight = wanted.weight.filter(|w| *w > 0).unwrap_or(plugin.entry.weight);
        })
    }

    fn configured(
        self,
        profile: &mut Profile,
        name: &str,
        change: impl FnOnce(&mut Configured),
    ) -> Result<(), ConfigError> {
        match profile.plugin(name) {
            Some(plugin) => change(plugin),
            None if FIXED.contains(&name) => {}
            None => return Err(invalid(format!("there is no plug-in {name:?}"))),
        }
        Ok(())
    }

    fn switch(self, plugin: &mut Configured, on: bool) {
        if matches!(self, Self::All | Self::Filter) {
            plugin.filters = on;
        }
        if matches!(self, Self::All | Self::Score) {
            plugin.scores = on;
        }
    }
}

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(format!("KubeSchedulerConfiguration: {}", text.into()))
}
