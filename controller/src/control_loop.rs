//! The controller's one loop, and the handle by which the API reaches it.

use std::sync::Arc;

use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::id::NodeId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::types::{InstanceView, NodeView, ServiceView};
use crate::store::Revision;

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
}

/// How the API reaches the loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The newest view.
    pub view: watch::Receiver<Arc<View>>,
    /// Requests, answered by what they carry.
    pub requests: mpsc::Sender<Request>,
}
