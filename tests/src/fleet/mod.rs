//! A fleet on this machine: a controller, a broker, nodes, and the command line to talk to them.
//!
//! Everything is a real program in a process of its own, with its own folders, ports and cgroup
//! parent, and all of it is gone when the [`Fleet`] is dropped, also when the test fails.

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Running, free_port, program, wait_for};
use crate::site::Site;
use crate::wire::Wire;

pub use node::{Node, remove_cgroup_everywhere};

/// Numbers the fleets of one test program, for names on the machine.
static FLEETS: AtomicU32 = AtomicU32::new(0);

/// Which broker carries the fleet's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// The controller's own.
    Embedded,
    /// Debian's Mosquitto.
    Mosquitto,
}

/// A controller and its nodes.
#[derive(Debug)]
pub struct Fleet {
    /// Declared first: agents end before what they talk to.
    nodes: Vec<Node>,
    controller: Option<Running>,
    mosquitto: Option<Running>,
    wire: Option<Wire>,
    site: Option<Site>,
    kind: Broker,
    folder: TempDir,
    tag: String,
    api: u16,
    mqtt: u16,
}

impl Fleet {
    /// Starts a controller with its embedded broker.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Broker::Embedded)
    }

    /// Starts a controller with a broker.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with(kind: Broker) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test runs real containers: run it as root"
        );
        let mut fleet = Self::prepare(kind);
        if kind == Broker::Mosquitto {
            fleet.start_mosquitto();
        }
        fleet.start_controller();
        fleet
    }

    /// Starts a controller whose nodes live in a network namespace behind one wire.
    #[must_use]
    pub fn on_a_wire() -> Self {
        let mut fleet = Self::prepare(Broker::Embedded);
        fleet.wire = Some(Wire::new(&fleet.tag));
        fleet.start_controller();
        fleet
    }

    /// Starts a controller at the hub of a site, each of whose nodes has a network namespace of its own
    /// and gives its containers networks.
    #[must_use]
    pub fn on_a_site() -> Self {
        let mut fleet = Self::prepare(Broker::Embedded);
        fleet.site = Some(Site::new(&fleet.tag));
        fleet.start_controller();
        fleet
    }

    /// The site where the nodes are.
    ///
    /// # Panics
    /// When the fleet has none.
    #[must_use]
    pub fn site(&self) -> &Site {
        self.site.as_ref().expect("a fleet on a site")
    }

    /// Wires an emulated board to the site.
    ///
    /// # Panics
    /// When the fleet has none.
    pub fn wire_board(&mut self, name: &str) -> String {
        self.site.as_mut().expect("a fleet on a site").add_board(name)
    }

    /// The wire behind which the nodes are.
    ///
    /// # Panics
    /// When the fleet has none.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("a fleet on a wire")
    }

    fn prepare(kind: Broker) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test runs real containers: run it as root"
        );
        let tag = format!(
            "limpet-test-{}-{}",
            std::process::id(),
            FLEETS.fetch_add(1, Ordering::Relaxed)
        );
        let folder = tempfile::Builder::new().prefix(&tag).tempdir().unwrap();
        Self {
            nodes: vec![],
            controller: None,
            mosquitto: None,
            wire: None,
            site: None,
            kind,
            folder,
            tag,
            api: free_port(),
            mqtt: free_port(),
        }
    }

    /// Where nodes find the broker and the controller.
    fn host(&self) -> String {
        match (&self.wire, &self.site) {
            (Some(wire), _) => wire.host().to_owned(),
            (None, Some(site)) => site.host(),
            (None, None) => "127.0.0.1".into(),
        }
    }

    /// The fleet's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port of the broker.
    #[must_use]
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt
    }

    /// The port of the API.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.api
    }

    /// The controller's data folder.
    #[must_use]
    pub fn controller_data(&self) -> PathBuf {
        self.folder.path().join("controller")
    }

    /// The controller's process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn controller(&mut self) -> &mut Running {
        self.controller.as_mut().expect("the controller runs")
    }

    /// Starts Mosquitto on the fleet's port, with nothing kept.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_mosquitto(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n",
            self.mqtt
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(&config);
        self.mosquitto = Some(Running::start("mosquitto", self.folder.path(), &mut command));
        wait_for("mosquitto to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", self.mqtt)).ok()
        });
    }

    /// Kills Mosquitto.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_mosquitto(&mut self) {
        self.mosquitto.take().expect("mosquitto runs").kill();
    }

    /// Starts the controller, for the first time or again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_controller(&mut self) {
        let mut command = self.controller_command();
        self.controller = Some(Running::start("controller", self.folder.path(), &mut command));
        wait_for("the controller to answer", || {
            self.try_limpet(&["version"]).status.success().then_some(())
        });
    }

    /// The command that starts the controller of this fleet.
    #[must_use]
    pub fn controller_command(&self) -> Command {
        let mut command = self.at_hub(&program("limpet"));
        command.arg("controller").arg("--data").arg(self.controller_data());
        let host = self.host();
        command.args(["--api-listen", &format!("{host}:{}", self.api), "--lost-after", "2s"]);
        match self.kind {
            Broker::Embedded => command.args(["--mqtt-listen", &format!("{host}:{}", self.mqtt)]),
            Broker::Mosquitto => {
                command.args(["--broker", &format!("mqtt://127.0.0.1:{}", self.mqtt)])
            }
        };
        command
    }

    /// A program where the controller runs.
    fn at_hub(&self, program: &Path) -> Command {
        match &self.site {
            Some(site) => site.command("hub", program),
            None => Command::new(program),
        }
    }

    /// A program where a node's agent runs.
    fn at_node(&self, node: &str, program: &Path) -> Command {
        match (&self.wire, &self.site) {
            (Some(wire), _) => wire.command(program),
            (None, Some(site)) => site.command(node, program),
            (None, None) => Command::new(program),
        }
    }

    /// Kills the controller as a power cut would.
    pub fn kill_controller(&mut self) {
        self.controller().kill();
        self.controller = None;
    }

    /// Adds a node and waits until it is ready.
    ///
    /// # Panics
    /// When it does not join.
    pub fn add_node(&mut self, name: &str, labels: &[&str]) {
        let options: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        self.add_node_with(name, &options);
    }

    /// Adds a node whose agent is started with more options, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not join.
    pub fn add_node_with(&mut self, name: &str, options: &[&str]) {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        if let Some(site) = &mut self.site {
            site.add(name);
        }
        let cgroup = self.cgroup_of(name);
        self.nodes.push(Node { name: name.to_owned(), agent: None, folder, cgroup });
        let token = self.limpet_json(&["token", "create"]);
        let token = token["token"].as_str().expect("a new token").to_owned();
        self.start_agent_with(name, &[&["--join-token", token.as_str()], options].concat());
        self.wait_ready(name);
    }

    /// Starts a node's agent again.
    pub fn start_agent(&mut self, name: &str) {
        self.start_agent_with(name, &[]);
    }

    fn start_agent_with(&mut self, name: &str, more: &[&str]) {
        let broker = format!("mqtt://{}:{}", self.host(), self.mqtt);
        let mut command = self.at_node(name, &program("limpet-agent"));
        // Nodes that share one network namespace would take each other's packets for the outside's.
        if self.site.is_none() {
            command.args(["--network", "off"]);
        }
        let node = self.node_mut(name);
        command.args([
            "--controller",
            &broker,
            "--node-name",
            name,
            "--cgroup-parent",
            &node.cgroup,
        ]);
        command
            .arg("--data")
            .arg(node.folder.join("data"))
            .arg("--run")
            .arg(node.folder.join("run"));
        command.args(more);
        node.agent = Some(Running::start(&format!("agent-{name}"), &node.folder, &mut command));
    }

    /// Waits until the controller calls a node ready.
    pub fn wait_ready(&self, name: &str) {
        wait_for(&format!("node {name} to be ready"), || {
            let nodes = self.limpet_json(&["node", "ls"]);
            nodes
                .as_array()?
                .iter()
                .find(|n| n["node"] == name && n["status"] == "ready")
                .map(|_| ())
        });
    }

    /// The cgroup that all containers of a node are in, also before there is the node.
    #[must_use]
    pub fn cgroup_of(&self, node: &str) -> String {
        format!("/{}-{node}", self.tag)
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("a node of the fleet")
    }

    /// A node, to do something with.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).expect("a node of that name")
    }

    /// Runs the command line against this fleet.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn try_limpet(&self, arguments: &[&str]) -> Output {
        self.limpet_command(arguments).output().unwrap()
    }

    /// The command line against this fleet, to be started as the test likes.
    #[must_use]
    pub fn limpet_command(&self, arguments: &[&str]) -> Command {
        let token =
            fs::read_to_string(self.controller_data().join("admin.token")).unwrap_or_default();
        let mut command = self.at_hub(&program("limpet"));
        command
            .args(arguments)
            .env("LIMPET_SERVER", format!("http://{}:{}", self.host(), self.api))
            .env("LIMPET_TOKEN", token.trim())
            .env("NO_COLOR", "1");
        command
    }

    /// Runs the command line and gives what it wrote.
    ///
    /// # Panics
    /// When it fails; the message has its errors.
    pub fn limpet(&self, arguments: &[&str]) -> String {
        let output = self.try_limpet(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "limpet {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the command line with `-o json`.
    ///
    /// # Panics
    /// When it fails or what it writes is not JSON.
    #[must_use]
    pub fn limpet_json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["-o", "json"]].concat();
        serde_json::from_str(&self.limpet(&arguments)).unwrap()
    }

    /// Writes a Compose file under the fleet's folder and applies it.
    pub fn apply(&self, name: &str, compose: &str, more: &[&str]) -> String {
        let file = self.write_compose(name, compose);
        self.limpet(
            &[&["apply", "-f", file.to_str().unwrap(), "--project-name", name], more].concat(),
        )
    }

    /// Writes a Compose file under the fleet's folder.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn write_compose(&self, name: &str, compose: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&file, compose).unwrap();
        file
    }

    /// Loads an image archive into the controller.
    ///
    /// # Panics
    /// When it is refused.
    pub fn load_image(&self, archive: &[u8]) {
        let file = self.folder.path().join("image.tar");
        fs::write(&file, archive).unwrap();
        self.limpet(&["image", "load", file.to_str().unwrap()]);
    }

    /// The instances, as `limpet ps -o json` gives them.
    #[must_use]
    pub fn instances(&self) -> Vec<Value> {
        self.limpet_json(&["ps"]).as_array().cloned().unwrap_or_default()
    }

    /// Waits until so many instances of a service run what is wanted, and gives them.
    pub fn wait_running(&self, service: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} running instances of {service}"), || {
            let all = self.instances();
            let of: Vec<_> = all.into_iter().filter(|i| i["service"] == service).collect();
            let running =
                of.iter().filter(|i| i["phase"] == "running" && i["current"] == true).count();
            (running == count && of.len() == count).then_some(of)
        })
    }

    /// Waits until an instance's reason contains a text, and gives the instance.
    pub fn wait_reason(&self, service: &str, text: &str) -> Value {
        wait_for(&format!("a reason with {text:?} for {service}"), || {
            let has = |i: &&Value| {
                i["service"] == service && i["reason"].as_str().unwrap_or("").contains(text)
            };
            self.instances().iter().find(has).cloned()
        })
    }
}
