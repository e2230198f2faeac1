//! What is written on a device: whose it is and its addresses, for the next agent and for people who
//! list devices. It fits into the 255 bytes of an alias (`IFALIASZ`, linux/if.h): the longest names make
//! 212.

use limpet_protocol::id::{InstanceId, Slot};

use crate::picture::{Addresses, Attempt};

/// The first word of every alias.
const FIRST_WORD: &str = "limpet";

/// The text for a device.
pub(super) fn write((instance, attempt): &Attempt, addresses: &Addresses) -> String {
    let InstanceId { application, service, slot } = instance;
    let mut text =
        format!("{FIRST_WORD} {application}/{service}/{slot}/{attempt} {}", addresses.v4);
    if let Some(v6) = addresses.v6 {
        text.push_str(&format!(" {v6}"));
    }
    text
}

/// What a text says; none if it is not one of ours.
pub(super) fn read(text: &str) -> Option<(Attempt, Addresses)> {
    let mut words = text.split(' ');
    if words.next() != Some(FIRST_WORD) {
        return None;
    }
    let mut names = words.next()?.split('/');
    let instance = InstanceId {
        application: names.next()?.parse().ok()?,
        service: names.next()?.parse().ok()?,
        slot: Slot(names.next()?.parse().ok()?),
    };
    let attempt = names.next()?.parse().ok()?;
    let v4 = words.next()?.parse().ok()?;
    let v6 = words.next().map(str::parse).transpose().ok()?;
    Some(((instance, attempt), Addresses { v4, v6 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Attempt {
        let service = name.parse().unwrap();
        let application = name.to_lowercase().parse().unwrap();
        (InstanceId { application, service, slot: Slot(u32::MAX) }, u32::MAX)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (name, v6) in [("a", None), (&*"Z".repeat(63), Some("fd12:3456:789a:bcde::ffff"))] {
            let v6 = v6.map(|v6| v6.parse().unwrap());
            let addresses = Addresses { v4: "255.255.255.255".parse().unwrap(), v6 };
            let text = write(&owner(name), &addresses);
            assert!(text.len() < 255, "{text}");
            assert_eq!(read(&text), Some((owner(name), addresses)));
        }
    }

    #[test]
    fn what_others_write_is_not_ours() {
        for text in ["", "uplink", "limpet", "limpet a/b/1", "limpet a/b/1/1 10.0.0.300"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
