//! The rows of `deploy`.

use super::Shape::{Bytes, Choice, Duration, Integer, List, Map, Number, Pairs, Text, Texts};
use super::{Section, honoured, noted, refused, reported, within};

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
            reported(
                "endpoint_mode",
                Text,
                "services have no addresses of their own until networks arrive",
            ),
            honoured("replicas", Integer),
            noted("labels", Pairs, "labels of the service, not of its containers"),
            reported("update_config", Map, "updates replace all instances at once in this version"),
            reported("rollback_config", Map, "apply the earlier file to go back in this version"),
            honoured("resources", Map),
            honoured("restart_policy", Map),
            honoured("placement", Map),
        ],
    },
    Section {
        prefix: "services.*.deploy.update_config",
        keys: &[
            within("parallelism", Integer),
            within("delay", Duration),
            within("failure_action", Text),
            within("monitor", Duration),
            within("max_failure_ratio", Number),
            within("order", Choice(ORDERS)),
        ],
    },
    Section {
        prefix: "services.*.deploy.rollback_config",
        keys: &[
            within("parallelism", Integer),
            within("delay", Duration),
            within("failure_action", Text),
            within("monitor", Duration),
            within("max_failure_ratio", Number),
            within("order", Choice(ORDERS)),
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
