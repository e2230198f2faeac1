//! Who gets which address.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{InstanceId, Slot};
use proptest::prelude::*;

use super::*;
use crate::picture::{Addresses, Attempt, ServiceKey};

fn owner(slot: u32) -> Attempt {
    let application = "shop".parse().unwrap();
    (InstanceId { application, service: "web".parse().unwrap(), slot: Slot(slot) }, 1)
}

fn book(bits: u8) -> AddressBook {
    let subnet = format!("10.129.3.0/{bits}").parse().unwrap();
    AddressBook::new(subnet, "fd00:0:0:3::/64".parse().unwrap())
}

fn fixed(v4: &str) -> Wish {
    Wish { v4: Some(v4.parse().unwrap()), ..Wish::default() }
}

fn last_byte(addresses: Addresses) -> u8 {
    addresses.v4.octets()[3]
}

#[test]
fn numbers_run_from_two_to_the_last_but_one() {
    let mut book = book(29);
    let numbers: Vec<_> =
        (0..5).map(|slot| last_byte(book.take(&owner(slot), Wish::default()).unwrap())).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
    let error = book.take(&owner(9), Wish::default()).unwrap_err();
    assert_eq!(error.to_string(), "all 5 addresses of 10.129.3.0/29 are in use");
}

#[test]
fn what_was_given_back_rests_until_all_others_were_used() {
    let mut book = book(29);
    let mut numbers = vec![];
    for slot in 0..12 {
        numbers.push(last_byte(book.take(&owner(slot), Wish::default()).unwrap()));
        book.give_back(&owner(slot));
    }
    assert_eq!(numbers, [2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 2, 3]);
}

#[test]
fn fixed_addresses_are_honoured_or_refused_with_the_reason() {
    let mut book = book(24);
    book.take(&owner(1), Wish::default()).unwrap();
    let cases = [
        ("10.129.3.2", Some("address 10.129.3.2 belongs to shop.web.1 (attempt 1)")),
        ("10.129.3.1", Some("the node's own")),
        ("10.129.3.0", Some("the node's own")),
        ("10.129.3.255", Some("the node's own")),
        ("10.129.3.77", None),
        ("172.20.0.10", None),
    ];
    for (slot, (address, refusal)) in (2..).zip(cases) {
        match (book.take(&owner(slot), fixed(address)), refusal) {
            (Ok(got), None) => assert_eq!(got.v4.to_string(), address),
            (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
            (other, _) => panic!("{address}: {other:?}"),
        }
    }
    let taken = book.take(&owner(8), fixed("172.20.0.10")).unwrap_err();
    assert!(matches!(taken, AddressError::Taken { .. }), "{taken}");
    book.give_back(&owner(7));
    book.take(&owner(8), fixed("172.20.0.10")).unwrap();
}

#[test]
fn ipv6_has_the_same_number() {
    let mut book = book(24);
    let six = Wish { six: true, ..Wish::default() };
    let addresses = book.take(&owner(1), six).unwrap();
    assert_eq!(addresses.v4.to_string(), "10.129.3.2");
    assert_eq!(addresses.v6.unwrap().to_string(), "fd00:0:0:3::2");
    let outside = book.take(&owner(2), Wish { six: true, ..fixed("172.20.0.10") }).unwrap();
    assert_eq!(outside.v6.unwrap().to_string(), "fd00:0:0:3::3");
    assert_eq!(book.take(&owner(3), Wish::default()).unwrap().v4.to_string(), "10.129.3.4");
    let both = Wish { v6: Some("fd00:0:0:3::5".parse().unwrap()), ..fixed("10.129.3.9") };
    book.take(&owner(4), both).unwrap();
    let next = book.take(&owner(5), six).unwrap();
    assert_eq!(next.v6.unwrap().to_string(), "fd00:0:0:3::6", "number 5 is taken in IPv6");
}

#[test]
fn who_asks_again_keeps_its_address() {
    let mut book = book(24);
    let first = book.take(&owner(1), Wish::default()).unwrap();
    assert_eq!(book.take(&owner(1), fixed("10.129.3.99")).unwrap(), first);
    assert_eq!(book.of(&owner(1)), Some(first));
    book.give_back(&owner(1));
    book.give_back(&owner(1));
    assert_eq!(book.of(&owner(1)), None);
}

#[derive(Debug, Clone)]
enum Step {
    Take(u32, Option<u8>, bool),
    GiveBack(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let take = (0..20_u32, proptest::option::weighted(0.2, 1..18_u8), any::<bool>())
        .prop_map(|(slot, fixed, six)| Step::Take(slot, fixed, six));
    let step = prop_oneof![2 => take, 1 => (0..20_u32).prop_map(Step::GiveBack)];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn no_address_is_anybodys_twice_and_none_is_lost(steps in steps()) {
        let mut book = book(28);
        for step in steps {
            match step {
                Step::Take(slot, number, six) => {
                    let v4 = number.map(|number| [10, 129, 3, number].into());
                    let took = book.take(&owner(slot), Wish { v4, v6: None, six });
                    if let Err(AddressError::Exhausted { .. }) = took {
                        prop_assert!(book.held().count() >= 13 || six, "{book:?}");
                    }
                }
                Step::GiveBack(slot) => book.give_back(&owner(slot)),
            }
            let held: Vec<_> = book.held().map(|(_, addresses)| addresses).collect();
            let v4: BTreeSet<_> = held.iter().map(|addresses| addresses.v4).collect();
            let v6: BTreeSet<_> = held.iter().filter_map(|addresses| addresses.v6).collect();
            prop_assert_eq!(v4.len(), held.len());
            prop_assert_eq!(v6.len(), held.iter().filter(|a| a.v6.is_some()).count());
            prop_assert!(!v4.contains(&[10, 129, 3, 1].into()));
        }
        let owners: Vec<_> = book.held().map(|(owner, _)| owner.clone()).collect();
        owners.iter().for_each(|owner| book.give_back(owner));
        for slot in 100..113 {
            prop_assert!(book.take(&owner(slot), Wish::default()).is_ok(), "an address is lost");
        }
    }

    #[test]
    fn a_virtual_address_stays_while_its_service_is_there(sets in
        proptest::collection::vec(proptest::collection::btree_set(0..40_u8, 0..14), 1..20))
    {
        let mut book = VirtualAddresses::new(
            "10.128.0.0/28".parse().unwrap(),
            "fd00::/64".parse().unwrap(),
        );
        let mut known: BTreeMap<ServiceKey, Addresses> = BTreeMap::new();
        for set in sets {
            let keys: BTreeSet<ServiceKey> = set.iter()
                .map(|n| ("shop".parse().unwrap(), format!("s{n}").parse().unwrap())).collect();
            book.assign(&keys).unwrap();
            known.retain(|key, _| keys.contains(key));
            for (key, address) in &known {
                prop_assert_eq!(book.of(key), Some(*address));
            }
            known = keys.iter().map(|key| (key.clone(), book.of(key).unwrap())).collect();
            let distinct: BTreeSet<_> = known.values().map(|a| a.v4).collect();
            prop_assert_eq!(distinct.len(), keys.len());
        }
    }
}

#[test]
fn there_are_only_so_many_virtual_addresses() {
    let (range, range6) = ("10.128.0.0/30".parse().unwrap(), "fd00::/64".parse().unwrap());
    let mut book = VirtualAddresses::new(range, range6);
    let key = |n: u8| -> ServiceKey { ("shop".parse().unwrap(), format!("s{n}").parse().unwrap()) };
    let error = book.assign(&(0..3).map(key).collect()).unwrap_err();
    assert_eq!(error.to_string(), "all 2 virtual addresses of 10.128.0.0/30 are in use");
    assert!(book.of(&key(0)).is_some() && book.of(&key(2)).is_none());
}
