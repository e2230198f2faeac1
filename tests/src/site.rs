//! A site: a switch with a network namespace for each node, so that nodes are apart as machines are.
//!
//! The hub is a namespace too: the controller and the command line run in it, and so does whoever
//! plays the outside. Nothing is made in the machine's own network; all of it is gone on drop.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The hub and the nodes that were wired to it.
#[derive(Debug)]
pub struct Site {
    name: String,
    nodes: Vec<String>,
}

/// The network of every site (RFC 2544); each has its own copy of it.
const NETWORK: &str = "198.18.0";

fn ip(words: &str) {
    let output =
        Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Site {
    /// Makes the hub of a site.
    ///
    /// # Panics
    /// When the kernel or `ip` refuses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let site = Self { name: name.to_owned(), nodes: vec![] };
        let hub = site.namespace("hub");
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link set lo up"));
        ip(&format!("-n {hub} link add hub type bridge"));
        ip(&format!("-n {hub} addr add {NETWORK}.1/24 dev hub"));
        ip(&format!("-n {hub} link set hub up"));
        site
    }

    fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    /// The hub's address.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{NETWORK}.1")
    }

    /// Wires a node to the hub.
    ///
    /// # Panics
    /// When the kernel or `ip` refuses.
    pub fn add(&mut self, node: &str) {
        let (hub, own) = (self.namespace("hub"), self.namespace(node));
        self.nodes.push(node.to_owned());
        let port = format!("port{}", self.nodes.len());
        ip(&format!("netns add {own}"));
        ip(&format!("-n {own} link set lo up"));
        ip(&format!("-n {hub} link add {port} type veth peer name uplink netns {own}"));
        ip(&format!("-n {hub} link set {port} master hub"));
        ip(&format!("-n {hub} link set {port} up"));
        ip(&format!("-n {own} addr add {}/24 dev uplink", self.address(node)));
        ip(&format!("-n {own} link set uplink up"));
        ip(&format!("-n {own} route add default via {}", self.host()));
    }

    /// Wires an emulated board to the hub: the device that is returned, in the hub's namespace, is the
    /// other end of its network device.
    ///
    /// # Panics
    /// When the kernel or `ip` refuses.
    pub fn add_board(&mut self, node: &str) -> String {
        let hub = self.namespace("hub");
        self.nodes.push(node.to_owned());
        let port = format!("port{}", self.nodes.len());
        ip(&format!("-n {hub} tuntap add dev {port} mode tap"));
        ip(&format!("-n {hub} link set {port} master hub"));
        ip(&format!("-n {hub} link set {port} up"));
        port
    }

    /// A node's address.
    ///
    /// # Panics
    /// When it was not added.
    #[must_use]
    pub fn address(&self, node: &str) -> String {
        format!("{NETWORK}.{}", 10 + self.number(node))
    }

    fn number(&self, node: &str) -> usize {
        self.nodes.iter().position(|it| it == node).expect("a node of the site")
    }

    /// Nothing passes between two nodes any more; both still reach the hub.
    pub fn part(&self, one: &str, other: &str) {
        for (here, there) in [(one, other), (other, one)] {
            let (own, address) = (self.namespace(here), self.address(there));
            ip(&format!("-n {own} route add blackhole {address}/32"));
        }
    }

    /// Heals what [`Site::part`] did.
    pub fn join(&self, one: &str, other: &str) {
        for (here, there) in [(one, other), (other, one)] {
            let (own, address) = (self.namespace(here), self.address(there));
            ip(&format!("-n {own} route del blackhole {address}/32"));
        }
    }

    /// Cuts or restores a node's wire to the hub, and with it to everybody.
    pub fn plug(&self, node: &str, in_: bool) {
        let (hub, port) = (self.namespace("hub"), self.number(node) + 1);
        let state = if in_ { "up" } else { "down" };
        ip(&format!("-n {hub} link set port{port} {state}"));
    }

    /// A command that runs a program at a place: `hub` or a node. Only the network is another: `ip netns
    /// exec` would hide the cgroups behind a new `/sys`.
    #[must_use]
    pub fn command(&self, place: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = self.namespace(place);
        command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
        command
    }

    /// Runs a closure in a thread at a place: `hub` or a node.
    ///
    /// # Panics
    /// When the closure does, or the namespace is gone.
    pub fn at<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(place));
        std::thread::scope(|scope| {
            let inside = move || {
                let namespace = File::open(path).expect("a place of the site");
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
                work()
            };
            match scope.spawn(inside).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Names of the network devices at a place.
    #[must_use]
    pub fn devices(&self, place: &str) -> Vec<String> {
        let text = self.at(place, || fs::read_to_string("/proc/thread-self/net/dev"));
        let text = text.unwrap_or_default();
        let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.trim().to_owned()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let places = self.nodes.iter().map(String::as_str).chain(["hub"]);
        for place in places {
            // What was not made cannot be removed; all are tried.
            drop(Command::new("ip").args(["netns", "del", &self.namespace(place)]).output());
        }
    }
}
