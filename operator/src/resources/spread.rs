//! How the pods of a resource spread over nodes and zones where it does not say: as well as it can be done, so that one
//! node or zone that goes takes as few of them as possible, and none waits for a node for it.

use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodAntiAffinity, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use mail_laser_crds::PodTemplate;

use super::labels;

const NODE: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The constraints of a pod that takes mail.
pub(super) fn constraints(template: &PodTemplate, name: &str) -> Vec<TopologySpreadConstraint> {
    let chosen = &template.topology_spread_constraints;
    if chosen.is_empty() {
        return vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: NODE.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(these_pods(name)),
            ..TopologySpreadConstraint::default()
        }];
    }
    chosen.iter().map(|constraint| of_these_pods(constraint, name)).collect()
}

/// The affinity of a pod that takes mail. Zones are not a second constraint, because the scheduler leaves nodes that
/// lack the label of one constraint out of all of them, and many clusters have no zones.
pub(super) fn affinity(template: &PodTemplate, name: &str) -> Option<Affinity> {
    let chosen = template.affinity.clone();
    let says_more = chosen.as_ref().is_some_and(|affinity| affinity.pod_anti_affinity.is_some());
    if says_more || !template.topology_spread_constraints.is_empty() {
        return chosen;
    }
    Some(Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                // The largest: there is no other wish that it would have to be weighed against.
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    topology_key: ZONE.to_owned(),
                    label_selector: Some(these_pods(name)),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..chosen.unwrap_or_default()
    })
}

/// A constraint without a selector would count no pods at all.
fn of_these_pods(constraint: &TopologySpreadConstraint, name: &str) -> TopologySpreadConstraint {
    let label_selector = constraint.label_selector.clone().unwrap_or_else(|| these_pods(name));
    TopologySpreadConstraint { label_selector: Some(label_selector), ..constraint.clone() }
}

fn these_pods(name: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(labels::selector(name)), ..LabelSelector::default() }
}
