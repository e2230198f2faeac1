//! Tables: a case, the first link that does not hold, what it says, and the advice.

mod load;

use std::collections::BTreeMap;

use limpet_protocol::application::{Mode, Service};
use limpet_protocol::assignment::Generation;
use limpet_protocol::id::{InstanceId, NodeId, SpecHash};
use limpet_protocol::message::NodeFacts;
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, Health, InstanceStatus, NoImage};
use limpet_protocol::spec::{Dependency, DependencyCondition, ImageSource, Spec};

use super::*;
use crate::observe::node::ObservedNode;
use crate::plan::filter::Misfit;
use crate::plan::{ServiceKey, Standing, Usage};
use crate::store::Revision;
use crate::store::records::{Availability, NodeRecord};

const OLD: SpecHash = SpecHash([1; 32]);
const NEW: SpecHash = SpecHash([2; 32]);
const NEWEST: Generation = Generation { epoch: 1, number: 9 };

fn service() -> Service {
    let name = "shop".parse().unwrap();
    let mut spec = Spec::new(name, "web".parse().unwrap(), ImageSource::new("nginx:1"));
    spec.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceHealthy,
        restart: false,
        required: true,
    });
    Service::new(spec, Mode::Replicated { replicas: 3 })
}

fn status(phase: Phase) -> InstanceStatus {
    InstanceStatus {
        instance: "shop.web.2".parse().unwrap(),
        attempt: 1,
        spec: NEW,
        phase,
        reason: None,
        last_exit: None,
        since_ms: 40_000,
        health: None,
        ready: None,
        failures: 0,
    }
}

fn node(standing: Standing, status: Option<InstanceStatus>) -> ObservedNode {
    let record = NodeRecord {
        node: "n1".parse().unwrap(),
        secret_sha256: String::new(),
        labels: BTreeMap::new(),
        facts: NodeFacts {
            agent_version: String::new(),
            hostname: "n1".into(),
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: String::new(),
            kernel: String::new(),
            cpu_millis: 4000,
            memory_bytes: 1 << 30,
            labels: BTreeMap::new(),
            conditions: vec!["no memory limits".into()],
            devices: None,
            stages: false,
        },
        joined_ms: 0,
        availability: Availability::Active,
        seal_key: None,
        mesh: None,
    };
    let mut node = ObservedNode::unheard(record, Revision(1), 0);
    (node.standing, node.observed, node.last_contact_ms) = (standing, Some(NEWEST), 97_000);
    node.instances = status.into_iter().map(|it| (it.instance.clone(), it)).collect();
    node
}

/// A case with one thing changed: what its explanation is.
fn explained(
    status: Option<InstanceStatus>,
    standing: Standing,
    change: impl FnOnce(&mut Case<'_>, &mut Service),
) -> Part {
    explained_on(&node(standing, status), change)
}

fn explained_on(node: &ObservedNode, change: impl FnOnce(&mut Case<'_>, &mut Service)) -> Part {
    let (instance, id): (InstanceId, NodeId) =
        ("shop.web.2".parse().unwrap(), "n1".parse().unwrap());
    let mut service = service();
    let mut case = Case {
        instance: &instance,
        service: None,
        spec: Some(NEW),
        place: Some(&id),
        unplaced: None,
        misfits: vec![],
        node: Some(node),
        assigned: Assigned { generation: Some(NEWEST), spec: Some(NEW) },
        over: None,
        dependencies: vec![],
        network: NetworkCase::default(),
        rollout: None,
        broker_is_up: true,
        wall_ms: 100_000,
    };
    change(&mut case, &mut service);
    let case = Case { service: Some(&service), ..case };
    explain_instance(&case)
}

fn with(phase: Phase, change: impl FnOnce(&mut InstanceStatus)) -> Part {
    let mut status = status(phase);
    change(&mut status);
    explained(Some(status), Standing::Ready, |_, _| {})
}

/// `link state: summary`, and the advice on a line of its own.
fn first(part: &Part) -> String {
    let first = part.chain.iter().find(|link| !link.holds());
    let place = first.map_or_else(|| "well".to_owned(), |it| format!("{} {:?}", it.link, it.state));
    let advice = part.advice.as_ref().map(|it| format!("\n{it}")).unwrap_or_default();
    format!("{place}: {}{advice}", part.summary)
}

#[test]
fn what_takes_part_in_a_network_has_an_address_and_reaches_whom_it_waits_for() {
    let part = |has_addresses: bool, unreached: &[&str]| {
        explained(Some(status(Phase::Running)), Standing::Ready, |case, service| {
            let name = "shop_default".parse().unwrap();
            service.spec.network.networks.insert(name, Default::default());
            let unreached = unreached.iter().map(|it| (*it).to_owned()).collect();
            case.network = NetworkCase { has_addresses, unreached };
        })
    };
    let says =
        |part: &Part| part.chain.iter().find(|it| it.link == "network").unwrap().says.clone();
    assert_eq!(says(&part(true, &[])), "it has no address yet");
    let none = part(false, &[]);
    assert!(
        first(&none).starts_with("network Broken: its node has no addresses"),
        "{}",
        first(&none)
    );
    assert!(none.advice.unwrap().contains("--network-pool"));
    let gone = part(true, &["shop.db is on n2, which n1 does not reach", "another"]);
    let said = first(&gone);
    let expected = "network Broken: shop.db is on n2, which n1 does not reach; and 1 more services\n\
                    let UDP through between the two: `limpet node inspect n1`";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn what_is_well_is_said_with_the_whole_chain() {
    let part = with(Phase::Running, |_| {});
    assert_eq!(first(&part), "well: as wanted");
    let said: Vec<String> =
        part.chain.iter().map(|link| format!("{}: {}", link.link, link.says)).collect();
    assert_eq!(
        said,
        [
            "spec: 2 of 3, image nginx:1, spec 020202020202",
            "placement: on node n1",
            "contact: node n1 is ready, last heard 3 s ago",
            "assignment: the node holds the newest, 1.9",
            "dependencies: db came first",
            "image: nginx:1 is no hindrance",
            "start: it runs since 60 s ago, attempt 1",
            "health: nothing checks it",
            "traffic: it may get traffic as soon as it runs",
            "update: it runs the newest spec, 020202020202",
        ]
    );
}

type Change = fn(&mut Case<'_>, &mut Service);

fn of_a_running_one(cases: &[(Standing, Change, &str)]) {
    for (standing, change, expected) in cases {
        let part = explained(Some(status(Phase::Running)), *standing, change);
        assert_eq!(first(&part), *expected);
        assert!(!part.well);
        let after = part.chain.iter().skip_while(|link| link.holds()).skip(1);
        assert!(after.clone().all(|link| link.state == State::Unknown && link.says.is_empty()));
    }
}

#[test]
fn what_the_controller_knows_comes_first() {
    of_a_running_one(&[
        (
            Standing::Ready,
            |_, service| service.stopped = true,
            "spec Broken: shop.web was stopped by a person\nstart it again: `limpet start shop.web`",
        ),
        (
            Standing::Ready,
            |case, _| case.spec = None,
            "spec Broken: its specification is too large for a node\nmake it smaller: environment, labels and configs count",
        ),
        (
            Standing::Ready,
            |case, _| {
                (case.place, case.node, case.unplaced) =
                    (None, None, Some("no suitable node (…)".into()));
                case.misfits = vec![Misfit::Memory(1), Misfit::Platform, Misfit::Cpu(2)];
            },
            "placement Broken: no suitable node (…)\nlower deploy.resources.reservations, remove what else runs there, or join a larger node",
        ),
        (
            Standing::Ready,
            |case, _| {
                (case.place, case.node, case.unplaced) =
                    (None, None, Some("no node has joined".into()));
            },
            "placement Broken: no node has joined\njoin a node: `limpet token create`, then `limpet agent` on the machine",
        ),
        (
            Standing::Ready,
            |case, _| (case.place, case.node) = (None, None),
            "placement Waiting: it is being planned",
        ),
    ]);
}

#[test]
fn then_comes_what_the_node_was_told() {
    of_a_running_one(&[
        (
            Standing::Ready,
            |case, _| case.broker_is_up = false,
            "contact Broken: the controller has no connection to its broker\nsee the controller's log; nodes go on running what they have",
        ),
        (
            Standing::Unreachable,
            |_, _| {},
            "contact Broken: node n1 is unreachable, last heard 3 s ago\ncheck power and network of n1, and `limpet-agent` on it; what it runs goes on meanwhile",
        ),
        (
            Standing::Ready,
            |case, _| case.assigned.generation = Some(Generation { epoch: 1, number: 12 }),
            "assignment Waiting: the node holds 1.9, the newest is 1.12; it is told again by and by",
        ),
        (
            Standing::Ready,
            |case, _| case.assigned.generation = Some(Generation { epoch: 0, number: 12 }),
            "assignment Broken: the node obeys a newer controller database: it holds 1.9, wanted is 0.12\nrestore that database, or join the node again",
        ),
        (
            Standing::Ready,
            |case, _| {
                case.assigned.spec = Some(OLD);
                case.spec = Some(SpecHash([3; 32]));
                case.rollout = Some("paused at 1/3".into());
            },
            "update Waiting: it runs spec 020202020202, the newest is 030303030303; the rollout: paused at 1/3\n`limpet rollout status shop.web`",
        ),
        (
            Standing::Ready,
            |case, _| {
                case.spec = Some(OLD);
                case.assigned.spec = Some(OLD);
            },
            "update Waiting: it runs spec 020202020202, the newest is 010101010101; the node is replacing it",
        ),
    ]);
}

#[test]
fn what_the_node_says_comes_after() {
    let logs = "read its last words: `limpet logs shop.web.2 --tail 50`";
    let exit = |code: i32| Some(Exit { code: Some(code), out_of_memory: false });
    let cases = [
        (with(Phase::Removed, |_| {}), "dependencies Waiting: the node has not said anything of it yet".into()),
        (
            with(Phase::Waiting, |it| it.reason = Some("waits for shop.db.1 to be healthy".into())),
            "dependencies Waiting: waits for shop.db.1 to be healthy".to_owned(),
        ),
        (with(Phase::Pulling, |_| {}), "image Waiting: nginx:1 is being fetched".to_owned()),
        (
            with(Phase::Pulling, |it| it.reason = Some("connection refused".into())),
            "image Waiting: nginx:1 is being fetched: connection refused".to_owned(),
        ),
        (
            with(Phase::Waiting, |it| (it.attempt, it.last_exit, it.reason) = (4, exit(3), Some("starts again in 8 s".into()))),
            format!("start Waiting: attempt 4 ended with exit code 3; starts again in 8 s\n{logs}"),
        ),
        (
            with(Phase::Failed, |it| (it.last_exit, it.reason) = (exit(139), Some("ended with exit code 139".into()))),
            format!("start Broken: attempt 1 ended with exit code 139 (signal 11) 60 s ago\n{logs}"),
        ),
        (
            with(Phase::Failed, |it| it.last_exit = Some(Exit { code: Some(137), out_of_memory: true })),
            "start Broken: attempt 1 was killed for want of memory 60 s ago\nraise deploy.resources.limits.memory, or find what the memory goes to".to_owned(),
        ),
        (
            with(Phase::Running, |it| it.health = Some(Health::Starting)),
            "health Waiting: its check has not succeeded yet".to_owned(),
        ),
        (
            with(Phase::Running, |it| (it.health, it.reason) = (Some(Health::Unhealthy), Some("its health check failed: curl: 503".into()))),
            "health Broken: its health check failed: curl: 503; it is stopped and tried again\n`limpet logs shop.web.2` may say why; the check is `healthcheck` or `x-probe`".to_owned(),
        ),
        (
            with(Phase::Running, |it| it.ready = Some(false)),
            "traffic Waiting: it is not ready, so it gets no traffic".to_owned(),
        ),
    ];
    for (part, expected) in cases {
        assert_eq!(first(&part), expected);
    }
    for (over, expected) in [
        (Over::Done, "well: as wanted"),
        (
            Over::Failed("exit code 3, three times"),
            "start Broken: it failed for good: exit code 3, three times\nonce the cause is mended: `limpet restart shop.web`",
        ),
    ] {
        let part = explained(None, Standing::Lost, |case, _| case.over = Some(over));
        assert_eq!(first(&part), expected, "whatever became of its node");
    }
    // Nothing was reported at all.
    let silent = explained(None, Standing::Ready, |_, _| {});
    assert_eq!(first(&silent), "dependencies Waiting: the node has not said anything of it yet");
    let needy = explained(
        Some(InstanceStatus { reason: Some("waits for db".into()), ..status(Phase::Waiting) }),
        Standing::Ready,
        |case, _| case.dependencies = vec!["db: shop.db.1 is pulling".into()],
    );
    assert_eq!(
        first(&needy),
        "dependencies Waiting: waits for db; db: shop.db.1 is pulling\n`limpet explain shop.db`"
    );
}

#[test]
fn an_image_that_cannot_be_had_is_told_of_what_runs_and_of_what_comes_next() {
    let without_image = |status: InstanceStatus, spec, tries| {
        let mut node = node(Standing::Ready, Some(status));
        let reason = "connection refused".to_owned();
        node.no_image.insert(spec, NoImage { spec, reason, tries });
        node
    };
    let part = explained_on(&without_image(status(Phase::Pulling), NEW, 3), |_, _| {});
    let says = "nginx:1 cannot be had: connection refused, tried 3 times; it is tried again";
    assert_eq!(first(&part), format!("image Broken: {says}\n{}", advice::ON_IMAGE));
    let part = explained_on(&without_image(status(Phase::Pulling), OLD, 1), |_, _| {});
    assert_eq!(first(&part), "image Waiting: nginx:1 is being fetched", "it is of another spec");
    let old = InstanceStatus { spec: OLD, ..status(Phase::Running) };
    let part = explained_on(&without_image(old, NEW, 1), |case, _| case.assigned.spec = Some(OLD));
    let says = "it runs spec 010101010101, the newest is 020202020202; nginx:1 cannot be had: \
                connection refused; it is tried again";
    assert_eq!(first(&part), format!("update Broken: {says}\n{}", advice::ON_IMAGE));
}

fn key() -> ServiceKey {
    ServiceKey { application: "shop".parse().unwrap(), service: "web".parse().unwrap() }
}

fn of_service(instances: Vec<Part>, change: impl FnOnce(&mut ServiceCase<'_>)) -> Explanation {
    let (key, service) = (key(), service());
    let mut case = ServiceCase {
        scale: None,
        key: &key,
        service: &service,
        spec: Some(NEW),
        placed: instances.len(),
        unplaced: (0, None),
        misfits: vec![],
        rollout: None,
        rollout_is_held: false,
    };
    change(&mut case);
    explain_service(&case, instances)
}

#[test]
fn a_service_is_as_well_as_its_instances() {
    let well = with(Phase::Running, |_| {});
    let late = with(Phase::Pulling, |_| {});
    let all = of_service(vec![well.clone(), well.clone()], |_| {});
    assert_eq!((all.well, all.summary.as_str()), (true, "2 instances as wanted"));
    assert!(all.parts.is_empty());
    let one = of_service(vec![well.clone(), late.clone()], |_| {});
    assert_eq!(one.summary, "1 of 2 is not as wanted: shop.web.2: nginx:1 is being fetched");
    assert_eq!((one.well, one.parts.len()), (false, 1));
    let nowhere = of_service(vec![], |case| case.unplaced = (0, Some("no node matches".into())));
    assert_eq!(nowhere.summary, "no node matches");
    let held = of_service(vec![well.clone()], |case| {
        (case.rollout, case.rollout_is_held) = (Some("paused: 1 failed".into()), true);
    });
    assert_eq!(held.summary, "paused: 1 failed");
    assert!(held.advice.unwrap().contains("limpet rollout resume|undo shop.web"));
    let many = of_service(vec![late; MAX_PARTS + 8], |_| {});
    assert_eq!((many.parts.len(), many.more), (MAX_PARTS, 8));
    let application = explain_application("shop", vec![all, one]);
    assert_eq!((application.well, application.parts.len()), (false, 1));
    assert!(application.summary.starts_with("1 of 2 is not as wanted: shop.web: 1 of 2"));
}

#[test]
fn a_node_tells_what_it_lacks_and_what_it_should_run() {
    let of = |standing, availability, parts: Vec<Part>| {
        let mut node = node(standing, None);
        node.record.availability = availability;
        let usage = Usage {
            memory_bytes: 1 << 29,
            cpu_millis: 500,
            instances: parts.len(),
            ..Usage::default()
        };
        let case = NodeCase {
            node: &node,
            wanted: Some(NEWEST),
            usage,
            reach: vec!["it does not reach n2 directly".to_owned()],
            broker_is_up: true,
            wall_ms: 100_000,
        };
        explain_node(&case, parts)
    };
    let well = with(Phase::Running, |_| {});
    let it = of(Standing::Ready, Availability::Active, vec![well]);
    assert_eq!(
        (it.well, it.summary.as_str()),
        (true, "it is ready and runs what it shall: 1 instance")
    );
    let says = |it: &Explanation, link: &str| {
        it.chain.iter().find(|one| one.link == link).unwrap().says.clone()
    };
    assert_eq!(
        says(&it, "capacity"),
        "reserved: 512 MiB of 1 GiB memory, 0.50 of 4.00 CPUs; 1 of 500 instances"
    );
    assert_eq!(says(&it, "conditions"), "no memory limits; it does not reach n2 directly");
    let late = with(Phase::Pulling, |_| {});
    let it = of(Standing::Ready, Availability::Drain, vec![late.clone()]);
    assert!(it.summary.starts_with("1 of 1 is not as wanted: shop.web.2"), "{}", it.summary);
    assert_eq!(says(&it, "availability"), "drained: what it has goes to others");
    let it = of(Standing::Lost, Availability::Active, vec![late]);
    assert_eq!(it.summary, "node n1 is lost, last heard 3 s ago");
    assert!(it.parts.is_empty(), "what cannot be heard is not judged");
}

#[test]
fn the_commonest_hindrance_gets_the_advice() {
    let advice =
        advice::on_placement(&[Misfit::Lost, Misfit::Constraint(0), Misfit::Constraint(1)]);
    assert!(advice.contains("limpet node label"), "{advice}");
}
