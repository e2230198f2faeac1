//! Waves: which units may be begun at all, and what has to hold until the next may.
//!
//! A unit is open when its wave has begun. Units that come back are open at once if a wave that has
//! begun names their node; otherwise they wait for a share of all, or for the last wave. With a window
//! a wave begins only while that is open.

use limpet_protocol::application::{Wave, WavePolicy};
use limpet_protocol::id::NodeId;
use limpet_protocol::window::{Opening, Window};

use super::course::Course;
use super::crew::{Crew, Member, Stage};
use super::{Seen, Unit};
use crate::plan::Node;
use crate::plan::filter::meets_all;

/// How long a wave waits for the images of its units. Those that have not come are then begun in
/// their turn all the same: a node keeps what it runs until it has the image.
const STAGING_MS: u64 = 10 * 60 * 1000;

/// How often a closed window is looked at, should somebody set the clock.
const LOOK_AGAIN_MS: u64 = 10 * 60 * 1000;

/// Where a rollout is among its waves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which wave, from 0; as many as there are waves is the last one, of all others.
    pub(super) wave: usize,
    /// Its units are open.
    begun: bool,
    /// The images of all of them were there at some time.
    staged: bool,
    /// Until when they are waited for.
    patience_ms: Option<u64>,
    /// It had begun in an earlier life of the controller.
    needs_no_window: bool,
    /// Its window is closed: when that is looked at again, if ever, and what people are told.
    closed: Option<(Option<u64>, String)>,
    /// How many of it came up and how many failed.
    pub(super) up: usize,
    pub(super) failed: usize,
}

impl Place {
    /// At the beginning of a wave.
    pub(super) fn at(wave: usize) -> Self {
        Self { wave, ..Self::default() }
    }

    /// The same after a restart of the controller. A wave that had begun needs no window.
    pub(super) fn restored(wave: usize, needs_no_window: bool) -> Self {
        Self { needs_no_window, ..Self::at(wave) }
    }

    /// Whether its window was open when it began.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun || self.needs_no_window
    }

    /// When the waiting for images or for the window ends.
    pub(super) fn deadline(&self) -> Option<u64> {
        let opens_ms = self.closed.as_ref().and_then(|(at_ms, _)| *at_ms);
        self.patience_ms.into_iter().chain(opens_ms).min()
    }

    /// What it waits for if its window is closed.
    pub(super) fn waits_for_window(&self) -> Option<&str> {
        self.closed.as_ref().map(|(_, why)| why.as_str())
    }

    /// Whether nobody waits for images any more.
    pub(super) const fn has_no_patience(&self, now_ms: u64) -> bool {
        matches!(self.patience_ms, Some(until) if until <= now_ms)
    }
}

impl Course {
    /// The waves of the direction that it has: a rollback has none.
    pub(super) fn waves(&self) -> &[Wave] {
        match &self.aim.waves {
            Some(policy) if self.back.is_none() => &policy.waves,
            _ => &[],
        }
    }

    /// The window of the direction that it has: a rollback has none.
    fn window(&self) -> Option<&Window> {
        self.aim.waves.as_ref().filter(|_| self.back.is_none())?.window.as_ref()
    }

    /// Whether the wave of a node that these waves name has begun.
    pub(super) fn is_open(&self, named: u32) -> bool {
        let begun = self.place.wave + usize::from(self.place.begun);
        let of_all = self.place.wave >= self.waves().len();
        of_all && (self.place.begun || self.window().is_none()) || named & low_bits(begun) != 0
    }

    /// Begins the wave at hand if it has not begun, and the next ones when it is over.
    pub(super) fn ride(&mut self, now_ms: u64) {
        loop {
            if !self.place.begun {
                self.place.closed =
                    if self.place.needs_no_window { None } else { self.closed(now_ms) };
                if self.place.closed.is_none() {
                    self.open();
                }
            }
            self.stage(now_ms);
            let Some(crew) = &self.crew else { return };
            if !self.place.begun {
                return;
            }
            let last = self.place.wave >= self.waves().len();
            if self.halt.is_some() || crew.is_in_wave() || crew.is_watched() {
                return;
            }
            if let Some(why) = self.lack_of_success() {
                self.place.failed = 0;
                if self.act(why) {
                    return;
                }
            }
            if last {
                return;
            }
            self.place = Place::at(self.place.wave + 1);
        }
    }

    /// Until when the window is closed, if it is, and what people are told.
    fn closed(&self, now_ms: u64) -> Option<(Option<u64>, String)> {
        match self.window()?.at(self.wall_ms) {
            Ok(Opening::Now) => None,
            Ok(Opening::In { ms, shown }) => {
                let text = format!("waits for its window, which opens at {shown}");
                Some((Some(now_ms.saturating_add(ms.min(LOOK_AGAIN_MS))), text))
            }
            Ok(Opening::Never) => Some((None, "its window does not open any more".to_owned())),
            // The API refuses such a window.
            Err(error) => Some((None, format!("its window is none: {error}"))),
        }
    }

    /// Opens the units of the wave at hand.
    fn open(&mut self) {
        self.place.begun = true;
        let wave = self.waves().get(self.place.wave).cloned();
        let count = self.waves().len();
        let Some(crew) = &mut self.crew else { return };
        let opened = open_wave(crew, wave.as_ref(), self.place.wave);
        for unit in &opened {
            self.told.extend(crew.get(unit).and_then(|member| member.node.clone()));
        }
        if count > 0 && !opened.is_empty() {
            let (wave, all) = (self.place.wave + 1, count + 1);
            let text = format!("{}: wave {wave} of {all} begins", self.key);
            self.news.push(("rollout_wave", text));
        }
    }

    /// Waits for the images of the wave at hand, for a while.
    fn stage(&mut self, now_ms: u64) {
        let Some(crew) = &mut self.crew else { return };
        if self.place.has_no_patience(now_ms) {
            for unit in crew.unstaged().clone() {
                crew.change(&unit, |member| member.staged = true);
            }
        }
        if crew.unstaged().is_empty() {
            self.place.patience_ms = None;
            self.place.staged = true;
        } else if self.place.patience_ms.is_none() {
            self.place.patience_ms = Some(now_ms.saturating_add(STAGING_MS));
        }
    }

    /// Whether the images of the wave at hand are there.
    pub(super) const fn is_staged(&self) -> bool {
        self.place.staged
    }

    /// Notes that a unit came up or failed, after the stage that it had.
    pub(super) const fn tally(&mut self, had: &Stage, up: bool) {
        if up {
            self.place.up += 1;
        } else {
            self.place.failed += 1;
            if matches!(had, Stage::Watched(_)) {
                self.place.up = self.place.up.saturating_sub(1);
            }
        }
    }

    /// Why the next wave must not begin, if too few of this one came up.
    fn lack_of_success(&self) -> Option<String> {
        let policy: &WavePolicy = self.aim.waves.as_ref().filter(|_| self.back.is_none())?;
        let (up, all) = (self.place.up, self.place.up + self.place.failed);
        let needed = usize::try_from(policy.success_percent).unwrap_or(100);
        let few = self.place.failed > 0 && up.saturating_mul(100) < all.saturating_mul(needed);
        few.then(|| {
            let wave = self.place.wave + 1;
            let last = &self.last_failure;
            format!("{up} of {all} of wave {wave} came up, {needed} % are needed; {last}")
        })
    }
}

/// Opens the units of a wave; none is the last one, of all others. Which they are.
fn open_wave(crew: &mut Crew, wave: Option<&Wave>, at: usize) -> Vec<Unit> {
    let mut opened = vec![];
    let mut open = |crew: &mut Crew, unit: Unit| {
        crew.change(&unit, |member| member.open = true);
        opened.push(unit);
    };
    match wave {
        Some(Wave::Nodes(_)) => {
            for unit in crew.closed_in(1 << at.min(31)) {
                open(crew, unit);
            }
        }
        Some(Wave::Percent(percent)) => {
            let all = crew.reachable().0;
            let share = all.saturating_mul(usize::try_from(*percent).unwrap_or(100)).div_ceil(100);
            // Who waits for its wave is not updated; everybody else is, or is about to be.
            while crew.closed_len() > all.saturating_sub(share)
                && let Some(unit) = crew.next_closed()
            {
                open(crew, unit);
            }
        }
        None => {
            while let Some(unit) = crew.next_closed() {
                open(crew, unit);
            }
        }
    }
    opened
}

/// Which of these units would come in which wave, if every wave succeeds: a list for each, and one of
/// all others. Units on nodes that cannot be reached are in none; they follow later.
#[must_use]
pub fn in_waves(
    policy: &WavePolicy,
    units: impl IntoIterator<Item = (Unit, Seen)>,
) -> Vec<Vec<Unit>> {
    let mut crew = Crew::new(false);
    for (unit, seen) in units {
        let mut member = Member::new(Stage::Waiting, false);
        member.see(&seen);
        crew.put(unit, member);
    }
    let waves = policy.waves.iter().map(Some).chain([None]);
    waves.enumerate().map(|(at, wave)| open_wave(&mut crew, wave, at)).collect()
}

/// The waves that name a node, a bit for each.
#[must_use]
pub fn named_by(waves: &[Wave], id: &NodeId, node: &Node) -> u32 {
    let named = |wave: &Wave| matches!(wave, Wave::Nodes(all) if meets_all(all, id, node));
    waves.iter().take(32).enumerate().map(|(at, wave)| u32::from(named(wave)) << at).sum()
}

/// A number with this many low bits set.
const fn low_bits(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}
