//! How a node stands. No clock: the time comes in as a value.
//!
//! In: presences, wills, the controller's own link going down and up, and the time. Out: the
//! [`Standing`]. A will starts the clock of "unreachable"; it is no proof of death. While the
//! controller itself has no broker nobody is given up, for it is the controller that is away.

use crate::plan::Standing;

/// One connection of one start of a node: (boot, session). The greater is the newer.
pub type Session = (u64, u64);

/// What is known of a node's link. Times are milliseconds of one steady clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    newest: Option<Session>,
    /// The newest session was ended, by its will or by a farewell.
    ended: bool,
    online: bool,
    down_since_ms: u64,
}

impl Link {
    /// A node that was not heard yet.
    #[must_use]
    pub const fn unheard(now_ms: u64) -> Self {
        Self { newest: None, ended: false, online: false, down_since_ms: now_ms }
    }

    /// A presence or a will came in; whether it is believed: of the same session it may say something new.
    ///
    /// The greater session is the true one, and within one session the will.
    pub fn presence(&mut self, now_ms: u64, session: Session, online: bool) -> bool {
        if self.newest > Some(session) || (self.newest == Some(session) && self.ended) {
            return false;
        }
        self.newest = Some(session);
        self.ended = !online;
        self.set_online(now_ms, online);
        true
    }

    /// Whether a word of this session would be the first since the node went or came.
    #[must_use]
    pub fn is_news(&self, session: Session, online: bool) -> bool {
        self.newest != Some(session) || self.online != online
    }

    /// The controller's own link went down: nobody can be heard.
    pub fn controller_cut_off(&mut self, now_ms: u64) {
        self.set_online(now_ms, false);
    }

    /// The controller's own link is back: who is still there says so again, the clock starts anew.
    pub const fn controller_back(&mut self, now_ms: u64) {
        if !self.online {
            self.down_since_ms = now_ms;
        }
    }

    /// Whether the node was heard since this start of the controller.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.newest.is_some()
    }

    const fn set_online(&mut self, now_ms: u64, online: bool) {
        if self.online && !online {
            self.down_since_ms = now_ms;
        }
        self.online = online;
    }

    /// How the node stands.
    #[must_use]
    pub const fn standing(&self, now_ms: u64, lost_after_ms: u64) -> Standing {
        if self.online {
            Standing::Ready
        } else if now_ms.saturating_sub(self.down_since_ms) >= lost_after_ms {
            Standing::Lost
        } else {
            Standing::Unreachable
        }
    }

    /// When the node will be given up, if nothing is heard.
    #[must_use]
    pub const fn lost_at_ms(&self, lost_after_ms: u64) -> Option<u64> {
        if self.online { None } else { Some(self.down_since_ms.saturating_add(lost_after_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Lost, Ready, Unreachable};

    #[test]
    fn a_link_comes_and_goes() {
        let mut link = Link::unheard(100);
        assert_eq!(link.standing(100, 50), Unreachable);
        assert_eq!(link.lost_at_ms(50), Some(150));
        assert_eq!(link.standing(150, 50), Lost);
        assert!(link.presence(160, (1, 1), true));
        assert!(link.is_news((1, 2), true) && !link.is_news((1, 1), true));
        assert!(link.presence(170, (1, 1), true), "the same session may have something new to say");
        assert_eq!((link.standing(10_000, 50), link.lost_at_ms(50)), (Ready, None));
        assert!(link.presence(200, (1, 1), false));
        assert_eq!(link.standing(249, 50), Unreachable);
        assert_eq!(link.standing(250, 50), Lost);
    }

    #[test]
    fn an_old_will_never_beats_a_newer_birth() {
        let mut link = Link::unheard(0);
        assert!(link.presence(1, (2, 5), true));
        for old in [(2, 4), (1, 99)] {
            assert!(!link.presence(2, old, false));
            assert_eq!(link.standing(3, 50), Ready);
        }
        assert!(link.presence(4, (2, 5), false));
        assert!(!link.presence(5, (2, 5), true), "a late birth of an ended session");
        assert_eq!(link.standing(6, 50), Unreachable);
        assert!(link.presence(7, (3, 0), true));
    }

    #[test]
    fn a_controller_without_broker_gives_nobody_up() {
        let mut link = Link::unheard(0);
        link.presence(1, (1, 1), true);
        link.controller_cut_off(10);
        link.controller_back(1000);
        assert_eq!(link.standing(1049, 50), Unreachable);
        assert!(link.presence(1010, (1, 1), true), "the same session is believed again");
        assert_eq!(link.standing(5000, 50), Ready);
    }
}
