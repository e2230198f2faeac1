//! Tables: two applications, and what an apply of the second would do.

use std::collections::BTreeMap;

use limpet_protocol::application::{
    Application, Attribute, Constraint, Mode, Portion, Service, Wave, WavePolicy,
};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{NodeId, ServiceName};
use limpet_protocol::message::NodeFacts;
use limpet_protocol::spec::{ImageSource, Spec};

use super::*;
use crate::dispatch::want;
use crate::plan::Wanted;
use crate::plan::{Node, Standing};

fn node(memory_mib: u64, standing: Standing) -> Node {
    let facts = NodeFacts {
        agent_version: String::new(),
        hostname: "h".into(),
        os: "linux".into(),
        architecture: "arm64".into(),
        variant: String::new(),
        kernel: String::new(),
        cpu_millis: 4000,
        memory_bytes: memory_mib << 20,
        labels: BTreeMap::new(),
        conditions: vec![],
        devices: None,
        stages: false,
    };
    Node::of(&facts, &BTreeMap::new(), standing)
}

fn service(name: &str, replicas: u32) -> (ServiceName, Service) {
    let name: ServiceName = name.parse().unwrap();
    let spec = Spec::new("shop".parse().unwrap(), name.clone(), ImageSource::new("nginx:1"));
    (name, Service::new(spec, Mode::Replicated { replicas }))
}

fn shop(services: &[(ServiceName, Service)]) -> Application {
    Application { name: "shop".parse().unwrap(), services: services.iter().cloned().collect() }
}

fn specs(application: &Application) -> BTreeMap<ServiceName, Option<SpecHash>> {
    let hash = |service: &Service| want::encode_spec(&service.spec).ok().map(|(hash, _)| hash);
    application.services.iter().map(|(name, it)| (name.clone(), hash(it))).collect()
}

/// A planner with these nodes, and the application planned.
fn planned(nodes: &[(&str, Node)], old: Option<&Application>) -> Planner {
    let mut planner = Planner::default();
    for (name, node) in nodes {
        planner.set_node(&name.parse().unwrap(), node.clone());
    }
    if let Some(old) = old {
        let specs = specs(old);
        let wanted = old.services.iter().map(|(name, service)| {
            let key = ServiceKey { application: old.name.clone(), service: name.clone() };
            (key, Wanted::of(service, specs[name].unwrap()))
        });
        planner.set_application(&old.name, wanted.collect());
    }
    planner.plan();
    planner
}

fn asked(now: &Planner, old: Option<&Application>, new: &Application) -> (PlanView, Pulls) {
    preview(&Question { now, old, new, specs: specs(new) })
}

/// `start shop.web.1 n1, …`
fn steps(plan: &ServicePlan) -> String {
    let one = |step: &Step| {
        let from = step.from.as_ref().map(|from| format!("{from}→")).unwrap_or_default();
        let node = step.node.as_deref().unwrap_or("-");
        let away = if step.reachable { "" } else { " away" };
        format!("{} {} {from}{node}{away}", step.action, step.instance)
    };
    plan.steps.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn keys(plan: &ServicePlan) -> Vec<String> {
    let one = |it: &KeyChange| match (&it.from, &it.to) {
        (None, None) => it.key.clone(),
        (from, to) => {
            let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".into());
            format!("{} {}→{}", it.key, text(from), text(to))
        }
    };
    plan.keys.iter().map(one).collect()
}

#[test]
fn of_what_follows_its_load_the_least_starts_and_the_rest_waits() {
    use limpet_protocol::scale::{Per, ScalePolicy};
    let nodes = [("n1", node(1024, Standing::Ready)), ("n2", node(1024, Standing::Ready))];
    for (per, min, replicas, expected, starts, idles) in [
        (Per::Node, 0, 1, "idle shop.web.1 n1", 0, 1),
        (Per::Node, 2, 1, "start shop.web.1 n1, start shop.web.1001 n1", 2, 0),
        (
            Per::Application,
            1,
            1,
            "start shop.web.1 n1, idle shop.web.2 n2, idle shop.web.3 n1",
            1,
            2,
        ),
        (
            Per::Application,
            0,
            0,
            "idle shop.web.1 n1, idle shop.web.2 n2, idle shop.web.3 n1",
            0,
            3,
        ),
    ] {
        let (name, mut service) = service("web", replicas);
        service.autoscale =
            Some(ScalePolicy { per, cpu_percent: Some(60), ..ScalePolicy::between(min, 3) });
        let (view, pulls) = asked(&planned(&nodes, None), None, &shop(&[(name, service)]));
        let plan = &view.services[0];
        assert_eq!(steps(plan), expected);
        assert_eq!((plan.starts, plan.idles), (starts, idles));
        assert_eq!(pulls.len(), if per == Per::Node { 1 } else { 2 }, "images come ahead");
    }
}

#[test]
fn what_is_new_starts_and_what_is_gone_stops() {
    let nodes = [("n1", node(1024, Standing::Ready)), ("n2", node(1024, Standing::Ready))];
    let new = shop(&[service("web", 2)]);
    let (view, pulls) = asked(&planned(&nodes, None), None, &new);
    assert_eq!((view.changes, view.services[0].action.as_str()), (true, "add"));
    assert_eq!(steps(&view.services[0]), "start shop.web.1 n1, start shop.web.2 n2");
    assert_eq!(pulls.len(), 2);
    // The same again does nothing.
    let now = planned(&nodes, Some(&new));
    let (view, pulls) = asked(&now, Some(&new), &new);
    assert_eq!((view.changes, view.services[0].stays, pulls.len()), (false, 2, 0));
    // Another service in its place.
    let (view, _) = asked(&now, Some(&new), &shop(&[service("db", 1)]));
    let plans: Vec<String> = view
        .services
        .iter()
        .map(|it| format!("{} {}: {}", it.action, it.service, steps(it)))
        .collect();
    assert_eq!(plans[1], "remove web: stop shop.web.1 n1, stop shop.web.2 n2");
    assert!(plans[0].starts_with("add db: start shop.db.1 n"), "{plans:?}");
    assert_eq!(steps(&asked(&now, Some(&new), &new).0.services[0]), "", "the planner was copied");
}

#[test]
fn a_change_says_which_keys_and_keeps_secrets() {
    let nodes = [("n1", node(1024, Standing::Ready)), ("n2", node(1024, Standing::Unreachable))];
    let (name, mut web) = service("web", 2);
    web.spec.process.environment.insert("PASSWORD".into(), "old-secret".into());
    let old = shop(&[(name.clone(), web.clone())]);
    web.spec.image.reference = "nginx:2".into();
    web.spec.process.environment.insert("PASSWORD".into(), "new-secret".into());
    web.spec.process.command = Some(vec!["--password=secret".into()]);
    web.spec.resources.memory_limit_bytes = Some(7 << 20);
    web.spec.labels.insert("team".into(), "secret".into());
    web.spec.restart.delay_ms = 9;
    web.placement.max_replicas_per_node = Some(2);
    web.update.parallelism = 1;
    web.update.delay_ms = 2_500;
    web.update.order = UpdateOrder::StartFirst;
    let new = shop(&[(name, web)]);
    let (view, pulls) = asked(&planned(&nodes, Some(&old)), Some(&old), &new);
    let plan = &view.services[0];
    assert_eq!(
        keys(plan),
        [
            "command",
            "deploy.placement.max_replicas_per_node",
            "deploy.resources.limits.memory -→7340032",
            "deploy.update_config",
            "environment.PASSWORD",
            "image nginx:1→nginx:2",
            "labels.team",
            "restart",
        ]
    );
    let text = serde_json::to_string(&view).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(steps(plan), "update shop.web.1 n1, update shop.web.2 n1");
    assert_eq!(
        plan.order.as_deref(),
        Some(
            "1 at a time, 2 groups, the new one is ready first, 2.5 s between; watched for 5 s, on failure pause"
        )
    );
    assert_eq!(pulls[&"n1".parse::<NodeId>().unwrap()][0].reference, "nginx:2");
}

#[test]
fn what_fits_nowhere_pends_and_says_why() {
    let nodes = [("n1", node(100, Standing::Ready))];
    let (name, mut web) = service("web", 3);
    web.spec.resources.memory_reservation_bytes = Some(40 << 20);
    let new = shop(&[(name, web)]);
    let (view, _) = asked(&planned(&nodes, None), None, &new);
    let plan = &view.services[0];
    assert_eq!((plan.starts, plan.pending), (2, 1));
    assert!(plan.reasons[0].contains("too little memory left"), "{:?}", plan.reasons);
    let (_, two) = service("web", 2);
    let less = shop(&[("web".parse().unwrap(), two)]);
    let (view, _) = asked(&planned(&nodes, Some(&new)), Some(&new), &less);
    assert_eq!(
        keys(&view.services[0]),
        ["deploy.replicas 3→2", "deploy.resources.reservations.memory 41943040→-"]
    );
    assert_eq!(view.services[0].updates, 2);
}

#[test]
fn what_another_application_gains_is_told() {
    let nodes = [("n1", node(100, Standing::Ready))];
    let (name, mut web) = service("web", 1);
    web.spec.resources.memory_reservation_bytes = Some(80 << 20);
    let old = shop(&[(name.clone(), web.clone())]);
    let mut now = planned(&nodes, Some(&old));
    let blog = ServiceKey { application: "blog".parse().unwrap(), service: "web".parse().unwrap() };
    let wanted = Wanted::of(&web, SpecHash([9; 32]));
    now.set_application(&blog.application, [(blog.clone(), wanted)].into());
    now.plan();
    web.stopped = true;
    let (view, _) = asked(&now, Some(&old), &shop(&[(name, web)]));
    assert_eq!(view.others, ["starts blog.web.1 on n1"]);
    assert_eq!(steps(&view.services[0]), "stop shop.web.1 n1");
    assert_eq!(keys(&view.services[0]), ["(stopped by a person)"]);
    assert_eq!(view.services[0].reasons, ["it is stopped by a person"]);
}

#[test]
fn waves_are_shown_with_who_is_in_them() {
    let ring = |name: &str, ring: &str, standing| {
        let mut it = node(1024, standing);
        it.labels.insert("ring".to_owned(), ring.to_owned());
        (name.to_owned(), it)
    };
    let nodes = [
        ring("n1", "canary", Standing::Ready),
        ring("n2", "rest", Standing::Ready),
        ring("n3", "rest", Standing::Ready),
        ring("n4", "rest", Standing::Ready),
        ring("n5", "canary", Standing::Unreachable),
    ];
    let nodes = nodes.each_ref().map(|(name, it)| (name.as_str(), it.clone()));
    let (name, mut agent) = service("agent", 0);
    agent.mode = Mode::Global;
    agent.update.parallelism = 0;
    let (attribute, value) = (Attribute::Label("ring".to_owned()), "canary".to_owned());
    let canary = Constraint { attribute, equal: true, value };
    agent.waves = Some(WavePolicy {
        waves: vec![Wave::Nodes(vec![canary]), Wave::Percent(50)],
        success_percent: 90,
        abort: Some(Portion::Count(2)),
        max_unavailable: Some(Portion::Percent(25)),
        window: None,
    });
    let old = shop(&[(name.clone(), agent.clone())]);
    agent.spec.image.reference = "nginx:2".into();
    let new = shop(&[(name, agent)]);
    let (view, _) = asked(&planned(&nodes, Some(&old)), Some(&old), &new);
    let plan = &view.services[0];
    assert_eq!(
        plan.order.as_deref(),
        Some(
            "all of a wave at once, the old one ends first, the next wave when 90 % of one came up, \
             at most 25 % down, 2 failures end it; watched for 5 s, on failure pause"
        )
    );
    let shown: Vec<String> = plan
        .waves
        .iter()
        .map(|wave| format!("{}: {} {}", wave.which, wave.instances, wave.nodes.join(",")))
        .collect();
    assert_eq!(shown[0], "node.labels.ring == canary: 1 n1");
    assert!(shown[1].starts_with("until 50 % are updated: 1 n"), "half of four: {shown:?}");
    assert!(shown[2].starts_with("all others: 2 n"), "who is away follows later: {shown:?}");
    // Without a change of the spec nobody is updated.
    let (view, _) = asked(&planned(&nodes, Some(&old)), Some(&old), &old);
    assert_eq!(view.services[0].waves, []);
}
