//! Whether the network of a service keeps the limits and fits together: the same rules that the Compose
//! reader has, because machines feed the API too. Deciding code: values in, a sentence that names the
//! field out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use limpet_protocol::application::{Application, Mode, Service};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::ServiceName;
use limpet_protocol::limits::{
    MAX_ALIASES_PER_NETWORK, MAX_NETWORKS_PER_SERVICE, MAX_PORTS_PER_SERVICE, MIN_BANDWIDTH_BYTES,
};
use limpet_protocol::spec::{Bandwidth, Network, NetworkMode, PublishedPort};
use limpet_protocol::{dns_name, host_address};

use crate::network::pool::Pool;

type Wrong = (&'static str, String);

/// The first thing that is wrong.
pub(super) fn check(
    application: &Application,
    (name, service): (&ServiceName, &Service),
    pool: &Pool,
) -> Result<(), Wrong> {
    let network = &service.spec.network;
    let alone = network.networks.is_empty();
    if network.mode == NetworkMode::Host && (!alone || network.joins.is_some()) {
        let what = "the node's network excludes others: leave networks and joins out";
        return Err(("spec.network.mode", what.to_owned()));
    }
    if alone && network.bandwidth != Bandwidth::default() {
        let what = "there is no network of its own that could be limited";
        return Err(("spec.network.bandwidth", what.to_owned()));
    }
    for bytes in [network.bandwidth.ingress, network.bandwidth.egress].into_iter().flatten() {
        if bytes < MIN_BANDWIDTH_BYTES {
            let what =
                format!("{bytes} bytes a second are too few, {MIN_BANDWIDTH_BYTES} at least");
            return Err(("spec.network.bandwidth", what));
        }
    }
    check_names(network)?;
    check_addresses(service, pool)?;
    check_ports(&service.spec.ports)?;
    match &network.joins {
        Some(joined) => check_joins(application, (name, service), joined),
        None => Ok(()),
    }
}

fn check_names(network: &Network) -> Result<(), Wrong> {
    const FIELD: &str = "spec.network.networks";
    let count = network.networks.len();
    if count > MAX_NETWORKS_PER_SERVICE {
        let what = format!("{count} are too many, at most {MAX_NETWORKS_PER_SERVICE}");
        return Err((FIELD, what));
    }
    for (name, attachment) in &network.networks {
        let count = attachment.aliases.len();
        if count > MAX_ALIASES_PER_NETWORK {
            let what =
                format!("{name}: {count} aliases are too many, at most {MAX_ALIASES_PER_NETWORK}");
            return Err((FIELD, what));
        }
        for alias in &attachment.aliases {
            dns_name::check(alias).map_err(|error| {
                (FIELD, format!("{name}: {alias:?} is no name for DNS: {error}"))
            })?;
        }
    }
    Ok(())
}

fn check_addresses(service: &Service, pool: &Pool) -> Result<(), Wrong> {
    const FIELD: &str = "spec.network.networks";
    let attachments = service.spec.network.networks.values();
    let fixed = attachments.flat_map(|it| {
        let v4 = it.ipv4_address.map(IpAddr::V4);
        v4.into_iter().chain(it.ipv6_address.map(IpAddr::V6))
    });
    let fixed: BTreeSet<IpAddr> = fixed.collect();
    let of_family = |is_v4: bool| fixed.iter().filter(|it| it.is_ipv4() == is_v4).count();
    if of_family(true) > 1 || of_family(false) > 1 {
        let what = "an instance has one device with one address of each family";
        return Err((FIELD, what.to_owned()));
    }
    for address in &fixed {
        host_address::check(*address)
            .map_err(|error| (FIELD, format!("{address} cannot be an instance's: {error}")))?;
        let ours = [pool.v4(), pool.v6()].into_iter().find(|ours| ours.contains(*address));
        if let Some(ours) = ours {
            let what =
                format!("{address} is of {ours}, which Limpet gives out itself: take another");
            return Err((FIELD, what));
        }
    }
    let one = matches!(
        service.mode,
        Mode::Replicated { replicas: 0 | 1 } | Mode::ReplicatedJob { parallelism: 1, .. }
    );
    let twice = service.update.order == UpdateOrder::StartFirst;
    if !fixed.is_empty() && (!one || twice) {
        let what = "a fixed address is for one instance that is stopped first";
        return Err((FIELD, what.to_owned()));
    }
    Ok(())
}

fn check_ports(ports: &[PublishedPort]) -> Result<(), Wrong> {
    const FIELD: &str = "spec.ports";
    if ports.len() > MAX_PORTS_PER_SERVICE {
        let what = format!("{} are too many, at most {MAX_PORTS_PER_SERVICE}", ports.len());
        return Err((FIELD, what));
    }
    let mut seen = BTreeSet::new();
    for port in ports {
        if port.target == 0 {
            return Err((FIELD, "target: 0 is no port".to_owned()));
        }
        if let Some(ip) = &port.host_ip {
            let wrong = match ip.parse::<IpAddr>() {
                Err(_) => Some("it is none".to_owned()),
                Ok(address) => host_address::check_bound(address).err().map(|it| it.to_string()),
            };
            if let Some(wrong) = wrong {
                return Err((FIELD, format!("host_ip: {ip:?} is no address of a node: {wrong}")));
            }
        }
        let Some((first, last)) = port.published else { continue };
        if first == 0 || first > last {
            return Err((FIELD, format!("published: {first}-{last} is no port and no range")));
        }
        if first == last && !seen.insert((port.udp, first, port.host_ip.clone())) {
            return Err((FIELD, format!("published: {first} is there twice")));
        }
    }
    Ok(())
}

fn check_joins(
    application: &Application,
    (name, service): (&ServiceName, &Service),
    joined: &ServiceName,
) -> Result<(), Wrong> {
    let wrong = |what: String| Err(("spec.network.joins", what));
    let Some(other) = application.services.get(joined).filter(|_| name != joined) else {
        return wrong(format!("there is no other service {joined}"));
    };
    let theirs = &other.spec.network;
    if theirs.joins.is_some() || theirs.mode == NetworkMode::Host {
        return wrong(format!("{joined} has no network of its own"));
    }
    if service.mode.is_job() || other.mode.is_job() {
        return wrong("jobs do not share a network".to_owned());
    }
    if service.spec.schedule.is_some() || other.spec.schedule.is_some() {
        return wrong("services with a schedule do not share a network".to_owned());
    }
    if service.mode != other.mode {
        return wrong(format!(
            "{name} has not as many instances as {joined}: have as many of both"
        ));
    }
    let own = &service.spec.network;
    let says_nothing = Network { joins: own.joins.clone(), ..Network::default() };
    let hostname = &service.spec.process.hostname;
    if *own != says_nothing || !service.spec.ports.is_empty() || hostname.is_some() {
        return wrong(format!("networks, names and ports are those of {joined}: say them there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use limpet_protocol::id::ApplicationName;
    use limpet_protocol::spec::{Attachment, ImageSource, Spec};

    use super::*;
    use crate::network::pool::unique_local;

    fn shop(services: &[(&str, Mode)]) -> Application {
        let name: ApplicationName = "shop".parse().unwrap();
        let one = |(service, mode): &(&str, Mode)| {
            let service: ServiceName = service.parse().unwrap();
            let spec = Spec::new(name.clone(), service.clone(), ImageSource::new("a"));
            (service, Service::new(spec, *mode))
        };
        Application { name: name.clone(), services: services.iter().map(one).collect() }
    }

    fn says(change: impl Fn(&mut Service)) -> Option<String> {
        let one = Mode::Replicated { replicas: 1 };
        let mut application = shop(&[("db", one), ("web", one)]);
        let name: ServiceName = "web".parse().unwrap();
        change(application.services.get_mut(&name).unwrap());
        let pool = Pool::new("10.128.0.0/10".parse().unwrap(), 24, unique_local("x")).unwrap();
        let service = &application.services[&name];
        let wrong = check(&application, (&name, service), &pool).err();
        wrong.map(|(field, what)| format!("{field}: {what}"))
    }

    fn attach(service: &mut Service, name: &str, attachment: Attachment) {
        service.spec.network.networks.insert(name.parse().unwrap(), attachment);
    }

    fn port(published: Option<(u16, u16)>, host_ip: Option<&str>) -> PublishedPort {
        let host_ip = host_ip.map(str::to_owned);
        PublishedPort { target: 80, published, host_ip, udp: false, host_mode: false }
    }

    #[test]
    fn what_machines_write_is_checked_too() {
        type Change = fn(&mut Service);
        let fixed =
            |text: &str| Attachment { ipv4_address: text.parse().ok(), ..Attachment::default() };
        assert_eq!(says(|it| attach(it, "n", Attachment::default())), None);
        assert_eq!(says(|it| attach(it, "n", fixed("172.28.0.9"))), None);
        assert_eq!(says(|it| it.spec.network.joins = "db".parse().ok()), None);
        let rows: [(Change, &str); 16] = [
            (
                |it| (0..17).for_each(|n| attach(it, &format!("n{n}"), Attachment::default())),
                "networks: 17 are too many, at most 16",
            ),
            (
                |it| {
                    attach(
                        it,
                        "n",
                        Attachment { aliases: vec!["a b".into()], ..Attachment::default() },
                    )
                },
                "networks: n: \"a b\" is no name for DNS",
            ),
            (
                |it| {
                    let aliases = vec!["a".to_owned(); 17];
                    attach(it, "n", Attachment { aliases, ..Attachment::default() });
                },
                "networks: n: 17 aliases are too many",
            ),
            (
                |it| {
                    it.spec.network.mode = NetworkMode::Host;
                    attach(it, "n", Attachment::default());
                },
                "mode: the node's network excludes others",
            ),
            (|it| it.spec.network.bandwidth.ingress = Some(4096), "no network of its own"),
            (
                |it| {
                    attach(it, "n", Attachment::default());
                    it.spec.network.bandwidth.egress = Some(1);
                },
                "bandwidth: 1 bytes a second are too few",
            ),
            (|it| it.spec.ports = vec![port(Some((0, 0)), None)], "published: 0-0 is no port"),
            (|it| it.spec.ports = vec![port(Some((9, 8)), None)], "published: 9-8 is no port"),
            (
                |it| it.spec.ports = vec![PublishedPort { target: 0, ..port(None, None) }],
                "target: 0",
            ),
            (
                |it| it.spec.ports = vec![port(None, Some("here"))],
                "host_ip: \"here\" is no address",
            ),
            (|it| it.spec.ports = vec![port(None, Some("ff02::1"))], "stands for many machines"),
            (|it| it.spec.ports = vec![port(Some((8, 8)), None); 2], "published: 8 is there twice"),
            (|it| it.spec.ports = vec![port(None, None); 1025], "1025 are too many"),
            (|it| it.spec.network.joins = "cache".parse().ok(), "joins: there is no other service"),
            (|it| it.spec.network.joins = "web".parse().ok(), "joins: there is no other service"),
            (
                |it| {
                    it.spec.network.joins = "db".parse().ok();
                    it.mode = Mode::Replicated { replicas: 2 };
                },
                "joins: web has not as many instances as db",
            ),
        ];
        for (change, expected) in rows {
            let said = says(change).unwrap_or_default();
            assert!(said.starts_with("spec.") && said.contains(expected), "{expected}: {said}");
        }
    }

    #[test]
    fn a_fixed_address_is_for_one_instance_and_not_ours() {
        let fixed = |it: &mut Service, text: &str| {
            let ipv4_address = Some(text.parse().unwrap());
            attach(it, text, Attachment { ipv4_address, ..Attachment::default() });
        };
        for (address, expected) in [
            ("10.129.3.7", "10.129.3.7 is of 10.128.0.0/10, which Limpet gives out itself"),
            ("127.0.0.1", "127.0.0.1 cannot be an instance's"),
        ] {
            assert!(says(|it| fixed(it, address)).unwrap().contains(expected), "{address}");
        }
        let two = says(|it| ["172.28.0.9", "172.28.0.8"].iter().for_each(|text| fixed(it, text)));
        assert!(two.unwrap().contains("one address of each family"));
        let one = "a fixed address is for one instance that is stopped first";
        let changes: [fn(&mut Service); 3] = [
            |it| it.mode = Mode::Replicated { replicas: 2 },
            |it| it.mode = Mode::Global,
            |it| it.update.order = UpdateOrder::StartFirst,
        ];
        for change in changes {
            let said = says(|it| {
                fixed(it, "172.28.0.9");
                change(it);
            });
            assert!(said.unwrap().contains(one));
        }
    }

    #[test]
    fn who_joins_says_nothing_of_the_network() {
        let joined = |change: fn(&mut Service)| {
            says(|it| {
                it.spec.network.joins = "db".parse().ok();
                change(it);
            })
        };
        let changes: [fn(&mut Service); 4] = [
            |it| it.spec.ports = vec![port(None, None)],
            |it| it.spec.network.dns = vec!["192.0.2.1".to_owned()],
            |it| attach(it, "n", Attachment::default()),
            |it| it.spec.process.hostname = Some("x".to_owned()),
        ];
        for change in changes {
            assert!(joined(change).unwrap().contains("say them there"));
        }
        assert!(joined(|it| it.mode = Mode::GlobalJob).unwrap().contains("jobs do not share"));
    }
}
