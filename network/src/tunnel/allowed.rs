//! Which peer an address belongs to: the longest prefix counts. Deciding code.
//!
//! The same table says where a packet is sent and whom it may come from (WireGuard's "cryptokey routing").

use core::net::IpAddr;
use std::collections::HashMap;

use limpet_protocol::network::Subnet;

/// Subnets with their owners.
#[derive(Debug, Clone)]
pub(super) struct Allowed<T> {
    /// The prefixes that occur, the longest first: few, so each is tried.
    prefixes: Vec<Prefix>,
    owners: HashMap<(Prefix, u128), T>,
}

/// How many bits of an address of a family count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Prefix {
    bits: u8,
    six: bool,
}

impl Prefix {
    /// The bits of an address that count, right-aligned; none if it is of the other family.
    fn of(self, address: IpAddr) -> Option<u128> {
        let (value, width) = match (address, self.six) {
            (IpAddr::V4(address), false) => (u128::from(u32::from(address)), 32),
            (IpAddr::V6(address), true) => (u128::from(address), 128),
            _ => return None,
        };
        Some(value.checked_shr(u32::from(width - self.bits.min(width))).unwrap_or(0))
    }
}

impl<T> Allowed<T> {
    /// Makes a table. Of two owners of one subnet the later has it, as with WireGuard in the kernel.
    pub(super) fn of(subnets: impl IntoIterator<Item = (Subnet, T)>) -> Self {
        let mut owners = HashMap::new();
        for (subnet, owner) in subnets {
            let prefix = Prefix { bits: subnet.prefix(), six: subnet.address().is_ipv6() };
            if let Some(bits) = prefix.of(subnet.address()) {
                owners.insert((prefix, bits), owner);
            }
        }
        let mut prefixes: Vec<Prefix> = owners.keys().map(|(prefix, _)| *prefix).collect();
        prefixes.sort_unstable_by(|one, other| other.cmp(one));
        prefixes.dedup();
        Self { prefixes, owners }
    }

    /// Whose an address is.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&T> {
        self.prefixes.iter().find_map(|prefix| self.owners.get(&(*prefix, prefix.of(address)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let table = Allowed::of(
            [
                ("10.129.1.0/24", 'a'),
                ("10.129.2.0/24", 'b'),
                ("10.129.1.7/32", 'c'),
                ("172.20.0.5/32", 'a'),
                ("0.0.0.0/0", 'z'),
                ("fd00:0:0:1::/64", 'a'),
                ("fd00:0:0:1::7/128", 'b'),
                ("10.129.9.0/24", 'd'),
                ("10.129.9.0/24", 'e'),
            ]
            .map(|(subnet, owner)| (subnet.parse().unwrap(), owner)),
        );
        for (address, expected) in [
            ("10.129.1.1", Some('a')),
            ("10.129.1.7", Some('c')),
            ("10.129.2.255", Some('b')),
            ("10.129.3.1", Some('z')),
            ("172.20.0.5", Some('a')),
            ("10.129.9.1", Some('e')),
            ("fd00:0:0:1::1", Some('a')),
            ("fd00:0:0:1::7", Some('b')),
            ("fd00:0:0:2::7", None),
            ("::", None),
        ] {
            assert_eq!(table.owner(address.parse().unwrap()).copied(), expected, "{address}");
        }
        assert!(Allowed::<()>::of([]).owner("10.0.0.1".parse().unwrap()).is_none());
    }
}
