//! The networks of a file: `networks`.
//!
//! In Limpet a network is a name that is the same on all nodes; what else a file says of it are facts
//! that its services bring along. So an `external` network need not be there, and says for itself whether
//! it is `internal` or has IPv6.

use std::collections::BTreeMap;

use limpet_protocol::id::{ApplicationName, NetworkName};
use limpet_protocol::network::Subnet;

use crate::Diagnostic;
use crate::canonical::join;
use crate::diagnostic::Problems;
use crate::node::Node;

/// The network that a service takes part in that says nothing.
pub(super) const DEFAULT: &str = "default";

/// One network.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) name: NetworkName,
    pub(super) external: bool,
    pub(super) internal: bool,
    pub(super) ipv6: bool,
    /// Where fixed addresses may be.
    pub(super) subnets: Vec<Subnet>,
}

/// All networks of a file by their key; none where something was wrong with one, which was told.
#[derive(Debug)]
pub(crate) struct Networks(BTreeMap<String, Option<Declared>>);

impl Networks {
    pub(super) fn get(&self, key: &str) -> Option<&Declared> {
        self.0.get(key)?.as_ref()
    }
}

/// Reads the networks of a file.
pub(crate) fn declared(
    tree: &Node,
    application: &ApplicationName,
    problems: &mut Problems,
) -> Networks {
    let mut found: BTreeMap<String, Option<Declared>> = BTreeMap::new();
    let mapping = tree.get("networks").and_then(Node::as_mapping);
    for (key, entry) in mapping.into_iter().flatten() {
        let mut spot = Spot { node: &entry.node, path: join("networks", key), problems };
        let network = spot.network(key, application);
        let twin = network.as_ref().and_then(|network| {
            let same = |other: &&Declared| other.name == network.name;
            found.values().flatten().find(same).map(|twin| twin.name.clone())
        });
        if let Some(twin) = twin {
            let message = format!("another network of this file is called {twin} too");
            spot.refuse("name", message, "give them different names, or keep one of them");
        }
        found.insert(key.clone(), network);
    }
    found.entry(DEFAULT.to_owned()).or_insert_with(|| {
        let name = NetworkName::new(&format!("{application}_{DEFAULT}")).ok()?;
        let (external, internal, ipv6) = (false, false, false);
        Some(Declared { name, external, internal, ipv6, subnets: Vec::new() })
    });
    Networks(found)
}

/// One network while it is read.
struct Spot<'a, 'p> {
    node: &'a Node,
    path: String,
    problems: &'p mut Problems,
}

impl Spot<'_, '_> {
    fn get(&self, path: &str) -> Option<&Node> {
        let node = path.split('.').try_fold(self.node, |node, key| node.get(key))?;
        (!node.is_null()).then_some(node)
    }

    fn say(&mut self, key: &str, diagnostic: Diagnostic) {
        let place = self.get(key).map_or(&self.node.place, |node| &node.place).clone();
        self.problems.push(diagnostic.at(&place).key(join(&self.path, key)));
    }

    fn refuse(&mut self, key: &str, message: impl Into<String>, advice: &str) {
        self.say(key, Diagnostic::error(message).advice(advice));
    }

    fn network(&mut self, key: &str, application: &ApplicationName) -> Option<Declared> {
        let flag = |key: &str| self.get(key).is_some_and(Node::is_true);
        let (external, internal, ipv6) = (flag("external"), flag("internal"), flag("enable_ipv6"));
        self.check_driver();
        let off = self.get("enable_ipv4").is_some_and(|node| !node.is_true());
        if off {
            let message = "instances always have an IPv4 address";
            self.say("enable_ipv4", Diagnostic::warning(message).advice("remove it"));
        }
        let name = self.get("name").and_then(Node::scalar).map(str::to_owned);
        let name = name.unwrap_or_else(|| match external {
            true => key.to_owned(),
            false => format!("{application}_{key}"),
        });
        let subnets = self.subnets();
        match NetworkName::new(&name) {
            Ok(name) => Some(Declared { name, external, internal, ipv6, subnets }),
            Err(error) => {
                let message = format!("{name:?} is no name for a network: {error}");
                self.say("name", Diagnostic::error(message));
                None
            }
        }
    }

    fn check_driver(&mut self) {
        let driver = self.get("driver").and_then(Node::scalar).unwrap_or("bridge").to_owned();
        let advice = match driver.as_str() {
            "bridge" | "overlay" | "default" | "" => return self.check_ipam_driver(),
            "host" | "none" => format!("write `network_mode: {driver}` at the service"),
            _ => "remove it: a network reaches over all nodes and is encrypted between them"
                .to_owned(),
        };
        self.refuse("driver", format!("there is no network driver {driver:?}"), &advice);
    }

    fn check_ipam_driver(&mut self) {
        let driver = self.get("ipam.driver").and_then(Node::scalar).unwrap_or("default").to_owned();
        if driver != "default" {
            let message = format!("addresses are given out by Limpet and not by {driver:?}");
            self.say("ipam.driver", Diagnostic::warning(message).advice("remove it"));
        }
    }

    fn subnets(&mut self) -> Vec<Subnet> {
        let items = self.get("ipam.config").and_then(Node::as_sequence).unwrap_or_default();
        let texts: Vec<(usize, String, crate::node::Place)> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let subnet = item.get("subnet").filter(|node| !node.is_null())?;
                Some((index, subnet.scalar().unwrap_or_default().to_owned(), subnet.place.clone()))
            })
            .collect();
        let mut found = Vec::new();
        for (index, text, place) in texts {
            match text.parse() {
                Ok(subnet) => found.push(subnet),
                Err(error) => {
                    let message = format!("{text:?} is no subnet: {error}");
                    let path = format!("{}.ipam.config[{index}].subnet", self.path);
                    self.problems.push(Diagnostic::error(message).at(&place).key(path));
                }
            }
        }
        found
    }
}
