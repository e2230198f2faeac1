//! Addresses that one machine can have among others: what an instance can be given, and what a port of a
//! node can be bound to.
//!
//! In: an address. Out: nothing, or why not. The ranges are those of RFC 6890.

use core::net::IpAddr;

/// Why an address is not one that an instance can have among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// 0.0.0.0, ::
    #[error("it stands for no address at all")]
    Unspecified,
    /// 127.0.0.0/8, ::1
    #[error("it is a loopback address: everybody has it")]
    Loopback,
    /// 224.0.0.0/4, ff00::/8, 255.255.255.255
    #[error("it stands for many machines")]
    Many,
    /// 169.254.0.0/16, fe80::/10
    #[error("it is good for one link only")]
    LinkLocal,
    /// ::ffff:0:0/96: an IPv4 address in IPv6's clothes.
    #[error("it is an IPv4 address; write it as one")]
    Mapped,
}

/// Whether an instance can have this address, and others reach it there.
///
/// # Errors
/// [`AddressError`] says why not.
pub fn check(address: IpAddr) -> Result<(), AddressError> {
    if address.is_unspecified() {
        return Err(AddressError::Unspecified);
    }
    if address.is_loopback() {
        return Err(AddressError::Loopback);
    }
    let (many, local, mapped) = match address {
        IpAddr::V4(v4) => (v4.is_broadcast(), v4.is_link_local(), false),
        IpAddr::V6(v6) => (false, v6.is_unicast_link_local(), v6.to_ipv4_mapped().is_some()),
    };
    if many || address.is_multicast() {
        return Err(AddressError::Many);
    }
    if local {
        return Err(AddressError::LinkLocal);
    }
    if mapped { Err(AddressError::Mapped) } else { Ok(()) }
}

/// Whether a port of a node can be bound to this address: also to its loopback device, to one link, or to
/// all of them.
///
/// # Errors
/// [`AddressError`] says why not.
pub fn check_bound(address: IpAddr) -> Result<(), AddressError> {
    match check(address) {
        Err(wrong @ (AddressError::Many | AddressError::Mapped)) => Err(wrong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_single_machines_are_taken() {
        use AddressError::{LinkLocal, Loopback, Many, Mapped, Unspecified};
        let rows = [
            ("172.28.0.10", Ok(()), Ok(())),
            ("fd00::7", Ok(()), Ok(())),
            ("0.0.0.0", Err(Unspecified), Ok(())),
            ("::", Err(Unspecified), Ok(())),
            ("127.0.0.1", Err(Loopback), Ok(())),
            ("::1", Err(Loopback), Ok(())),
            ("224.0.0.1", Err(Many), Err(Many)),
            ("255.255.255.255", Err(Many), Err(Many)),
            ("ff02::1", Err(Many), Err(Many)),
            ("169.254.1.1", Err(LinkLocal), Ok(())),
            ("fe80::1", Err(LinkLocal), Ok(())),
            ("::ffff:10.0.0.1", Err(Mapped), Err(Mapped)),
        ];
        for (text, alone, bound) in rows {
            let address = text.parse().unwrap();
            assert_eq!((check(address), check_bound(address)), (alone, bound), "{text}");
        }
    }
}
