//! News: what was told of troubles that come again and again.
//!
//! In: each trouble as it is met. Out: whether it is worth an event. A cause is told once a service
//! until its image is there, a pause when it is longer than the one told before; what goes on in
//! between `limpet ps` says. Deciding code: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::{ApplicationName, InstanceId, ServiceName};
use limpet_protocol::spec::ImageSource;

use crate::reconcile::{ImageKey, Observed, PutOff, Wanted};

/// Services of one image that an event is told of: a node that is full of one image shall not fill
/// its queue of events with it.
const MAX_SERVICES_TOLD: usize = 16;
/// Causes told of one service's image. A registry whose every answer differs is no news after that.
const MAX_CAUSES_TOLD: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct News {
    causes: BTreeMap<(ApplicationName, ServiceName), BTreeSet<String>>,
    /// The newest pause of each instance, and how many tries before it did not last.
    pauses: BTreeMap<InstanceId, (u64, u32)>,
}

impl News {
    /// Whether it is news that the image of this instance's service cannot be had for this cause.
    pub(super) fn image_failed(&mut self, instance: &InstanceId, cause: &str) -> bool {
        let told = self.causes.entry(service_of(instance)).or_default();
        told.len() < MAX_CAUSES_TOLD && told.insert(cause.to_owned())
    }

    /// The image of this instance's service is there: its next trouble is a new one.
    pub(super) fn image_ready(&mut self, instance: &InstanceId) {
        self.causes.remove(&service_of(instance));
    }

    /// Whether it is news that a start is put off.
    pub(super) fn put_off(&mut self, put_off: &PutOff) -> bool {
        let now = (put_off.pause_ms, put_off.short_runs);
        let before = self.pauses.insert(put_off.ended.instance.clone(), now);
        before.is_none_or(|(pause_ms, short_runs)| now.0 > pause_ms || now.1 < short_runs)
    }

    /// Forgets what nobody wants any more.
    pub(super) fn forget(&mut self, wanted: &Wanted) {
        self.pauses.retain(|instance, _| wanted.contains_key(instance));
        if !self.causes.is_empty() {
            let services: BTreeSet<_> = wanted.keys().map(service_of).collect();
            self.causes.retain(|service, _| services.contains(service));
        }
    }
}

fn service_of(instance: &InstanceId) -> (ApplicationName, ServiceName) {
    (instance.application.clone(), instance.service.clone())
}

/// Whom an image is told of: of each service the first instance that waits for it. If none waits
/// (all run, and the image is looked for ahead of a restart) the first one that wants it.
pub(super) fn concerned(
    wanted: &Wanted,
    observed: &Observed,
    image: &ImageSource,
) -> Vec<InstanceId> {
    let key = ImageKey::from(image);
    let of_it: Vec<_> =
        wanted.iter().filter(|(_, want)| ImageKey::from(&want.spec.image) == key).collect();
    let waiting = of_it.iter().filter(|(it, want)| !observed.has_live(it, &want.spec_hash));
    let mut first: Vec<InstanceId> = Vec::new();
    // In the order of their names, so those of a service follow one another.
    for (instance, _) in waiting {
        if first.last().is_none_or(|last| service_of(last) != service_of(instance)) {
            first.push((*instance).clone());
        }
    }
    first.truncate(MAX_SERVICES_TOLD);
    if first.is_empty() {
        first.extend(of_it.first().map(|(instance, _)| (*instance).clone()));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ContainerId;

    fn instance(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    #[test]
    fn a_cause_is_told_once_a_service_until_the_image_is_there() {
        let mut news = News::default();
        let (web, db) = (instance("shop.web.1"), instance("shop.db.1"));
        assert!(news.image_failed(&web, "gone"));
        assert!(!news.image_failed(&instance("shop.web.2"), "gone"), "the same service");
        assert!(news.image_failed(&db, "gone"), "another service");
        assert!(news.image_failed(&web, "refused"));
        assert!(!news.image_failed(&web, "gone"), "it was told before");
        news.image_ready(&web);
        assert!(news.image_failed(&web, "gone"), "a new trouble");
        let told = (0..1000).filter(|n| news.image_failed(&web, &n.to_string())).count();
        assert_eq!(told, MAX_CAUSES_TOLD - 1);
        news.forget(&Wanted::new());
        assert!(news.image_failed(&web, "gone"), "nobody wanted it for a while");
    }

    #[test]
    fn a_pause_is_told_when_it_grew_or_the_row_begins_anew() {
        let mut news = News::default();
        let mut tell = |pause_ms, short_runs| {
            let ended = ContainerId { instance: instance("shop.web.1"), attempt: 1 };
            news.put_off(&PutOff { ended, how: String::new(), pause_ms, short_runs })
        };
        assert!(tell(100, 2));
        assert!(!tell(100, 2), "the next turn of the loop");
        assert!(tell(200, 3));
        assert!(tell(300_000, 20));
        assert!(!tell(300_000, 21), "it grows no more");
        assert!(tell(100, 2), "it ran well in between");
    }
}
