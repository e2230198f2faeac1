//! What is said of services that follow their load.

use limpet_protocol::scale::{MetricSource, MetricTarget, ScalePolicy, Target};

use super::*;
use crate::api::types::{FigureView, NodeScaleView, ScaleView};

#[test]
fn what_nodes_added_is_counted() {
    let well = with(Phase::Running, |_| {});
    let scaled = |total| {
        of_service(vec![well.clone()], |case| {
            let node = NodeScaleView {
                node: "n1".to_owned(),
                running: 3,
                wish: 3,
                limit: "none".to_owned(),
                figures: vec![],
            };
            let nodes = vec![node];
            case.scale = Some(ScaleView { per: "node".to_owned(), min: 1, max: 6, total, nodes });
        })
    };
    let says = "1 instance as wanted, and 2 more that nodes added";
    assert_eq!(scaled(None).summary, says);
    assert_eq!(scaled(Some(3)).summary, "1 instance as wanted", "places are counted as such");
}

#[test]
fn bounds_take_the_place_of_a_number() {
    let mut service = service();
    service.autoscale = Some(ScalePolicy::between(0, 6));
    let service: &'static Service = Box::leak(Box::new(service));
    let told = of_service(vec![], |case| case.service = service);
    assert!(told.chain[0].says.contains("0 to 6 instances a node by its load"), "{told:?}");
}

#[test]
fn a_figure_that_cannot_be_had_comes_with_what_to_do() {
    let well = with(Phase::Running, |_| {});
    let mut service = service();
    let mut policy = ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(1, 6) };
    let metric = |name: &str, source| MetricTarget {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        source,
        per_second: false,
        target: Target::Average(10_000),
    };
    let http = MetricSource::Http { service: None, port: 9090, path: "/metrics".to_owned() };
    policy.metrics = vec![metric("jobs_open", MetricSource::Topic), metric("jobs_waiting", http)];
    service.autoscale = Some(policy);
    let service: &'static Service = Box::leak(Box::new(service));
    let lacking = |metric: &str, missing: Option<&str>| {
        let it = of_service(vec![well.clone()], |case| {
            let figure = FigureView {
                metric: metric.to_owned(),
                value_thousandths: None,
                missing: missing.map(str::to_owned),
                target_thousandths: 10_000,
                wish: None,
            };
            let node = NodeScaleView {
                node: "n1".to_owned(),
                running: 1,
                wish: 1,
                limit: "no_metric".to_owned(),
                figures: vec![figure],
            };
            case.service = service;
            let (per, nodes) = ("node".to_owned(), vec![node]);
            case.scale = Some(ScaleView { per, min: 1, max: 6, total: None, nodes });
        });
        it.advice.unwrap()
    };
    let published = lacking("jobs_open", Some("nothing was published yet"));
    assert!(published.contains(" on limpet/v1/m/shop/web/jobs_open every"), "{published}");
    assert!(lacking("cpu", None).contains("n1 measures it once"));
    let asked = lacking("jobs_waiting", Some("nobody answers at its port and path"));
    assert!(asked.contains("see that the instance answers"), "{asked}");
}
