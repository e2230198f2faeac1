//! The rows of `deploy`.

use super::Shape::{Bytes, Choice, Duration, Integer, List, Map, Number, Pairs, Text, Texts};
use super::{Section, honoured, noted, refused, within};

const ORDERS: &[&str] = &["start-first", "stop-first"];

pub(super) const SECTIONS: &[Section] = &[
    Section {
        prefix: "services.*.deploy",
        keys: &[
            noted(
                "mode",
                Text,
                "`replicated`, `global`, `replicated-job` and `global-job`; see also `x-job`",
            ),
            noted(
                "endpoint_mode",
                Text,
                "`vip` (default): one address; `dnsrr`: those of all instances",
            ),
            honoured("replicas", Integer),
            noted("labels", Pairs, "labels of the service, not of its containers"),
            noted("update_config", Map, "as in Docker Swarm; nodes that are away follow later"),
            noted("rollback_config", Map, "back to the version that last proved itself"),
            honoured("resources", Map),
            honoured("restart_policy", Map),
            honoured("placement", Map),
        ],
    },
    Section {
        prefix: "services.*.deploy.update_config",
        keys: &[
            noted("parallelism", Integer, "1 by default; 0 is all at once"),
            honoured("delay", Duration),
            noted("failure_action", Text, "`pause`, `continue`, `rollback`"),
            noted("monitor", Duration, "5s by default; it does not hold up the next instance"),
            noted(
                "max_failure_ratio",
                Number,
                "of the instances that are to be changed; 0 by default",
            ),
            honoured("order", Choice(ORDERS)),
        ],
    },
    Section {
        prefix: "services.*.deploy.rollback_config",
        keys: &[
            noted("parallelism", Integer, "1 by default; 0 is all at once"),
            honoured("delay", Duration),
            noted("failure_action", Text, "`pause`, `continue`"),
            noted("monitor", Duration, "5s by default; it does not hold up the next instance"),
            noted(
                "max_failure_ratio",
                Number,
                "of the instances that are to be changed; 0 by default",
            ),
            honoured("order", Choice(ORDERS)),
        ],
    },
    Section {
        prefix: "services.*.deploy.resources",
        keys: &[
            honoured("limits", Map),
            honoured("limits.cpus", Number),
            honoured("limits.memory", Bytes),
            honoured("limits.pids", Integer),
            honoured("reservations", Map),
            honoured("reservations.cpus", Number),
            honoured("reservations.memory", Bytes),
            refused(
                "reservations.generic_resources",
                List,
                "label the nodes and use `deploy.placement.constraints`",
            ),
            within("reservations.generic_resources[]", Map),
            within("reservations.generic_resources[].discrete_resource_spec", Map),
            within("reservations.generic_resources[].discrete_resource_spec.kind", Text),
            within("reservations.generic_resources[].discrete_resource_spec.value", Number),
            refused("reservations.devices", List, "name the device nodes under `devices`"),
            within("reservations.devices[]", Map),
            within("reservations.devices[].capabilities", Texts),
            within("reservations.devices[].count", Integer),
            within("reservations.devices[].device_ids", Texts),
            within("reservations.devices[].driver", Text),
            within("reservations.devices[].options", Pairs),
        ],
    },
    Section {
        prefix: "services.*.deploy.restart_policy",
        keys: &[
            noted("condition", Text, "`none`, `on-failure`, `any`"),
            noted("delay", Duration, "without it, no delay; a crash loop is slowed by back-off"),
            honoured("max_attempts", Integer),
            honoured("window", Duration),
        ],
    },
    Section {
        prefix: "services.*.deploy.placement",
        keys: &[
            noted(
                "constraints",
                Texts,
                "`node.id`, `node.hostname`, `node.platform.os`, `node.platform.arch` and \
                 `node.labels.*` with `==` or `!=`; `node.role` and others are refused",
            ),
            honoured("preferences", List),
            within("preferences[]", Map),
            noted("preferences[].spread", Text, "`node.labels.*`"),
            honoured("max_replicas_per_node", Integer),
        ],
    },
];
