//! The published ports of an instance as people read them: `8080->80/tcp`.

use limpet_protocol::application::Service;
use limpet_protocol::id::NodeId;
use limpet_protocol::spec::{NetworkMode, PublishedPort};

use super::view::Shown;
use crate::plan::Planner;

/// Ports that one instance shows; a service may have a thousand.
const MAX_SHOWN: usize = 16;

/// The ports that every node of the application forwards.
pub(super) fn ingress_ports(service: &Service) -> Vec<String> {
    if service.spec.network.mode == NetworkMode::Host {
        return vec![];
    }
    let ports = service.spec.ports.iter().filter(|port| !port.host_mode);
    let single = |port: &PublishedPort| port.published.filter(|(first, last)| first == last);
    let shown = ports.filter_map(|port| Some(text(port, single(port)?.0)));
    shown.take(MAX_SHOWN).collect()
}

/// The ports of its node that lead to an instance there.
pub(super) fn host_ports(shown: Shown<'_>, planner: &Planner, id: &NodeId) -> Vec<String> {
    let service = shown.service;
    if service.spec.network.mode == NetworkMode::Host {
        return vec![];
    }
    let claims: Vec<&PublishedPort> =
        service.spec.ports.iter().filter(|port| port.host_mode).collect();
    let taken = planner.ports_on(shown.key, id);
    let one = |(claim, number): (usize, u16)| Some(text(claims.get(claim)?, number));
    taken.into_iter().filter_map(one).take(MAX_SHOWN).collect()
}

fn text(port: &PublishedPort, number: u16) -> String {
    let protocol = if port.udp { "udp" } else { "tcp" };
    let address = match port.host_ip.as_deref() {
        None => String::new(),
        Some(six) if six.contains(':') => format!("[{six}]:"),
        Some(four) => format!("{four}:"),
    };
    format!("{address}{number}->{}/{protocol}", port.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_docker_does() {
        let port = |host_ip: Option<&str>, udp| PublishedPort {
            target: 80,
            published: Some((8080, 8080)),
            host_ip: host_ip.map(str::to_owned),
            udp,
            host_mode: false,
        };
        assert_eq!(text(&port(None, false), 8080), "8080->80/tcp");
        assert_eq!(text(&port(Some("192.0.2.7"), true), 8080), "192.0.2.7:8080->80/udp");
        assert_eq!(text(&port(Some("::1"), false), 8080), "[::1]:8080->80/tcp");
    }
}
