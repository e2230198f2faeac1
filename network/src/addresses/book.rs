//! The addresses of a node's containers.
//!
//! Every container has a number in the node's subnet: its IPv4 address is the one with that number,
//! and so is its IPv6 address. Number 0 is the subnet itself, number 1 the node, the last the broadcast
//! address of old. An address that was given back rests until all others were used, so that a client
//! that still holds it does not at once reach somebody else.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::network::Subnet;

use crate::picture::{Addresses, Attempt};

/// The number of the first address that a container may have.
const FIRST: u32 = 2;
/// The most numbers that a book has room for, however large the subnet: eight for each of the 500
/// instances that a node may have.
const MAX_NUMBERS: u32 = 4_096;

/// Why a container has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// All are taken.
    #[error("all {used} addresses of {subnet} are in use")]
    Exhausted {
        /// How many that is.
        used: usize,
        /// Of which subnet.
        subnet: Subnet,
    },
    /// The fixed address that it asks for is another's.
    #[error("address {address} belongs to {}.{}.{} (attempt {})",
        owner.0.application, owner.0.service, owner.0.slot, owner.1)]
    Taken {
        /// Which.
        address: IpAddr,
        /// Whose it is.
        owner: Box<Attempt>,
    },
    /// The fixed address that it asks for is the node's own, or names the subnet as a whole.
    #[error(
        "address {address} is not one that a container can have: it is the node's own or names the subnet"
    )]
    Reserved {
        /// Which.
        address: IpAddr,
    },
}

/// Which addresses a container asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// The fixed IPv4 address; none is any.
    pub v4: Option<Ipv4Addr>,
    /// The fixed IPv6 address; none is any.
    pub v6: Option<Ipv6Addr>,
    /// Whether it has an IPv6 address although none is fixed.
    pub six: bool,
}

/// Who has which address of a node's subnet.
///
/// ```
/// use limpet_network::addresses::{AddressBook, Wish};
/// # use limpet_protocol::id::{InstanceId, Slot};
/// # let web = |slot| (InstanceId { application: "shop".parse().unwrap(),
/// #     service: "web".parse().unwrap(), slot: Slot(slot) }, 1);
/// let mut book = AddressBook::new("10.129.3.0/24".parse().unwrap(), "fd00:0:0:3::/64".parse().unwrap());
/// assert_eq!(book.take(&web(1), Wish::default()).unwrap().v4.to_string(), "10.129.3.2");
/// let six = Wish { six: true, ..Wish::default() };
/// assert_eq!(book.take(&web(2), six).unwrap().v6.unwrap().to_string(), "fd00:0:0:3::3");
/// book.give_back(&web(1));
/// assert_eq!(book.take(&web(3), Wish::default()).unwrap().v4.to_string(), "10.129.3.4");
/// ```
#[derive(Debug, Clone)]
pub struct AddressBook {
    subnet: Subnet,
    subnet6: Subnet,
    held: BTreeMap<Attempt, Held>,
    owners: BTreeMap<IpAddr, Attempt>,
    /// What may be taken: when it was last given back, and its number. The first is the next.
    free: BTreeSet<(u64, u32)>,
    given_back: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    addresses: Addresses,
    number: Option<u32>,
}

impl AddressBook {
    /// A book in which nothing is taken.
    #[must_use]
    pub fn new(subnet: Subnet, subnet6: Subnet) -> Self {
        let numbers = subnet.parts(32).min(u128::from(MAX_NUMBERS) + 2);
        let end = u32::try_from(numbers).unwrap_or(MAX_NUMBERS).saturating_sub(1);
        let free = (FIRST..end).map(|number| (0, number)).collect();
        Self {
            subnet,
            subnet6,
            held: BTreeMap::new(),
            owners: BTreeMap::new(),
            free,
            given_back: 0,
        }
    }

    /// Gives a container its addresses: those that it has, else those that it asks for, else the ones
    /// that rested longest. After a restart of the agent, what is found is asked for.
    ///
    /// # Errors
    /// All are in use, or a fixed one is not to be had.
    pub fn take(&mut self, owner: &Attempt, wish: Wish) -> Result<Addresses, AddressError> {
        if let Some(held) = self.held.get(owner) {
            return Ok(held.addresses);
        }
        for fixed in [wish.v4.map(IpAddr::V4), wish.v6.map(IpAddr::V6)].into_iter().flatten() {
            self.check_fixed(fixed)?;
        }
        let six = wish.six || wish.v6.is_some();
        let number = match wish.v4 {
            Some(v4) => self.number_of(IpAddr::V4(v4)),
            None => None,
        };
        let numberless = wish.v4.is_some() && (!six || wish.v6.is_some());
        let number = match number {
            None if !numberless => Some(self.next_number(wish)?),
            known => known,
        };
        let addresses = self.addresses(wish, six, number)?;
        if let Some(number) = number {
            self.free.retain(|(_, free)| *free != number);
        }
        self.owners.insert(IpAddr::V4(addresses.v4), owner.clone());
        if let Some(v6) = addresses.v6 {
            self.owners.insert(IpAddr::V6(v6), owner.clone());
        }
        self.held.insert(owner.clone(), Held { addresses, number });
        Ok(addresses)
    }

    /// Takes a container's addresses back; one that has none is left alone.
    pub fn give_back(&mut self, owner: &Attempt) {
        let Some(held) = self.held.remove(owner) else { return };
        self.owners.remove(&IpAddr::V4(held.addresses.v4));
        if let Some(v6) = held.addresses.v6 {
            self.owners.remove(&IpAddr::V6(v6));
        }
        if let Some(number) = held.number.filter(|number| self.is_given_out(*number)) {
            self.given_back += 1;
            self.free.insert((self.given_back, number));
        }
    }

    /// The addresses of a container that has some.
    #[must_use]
    pub fn of(&self, owner: &Attempt) -> Option<Addresses> {
        self.held.get(owner).map(|held| held.addresses)
    }

    /// Everybody who has addresses.
    pub fn held(&self) -> impl Iterator<Item = (&Attempt, Addresses)> {
        self.held.iter().map(|(owner, held)| (owner, held.addresses))
    }

    fn check_fixed(&self, address: IpAddr) -> Result<(), AddressError> {
        if let Some(owner) = self.owners.get(&address) {
            return Err(AddressError::Taken { address, owner: Box::new(owner.clone()) });
        }
        let last = self.subnet.parts(32).saturating_sub(1);
        let reserved = match (self.subnet.number_of(address), self.subnet6.number_of(address)) {
            (Some(number), _) => number < u128::from(FIRST) || number == last,
            (None, Some(number)) => number < u128::from(FIRST),
            (None, None) => false,
        };
        if reserved { Err(AddressError::Reserved { address }) } else { Ok(()) }
    }

    /// The number of a fixed address within the subnet.
    fn number_of(&self, address: IpAddr) -> Option<u32> {
        self.subnet.number_of(address).and_then(|number| u32::try_from(number).ok())
    }

    /// Whether a number is one of those that are given out to who asks for any.
    fn is_given_out(&self, number: u32) -> bool {
        let end = u32::try_from(self.subnet.parts(32)).unwrap_or(u32::MAX).saturating_sub(1);
        number >= FIRST && number < end.min(MAX_NUMBERS + 1)
    }

    /// The number that rested longest and whose addresses, as far as they are asked for, nobody has as
    /// a fixed one.
    fn next_number(&self, wish: Wish) -> Result<u32, AddressError> {
        let wants_v6 = wish.six && wish.v6.is_none();
        let is_free = |subnet: &Subnet, number: u32| {
            let address = subnet.nth(u128::from(number));
            address.is_some_and(|address| !self.owners.contains_key(&address))
        };
        self.free
            .iter()
            .map(|(_, number)| *number)
            .filter(|number| wish.v4.is_some() || is_free(&self.subnet, *number))
            .find(|number| !wants_v6 || is_free(&self.subnet6, *number))
            .ok_or(AddressError::Exhausted { used: self.held.len(), subnet: self.subnet })
    }

    fn addresses(
        &self,
        wish: Wish,
        six: bool,
        number: Option<u32>,
    ) -> Result<Addresses, AddressError> {
        let exhausted = || AddressError::Exhausted { used: self.held.len(), subnet: self.subnet };
        let nth = |subnet: &Subnet| number.and_then(|number| subnet.nth(u128::from(number)));
        let v4 = match (wish.v4, nth(&self.subnet)) {
            (Some(v4), _) | (None, Some(IpAddr::V4(v4))) => v4,
            (None, _) => return Err(exhausted()),
        };
        let v6 = match (wish.v6, nth(&self.subnet6)) {
            (Some(v6), _) => Some(v6),
            (None, Some(IpAddr::V6(v6))) if six => Some(v6),
            (None, _) if six => return Err(exhausted()),
            (None, _) => None,
        };
        if wish.v6.is_none()
            && let Some(v6) = v6
        {
            self.check_fixed(IpAddr::V6(v6))?;
        }
        Ok(Addresses { v4, v6 })
    }
}
