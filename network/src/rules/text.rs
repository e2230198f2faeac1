//! Rules as text, in the words of nft(8).

use core::fmt::{self, Display, Formatter};

use super::ruleset::{
    Chain, Devices, Direction, Family, Field, Hook, Point, Refusal, Ruleset, Set, Side, Statement,
    Transport, Value,
};

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.table)?;
        for (name, set) in &self.sets {
            write_set(f, name, set)?;
        }
        for (name, chain) in &self.chains {
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let joined = |parts: Vec<String>, by: &str| parts.join(by);
    let key = |values: &[Value]| joined(values.iter().map(Value::to_string).collect(), " . ");
    let kind =
        |fields: &[Field]| joined(fields.iter().map(|f| type_of(*f).into()).collect(), " . ");
    let (word, kind, elements): (_, _, Vec<String>) = match set {
        Set::Members { key: fields, elements } => {
            ("set", kind(fields), elements.iter().map(|values| key(values)).collect())
        }
        Set::Chains { key: fields, elements } => {
            let entry =
                |(values, chain): (&Vec<Value>, _)| format!("{} : goto {chain}", key(values));
            ("map", format!("{} : verdict", kind(fields)), elements.iter().map(entry).collect())
        }
        Set::Row(family, addresses) => {
            let kind = format!("integer : {}", type_of(Field::Source(*family)));
            let entry = |(number, address)| format!("{number} : {address}");
            ("map", kind, addresses.iter().enumerate().map(entry).collect())
        }
    };
    writeln!(f, "  {word} {name} {{ type {kind}; elements = {{ {} }} }}", elements.join(", "))
}

fn type_of(field: Field) -> &'static str {
    match field {
        Field::InDevice => "ifname",
        Field::Source(Family::V4) | Field::Destination(Family::V4) => "ipv4_addr",
        Field::Source(Family::V6) | Field::Destination(Family::V6) => "ipv6_addr",
        Field::Transport => "inet_proto",
        Field::Port => "inet_service",
    }
}

fn write_chain(f: &mut Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "  chain {name} {{")?;
    if let Some(Hook { translates, point, priority }) = chain.hook {
        let kind = if translates { "nat" } else { "filter" };
        let point = match point {
            Point::Prerouting => "prerouting",
            Point::Input => "input",
            Point::Forward => "forward",
            Point::Output => "output",
            Point::Postrouting => "postrouting",
        };
        writeln!(f, "    type {kind} hook {point} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        let words: Vec<_> = rule.iter().map(Statement::to_string).collect();
        writeln!(f, "    {}", words.join(" "))?;
    }
    writeln!(f, "  }}")
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "ip" } else { "ip6" })
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDevice => f.write_str("iifname"),
            Self::Source(family) => write!(f, "{family} saddr"),
            Self::Destination(family) => write!(f, "{family} daddr"),
            Self::Transport => f.write_str("meta l4proto"),
            Self::Port => f.write_str("th dport"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "\"{name}\""),
            Self::Address(address) => address.fmt(f),
            Self::Transport(transport) => transport.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

impl Display for Devices {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "\"{name}\""),
            Self::Begin(prefix) => write!(f, "\"{prefix}*\""),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |is: &bool| if *is { "" } else { "!= " };
        let fields =
            |fields: &[Field]| fields.iter().map(Field::to_string).collect::<Vec<_>>().join(" . ");
        match self {
            Self::Device(Direction::In, devices, is) => write!(f, "iifname {}{devices}", not(is)),
            Self::Device(Direction::Out, devices, is) => write!(f, "oifname {}{devices}", not(is)),
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Transport(transport) => write!(f, "meta l4proto {transport}"),
            Self::Port(port) => write!(f, "th dport {port}"),
            Self::ClampSegments => {
                f.write_str("tcp flags & syn != 0 tcp option maxseg size set rt mtu")
            }
            Self::EchoRequest(Family::V4) => f.write_str("icmp type echo-request"),
            Self::EchoRequest(Family::V6) => f.write_str("icmpv6 type echo-request"),
            Self::Address(side, range, is) => {
                let family = Family::of(range.address());
                match side {
                    Side::Source => write!(f, "{family} saddr {}{range}", not(is)),
                    Side::Destination => write!(f, "{family} daddr {}{range}", not(is)),
                    Side::OriginalDestination => {
                        write!(f, "ct original {family} daddr {}{range}", not(is))
                    }
                }
            }
            Self::OwnDestination => f.write_str("fib daddr type local"),
            Self::Established => f.write_str("ct state established,related"),
            Self::Invalid => f.write_str("ct state invalid"),
            Self::Translated => f.write_str("ct status dnat"),
            Self::In(key, set) => write!(f, "{} @{set}", fields(key)),
            Self::Dispatch(key, map) => write!(f, "{} vmap @{map}", fields(key)),
            _ => self.write_end(f),
        }
    }
}

impl Statement {
    /// What becomes of the packet.
    fn write_end(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Refuse(Refusal::Reset) => f.write_str("reject with tcp reset"),
            Self::Refuse(Refusal::PortUnreachable) => {
                f.write_str("reject with icmpx port-unreachable")
            }
            Self::Refuse(Refusal::Prohibited) => f.write_str("reject with icmpx admin-prohibited"),
            Self::Balance { family, row, count, port } => {
                write!(f, "dnat {family} to numgen inc mod {count} map @{row}")?;
                port.map_or(Ok(()), |port| write!(f, " : {port}"))
            }
            Self::SourceBecomes(address) => {
                write!(f, "snat {} to {address}", Family::of(*address))
            }
            Self::Masquerade => f.write_str("masquerade"),
            _ => Ok(()),
        }
    }
}
