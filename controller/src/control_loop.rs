//! The controller's one loop, and the handle by which the API reaches it.
//!
//! In: changes of the store, messages from the broker, calls of people, deadlines of silent nodes.
//! Out: assignments in the store and on the wire, answers, the [`View`]. After every input the
//! world is settled (`dispatch::settle`); inputs that wait already are taken together, so that a
//! burst costs one plan and one commit. The tasks of the loop: the two of the broker's connection
//! (`dispatch::bus`), and one for each open call (`dispatch::calls`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::codec::CodecError;
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName};
use limpet_protocol::network::Subnet;
use limpet_protocol::topic::Topic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::answer::Subject;
use crate::api::types::{InstanceView, NodeView, ServiceView};
use crate::broker::Login;
use crate::clock;
use crate::dispatch::bus::{Bus, BusEvent, BusSettings};
use crate::dispatch::calls::{Calls, FromCaller, MAX_WAITING};
use crate::dispatch::joins::{Joins, Welcome};
use crate::dispatch::{Dispatch, want, weave};
use crate::explain::Explanation;
use crate::network::Fabric;
use crate::network::numbers::Numbers;
use crate::network::pool::{Pool, PoolError};
use crate::observe::noise::Noise;
use crate::observe::view::Gallery;
use crate::plan::Planner;
use crate::rollout::{Order, Rollouts};
use crate::scale::Totals;
use crate::store::{Change, Key, Revision, Store, StoreError, Watch, WatchError};
use crate::world::World;

/// Messages from the broker that wait for the loop; the broker waits when there are more.
const MAX_MESSAGES: usize = 1024;
/// Inputs that are taken together before the world is settled.
const MAX_BATCH: usize = 256;
/// Requests of the API that wait.
const MAX_REQUESTS: usize = 64;
/// Between two views while things change all the time: faster than a person sees.
const VIEW_EVERY: Duration = Duration::from_millis(20);
/// How often reminders are looked at while there are any.
const REMIND_EVERY: Duration = Duration::from_millis(500);

/// What the loop shows to readers: rebuilt on change, shared by reference.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The revision of the store that it takes into account: nothing that is older than an apply
    /// may pass as the apply's outcome.
    pub revision: Revision,
    /// Every node, by name.
    pub nodes: Vec<Arc<NodeView>>,
    /// Every instance that is wanted or there, by name.
    pub instances: Vec<Arc<InstanceView>>,
    /// Every service: (application, service).
    pub services: Vec<(String, Arc<ServiceView>)>,
}

/// What the API may ask of the loop.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "they are few, and most are calls")]
pub enum Request {
    /// Open a call to a node.
    Call {
        /// Which node.
        node: NodeId,
        /// The first message; its credit equals the channel's capacity.
        first: CallIn,
        /// Where the call's answers go; dropping the receiver cancels the call.
        answers: mpsc::Sender<CallOut>,
        /// Where further messages come from (credit, cancel).
        more: mpsc::Receiver<CallIn>,
        /// Whether it was opened, or why not.
        opened: oneshot::Sender<Result<(), String>>,
    },
    /// A copy of the planner, to plan what would be; and the revision that it takes into account.
    Copy {
        /// Where it goes.
        answer: oneshot::Sender<(Revision, Box<Planner>)>,
    },
    /// Why is something as it is?
    Explain {
        /// What kind of thing.
        subject: Subject,
        /// Its name.
        name: String,
        /// The revision that the answer takes into account, and the answer; none if there is
        /// nothing of that name.
        answer: oneshot::Sender<(Revision, Option<Explanation>)>,
    },
    /// Pause or resume rollouts.
    Rollout {
        /// Of which application.
        application: ApplicationName,
        /// Of which of its services; none is all.
        service: Option<ServiceName>,
        /// What is to happen.
        order: Order,
        /// The services that it happened to, once it is on disk, or why to none.
        answer: oneshot::Sender<Result<Vec<String>, String>>,
    },
}

/// How the API reaches the loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The newest view.
    pub view: watch::Receiver<Arc<View>>,
    /// Requests, answered by what they carry.
    pub requests: mpsc::Sender<Request>,
    /// The addresses of the fleet.
    pub pool: Pool,
}

/// What the loop has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a node may be unreachable until its work is given to others.
    pub lost_after: Duration,
    /// The addresses of the fleet and the prefix of a node's part, unless nodes have others already.
    pub network: (Subnet, u8),
    /// Host of the broker.
    pub broker_host: String,
    /// Port of the broker.
    pub broker_port: u16,
    /// The controller's login there.
    pub broker_login: Option<Login>,
    /// The controller's client id there: `controller` for the embedded broker.
    pub client_id: String,
    /// Port of the HTTP server where nodes fetch images.
    pub image_port: u16,
    /// Its host, if it is not the broker's.
    pub image_host: Option<String>,
}

/// Why the loop ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The store cannot be read or written.
    #[error("keep the truth")]
    Store(#[from] StoreError),
    /// A record is not what this version writes.
    #[error("read {key} from the store")]
    Record {
        /// Which.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// The addresses of the fleet cannot be cut into parts.
    #[error("give nodes parts of the pool of addresses (--network-pool, --network-node-prefix)")]
    Pool(#[source] PoolError),
    /// The first message cannot be made.
    #[error("make the controller's presence")]
    Presence(#[source] CodecError),
}

/// Starts the loop. It ends when it is told to, or with an error when the store fails; await the
/// handle to have everything said and closed.
///
/// # Errors
/// [`LoopError`] if the store holds what cannot be read.
pub fn start(
    settings: Settings,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(Handle, JoinHandle<Result<(), LoopError>>), LoopError> {
    let pool = weave::pool(&store, settings.network)?;
    let mut tasks = JoinSet::new();
    let (events, messages) = mpsc::channel(MAX_MESSAGES);
    let will = want::presence(store.identity(), false).map_err(LoopError::Presence)?;
    let bus_settings = BusSettings {
        host: settings.broker_host,
        port: settings.broker_port,
        login: settings.broker_login,
        client_id: settings.client_id,
        will: (Topic::Controller, will),
    };
    let bus = Bus::start(&bus_settings, events, shutdown.clone(), &mut tasks);
    let here = want::presence(store.identity(), true).map_err(LoopError::Presence)?;
    bus.set(Topic::Controller, here);
    let (callers, from_callers) = mpsc::channel(MAX_WAITING);
    let welcome = Welcome { image_port: settings.image_port, image_host: settings.image_host };
    let lost_after_ms = u64::try_from(settings.lost_after.as_millis()).unwrap_or(u64::MAX);
    let mut world = World {
        planner: Planner::default(),
        totals: Totals::default(),
        rollouts: Rollouts::default(),
        dispatch: Dispatch::new(store.clone(), bus.clone()),
        fabric: Fabric::new(pool),
        numbers: Numbers::new(pool.first(), pool.end()),
        unstored_numbers: BTreeSet::new(),
        unnumbered: BTreeSet::new(),
        had_numbers: true,
        joins: Joins::new(store.clone(), welcome),
        calls: Calls::new(bus.clone(), callers),
        applications: BTreeMap::new(),
        leaving: BTreeMap::new(),
        fleet: BTreeMap::new(),
        noise: Noise::default(),
        lost_after_ms,
        lost_at: BTreeSet::new(),
        now_ms: 0,
        revision: Revision::default(),
        shown: None,
        wall_ms: clock::now_ms(),
        unsettled: BTreeSet::new(),
        removed_nodes: BTreeSet::new(),
        changed_facts: BTreeSet::new(),
        reported: BTreeSet::new(),
        unsaved: vec![],
        answers: vec![],
        events: vec![],
        acks: BTreeMap::new(),
        stale_services: BTreeSet::new(),
        stale_nodes: BTreeSet::new(),
        gallery: Gallery::default(),
        store,
        bus,
    };
    let read = world.restore()?;
    let (requests, asked) = mpsc::channel(MAX_REQUESTS);
    let (shown, view) = watch::channel(Arc::new(View::default()));
    let inputs = Inputs { shutdown, read, messages, asked, from_callers, tasks };
    let control = ControlLoop { world, started: Instant::now(), shown, last_shown: None };
    #[expect(clippy::disallowed_methods, reason = "this is the loop; the caller joins it")]
    let task = tokio::spawn(control.run(inputs));
    Ok((Handle { view, requests, pool }, task))
}

/// What the loop waits for.
struct Inputs {
    shutdown: CancellationToken,
    /// The revision up to which the world was read at the start.
    read: Revision,
    messages: mpsc::Receiver<BusEvent>,
    asked: mpsc::Receiver<Request>,
    from_callers: mpsc::Receiver<FromCaller>,
    tasks: JoinSet<()>,
}

struct ControlLoop {
    world: World,
    started: Instant,
    shown: watch::Sender<Arc<View>>,
    last_shown: Option<Instant>,
}

impl ControlLoop {
    async fn run(mut self, mut inputs: Inputs) -> Result<(), LoopError> {
        let mut changes = self.world.store.watch(inputs.read);
        self.look_at_clocks();
        self.world.settle().await?;
        loop {
            let view_due = self.show_if_due();
            let wake = self.next_deadline(view_due);
            tokio::select! {
                biased;
                () = inputs.shutdown.cancelled() => break,
                // Dropped and called again without loss, as its documentation says.
                change = changes.next() => {
                    self.look_at_clocks();
                    self.take_changes(change, &mut changes)?;
                }
                Some(event) = inputs.messages.recv() => {
                    self.look_at_clocks();
                    self.take_messages(event, &mut inputs.messages).await?;
                }
                Some(request) = inputs.asked.recv() => {
                    self.look_at_clocks();
                    self.world.ask(request, &mut inputs.tasks);
                }
                Some((session, said)) = inputs.from_callers.recv() => self.world.calls.caller(&session, said),
                Some(ended) = inputs.tasks.join_next() => told_of(ended),
                () = sleep_until(wake) => self.look_at_clocks(),
            }
            self.world.check_deadlines();
            self.world.settle().await?;
        }
        // The broker's tasks say goodbye, the tasks of calls have nobody left to wait for.
        drop(inputs.messages);
        drop(inputs.from_callers);
        drop(self);
        while inputs.tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// A change and all that are there with it: those of one revision belong together.
    fn take_changes(
        &mut self,
        first: Result<Change, WatchError>,
        more: &mut Watch,
    ) -> Result<(), LoopError> {
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Ok(change) => self.world.change(change)?,
                Err(WatchError::Compacted { .. }) => {
                    let from = self.world.restore()?;
                    *more = self.world.store.watch(from);
                }
                Err(WatchError::Closed) => return Err(StoreError::Closed.into()),
            }
            next = more.next().now_or_never();
        }
        Ok(())
    }

    async fn take_messages(
        &mut self,
        first: BusEvent,
        more: &mut mpsc::Receiver<BusEvent>,
    ) -> Result<(), LoopError> {
        let mut next = Some(first);
        for _ in 0..MAX_BATCH {
            let Some(event) = next else { break };
            match event {
                BusEvent::Up => self.world.broker_is_back(),
                BusEvent::Down => self.world.broker_is_gone(),
                BusEvent::Message { topic, payload } => self.world.hear(topic, &payload).await?,
            }
            next = more.try_recv().ok();
        }
        Ok(())
    }

    fn look_at_clocks(&mut self) {
        let since = self.started.elapsed().as_millis();
        self.world.now_ms = u64::try_from(since).unwrap_or(u64::MAX);
        self.world.wall_ms = clock::now_ms();
    }

    /// Shows what changed, at once if nothing was shown for a while; otherwise says when.
    fn show_if_due(&mut self) -> Option<Instant> {
        if self.world.is_shown() {
            return None;
        }
        let now = Instant::now();
        if let Some(last) = self.last_shown
            && now < last + VIEW_EVERY
        {
            return Some(last + VIEW_EVERY);
        }
        self.last_shown = Some(now);
        self.shown.send_replace(Arc::new(self.world.show()));
        None
    }

    fn next_deadline(&self, view_due: Option<Instant>) -> Instant {
        const IDLE: Duration = Duration::from_secs(3600);
        let now = Instant::now();
        let lost =
            self.world.lost_at.first().map(|(at, _)| self.started + Duration::from_millis(*at));
        let remind = self.world.dispatch.has_reminders().then(|| now + REMIND_EVERY);
        let roll = self.world.rollouts.deadline().filter(|_| self.world.bus.is_up());
        let roll = roll.map(|at| self.started + Duration::from_millis(at));
        let scale = self.world.totals.due_ms();
        let scale = scale.map(|at| self.started + Duration::from_millis(at));
        [view_due, lost, remind, roll, scale].into_iter().flatten().min().unwrap_or(now + IDLE)
    }
}

fn told_of(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the control loop did not end well");
    }
}
