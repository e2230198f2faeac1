//! Every limit of the wire, with its reason. Both sides and the broker use these numbers.

/// Largest MQTT packet that anyone may send. An over-sized packet ends an MQTT connection and a
/// persistent session would deliver it again, so the encoder refuses before the broker has to.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;
/// Room for the MQTT header, topic and properties around a payload.
pub const PACKET_OVERHEAD_BYTES: usize = 1024;
/// Largest payload of any message.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - PACKET_OVERHEAD_BYTES;
/// Largest encoded [`crate::spec::Spec`]: Compose services of real applications take 1-4 KiB.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;
/// Largest content of a config or secret: with its envelope (names, keys, signature, the seal) it
/// fits into one message.
pub const MAX_CONTENT_BYTES: usize = MAX_PAYLOAD_BYTES - CONTENT_OVERHEAD_BYTES;
/// Room for the envelope around a content.
pub const CONTENT_OVERHEAD_BYTES: usize = 1024;
/// Configs and secrets of one service, together: each is a mount of its own.
pub const MAX_CONTENTS_PER_SERVICE: usize = 64;
/// Bytes of all configs and secrets that one node holds: they stay in the agent's memory.
pub const MAX_CONTENT_BYTES_PER_NODE: usize = 16 * 1024 * 1024;
/// One chunk of a call's output: small enough that other traffic is never held up for long.
pub const MAX_CALL_CHUNK_BYTES: usize = 16 * 1024;
/// How many chunks a caller may have outstanding (its credit window).
pub const CALL_WINDOW: u16 = 16;
/// How many pieces of input an agent gives credit for: what a command does not read costs the node
/// no more than this.
pub const INPUT_WINDOW: u16 = 4;
/// Bytes of a command with its arguments and environment.
pub const MAX_EXEC_BYTES: usize = 64 * 1024;

/// Labels that a node has, and likewise that people give it: they travel in every presence message.
pub const MAX_LABELS_PER_NODE: usize = 64;
/// Bytes of a label's key.
pub const MAX_LABEL_KEY_BYTES: usize = 128;
/// Bytes of a label's value.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// Devices that a node names: they travel in every presence message.
pub const MAX_DEVICES_PER_NODE: usize = 256;
/// Bytes of a device's path.
pub const MAX_DEVICE_PATH_BYTES: usize = 256;

/// Deepest nesting of any message. The deepest of ours, a spec inside an application, is 8.
pub const MAX_DEPTH: usize = 16;
/// Most CBOR items (keys and values count one each) of any message, which bounds decoding time.
pub const MAX_ITEMS: usize = 65_536;

/// Services of one application.
pub const MAX_SERVICES_PER_APPLICATION: usize = 256;
/// Hooks of one kind of a service: they run one after the other.
pub const MAX_HOOKS: usize = 16;
/// Networks of one service: each is a set of rules on every node that runs it.
pub const MAX_NETWORKS_PER_SERVICE: usize = 16;
/// Further names of a service in one of its networks: every node that may ask for them keeps them.
pub const MAX_ALIASES_PER_NETWORK: usize = 16;
/// Ports of one service: more than a board can serve.
pub const MAX_PORTS_PER_SERVICE: usize = 1024;
/// Least bandwidth of an instance, in bytes a second: with less, not even a connection is made in time.
pub const MIN_BANDWIDTH_BYTES: u64 = 1024;
/// Instances on one node: a board has far less memory than this needs.
pub const MAX_INSTANCES_PER_NODE: usize = 500;
/// Replicas of one service over the whole fleet.
pub const MAX_REPLICAS: u32 = 10_000;
/// Metrics that the number of instances of one service follows: each is asked for every few seconds.
pub const MAX_METRICS_PER_SERVICE: usize = 8;
/// Bytes of a metric's name, of a label of it and of the path where it is had.
pub const MAX_METRIC_NAME_BYTES: usize = 256;
/// Topics with figures that one node listens to: with all else that it says when it connects they fit into
/// its link's queue.
pub const MAX_METRIC_TOPICS_PER_NODE: usize = 512;
/// Bytes of a figure that is published: a number with all digits that count, and room for spaces.
pub const MAX_PUBLISHED_BYTES: usize = 32;
/// For how long a published figure counts: whoever measures twice a minute may lose one message.
pub const PUBLISHED_COUNTS_MS: u64 = 60_000;
/// Largest target of CPU or memory, in hundredths of what is reserved: beyond it nothing is left to follow.
pub const MAX_SCALE_TARGET_PERCENT: u32 = 10_000;
/// Longest time for which a wish has to last (`stabilizationWindowSeconds` of Kubernetes has the same).
pub const MAX_SCALE_WINDOW_MS: u64 = 3_600_000;
/// Longest time over which a rate counts (`periodSeconds` of Kubernetes has the same).
pub const MAX_SCALE_PERIOD_MS: u64 = 1_800_000;
/// Waves of one rollout.
pub const MAX_WAVES: usize = 16;
/// Events in one batch.
pub const MAX_EVENTS_PER_BATCH: usize = 32;
/// Events an agent keeps for a controller that is away; the oldest go first and the gap is told.
pub const MAX_EVENTS_KEPT: usize = 256;
/// Images that one call asks about ([`crate::call::CallIn::Missing`]): each may cost a look at a registry.
pub const MAX_IMAGES_ASKED: usize = 64;
/// Images that a report says cannot be had ([`crate::report::NoImage`]): the first ones name the cause.
pub const MAX_NO_IMAGE: usize = 32;
/// Bytes of a reason or message that a person reads; longer ones are cut at a character.
pub const MAX_REASON_BYTES: usize = 512;
