//! Networks of containers, as the loop sees them: made before a start, looked at in every turn.

use super::{ControlLoop, Images, Job};
use crate::network::{Located, News};
use crate::reconcile::Action;
use crate::runtime::Runtime;

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Makes the networks of all containers that are about to start, so that their packets pass from the
    /// first on.
    pub(super) fn prepare_networks(&mut self, actions: &[Action]) {
        if !self.runtime_ready {
            return;
        }
        let starts = actions.iter().filter_map(|action| match action {
            Action::Start { id, spec, .. } => Some((id, &**spec)),
            _ => None,
        });
        self.network.prepare(starts);
    }

    /// Lets the network follow what changed. Returns when to look again.
    pub(super) fn look_at_network(&mut self) -> Option<u64> {
        if !self.runtime_ready {
            return None;
        }
        let (tasks, again_ms) = self.network.update(&self.observed, self.clock.now_ms());
        for task in tasks {
            self.jobs.spawn(async move {
                task.await;
                Job::NetworkEnded
            });
        }
        self.reporter.connect(self.network.report(self.clock.now_ms()));
        self.look_at_conditions();
        again_ms
    }

    /// A task of the network told something.
    pub(super) fn network_told(&mut self, news: News) {
        if let Some(service) = self.network.hear(news) {
            self.scaling.scales.needed(&service, self.clock.now_ms());
        }
    }

    /// Finds out where the broker is and which of the node's addresses leads there.
    pub(super) fn locate(&mut self) {
        if let Some(locating) = self.network.locate() {
            self.jobs.spawn(async move { Job::Located(locating.await) });
        }
    }

    pub(super) fn located(&mut self, located: Located) {
        if self.network.located(located) {
            self.link_state.presence_due = true;
        }
    }
}
