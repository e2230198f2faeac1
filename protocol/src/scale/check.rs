//! Whether a policy makes sense. The Compose reader and the API say the same sentences.

use alloc::vec::Vec;

use super::{MetricSource, MetricTarget, Pace, Per, PolicyError, ScalePolicy, Select};
use crate::application::{Mode, Service};
use crate::id::{MetricName, Slot};
use crate::limits::{
    MAX_METRIC_NAME_BYTES, MAX_METRICS_PER_SERVICE, MAX_REPLICAS, MAX_SCALE_PERIOD_MS,
    MAX_SCALE_TARGET_PERCENT, MAX_SCALE_WINDOW_MS,
};

impl ScalePolicy {
    /// Whether the policy makes sense for a service.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self, service: &Service) -> Result<(), PolicyError> {
        self.problems(service).into_iter().next().map_or(Ok(()), Err)
    }

    /// What makes no sense, of each part of the policy the first thing.
    #[must_use]
    pub fn problems(&self, service: &Service) -> Vec<PolicyError> {
        let parts = [
            self.check_bounds(),
            self.check_targets(service),
            self.check_metrics(),
            check_pace("up", &self.up),
            check_pace("down", &self.down),
            self.check_mode(service),
            self.check_ports(service),
            self.check_network(service),
        ];
        parts.into_iter().filter_map(Result::err).collect()
    }

    fn check_bounds(&self) -> Result<(), PolicyError> {
        let limit = match self.per {
            Per::Node => Slot::MAX_BESIDE,
            Per::Application => MAX_REPLICAS,
        };
        match (self.min, self.max) {
            (_, 0) => Err(PolicyError::MaxZero),
            (_, max) if max > limit => Err(PolicyError::MaxTooLarge { max, limit }),
            (min, max) if min > max => Err(PolicyError::MinOverMax { min, max }),
            _ => Ok(()),
        }
    }

    fn check_targets(&self, service: &Service) -> Result<(), PolicyError> {
        let resources = &service.spec.resources;
        let cpu = resources.cpu_reservation_millis.or(resources.cpu_limit_millis);
        let memory = resources.memory_reservation_bytes.or(resources.memory_limit_bytes);
        let related = [
            ("cpu", self.cpu_percent, cpu.is_some()),
            ("memory", self.memory_percent, memory.is_some()),
        ];
        for (field, percent, has_size) in related {
            let Some(percent) = percent else { continue };
            if !(1..=MAX_SCALE_TARGET_PERCENT).contains(&percent) {
                return Err(PolicyError::BadPercent { field, percent });
            }
            if !has_size {
                return Err(PolicyError::NothingToRelateTo { field, percent });
            }
        }
        let none = self.cpu_percent.is_none() && self.memory_percent.is_none();
        if none && self.metrics.is_empty() { Err(PolicyError::NoTarget) } else { Ok(()) }
    }

    fn check_metrics(&self) -> Result<(), PolicyError> {
        let count = self.metrics.len();
        if count > MAX_METRICS_PER_SERVICE {
            return Err(PolicyError::TooManyMetrics { count });
        }
        for metric in &self.metrics {
            let text = |text: &str| text.len() <= MAX_METRIC_NAME_BYTES;
            let mut labels = metric.labels.iter();
            let what = if metric.name.is_empty() || !text(&metric.name) {
                "has no name, or one that is too long"
            } else if metric.target.thousandths() == 0 {
                "has a target of 0, which can never be met"
            } else if metric.labels.len() > MAX_METRICS_PER_SERVICE
                || !labels.all(|(key, value)| text(key) && text(value))
            {
                "has too many labels, or one that is too long"
            } else if let MetricSource::Http { port, path, .. } = &metric.source
                && (*port == 0 || !path.starts_with('/') || !text(path))
            {
                "has no port, or a path that does not begin with `/`"
            } else if metric.source == MetricSource::Topic && MetricName::new(&metric.name).is_err()
            {
                "cannot be the last part of a topic: letters, digits, `-`, `_` and `.`, at most 63"
            } else if metric.source == MetricSource::Topic
                && (metric.per_second || !metric.labels.is_empty())
            {
                "is published as one number: `labels` and `per_second` say nothing of it"
            } else {
                continue;
            };
            return Err(PolicyError::BadMetric { name: metric.name.clone(), what });
        }
        Ok(())
    }

    fn check_mode(&self, service: &Service) -> Result<(), PolicyError> {
        if service.mode.is_job() || service.spec.schedule.is_some() {
            return Err(PolicyError::Ends);
        }
        match (self.per, service.mode) {
            (Per::Application, Mode::Global) => Err(PolicyError::GlobalPerApplication),
            (Per::Node, Mode::Replicated { replicas }) if replicas > Slot::MAX_HOME => {
                Err(PolicyError::TooManyHomes { replicas })
            }
            (Per::Application, Mode::Replicated { replicas })
                if !(self.min..=self.max).contains(&replicas) =>
            {
                let (min, max) = (self.min, self.max);
                Err(PolicyError::ReplicasOutside { replicas, min, max })
            }
            _ => Ok(()),
        }
    }

    /// A port that each instance takes from its node, and several instances on a node.
    fn check_ports(&self, service: &Service) -> Result<(), PolicyError> {
        if self.max == 1 || self.per == Per::Application {
            return Ok(());
        }
        let fixed = service.spec.ports.iter().find(|port| {
            port.host_mode && port.published.is_some_and(|(first, last)| last - first + 1 < 2)
        });
        match fixed.and_then(|port| port.published) {
            Some((port, _)) => Err(PolicyError::FixedPort { port }),
            None => Ok(()),
        }
    }

    fn check_network(&self, service: &Service) -> Result<(), PolicyError> {
        let network = &service.spec.network;
        if network.joins.is_some() {
            return Err(PolicyError::Joined);
        }
        let counts = |metric: &MetricTarget| {
            matches!(metric.source, MetricSource::Connections | MetricSource::Network)
        };
        if let Some(metric) = self.metrics.iter().find(|it| counts(it))
            && network.networks.is_empty()
        {
            let what = "cannot be told from those of others: the service has no network of its own";
            return Err(PolicyError::BadMetric { name: metric.name.clone(), what });
        }
        let mut attached = network.networks.values();
        let fixed = attached.any(|it| it.ipv4_address.is_some() || it.ipv6_address.is_some());
        if self.max > 1 && fixed {
            return Err(PolicyError::FixedAddress);
        }
        if self.min == 0 && !self.wakes_by_metric() && network.networks.is_empty() {
            return Err(PolicyError::NoWayUp);
        }
        Ok(())
    }
}

fn check_pace(field: &'static str, pace: &Pace) -> Result<(), PolicyError> {
    for (ms, limit) in [(pace.window_ms, MAX_SCALE_WINDOW_MS), (pace.every_ms, MAX_SCALE_PERIOD_MS)]
    {
        if ms > limit {
            return Err(PolicyError::TooLong { field, ms, limit });
        }
    }
    let limited = pace.instances.is_some() || pace.percent.is_some();
    if limited && pace.every_ms == 0 {
        let what = "a step needs the time that it is for";
        return Err(PolicyError::BadPace { field, what });
    }
    let nothing = pace.instances == Some(0) || pace.percent == Some(0);
    if nothing && pace.select != Select::Disabled {
        let what = "a step of 0 would never change anything";
        return Err(PolicyError::BadPace { field, what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Target;
    use crate::spec::{Attachment, ImageSource, PublishedPort, Schedule, Spec};
    use alloc::vec;

    fn service(mode: Mode) -> Service {
        let name = ("shop".parse().unwrap(), "web".parse().unwrap());
        let mut spec = Spec::new(name.0, name.1, ImageSource::new("web:1"));
        spec.resources.cpu_limit_millis = Some(500);
        spec.network.networks.insert("shop_default".parse().unwrap(), Attachment::default());
        Service::new(spec, mode)
    }

    fn policy() -> ScalePolicy {
        ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(1, 6) }
    }

    fn metric(target: Target, path: &str) -> MetricTarget {
        MetricTarget {
            name: "queue".into(),
            labels: [].into(),
            source: MetricSource::Http { service: None, port: 9090, path: path.into() },
            per_second: false,
            target,
        }
    }

    /// The policy of `change` for a replicated service: where it is wrong, or the empty text.
    fn wrong(replicas: u32, change: impl FnOnce(&mut ScalePolicy, &mut Service)) -> &'static str {
        let (mut policy, mut service) = (policy(), service(Mode::Replicated { replicas }));
        change(&mut policy, &mut service);
        match policy.check(&service) {
            Ok(()) => "fine",
            Err(error) => {
                assert!(!error.advice().is_empty());
                error.field()
            }
        }
    }

    #[test]
    fn bounds_and_targets() {
        assert_eq!(wrong(1, |_, _| ()), "fine");
        assert_eq!(wrong(1, |policy, _| policy.max = 0), "max");
        assert_eq!(wrong(1, |policy, _| policy.max = 1000), "max");
        assert_eq!(wrong(1, |policy, _| policy.min = 7), "min");
        assert_eq!(wrong(1, |policy, _| policy.cpu_percent = None), "");
        assert_eq!(wrong(1, |policy, _| policy.cpu_percent = Some(0)), "cpu");
        assert_eq!(wrong(1, |policy, _| policy.memory_percent = Some(75)), "memory");
        let reserved = |policy: &mut ScalePolicy, service: &mut Service| {
            policy.memory_percent = Some(75);
            service.spec.resources.memory_reservation_bytes = Some(1 << 20);
        };
        assert_eq!(wrong(1, reserved), "fine");
        let none = |policy: &mut ScalePolicy, service: &mut Service| {
            policy.min = 0;
            service.spec.network.networks.clear();
        };
        assert_eq!(wrong(1, none), "min");
        assert_eq!(wrong(1, |policy, _| policy.min = 0), "fine");
    }

    #[test]
    fn modes() {
        assert_eq!(wrong(1000, |_, _| ()), "");
        assert_eq!(wrong(999, |_, _| ()), "fine", "on so many nodes");
        assert_eq!(wrong(7, |policy, _| policy.per = Per::Application), "");
        assert_eq!(wrong(6, |policy, _| policy.per = Per::Application), "fine");
        let mut global = ScalePolicy { per: Per::Application, ..policy() };
        assert_eq!(global.check(&service(Mode::Global)), Err(PolicyError::GlobalPerApplication));
        global.per = Per::Node;
        assert_eq!(global.check(&service(Mode::Global)), Ok(()));
        assert_eq!(policy().check(&service(Mode::GlobalJob)), Err(PolicyError::Ends));
        let by_schedule = |_: &mut ScalePolicy, service: &mut Service| {
            service.spec.schedule = Some(Schedule {
                cron: "@daily".into(),
                zone: String::new(),
                missed: crate::spec::MissedRuns::Once,
                deadline_ms: None,
                overlap: crate::spec::Overlap::Forbid,
            });
        };
        assert_eq!(wrong(1, by_schedule), "");
    }

    #[test]
    fn ports_and_metrics() {
        let publish = |published, host_mode| {
            move |_: &mut ScalePolicy, service: &mut Service| {
                let port = PublishedPort {
                    target: 80,
                    published: Some(published),
                    host_ip: None,
                    udp: false,
                    host_mode,
                };
                service.spec.ports = vec![port];
            }
        };
        assert_eq!(wrong(1, publish((80, 80), true)), "max");
        assert_eq!(wrong(1, publish((80, 80), false)), "fine");
        assert_eq!(wrong(1, publish((8000, 8009), true)), "fine");
        let with =
            |metric| move |policy: &mut ScalePolicy, _: &mut Service| policy.metrics = vec![metric];
        assert_eq!(wrong(1, with(metric(Target::Average(10_000), "/metrics"))), "fine");
        assert_eq!(wrong(1, with(metric(Target::Value(0), "/metrics"))), "metrics");
        assert_eq!(wrong(1, with(metric(Target::Value(1), "metrics"))), "metrics");
        let many = vec![metric(Target::Value(1), "/"); MAX_METRICS_PER_SERVICE + 1];
        assert_eq!(wrong(1, |policy, _| policy.metrics = many), "metrics");
        let topic = |name: &str, per_second| MetricTarget {
            name: name.into(),
            source: MetricSource::Topic,
            per_second,
            ..metric(Target::Value(1), "/")
        };
        assert_eq!(wrong(1, with(topic("jobs.open", false))), "fine");
        assert_eq!(wrong(1, with(topic("jobs/open", false))), "metrics");
        assert_eq!(wrong(1, with(topic("#", false))), "metrics");
        assert_eq!(wrong(1, with(topic("jobs", true))), "metrics");
        let rests = |policy: &mut ScalePolicy, service: &mut Service| {
            policy.min = 0;
            policy.metrics = vec![topic("jobs", false)];
            service.spec.network.networks.clear();
        };
        assert_eq!(wrong(1, rests), "fine", "a topic wakes it");
    }

    #[test]
    fn networks() {
        let name = || "shop_default".parse().unwrap();
        let fixed = |_: &mut ScalePolicy, service: &mut Service| {
            let address = Some("10.128.0.9".parse().unwrap());
            let attachment = Attachment { ipv4_address: address, ..Attachment::default() };
            service.spec.network.networks.insert(name(), attachment);
        };
        assert_eq!(wrong(1, fixed), "max");
        let joined = |_: &mut ScalePolicy, service: &mut Service| {
            service.spec.network.joins = Some("db".parse().unwrap());
        };
        assert_eq!(wrong(1, joined), "");
    }

    #[test]
    fn paces() {
        let down = |pace| move |policy: &mut ScalePolicy, _: &mut Service| policy.down = pace;
        let pace = Pace { window_ms: 60_000, instances: Some(1), every_ms: 15_000, ..Pace::down() };
        assert_eq!(wrong(1, down(pace)), "fine");
        assert_eq!(wrong(1, down(Pace { every_ms: 0, ..pace })), "down");
        assert_eq!(wrong(1, down(Pace { instances: Some(0), ..pace })), "down");
        assert_eq!(wrong(1, down(Pace { window_ms: MAX_SCALE_WINDOW_MS + 1, ..pace })), "down");
        assert_eq!(wrong(1, down(Pace { select: Select::Disabled, ..Pace::down() })), "fine");
    }
}
