//! From the device to the network, and what is due by the clock.

use std::time::Duration;

use defguard_boringtun::noise::Tunn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::datagrams::Outbox;
use super::{SCRATCH_BYTES, Shared, now};

/// How often the clock is looked at while there are peers. The protocol's own times are 5 s and more.
const TICK: Duration = Duration::from_millis(500);
/// The same for the kernel, and without peers.
const TICK_TIMESPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
const IDLE_TIMESPEC: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Packets in a row before what was encrypted is sent, so that the first does not wait for the last.
const MAX_BATCH: usize = 64;

/// Runs until it is over.
pub(super) fn run(shared: &Shared) {
    let mut out = Outbox::new(&shared.sockets);
    let mut packet = vec![0; SCRATCH_BYTES];
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut ticked = now();
    loop {
        let mut ready = [
            PollFd::new(&shared.over, PollFlags::IN),
            PollFd::new(&shared.tun, PollFlags::IN),
            PollFd::new(&shared.changed, PollFlags::IN),
        ];
        // An interrupted wait is a short one.
        let wait = if shared.table().by_key.is_empty() { IDLE_TIMESPEC } else { TICK_TIMESPEC };
        poll(&mut ready, Some(&wait)).ok();
        if !ready[0].revents().is_empty() {
            return;
        }
        rustix::io::read(&shared.changed, &mut [0; 8]).ok();
        let table = shared.table();
        for _ in 0..MAX_BATCH {
            let Some(length) = shared.tun.read(&mut packet) else { break };
            let packet = &packet[..length];
            let peer = Tunn::dst_address(packet).and_then(|to| table.allowed.owner(to));
            if let Some(peer) = peer {
                peer.lock().encapsulate(packet, &mut scratch, &mut out);
            }
        }
        out.flush();
        let now = now();
        if now.duration_since(ticked) >= TICK {
            ticked = now;
            shared.limiter.reset_count();
            for peer in table.by_key.values() {
                peer.lock().tick(now, &mut scratch, &mut out);
            }
            out.flush();
        }
    }
}
