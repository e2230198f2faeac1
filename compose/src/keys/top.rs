//! The rows of everything beside the services.

use super::Shape::{Any, Bool, Integer, List, Map, Names, Pairs, Text, Texts};
use super::{Section, honoured, noted, refused, reported, within};

const MODELS: &str = "Limpet runs no models; services that use them are refused";

pub(super) const SECTIONS: &[Section] = &[
    Section {
        prefix: "",
        keys: &[
            within("", Map),
            reported("version", Text, "it is obsolete: remove it"),
            noted("name", Text, "the application's name"),
            honoured("include", List),
            honoured("services", Names),
            within("services.*", Map),
            honoured("networks", Names),
            within("networks.*", Map),
            honoured("volumes", Names),
            within("volumes.*", Map),
            honoured("secrets", Names),
            within("secrets.*", Map),
            honoured("configs", Names),
            within("configs.*", Map),
            reported("models", Names, MODELS),
            within("models.*", Map),
        ],
    },
    Section {
        prefix: "include[]",
        keys: &[
            within("", Map),
            honoured("path", Texts),
            honoured("project_directory", Text),
            honoured("env_file", Texts),
        ],
    },
    Section {
        prefix: "networks.*",
        keys: &[
            noted("name", Text, "the same on all nodes; without it, `application_network`"),
            noted(
                "driver",
                Text,
                "`bridge` and `overlay`, which are the same here; others are refused",
            ),
            reported("driver_opts", Pairs, "networks have no options: remove it"),
            noted(
                "ipam",
                Map,
                "needed for fixed addresses only: Limpet gives out addresses itself",
            ),
            noted("ipam.driver", Text, "`default`; others are reported"),
            honoured("ipam.config", List),
            within("ipam.config[]", Map),
            noted("ipam.config[].subnet", Text, "where fixed addresses of services may be"),
            reported(
                "ipam.config[].ip_range",
                Text,
                "addresses come from the node's part of the fleet's pool",
            ),
            reported(
                "ipam.config[].gateway",
                Text,
                "the node is the gateway, with an address of its own",
            ),
            reported("ipam.config[].aux_addresses", Pairs, "write `extra_hosts` at the services"),
            reported("ipam.options", Pairs, "addresses are given out by Limpet: remove it"),
            noted(
                "external",
                Bool,
                "a network of any application, by its name; it need not be there",
            ),
            noted("external.name", Text, "old form of `name`"),
            noted("internal", Bool, "services with no other network do not reach the outside"),
            noted(
                "enable_ipv4",
                Bool,
                "`true`; `false` is reported, instances always have an IPv4 address",
            ),
            noted("enable_ipv6", Bool, "instances have a unique local address (RFC 4193) too"),
            reported(
                "attachable",
                Bool,
                "every application may name a network as `external`: remove it",
            ),
            reported("labels", Pairs, "networks have no labels in Limpet: remove it"),
        ],
    },
    Section {
        prefix: "volumes.*",
        keys: &[
            noted("name", Text, "the volume's name on the node; without it, `application_volume`"),
            noted("driver", Text, "`local`; any other is refused"),
            refused("driver_opts", Pairs, "mount it on the node and use a bind mount of that path"),
            noted(
                "external",
                Bool,
                "the volume is used by its name; it is made if it is not there",
            ),
            noted("external.name", Text, "old form of `name`"),
            reported("labels", Pairs, "volumes have no labels in Limpet: remove it"),
        ],
    },
    Section {
        prefix: "secrets.*",
        keys: &[
            noted("name", Text, "of an `external` one: its name with the controller"),
            noted("environment", Text, "a variable of the machine of `limpet apply` or of `.env`"),
            noted("file", Text, "of the machine of `limpet apply`; at most 254 KiB"),
            noted("external", Bool, "made with `limpet secret create`, looked up at every apply"),
            noted("external.name", Text, "old form of `name`"),
            reported("labels", Pairs, "secrets have no labels in Limpet: remove it"),
            refused("driver", Text, "give the content with `file`, `environment` or `external`"),
            refused(
                "driver_opts",
                Pairs,
                "give the content with `file`, `environment` or `external`",
            ),
            refused("template_driver", Text, "fill the template before `limpet apply`"),
        ],
    },
    Section {
        prefix: "configs.*",
        keys: &[
            noted("name", Text, "of an `external` one: its name with the controller"),
            noted("content", Text, "variables in it are filled in; `$$` is `$`"),
            noted("environment", Text, "a variable of the machine of `limpet apply` or of `.env`"),
            noted("file", Text, "of the machine of `limpet apply`; at most 254 KiB"),
            noted("external", Bool, "made with `limpet config create`, looked up at every apply"),
            noted("external.name", Text, "old form of `name`"),
            reported("labels", Pairs, "configs have no labels in Limpet: remove it"),
            refused("template_driver", Text, "fill the template before `limpet apply`"),
        ],
    },
    Section {
        prefix: "models.*",
        keys: &[
            within("name", Text),
            within("model", Text),
            within("context_size", Integer),
            within("runtime_flags", Texts),
        ],
    },
    Section { prefix: "services.*.provider.options", keys: &[within(".*", Any)] },
];
