//! The addresses that stand for services.
//!
//! They mean something on the node only. A service's number comes from a hash of its name, so that it
//! has the same address after a restart of the agent, without a file; where two meet, the later takes
//! the next that is free.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::network::Subnet;
use sha2::{Digest as _, Sha256};

use crate::picture::{Addresses, ServiceKey};

/// The most services that a node can know, whatever the range: each instance of a full node with eight
/// others that it talks to.
const MAX_NUMBERS: u64 = 65_536;

/// Why a service has no virtual address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all {used} virtual addresses of {range} are in use")]
pub struct VirtualAddressError {
    /// How many that is.
    pub used: usize,
    /// Of which range.
    pub range: Subnet,
}

/// Which address stands for which service.
///
/// ```
/// use limpet_network::addresses::VirtualAddresses;
/// let mut book = VirtualAddresses::new("10.128.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap());
/// let web = ("shop".parse().unwrap(), "web".parse().unwrap());
/// book.assign(&[web.clone()].into()).unwrap();
/// assert_eq!(book.of(&web).unwrap().v4.to_string(), "10.128.42.111");
/// ```
#[derive(Debug, Clone)]
pub struct VirtualAddresses {
    range: Subnet,
    range6: Subnet,
    numbers: BTreeMap<ServiceKey, u64>,
    taken: BTreeSet<u64>,
}

impl VirtualAddresses {
    /// A book in which nothing is taken.
    #[must_use]
    pub fn new(range: Subnet, range6: Subnet) -> Self {
        Self { range, range6, numbers: BTreeMap::new(), taken: BTreeSet::new() }
    }

    /// Gives each of these services an address, which it keeps as long as it is among them, and takes
    /// those of all others back.
    ///
    /// # Errors
    /// There are more services than addresses; those that got one have it.
    pub fn assign(&mut self, services: &BTreeSet<ServiceKey>) -> Result<(), VirtualAddressError> {
        self.numbers.retain(|key, _| services.contains(key));
        self.taken = self.numbers.values().copied().collect();
        for key in services {
            if self.numbers.contains_key(key) {
                continue;
            }
            let number = self
                .free_number(key)
                .ok_or(VirtualAddressError { used: self.taken.len(), range: self.range })?;
            self.taken.insert(number);
            self.numbers.insert(key.clone(), number);
        }
        Ok(())
    }

    /// The address that stands for a service.
    #[must_use]
    pub fn of(&self, key: &ServiceKey) -> Option<Addresses> {
        let number = u128::from(*self.numbers.get(key)?);
        let IpAddr::V4(v4) = self.range.nth(number)? else { return None };
        let v6 = match self.range6.nth(number) {
            Some(IpAddr::V6(v6)) => Some(v6),
            _ => None,
        };
        Some(Addresses { v4, v6 })
    }

    /// The number that the hash says, or the next that is free. The first and the last of the range
    /// name it as a whole.
    fn free_number(&self, key: &ServiceKey) -> Option<u64> {
        let whole = u64::try_from(self.range.parts(32)).ok()?.min(MAX_NUMBERS);
        let usable = whole.checked_sub(2).filter(|usable| *usable > 0)?;
        let start = hash(key) % usable;
        (0..usable).map(|step| 1 + (start + step) % usable).find(|n| !self.taken.contains(n))
    }
}

/// The first eight bytes of the SHA-256 of `application/service`: no name has a slash.
fn hash((application, service): &ServiceKey) -> u64 {
    let digest = Sha256::digest(format!("{application}/{service}").as_bytes());
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
