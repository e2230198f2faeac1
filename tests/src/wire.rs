//! A wire: a network namespace for a node, joined to the machine by a veth pair, so that what the
//! node sends and receives can be counted.

use std::fs;
use std::process::Command;

/// A namespace and its wire; both are gone when it is dropped.
#[derive(Debug)]
pub struct Wire {
    namespace: String,
    device: String,
    host: String,
}

fn ip(words: &str) {
    let output =
        Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Wire {
    /// Makes a namespace `name` and a wire to it, in a network of the block for benchmarks
    /// (198.18.0.0/15, RFC 2544).
    ///
    /// # Panics
    /// When the kernel or `ip` refuses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let number = std::process::id() % 250;
        let (device, peer) = (format!("lmw{number}"), format!("lmp{number}"));
        let host = format!("198.18.{number}.1");
        ip(&format!("netns add {name}"));
        let wire = Self { namespace: name.to_owned(), device, host };
        // Nobody speaks IPv6 here; its solicitations would be counted as the node's.
        let quiet = "sysctl -qw net.ipv6.conf.default.disable_ipv6=1";
        let inside = format!("nsenter --net=/run/netns/{name} {quiet}");
        drop(Command::new("sh").args(["-c", &inside]).output());
        ip(&format!("link add {} type veth peer name {peer} netns {name}", wire.device));
        let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", wire.device);
        // A kernel without IPv6 has no such switch, and needs none.
        drop(fs::write(switch, "1"));
        ip(&format!("addr add {}/30 dev {}", wire.host, wire.device));
        ip(&format!("link set {} up", wire.device));
        ip(&format!("-n {name} addr add 198.18.{number}.2/30 dev {peer}"));
        ip(&format!("-n {name} link set {peer} up"));
        ip(&format!("-n {name} link set lo up"));
        wire
    }

    /// The machine's address on the wire.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The node's address on the wire.
    #[must_use]
    pub fn node(&self) -> String {
        format!("{}2", self.host.trim_end_matches('1'))
    }

    /// Sets a kernel parameter of the namespace.
    ///
    /// # Panics
    /// When the kernel has none of that name or refuses the value.
    pub fn set(&self, name: &str, value: &str) {
        let mut command = self.command(std::path::Path::new("sysctl"));
        let output = command.arg("-w").arg(format!("{name}={value}")).output();
        let output = output.expect("nsenter and sysctl are installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sysctl {name}={value}: {error}");
    }

    /// A command that runs a program in the namespace. Only the network is another: `ip netns exec`
    /// would hide the cgroups behind a new `/sys`.
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command
    }

    /// Bytes over the wire so far, both directions, Ethernet headers included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let read = |file: &str| {
            let text =
                fs::read_to_string(format!("/sys/class/net/{}/statistics/{file}", self.device));
            text.ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        read("rx_bytes") + read("tx_bytes")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for words in [format!("link del {}", self.device), format!("netns del {}", self.namespace)]
        {
            // What was not made cannot be removed; both are tried.
            drop(Command::new("ip").args(words.split(' ')).output());
        }
    }
}
