//! Schedules in the loop: the clock on the wall, a timer that follows it, and the record on disk.

use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::{ControlLoop, Images, Job};
use crate::ledger::LedgerError;
use crate::runtime::Runtime;
use crate::runtime::keeper_client::watched;

/// How often schedules are looked at whatever the timer says: a clock that was set between the look and
/// the timer is found then. Only while there are schedules.
const LOOK_EVERY_S: i64 = 3_600;

/// A timer of the clock on the wall: it goes off at its time also after a sleep of the node, and at once
/// when the clock is set. It costs nothing until it is first set.
#[derive(Debug, Default)]
pub(super) struct WallTimer {
    file: Option<AsyncFd<OwnedFd>>,
    armed_s: Option<i64>,
}

impl WallTimer {
    /// Waits until a time; none is for ever.
    pub(super) fn set(&mut self, at_s: Option<i64>) -> std::io::Result<()> {
        if self.armed_s == at_s {
            return Ok(());
        }
        if self.file.is_none() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            self.file = Some(watched(timerfd_create(TimerfdClockId::Realtime, flags)?)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        // Zero would take the timer back.
        let value = Timespec { tv_sec: at_s.map_or(0, |at_s| at_s.max(1)), tv_nsec: 0 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(file, flags, &once)?;
        self.armed_s = at_s;
        Ok(())
    }

    /// The time has come, or the clock was set. May be dropped and called again at any time.
    pub(super) async fn gone_off(&mut self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        if let Ok(mut ready) = file.readable().await {
            // Read, so that it is not ready for ever.
            if rustix::io::read(file, &mut [0; 8]).is_err() {
                tracing::debug!("the clock was set");
            }
            ready.clear_ready();
        }
        self.armed_s = None;
    }
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Opens and closes the gates of runs by the clock on the wall.
    pub(super) fn look_at_schedules(&mut self) {
        // Before the runtime has told what there is, nobody knows what goes on.
        if !self.runtime_ready {
            return;
        }
        let now_s = i64::try_from(self.clock.wall_ms() / 1_000).unwrap_or(i64::MAX);
        // The epoch is the time at which the controller's database was made.
        let generation = self.intake.current().map(|current| current.assignment.generation);
        let floor_s = generation.map_or(0, |of| i64::try_from(of.epoch).unwrap_or(0));
        let observed = &self.observed;
        let look =
            self.runs.look(&self.wanted, |instance| observed.goes_on(instance), (now_s, floor_s));
        self.observed.set_gates(look.gates);
        let again_s = look.again_s.map(|at_s| at_s.min(now_s.saturating_add(LOOK_EVERY_S)));
        if let Err(error) = self.wall_timer.set(again_s) {
            tracing::error!("schedules have no timer: {error}");
        }
        if let Some((number, record)) = look.record {
            let file = self.runs_file.clone();
            self.jobs.spawn_blocking(move || Job::RunsKept { number, result: file.write(&record) });
        }
    }

    pub(super) fn runs_kept(&mut self, number: u64, result: Result<(), LedgerError>) {
        if let Err(error) = result {
            let chain = crate::start::chain(&error);
            tracing::warn!("a run cannot be kept on disk; a reboot may repeat it: {chain}");
        }
        self.runs.kept(number);
    }
}
