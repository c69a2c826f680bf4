//! v2 to v1 and back loses nothing.

use super::*;

#[test]
fn everything_survives_the_way_through_v1() {
    let v2 = json!({
        "metadata": {"name": "a", "annotations": {"own": "1"}},
        "spec": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Object", "object": {
                    "describedObject": {"kind": "Ingress", "name": "i"}, "metric": {"name": "q"},
                    "target": {"type": "Value", "value": "5"},
                }},
                {"type": "Pods", "pods": {
                    "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "5"},
                }},
                {"type": "External", "external": {
                    "metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": "7"},
                }},
                {"type": "ContainerResource", "containerResource": {
                    "name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 40},
                }},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ]}},
        },
        "status": {
            "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [{"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": 30, "averageValue": "3m"},
            }}],
        },
    });
    let v1 = AutoscalerV1.to_served(v2.clone());
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 30);
    assert!(v1["spec"].get("metrics").is_none());
    assert_eq!(
        v1["metadata"]["annotations"][BEHAVIOR],
        r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":5,"SelectPolicy":null,"Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null}}"#
    );
    assert_eq!(AutoscalerV1.to_stored(v1), v2);
}

#[test]
fn v1_without_a_metric_means_four_fifths_of_a_cpu() {
    let v2 = AutoscalerV1.to_stored(json!({"spec": {"maxReplicas": 3}}));
    assert_eq!(v2["spec"]["metrics"], json!([cpu_metric(json!(80))]));
}
