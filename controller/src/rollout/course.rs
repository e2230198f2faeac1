//! The course of one service: its goal, which units have another spec, and what comes next.
//!
//! In: what is wanted, what is seen, the time, orders of people. Out: [`Course::spec_of`], the nodes
//! to be told, and what happened, in words.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{FailureAction, UpdatePolicy};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::id::{NodeId, SpecHash};

use super::crew::{Crew, Member, Stage};
use super::waves::Place;
use super::{Aim, Order, RolloutRecord, Seen, Unit, UnitStatus};
use crate::plan::ServiceKey;

/// Why a course does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halt {
    pub(super) reason: String,
    /// A person wanted it so: nothing is known against the target.
    pub(super) by_person: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) key: ServiceKey,
    pub(super) aim: Aim,
    /// The spec that last proved itself.
    pub(super) stable: SpecHash,
    /// Every unit that could be reached has come to the goal.
    pub(super) proven: bool,
    /// Why it goes back, or went back.
    pub(super) back: Option<String>,
    pub(super) halt: Option<Halt>,
    /// Which service has to go first.
    pub(super) held: Option<String>,
    pub(super) total: usize,
    pub(super) failed: usize,
    pub(super) last_failure: String,
    /// Failures that an earlier life of the controller has counted.
    pub(super) counted: usize,
    /// It is not known yet which units are up: the controller has just begun.
    pub(super) restored: bool,
    /// Units with another spec than the goal.
    pub(super) others: BTreeMap<Unit, SpecHash>,
    pub(super) crew: Option<Crew>,
    /// What [`Course::holds_others`] was after the last step.
    pub(super) held_others: bool,
    /// What the store has.
    pub(super) saved: Option<RolloutRecord>,
    /// Where it is among its waves.
    pub(super) place: Place,
    /// The clock on the wall at the last step.
    pub(super) wall_ms: u64,
    /// Why nothing more is begun though there is room.
    pub(super) budget: Option<String>,
    /// Units that have another spec since the last step.
    pub(super) begun: Vec<Unit>,
    /// Nodes that have to be told.
    pub(super) told: BTreeSet<NodeId>,
    /// What happened: kind and sentence.
    pub(super) news: Vec<(&'static str, String)>,
}

impl Course {
    /// A service that was not there before: it begins with its target.
    pub(super) fn new(key: ServiceKey, aim: Aim) -> Self {
        Self {
            key,
            stable: aim.spec,
            aim,
            proven: true,
            back: None,
            halt: None,
            held: None,
            total: 0,
            failed: 0,
            last_failure: String::new(),
            counted: 0,
            restored: false,
            others: BTreeMap::new(),
            crew: None,
            held_others: false,
            saved: None,
            place: Place::default(),
            wall_ms: 0,
            budget: None,
            begun: Vec::new(),
            told: BTreeSet::new(),
            news: Vec::new(),
        }
    }

    /// Where it leads at the moment.
    pub(super) const fn goal(&self) -> SpecHash {
        if self.back.is_some() { self.stable } else { self.aim.spec }
    }

    /// The spec of a unit.
    pub(super) fn spec_of(&self, unit: &Unit) -> SpecHash {
        self.others.get(unit).copied().unwrap_or_else(|| self.goal())
    }

    /// The rules of the direction that it has.
    const fn policy(&self) -> &UpdatePolicy {
        if self.back.is_some() { &self.aim.rollback } else { &self.aim.update }
    }

    /// Which container goes first in a slot.
    pub(super) const fn order(&self) -> UpdateOrder {
        self.policy().order
    }

    /// Whether nothing is to be done or said.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.crew.is_none() && self.back.is_none() && self.halt.is_none()
    }

    /// Whether services that depend on it have to wait.
    pub(super) fn holds_others(&self) -> bool {
        let moving = self.crew.as_ref().is_some_and(Crew::is_moving);
        moving || !self.others.is_empty() && self.crew.is_none() || self.is_off_course()
    }

    /// Whether people have to decide how it goes on.
    pub(super) const fn is_off_course(&self) -> bool {
        self.halt.is_some() || self.back.is_some()
    }

    /// Wants something else; `units` are those that there are. Whether they have to be gathered.
    pub(super) fn aim(&mut self, aim: Aim, units: impl Iterator<Item = Unit>) -> bool {
        if aim.mode.is_global() != self.aim.mode.is_global() || aim.mode.is_job() {
            // Other units, or runs that end by themselves: nothing is rolled out.
            let saved = self.saved.take();
            *self = Self { saved, ..Self::new(self.key.clone(), aim) };
            return false;
        }
        if aim.spec == self.aim.spec {
            // Waves stay as they are until their end: who is in which was decided.
            let mut waves = match &self.crew {
                Some(_) => self.aim.waves.take(),
                None => aim.waves.clone(),
            };
            if let Some(waves) = &mut waves {
                waves.window = aim.waves.as_ref().and_then(|new| new.window.clone());
            }
            self.aim = Aim { waves, ..aim };
            let start_first = self.order() == UpdateOrder::StartFirst;
            self.crew.iter_mut().for_each(|crew| crew.set_start_first(start_first));
            return false;
        }
        let had = self.goal();
        for unit in units {
            self.others.entry(unit).or_insert(had);
        }
        self.aim = aim;
        self.halt = None;
        self.head_for(None);
        self.crew = None;
        if self.others.is_empty() {
            (self.stable, self.proven) = (self.aim.spec, true);
        } else {
            self.news.push(("rollout_started", format!("{} is updated", self.key)));
        }
        !self.others.is_empty()
    }

    /// Has another goal from now on; every unit's spec stays as it is.
    fn head_for(&mut self, back: Option<String>) {
        self.back = back;
        let goal = self.goal();
        self.others.retain(|_, spec| *spec != goal);
        (self.total, self.failed, self.counted) = (self.others.len(), 0, 0);
        (self.proven, self.place, self.budget) = (false, Place::default(), None);
    }

    /// The same while units are on their way.
    fn turn(&mut self, back: Option<String>) {
        let had = self.goal();
        let Some(mut crew) = self.crew.take() else { return };
        let units = crew.units();
        for unit in &units {
            self.others.entry(unit.clone()).or_insert(had);
        }
        self.head_for(back);
        crew.cool_down();
        crew.set_start_first(self.order() == UpdateOrder::StartFirst);
        for unit in &units {
            let waits = self.others.contains_key(unit);
            let stage = if waits { Stage::Waiting } else { Stage::Done };
            let named = crew.get(unit).map_or(0, |member| member.waves);
            // What is gone back to was there a moment ago.
            let (open, staged) = (self.is_open(named), self.back.is_some());
            crew.change(unit, |member| {
                (member.stage, member.open, member.staged) = (stage, open, staged);
                member.forgive();
            });
            // Where the goal was meant to change and has not, the node has to be told all the same.
            self.told.extend(crew.get(unit).and_then(|member| member.node.clone()));
        }
        self.crew = Some(crew);
    }

    /// Begins to look at these units.
    pub(super) fn gather(&mut self, units: impl Iterator<Item = Unit>) {
        let mut crew = Crew::new(self.order() == UpdateOrder::StartFirst);
        let restored = std::mem::take(&mut self.restored);
        let on_goal = if restored { Stage::Moving(None) } else { Stage::Done };
        for unit in units {
            let waits = self.others.contains_key(&unit);
            let stage = if waits { Stage::Waiting } else { on_goal.clone() };
            crew.put(unit, Member::new(stage, self.is_open(0)));
        }
        self.others.retain(|unit, _| crew.get(unit).is_some());
        self.crew = Some(crew);
    }

    /// A unit came to be.
    pub(super) fn arrive(&mut self, unit: &Unit) {
        let open = self.is_open(0);
        let Some(crew) = &mut self.crew else { return };
        if crew.get(unit).is_some() {
            return;
        }
        let doubtful = self.halt.as_ref().is_some_and(|halt| !halt.by_person);
        let stage = if doubtful && self.back.is_none() && self.stable != self.aim.spec {
            self.others.insert(unit.clone(), self.stable);
            Stage::Waiting
        } else {
            Stage::Done
        };
        crew.put(unit.clone(), Member::new(stage, open));
    }

    /// A unit is no more.
    pub(super) fn leave(&mut self, unit: &Unit) {
        self.others.remove(unit);
        if let Some(crew) = &mut self.crew {
            crew.take(unit);
        }
    }

    /// Something about a unit is, or may be, news.
    pub(super) fn look(&mut self, now_ms: u64, unit: &Unit, seen: &Seen) {
        let Some(mut member) = self.crew.as_mut().and_then(|crew| crew.take(unit)) else { return };
        let spec = self.spec_of(unit);
        let status = seen.status.as_ref().filter(|status| status.spec == spec);
        let failure = status.and_then(|status| status.failed.clone());
        member.see(seen);
        // It was told another spec and has not begun with it: it goes down in a moment.
        member.up &= status.is_some() || self.order() == UpdateOrder::StartFirst;
        member.shifting &= !member.up && failure.is_none();
        member.open |= self.is_open(seen.waves);
        member.staged |= self.back.is_some() || self.place.has_no_patience(now_ms);
        let (delay_ms, monitor_ms) = (self.policy().delay_ms, self.policy().monitor_ms);
        member.barred &= !member.staged;
        let had = member.stage.clone();
        let lacks = self.lacks_image(&mut member, seen, status);
        if let (Stage::Waiting, Some(why)) = (&had, &lacks) {
            self.fail(unit, seen.node.as_ref(), why);
            self.tally(&had, false);
        }
        let failure = failure.or(lacks);
        match (&had, status, failure) {
            (Stage::Moving(Some(was)), None, _)
                if !member.reachable && [self.stable, self.aim.spec].contains(was) =>
            {
                // It has not begun: when it is back it comes under the rules again.
                self.others.insert(unit.clone(), *was);
                self.told.extend(member.node.clone());
                member.stage = Stage::Waiting;
            }
            (Stage::Moving(_) | Stage::Watched(_), _, Some(why)) if member.reachable => {
                member.stage = Stage::Failed;
                self.fail(unit, seen.node.as_ref(), &why);
                self.tally(&had, false);
            }
            (Stage::Moving(_), Some(_), None) if member.up => {
                member.stage = Stage::Watched(now_ms.saturating_add(monitor_ms));
                self.tally(&had, true);
            }
            _ => {}
        }
        let Some(crew) = &mut self.crew else { return };
        let arrived = matches!(member.stage, Stage::Watched(_) | Stage::Failed);
        if matches!(had, Stage::Moving(_)) && arrived {
            crew.cool(unit, now_ms.saturating_add(delay_ms));
        }
        crew.put(unit.clone(), member);
    }

    /// Why a unit failed whose node cannot have the image that it needs. One that waits for it is barred,
    /// which fails once.
    fn lacks_image(
        &self,
        member: &mut Member,
        seen: &Seen,
        status: Option<&UnitStatus>,
    ) -> Option<String> {
        let no_image = seen.no_image.as_ref().filter(|_| member.has_tried_in_vain())?;
        let fails = match member.stage {
            Stage::Waiting => {
                let waits = self.back.is_none() && member.open && !member.staged && !member.barred;
                member.barred |= waits;
                waits
            }
            Stage::Moving(_) => status.is_none_or(|status| !status.up),
            _ => false,
        };
        fails.then(|| format!("cannot have its image: {}", no_image.reason))
    }

    fn fail(&mut self, unit: &Unit, node: Option<&NodeId>, why: &str) {
        if self.counted > 0 {
            // An earlier life of the controller has counted it.
            self.counted -= 1;
            return;
        }
        self.failed += 1;
        let node = node.map(|id| format!(" on {id}")).unwrap_or_default();
        self.last_failure = format!("{}.{}{node} {why}", self.key, unit.slot());
    }

    /// Does what a person asks for, or says why not. `units` are those that there are. Whether
    /// they have to be gathered.
    pub(super) fn obey(
        &mut self,
        order: Order,
        units: impl Iterator<Item = Unit>,
    ) -> Result<bool, String> {
        match order {
            Order::Pause if self.halt.is_some() => Err("it is paused already".to_owned()),
            Order::Pause if self.crew.as_ref().is_some_and(Crew::is_moving) => {
                let reason = "a person paused it".to_owned();
                self.halt = Some(Halt { reason, by_person: true });
                self.news.push(("rollout_paused", format!("{}: a person paused it", self.key)));
                Ok(false)
            }
            Order::Pause => Err("nothing of it is being updated".to_owned()),
            Order::Resume if self.halt.is_some() => {
                self.halt = None;
                self.forgive();
                self.news.push(("rollout_resumed", format!("{}: it goes on", self.key)));
                Ok(false)
            }
            Order::Resume if self.back.is_some() => {
                self.news.push(("rollout_resumed", format!("{}: it is tried again", self.key)));
                if self.crew.is_some() {
                    self.turn(None);
                    return Ok(false);
                }
                self.others.extend(units.map(|unit| (unit, self.stable)));
                self.head_for(None);
                Ok(true)
            }
            Order::Resume => Err("it is neither paused nor rolled back".to_owned()),
        }
    }

    /// What failed does not count any more.
    fn forgive(&mut self) {
        (self.failed, self.total) = (0, self.others.len());
        let Some(crew) = &mut self.crew else { return };
        for unit in crew.units() {
            crew.change(&unit, |member| {
                if member.stage == Stage::Failed {
                    member.stage = Stage::Done;
                }
                member.forgive();
            });
        }
    }

    /// Takes the next steps.
    ///
    /// Before `calm_ms` nodes that cannot be reached may be there all the same.
    pub(super) fn step(&mut self, now_ms: u64, calm_ms: u64) {
        let Some(crew) = &mut self.crew else { return };
        crew.pass(now_ms);
        if self.halt.is_none() && self.is_broken() {
            self.act(self.last_failure.clone());
        }
        self.ride(now_ms);
        self.begin();
        self.finish(now_ms >= calm_ms);
    }

    /// Does what follows when too many have failed; whether anything did.
    pub(super) fn act(&mut self, why: String) -> bool {
        let (action, key) = (self.policy().failure_action, &self.key);
        let can_go_back = self.back.is_none() && !self.proven && self.stable != self.aim.spec;
        match action {
            FailureAction::Continue => return false,
            FailureAction::Rollback if can_go_back => {
                self.news.push(("rollout_rolls_back", format!("{key} goes back: {why}")));
                self.turn(Some(why));
            }
            FailureAction::Rollback | FailureAction::Pause => {
                let what = if self.back.is_some() { "the rollback" } else { "the update" };
                self.news.push(("rollout_paused", format!("{key}: {what} is paused: {why}")));
                self.halt = Some(Halt { reason: why, by_person: false });
            }
        }
        true
    }

    /// Whether more have failed than may.
    fn is_broken(&self) -> bool {
        const MILLION: u128 = 1_000_000;
        let abort = self.aim.waves.as_ref().and_then(|waves| waves.abort);
        if abort.is_some_and(|most| self.back.is_none() && self.failed >= most.of(self.total)) {
            return true;
        }
        let (failed, total) = (self.failed as u128, self.total.max(1) as u128);
        failed * MILLION > u128::from(self.policy().max_failure_ppm) * total
    }

    /// Begins as many units as the rules allow.
    fn begin(&mut self) {
        self.budget = None;
        if self.halt.is_some() || self.held.is_some() || !self.is_staged() {
            return;
        }
        let most = match self.policy().parallelism {
            0 => usize::MAX,
            some => usize::try_from(some).unwrap_or(usize::MAX),
        };
        let start_first = self.order() == UpdateOrder::StartFirst;
        let budget = self.aim.waves.as_ref().and_then(|waves| waves.max_unavailable);
        let Some(crew) = &mut self.crew else { return };
        while crew.busy() < most
            && let Some((up, unit)) = crew.next()
        {
            let (all, down) = crew.reachable();
            if let Some(budget) = budget.filter(|_| up && !start_first)
                && down >= budget.of(all)
            {
                self.budget = Some(format!("{down} of {all} are down, as many as may be"));
                return;
            }
            let had = self.others.remove(&unit);
            crew.change(&unit, |member| member.stage = Stage::Moving(had));
            self.told.extend(crew.get(&unit).and_then(|member| member.node.clone()));
            self.begun.push(unit);
        }
    }

    fn finish(&mut self, calm: bool) {
        let Some(crew) = &self.crew else { return };
        let all_said = calm || crew.absent() == 0;
        let none_shown = crew.done() + self.failed == 0 && crew.len() > 0;
        if self.halt.is_some() || crew.is_moving() || crew.is_watched() || !all_said || none_shown {
            return;
        }
        if !self.proven {
            self.proven = true;
            match &self.back {
                None => {
                    self.stable = self.aim.spec;
                    self.news.push(("rollout_done", format!("{} is updated", self.key)));
                }
                Some(why) => {
                    let text = format!("{} is back at what it was: {why}", self.key);
                    self.news.push(("rollout_rolled_back", text));
                }
            }
        }
        if self.others.is_empty() {
            self.crew = None;
        }
    }

    /// The spec that comes next for a unit: its node should fetch the image now.
    pub(super) fn next_of(&self, unit: &Unit) -> Option<SpecHash> {
        let member = self.crew.as_ref()?.get(unit)?;
        let comes = self.back.is_none() && member.open && member.stage == Stage::Waiting;
        comes.then(|| self.goal())
    }

    /// When it has to be stepped though nothing happened.
    pub(super) fn deadline(&self, calm_ms: Option<u64>) -> Option<u64> {
        let crew = self.crew.as_ref()?;
        let calm = calm_ms.filter(|_| !self.proven && crew.absent() > 0);
        crew.deadline().into_iter().chain(calm).chain(self.place.deadline()).min()
    }

    /// Nodes to be told and what happened, since the last time.
    pub(super) fn take_news(&mut self) -> (BTreeSet<NodeId>, Vec<(&'static str, String)>) {
        (std::mem::take(&mut self.told), std::mem::take(&mut self.news))
    }
}
