//! `limpet node inspect`: one node on a page.

use limpet_controller::api::types::{InstanceView, NodeView};

use super::{cpu, status_words};
use crate::client::Client;
use crate::output::{self, Format, ListArgs, age, bytes};
use crate::verbs::ps;

pub(super) async fn run(name: &str, format: Format, client: &Client) -> anyhow::Result<()> {
    let node = client.node(name).await?;
    if matches!(format, Format::Json | Format::Yaml) {
        output::object(format, &node)?;
        return Ok(());
    }
    output::print(&page(&node, output::now_ms()))?;
    let instances = client.instances(None).await?.items;
    let here: Vec<InstanceView> =
        instances.into_iter().filter(|item| item.node.as_deref() == Some(name)).collect();
    if !here.is_empty() {
        output::print("\n")?;
        output::list(&ListArgs { output: format, no_headers: false }, &ps::columns(), &here)?;
    }
    Ok(())
}

/// Its facts, one a line; lists have a line for each item.
fn page(node: &NodeView, now_ms: u64) -> String {
    let of = |part: String, whole: String| format!("{whole} ({part} reserved)");
    let line = |name: &str, text: &str| {
        let text = if text.is_empty() { "-" } else { text };
        format!("{name:<12} {text}\n")
    };
    let list = |name: &str, items: &[String]| match items {
        [] => line(name, ""),
        [first, rest @ ..] => {
            let rest: String = rest.iter().map(|item| line("", item)).collect();
            line(name, first) + &rest
        }
    };
    let own = |(key, value): (&String, &String)| match node.given_labels.get(key) {
        Some(given) if given == value => format!("{key}={value}"),
        _ => format!("{key}={value} (from its agent)"),
    };
    let labels: Vec<String> = node.labels.iter().map(own).collect();
    let network = |line: &dyn Fn(&str, &str) -> String,
                   list: &dyn Fn(&str, &[String]) -> String| {
        let Some(network) = &node.network else {
            return line("network", "nothing takes part in one");
        };
        let tunnel = match network.tunnel.as_deref() {
            Some("kernel") => "WireGuard of the kernel",
            Some("userland") => "WireGuard of the agent: the kernel has none, which is slower",
            _ => "none told yet",
        };
        let peers = format!("{} ({} do not answer)", network.peers, network.unreachable.len());
        [
            line("network", &format!("{}, {}", network.subnet, network.subnet6)),
            line("tunnel", tunnel),
            list("endpoints", &network.endpoints),
            line("peers", &peers),
            list("unreachable", &network.unreachable),
        ]
        .concat()
    };
    let memory = of(bytes(node.memory_reserved_bytes), bytes(node.memory_bytes));
    [
        line("node", &node.node),
        line("status", &status_words(node)),
        line("hostname", &node.hostname),
        line("platform", &node.platform),
        line("kernel", &node.kernel),
        line("agent", &node.agent_version),
        line("cpu", &of(cpu(node.cpu_reserved_millis), cpu(node.cpu_millis))),
        line("memory", &memory),
        line("instances", &node.instances.to_string()),
        line("contact", &format!("{} ago", age(node.last_contact_ms, now_ms))),
        line("joined", &format!("{} ago", age(node.joined_ms, now_ms))),
        line("wanted", &node.wanted_generation),
        line("observed", &node.observed_generation),
        list("labels", &labels),
        network(&line, &list),
        list("devices", &node.devices),
        list("conditions", &node.conditions),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use limpet_controller::api::types::NodeNetworkView;

    use super::*;

    #[test]
    fn a_page_has_a_line_for_each_fact() {
        let mut node = super::super::tests::node("ready", "pause", 2);
        node.labels.insert("rack".into(), "7".into());
        node.given_labels = labels_of(&[("rack", "7")]);
        node.conditions = vec!["no seccomp".into(), "no memory cgroup".into()];
        assert!(page(&node, 61_001).contains("network      nothing takes part in one\n"));
        node.network = Some(NodeNetworkView {
            subnet: "10.129.0.0/24".into(),
            subnet6: "fd12::/64".into(),
            tunnel: Some("kernel".into()),
            endpoints: vec!["192.0.2.7:51820".into(), "10.0.0.7:51820".into()],
            peers: 3,
            unreachable: vec!["pump-8".into()],
            left_out: 0,
        });
        let page = page(&node, 61_001);
        for line in [
            "status       ready,cordoned\n",
            "cpu          4 (1.5 reserved)\n",
            "contact      61s ago\n",
            "labels       rack=7\n             site=north (from its agent)\n",
            "network      10.129.0.0/24, fd12::/64\ntunnel       WireGuard of the kernel\n",
            "endpoints    192.0.2.7:51820\n             10.0.0.7:51820\n",
            "peers        3 (1 do not answer)\nunreachable  pump-8\n",
            "devices      /dev/ttyUSB0\n",
            "conditions   no seccomp\n             no memory cgroup\n",
        ] {
            assert!(page.contains(line), "{line:?} in\n{page}");
        }
    }

    fn labels_of(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
}
