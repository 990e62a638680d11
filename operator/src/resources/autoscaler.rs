//! How many pods there should be, decided by load.
//!
//! Its target is the resource, not what runs the pods: so the operator hears of each change, and drains the spools of
//! pods that go.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget, PodsMetricSource,
};
use kube::Resource;
use mail_laser_crds::{Autoscaling, AutoscalingMetric, MailLaser};

use super::pod::CONTAINER;
use crate::validate::ValidatedMailLaser;

/// The HorizontalPodAutoscaler of a resource, if it asks for one.
pub fn build(resource: &ValidatedMailLaser) -> Option<HorizontalPodAutoscaler> {
    let autoscaling = resource.spec.autoscaling.as_ref()?;
    let cpu = autoscaling.target_cpu_utilization_percentage.map(cpu);
    Some(HorizontalPodAutoscaler {
        metadata: super::metadata(resource),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(MailLaser::api_version(&()).into_owned()),
                kind: MailLaser::kind(&()).into_owned(),
                name: resource.name.clone(),
            },
            min_replicas: Some(autoscaling.min_replicas),
            max_replicas: autoscaling.max_replicas,
            metrics: Some(cpu.into_iter().chain(autoscaling.metrics.iter().map(of_pods)).collect()),
            behavior: Some(behavior(autoscaling)),
        },
        ..HorizontalPodAutoscaler::default()
    })
}

/// Of the daemon's container alone: a proxy beside it may have no requests, and then nothing could be computed.
fn cpu(percentage: i32) -> MetricSpec {
    MetricSpec {
        type_: "ContainerResource".to_owned(),
        container_resource: Some(ContainerResourceMetricSource {
            container: CONTAINER.to_owned(),
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percentage),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn of_pods(metric: &AutoscalingMetric) -> MetricSpec {
    MetricSpec {
        type_: "Pods".to_owned(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: metric.name.clone(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(metric.target_average_value.clone()),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// What the API server would fill in, apart from how long it waits before pods go.
fn behavior(autoscaling: &Autoscaling) -> HorizontalPodAutoscalerBehavior {
    let policy =
        |type_: &str, value: i32| HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds: 15 };
    let rules = |policies: Vec<HPAScalingPolicy>, seconds: i32| HPAScalingRules {
        policies: Some(policies),
        select_policy: Some("Max".to_owned()),
        stabilization_window_seconds: Some(seconds),
        ..HPAScalingRules::default()
    };
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(rules(vec![policy("Pods", 4), policy("Percent", 100)], 0)),
        scale_down: Some(rules(vec![policy("Percent", 100)], autoscaling.scale_down_stabilization_seconds)),
    }
}
