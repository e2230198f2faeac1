//! Names of addresses: `4.3.2.1.in-addr.arpa` (RFC 1035, section 3.5) and the nibbles of `ip6.arpa`
//! (RFC 3596, section 2.5).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a name below one of the two domains says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reverse {
    /// An address.
    Address(IpAddr),
    /// A part of the domain, or nothing that an address makes.
    Other,
}

/// Reads a name in lower case; none if it is in neither domain.
pub(super) fn parse(name: &str) -> Option<Reverse> {
    let within = |domain: &str| match name.strip_suffix(domain)? {
        "" => Some(""),
        rest => rest.strip_suffix('.'),
    };
    let address = match (within("in-addr.arpa"), within("ip6.arpa")) {
        (Some(rest), _) => four(rest).map(IpAddr::V4),
        (_, Some(rest)) => six(rest).map(IpAddr::V6),
        (None, None) => return None,
    };
    Some(address.map_or(Reverse::Other, Reverse::Address))
}

fn four(text: &str) -> Option<Ipv4Addr> {
    // Forwards it is the usual notation, read as strictly as any.
    let mut parts: Vec<&str> = text.split('.').collect();
    parts.reverse();
    parts.join(".").parse().ok()
}

fn six(text: &str) -> Option<Ipv6Addr> {
    let mut value = 0_u128;
    let mut count = 0_u32;
    for nibble in text.split('.') {
        let digit = nibble.chars().next().filter(|_| nibble.len() == 1)?.to_digit(16)?;
        value |= u128::from(digit).checked_shl(4 * count)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(value))
}
