//! Configuration files as users write them.

use super::*;

fn config(text: &str) -> Result<Config, String> {
    let path = std::env::temp_dir().join(format!("scheduler-{}-{}.yaml", std::process::id(), text.len()));
    let text = format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{text}");
    std::fs::write(&path, text).unwrap();
    let args = Args { config: Some(path.clone()), leader_elect: true, health_listen: "127.0.0.1:0".parse().unwrap() };
    let read = Config::new(args, "test");
    std::fs::remove_file(path).unwrap();
    read.map_err(|e| std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string()))
}

fn scorers(profile: &Profile) -> Vec<(&str, i64)> {
    profile.scorers().map(|(plugin, weight)| (plugin.name(), weight)).collect()
}

#[test]
fn profiles_switch_plugins_and_weights() {
    let config = config(
        "podMaxBackoffSeconds: 5\nleaderElection: {leaderElect: false}\nprofiles:\n\
         - schedulerName: mine\n  percentageOfNodesToScore: 30\n  plugins:\n\
         \x20   score:\n      disabled: [{name: '*'}]\n      enabled: [{name: ImageLocality, weight: 7}]\n\
         \x20   multiPoint:\n      disabled: [{name: NodePorts}, {name: DefaultPreemption}]\n",
    )
    .unwrap();
    assert!(!config.leader_elect);
    assert_eq!(config.delays.max, Duration::from_secs(5));
    let profile = &config.profiles["mine"];
    assert_eq!(scorers(profile), [("ImageLocality", 7)]);
    assert!(profile.filters().all(|p| p.name() != "NodePorts"));
    assert!(!profile.preempts);
    assert_eq!(profile.percentage_of_nodes_to_score, 30);
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("profiles: [{plugins: {filter: {enabled: [{name: NoSuch}]}}}]", "there is no plug-in \"NoSuch\""),
        ("profiles: [{plugins: {filtre: {}}}]", "there is no extension point \"filtre\""),
        ("profiles: [{}, {}]", "schedulerName \"default-scheduler\" is used by two profiles"),
        ("podInitialBackoffSeconds: 20", "podInitialBackoffSeconds is greater"),
        ("extenders: []", "unknown field `extenders`"),
    ];
    for (text, expected) in cases {
        let error = config(text).err().expect("a mistake");
        assert!(error.contains(expected), "{text}: {error}");
    }
}
