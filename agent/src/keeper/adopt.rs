//! Taking over: containers of an earlier keeper, and what is left of those that nobody knows.

use std::os::fd::OwnedFd;

use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::LogPolicy;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::agent::LOST;
use super::complain;
use super::container::{Container, Phase, Process, Reason};
use super::event_loop::{Keeper, Source};
use super::record::{Record, RecordStatus, start_time};

impl Keeper {
    /// Takes over every container that has a record. `are_children` says that they are children of
    /// this very process, which only executed another program.
    pub(super) fn adopt(&mut self, are_children: bool) {
        let Ok(entries) = std::fs::read_dir(self.paths.bundles()) else { return };
        let bundles: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        for bundle in bundles {
            match Record::load(&bundle) {
                Ok(record) => self.adopt_one(record, are_children),
                // What has no record was never told to anybody: it goes with the orphans.
                Err(error) => {
                    complain(&format!("read the record of {}: {error}", bundle.display()))
                }
            }
        }
    }

    fn adopt_one(&mut self, record: Record, are_children: bool) {
        let cgroup = self.paths.cgroup(&record.id);
        let lost = Exit { out_of_memory: self.hierarchies.oom_kills(&cgroup) > 0, ..LOST };
        let phase = match record.status {
            RecordStatus::Exited(exit) => Phase::Ended(exit),
            RecordStatus::Creating => {
                self.hierarchies.kill(&cgroup);
                Phase::Ended(lost)
            }
            RecordStatus::Running { pid, start_time } if are_children => {
                Phase::Running(Process { pid, start_time, pidfd: None })
            }
            RecordStatus::Running { pid, start_time } => match find(pid, start_time) {
                Some(pidfd) => Phase::Running(Process { pid, start_time, pidfd: Some(pidfd) }),
                None => Phase::Ended(lost),
            },
        };
        let mut container = Container::new(record, phase, &self.paths);
        let bundle = self.paths.bundle(&container.id);
        let running = matches!(container.phase, Phase::Running(_));
        if running && !are_children {
            for stream in &mut container.streams {
                if let Err(error) = stream.open(&bundle) {
                    complain(&format!("open the output of {}: {error}", container.id));
                }
            }
        }
        container.save(&self.paths);
        let place = self.put(container);
        self.watch_container(place);
    }

    /// Watches what an adopted container has.
    pub(super) fn watch_container(&self, place: usize) {
        let Some(Some(container)) = self.containers.get(place) else { return };
        if let Phase::Running(Process { pidfd: Some(pidfd), .. }) = &container.phase
            && let Err(error) = self.watch(pidfd, Source::Process(place))
        {
            complain(&format!("watch the process of {}: {error}", container.id));
        }
        for (which, stream) in container.streams.iter().enumerate() {
            if let Some(pipe) = &stream.pipe
                && let Err(error) = self.watch(pipe, Source::Output(place, which))
            {
                complain(&format!("watch the output of {}: {error}", container.id));
            }
        }
    }

    /// Removes what is left of containers that are not in the table: writable layers of another
    /// boot, bundles without a record, cgroups of a keeper that died at the wrong moment.
    pub(super) fn clear_orphans(&mut self) {
        let mut names = self.hierarchies.children(&self.paths.cgroup_parent);
        for folder in [self.paths.bundles(), self.paths.writables()] {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            names.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
        }
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.place_of(name).is_none());
        for id in names {
            let record = Record {
                id,
                spec: SpecHash([0; 32]),
                started_ms: 0,
                log: LogPolicy::default(),
                status: RecordStatus::Exited(LOST),
                stop_signal: None,
            };
            let phase = Phase::Spent(Reason::Removed(LOST));
            let container = Container::new(record, phase, &self.paths);
            let place = self.put(container);
            self.queue.push_back(place);
        }
    }
}

/// The process with this id, if it is still the one that was started then.
fn find(pid: u32, started: u64) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    // Asked after it is held: from here on the id cannot be another's.
    (start_time(pid)? == started && !is_zombie(pid)).then_some(pidfd)
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
