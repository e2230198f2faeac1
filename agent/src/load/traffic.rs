//! How many bytes a container has received and sent.

/// Devices that one network may have here: an instance has one, and its loopback.
const MAX_DEVICES: usize = 16;
/// Of the fields of a line, which one says how many bytes were sent (proc_pid_net(5), `/proc/pid/net/dev`).
const SENT: usize = 8;

/// Bytes since the network came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in.
    pub received: u64,
    /// What went out.
    pub sent: u64,
}

impl Traffic {
    /// Both together, in thousandths.
    pub(crate) const fn sum(self) -> u64 {
        self.received.saturating_add(self.sent).saturating_mul(1_000)
    }
}

/// What went through the network that a process is in; none if that cannot be read. The loopback does not
/// count.
#[must_use]
pub fn of(pid: u32) -> Option<Traffic> {
    count(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

fn count(text: &str) -> Option<Traffic> {
    let devices = text.lines().filter_map(|line| line.split_once(':'));
    let devices = devices.filter(|(name, _)| name.trim() != "lo").take(MAX_DEVICES);
    let mut all = Traffic::default();
    for (_, fields) in devices {
        let mut fields = fields.split_ascii_whitespace();
        let received: u64 = fields.next()?.parse().ok()?;
        let sent: u64 = fields.nth(SENT - 1)?.parse().ok()?;
        all.received = all.received.saturating_add(received);
        all.sent = all.sent.saturating_add(sent);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted() {
        let text = "Inter-|   Receive                            |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  \
            eth0: 1500 3 0 0 0 0 0 0 700 2 0 0 0 0 0 0\n  \
            eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        assert_eq!(count(text), Some(Traffic { received: 1_510, sent: 720 }));
        assert_eq!(count("lo: 1"), Some(Traffic::default()), "no network at all");
        assert_eq!(count("eth0: 1 2 3"), None);
        assert_eq!(Traffic { received: 1, sent: 2 }.sum(), 3_000);
        assert!(of(std::process::id()).is_some());
        assert_eq!(of(u32::MAX), None);
    }
}
