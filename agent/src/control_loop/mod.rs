//! The one loop of the agent.
//!
//! In: events of the runtime, of the link, ends of jobs, the time. Out: actions on the runtime,
//! messages on the link. All state belongs to the loop; nothing is locked. Tasks are spawned here
//! and nowhere else.
//!
//! | arm | why it may be cancelled |
//! |---|---|
//! | told to end | a signal stays pending |
//! | runtime event | [`Runtime::next_event`] says so |
//! | job ended | [`JoinSet::join_next`] says so |
//! | answer of a call | a channel |
//! | a neighbour told | a channel |
//! | time | computed anew in every turn |
//! | time on the wall | a timer stays ready until it is read |
//! | devices | the kernel keeps what was not read |
//! | link event | a channel |
//!
//! What comes first goes first, and the link comes last: others say how much comes from there.

mod calling;
mod checks;
mod clock;
mod commands;
mod doing;
mod hearing;
mod hooks;
mod images;
mod machine;
mod memory;
mod networks;
mod news;
mod scaling;
mod schedules;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::id::SessionId;
use limpet_protocol::message::{NodeFacts, SealKey};
use limpet_protocol::spec::ImageSource;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::calls::{ANSWER_QUEUE, Answer, Calls};
use crate::image::PreparedImage;
use crate::ledger::intake::Intake;
use crate::ledger::runs::RunsFile;
use crate::ledger::{Accepted, Ledger, LedgerError, Loaded};
use crate::link::{Link, LinkTask};
use crate::load::devices::Devices;
use crate::network::{Located, Networking};
use crate::reconcile::{ImageKey, Observed, Wanted, WantedInstance, reconcile};
use crate::report::Reporter;
use crate::report::events::EventQueue;
use crate::runtime::{ContainerId, ExecId, Runtime, RuntimePaths};
use crate::schedule::{Record, Runs};

pub use clock::Clock;
pub use images::{Images, StoreImages};
pub use machine::Look;
pub use memory::Memory;

/// Decisions in one turn of the loop. The next turn goes on; in between everybody else is heard.
const ROUNDS_PER_TURN: usize = 8;
/// Room that answers of calls leave in the link's queue for everything else.
const ROOM_KEPT: usize = 32;
/// How long the containers may take to end when they are to end with the agent, on top of the
/// longest grace period.
const STOP_MARGIN_MS: u64 = 5_000;
/// How long the last words on the link may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts<R, I> {
    /// Containers.
    pub runtime: R,
    /// Images.
    pub images: I,
    /// The connection, both of its ends.
    pub link: (Link, LinkTask),
    /// Assignments on disk, and what was found there.
    pub ledger: (Ledger, Loaded),
    /// What an earlier run of the agent in this boot left.
    pub memory: Memory,
    /// Which runs of schedules have begun, on disk and as it was read.
    pub runs: (RunsFile, Record),
    /// Where the runtime keeps its files.
    pub paths: RuntimePaths,
    /// What the node is.
    pub facts: NodeFacts,
    /// The devices that it has.
    pub devices: Devices,
    /// What says what clock, card and supply lack.
    pub look: Look,
    /// Where its secrets are sealed to.
    pub seal_key: SealKey,
    /// The networks of its containers.
    pub network: Networking,
    /// Which node it is.
    pub node: limpet_protocol::id::NodeId,
    /// Which boot this is.
    pub boot: u64,
    /// Whether the containers end with the agent.
    pub stop_on_exit: bool,
}

/// The end of something that was done beside the loop.
#[derive(Debug)]
enum Job {
    /// What is here of an image.
    Looked {
        image: ImageSource,
        result: Result<Option<Arc<PreparedImage>>, String>,
    },
    /// It was fetched.
    Prepared {
        image: ImageSource,
        result: Result<Arc<PreparedImage>, String>,
        begun_ms: u64,
    },
    Stored {
        accepted: Box<Accepted>,
        result: Result<(), LedgerError>,
    },
    /// An instance was asked for its metrics.
    Measured(scaling::Measured),
    /// A check of a container has ended.
    Checked {
        of: checks::CheckOf,
        outcome: crate::health::Outcome,
    },
    /// A command before a stop has ended.
    HookEnded {
        id: ContainerId,
        index: usize,
        outcome: crate::health::Outcome,
    },
    CallEnded(SessionId),
    /// A caller was told what is missing of images.
    Counted,
    /// A caller's command had its time to end by itself.
    HungUp(ExecId),
    /// A record of runs is on disk, or cannot be.
    RunsKept {
        number: u64,
        result: Result<(), LedgerError>,
    },
    /// Leftovers or unneeded images are gone.
    Tidied,
    /// What clock, card and supply lack was found out.
    MachineLookedAt(Vec<String>),
    /// Where the node and the controller are was found out.
    Located(Located),
    /// Names are not answered or neighbours not heard any more.
    NetworkEnded,
    LinkEnded,
}

/// See the module.
#[derive(Debug)]
pub struct ControlLoop<R, I> {
    runtime: R,
    images: I,
    link: Link,
    ledger: Ledger,
    intake: Intake,
    wanted: Wanted,
    observed: Observed,
    prepared: BTreeMap<ImageKey, Arc<PreparedImage>>,
    /// Which images stay when others go.
    stock: images::Stock,
    reporter: Reporter,
    events: EventQueue,
    news: news::News,
    /// Checks and hooks that are commands in containers.
    commands: commands::Commands,
    leaving: hooks::Leaving,
    calls: Calls,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    jobs: JoinSet<Job>,
    memory: Memory,
    runs: Runs,
    runs_file: RunsFile,
    scaling: scaling::Scaling,
    wall_timer: schedules::WallTimer,
    paths: RuntimePaths,
    facts: NodeFacts,
    devices: Devices,
    /// When the devices are looked at, because they changed.
    devices_due_ms: Option<u64>,
    machine: machine::Machine,
    seal_key: SealKey,
    network: Networking,
    node: limpet_protocol::id::NodeId,
    boot: u64,
    clock: Clock,
    /// Whether the runtime has told what there is, so that it may be asked for more.
    runtime_ready: bool,
    /// Whether what dead containers left on disk was looked for.
    swept: bool,
    link_state: hearing::LinkState,
    stop_on_exit: bool,
    /// When the agent ends at the latest, once it was told to.
    ending_at_ms: Option<u64>,
    /// When an assignment that could not be written is tried again.
    store_again_ms: Option<u64>,
    /// The loop goes on because of the time and nothing else.
    only_time: bool,
    /// When anything but the load is looked at next.
    rest_due_ms: Option<u64>,
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(mut parts: Parts<R, I>) -> Self {
        let Parts { ledger: (ledger, loaded), link: (link, link_task), memory, .. } = parts;
        let clock = Clock::start();
        let mut jobs = JoinSet::new();
        jobs.spawn(async move {
            link_task.run().await;
            Job::LinkEnded
        });
        let mut events = EventQueue::new(parts.boot, memory.last_event());
        let observed = Observed::new(memory.attempts().clone(), memory.past().clone());
        let mut scaling = scaling::Scaling::default();
        let accepted = loaded.accepted.as_ref();
        accepted.inspect(|it| scaling.scales.follow(scaling::shares(it)));
        scaling.choose_topics();
        let wanted = accepted.map(|it| scaling::wanted_of(it, &scaling.scales, &observed));
        let wanted = wanted.unwrap_or_default();
        if let Some(accepted) = &loaded.accepted {
            parts.network.follow(&accepted.assignment);
        }
        telling::started(&mut events, &loaded, &clock);
        Self {
            runtime: parts.runtime,
            images: parts.images,
            link,
            intake: Intake::new(ledger.clone(), loaded.accepted),
            ledger,
            wanted,
            observed,
            prepared: BTreeMap::new(),
            stock: images::Stock::default(),
            // Reports are numbered from the uptime on: greater than those of any earlier run.
            reporter: Reporter::new(parts.boot, crate::link::uptime_centiseconds()),
            events,
            news: news::News::default(),
            commands: commands::Commands::default(),
            leaving: hooks::Leaving::default(),
            calls: Calls::default(),
            answers: mpsc::channel(ANSWER_QUEUE),
            jobs,
            memory,
            runs: Runs::new(parts.runs.1),
            runs_file: parts.runs.0,
            scaling,
            wall_timer: schedules::WallTimer::default(),
            paths: parts.paths,
            facts: parts.facts,
            devices: parts.devices,
            devices_due_ms: None,
            machine: machine::Machine::new(parts.look),
            seal_key: parts.seal_key,
            network: parts.network,
            node: parts.node,
            boot: parts.boot,
            clock,
            runtime_ready: false,
            swept: false,
            link_state: hearing::LinkState::default(),
            stop_on_exit: parts.stop_on_exit,
            ending_at_ms: None,
            store_again_ms: None,
            only_time: false,
            rest_due_ms: None,
        }
    }

    /// Runs until it is told to end: once, and twice where nothing shall be waited for. Gives the
    /// runtime back.
    pub async fn run(mut self, mut told_to_end: mpsc::Receiver<()>) -> R {
        loop {
            let wake_at_ms = self.turn();
            if self.has_ended() {
                break;
            }
            let sleep = self.clock.sleep_until(wake_at_ms);
            let room = self.link.room() > ROOM_KEPT;
            tokio::select! {
                biased;
                Some(()) = told_to_end.recv() => if self.told_to_end() { break },
                event = self.runtime.next_event() => self.runtime_event(event),
                Some(job) = self.jobs.join_next() => self.job_ended(job),
                Some(answer) = self.answers.1.recv(), if room => self.answer(answer),
                news = self.network.next_news() => self.network_told(news),
                () = sleep => self.only_time = true,
                () = self.wall_timer.gone_off() => {}
                () = self.devices.changed() => self.devices_changed(),
                event = self.link.next_event() => self.link_event(event),
            }
        }
        self.farewell().await;
        if self.stop_on_exit && self.observed.is_empty() {
            self.network.remove();
        }
        self.runtime
    }

    /// Decides and does until there is nothing to do, and tells what changed. Returns when to be
    /// called again at the latest.
    fn turn(&mut self) -> Option<u64> {
        let (load_due_ms, load_changed) = self.look_at_scaling();
        let only_time = std::mem::take(&mut self.only_time);
        let now_ms = self.clock.now_ms();
        if only_time && !load_changed && self.rest_due_ms.is_none_or(|due_ms| now_ms < due_ms) {
            // The load was read and nothing follows from it: nobody else has to look.
            return [self.rest_due_ms, load_due_ms].into_iter().flatten().min();
        }
        let commands_due_ms = self.time_commands();
        self.observed.set_resting(self.resting());
        self.observed.forget(&self.wanted);
        self.look_at_schedules();
        self.observed.set_lacks_addresses(self.network.lacks_addresses());
        let observed = &self.observed;
        self.prepared.retain(|key, _| observed.knows_image(key));
        let mut decision = reconcile(&self.wanted, &self.observed, self.clock.now_ms());
        for _ in 0..ROUNDS_PER_TURN {
            let actions = std::mem::take(&mut decision.actions);
            if self.perform(actions) == 0 {
                break;
            }
            decision = reconcile(&self.wanted, &self.observed, self.clock.now_ms());
        }
        // Without the runtime only what does not need it is awaited.
        let mut wake = if self.runtime_ready { decision.wake_at_ms } else { None };
        if decision.actions.is_empty() {
            self.tidy_images();
        } else if self.runtime_ready {
            wake = Some(self.clock.now_ms());
        }
        let network_due_ms = self.look_at_network();
        let generation = self.intake.current().map(|current| current.assignment.generation);
        if self.runtime_ready {
            self.reporter.stage(decision.staged, decision.no_image);
            self.reporter.update(generation, decision.statuses, self.clock.wall_ms());
        }
        self.news.forget(&self.wanted);
        self.tell_put_off(&decision.put_off);
        let observed = &self.observed;
        self.calls.follow(|instance| observed.newest(instance));
        let devices_due_ms = self.look_at_devices();
        let rest = [self.tell(), self.ask(), self.store_again(), self.ending_at_ms];
        let machine_due_ms = Some(self.look_at_machine());
        let looks = [commands_due_ms, devices_due_ms, network_due_ms, machine_due_ms];
        for due in looks.into_iter().chain(rest) {
            wake = [wake, due].into_iter().flatten().min();
        }
        self.memory.keep(self.observed.attempts(), self.observed.past(), self.events.last());
        self.rest_due_ms = wake;
        [wake, load_due_ms].into_iter().flatten().min()
    }

    /// Whether there is nothing to wait for any more. The first word ends the agent at once unless
    /// its containers are to end with it.
    fn told_to_end(&mut self) -> bool {
        let again = self.ending_at_ms.is_some();
        if again || !self.stop_on_exit {
            return true;
        }
        let grace = |want: &WantedInstance| want.spec.stop.grace_period_ms;
        let longest = self.wanted.values().map(grace).max().unwrap_or(0);
        let margin = longest.saturating_add(STOP_MARGIN_MS);
        self.ending_at_ms = Some(self.clock.now_ms().saturating_add(margin));
        tracing::info!("stopping all containers");
        self.wanted.clear();
        false
    }

    fn has_ended(&self) -> bool {
        self.ending_at_ms.is_some_and(|latest| {
            self.clock.now_ms() >= latest || (self.runtime_ready && self.observed.is_empty())
        })
    }

    /// Says on the link that the node goes away, as far as that can be said soon.
    async fn farewell(&mut self) {
        self.say_goodbye();
        let jobs = &mut self.jobs;
        let link_ended = async {
            while let Some(job) = jobs.join_next().await {
                if matches!(job, Ok(Job::LinkEnded)) {
                    return;
                }
            }
        };
        if tokio::time::timeout(FAREWELL, link_ended).await.is_err() {
            tracing::debug!("the broker did not take the last words");
        }
        self.jobs.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
