//! How many TCP connections a container holds.

/// The connections of the network that a process is in, in thousandths; none if that cannot be read. The
/// kernel counts them (`CurrEstab` of RFC 1213, 6), so that nothing has to be listed.
pub(crate) fn established(pid: u32) -> Option<u64> {
    count(&std::fs::read_to_string(format!("/proc/{pid}/net/snmp")).ok()?)
}

fn count(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let place = lines.next()?.split(' ').position(|name| name == "CurrEstab")?;
    let number: u64 = lines.next()?.split(' ').nth(place)?.parse().ok()?;
    Some(number.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted() {
        let text = "Ip: A B\nIp: 1 2\nTcp: MaxConn CurrEstab InSegs\nTcp: -1 7 9\nUdp: A\nUdp: 1\n";
        assert_eq!(count(text), Some(7_000));
        assert_eq!(count("Tcp: CurrEstab\n"), None);
        assert!(established(std::process::id()).is_some());
        assert_eq!(established(u32::MAX), None);
    }
}
