//! Explaining: why is it not running, not updated, not placed? No clock, no chance, no I/O.
//!
//! In: what the controller knows of an instance, a service or a node at this moment. Out: an
//! [`Explanation`]: the chain from what is wanted to what is, one [`Link`] for each step, the first
//! link that does not hold, and what to do about it. Of what is well it says so, with the same
//! chain.
//!
//! The chain of an instance: spec ▶ placement ▶ contact ▶ assignment ▶ dependencies ▶ network ▶ image ▶
//! start ▶ health ▶ traffic ▶ update. A link after one that does not hold is not looked at: what it
//! would say is no cause.

mod advice;
mod instance;
mod node;
mod service;
mod words;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use instance::{Assigned, Case, NetworkCase, Over, explain_instance};
pub use node::{NodeCase, explain_node};
pub use service::{ServiceCase, explain_application, explain_service};

/// Parts that one explanation shows; the rest is a number.
pub const MAX_PARTS: usize = 32;

/// Whether a link holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Ok,
    /// Not yet, and something works on it.
    Waiting,
    /// It does not, and will not by itself.
    Broken,
    /// It was not come to: a link before it does not hold.
    Unknown,
}

/// One step between what is wanted and what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Which: `spec`, `placement`, `contact`, `assignment`, `dependencies`, `network`, `image`, `start`,
    /// `health`, `traffic`, `update`; for a node also `availability`, `capacity`, `conditions`,
    /// `instances`.
    pub link: String,
    /// Whether it holds.
    pub state: State,
    /// What is known, for a person to read.
    pub says: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What it is about: `shop`, `shop.web`, `shop.web.2` or a node.
    pub name: String,
    /// `application`, `service`, `instance` or `node`.
    pub kind: String,
    /// Whether it is as wanted.
    pub well: bool,
    /// The matter in a sentence.
    pub summary: String,
    /// What to do; none if there is nothing to do, or only to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The links, in their order.
    pub chain: Vec<Link>,
    /// What it consists of and is not as wanted: services of an application, instances of a
    /// service or a node. At most 32.
    pub parts: Vec<Part>,
    /// How many more parts are not as wanted.
    pub more: u32,
}

/// A part of what is explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// `shop.web` or `shop.web.2`.
    pub name: String,
    /// Its node, if it is an instance and has one.
    pub node: Option<String>,
    /// Whether it is as wanted.
    pub well: bool,
    /// The matter in a sentence.
    pub summary: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The links, in their order.
    pub chain: Vec<Link>,
}

impl Link {
    fn new(link: &str, state: State, says: impl Into<String>) -> Self {
        Self { link: link.to_owned(), state, says: says.into(), advice: None }
    }

    fn ok(link: &str, says: impl Into<String>) -> Self {
        Self::new(link, State::Ok, says)
    }

    fn waiting(link: &str, says: impl Into<String>) -> Self {
        Self::new(link, State::Waiting, says)
    }

    fn broken(link: &str, says: impl Into<String>) -> Self {
        Self::new(link, State::Broken, says)
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// Whether it is the link to look at.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state == State::Ok
    }
}

/// A chain that is walked from its beginning up to the first link that does not hold.
struct Chain {
    links: Vec<Link>,
    intact: bool,
}

impl Chain {
    const fn new() -> Self {
        Self { links: Vec::new(), intact: true }
    }

    /// The next link, looked at only if all before it hold.
    fn then(&mut self, link: &str, look: impl FnOnce() -> Link) {
        let next = if self.intact { look() } else { Link::new(link, State::Unknown, "") };
        self.intact &= next.holds();
        self.links.push(next);
    }

    /// The next link, looked at whatever those before it say.
    fn also(&mut self, next: Link) {
        self.intact &= next.holds();
        self.links.push(next);
    }

    fn first_broken(&self) -> Option<&Link> {
        self.links.iter().find(|link| matches!(link.state, State::Broken | State::Waiting))
    }
}

impl Part {
    fn of(name: String, node: Option<String>, chain: Chain) -> Self {
        let well = chain.intact;
        let first = chain.first_broken();
        let summary = first.map_or_else(|| "as wanted".to_owned(), |link| link.says.clone());
        let advice = first.and_then(|link| link.advice.clone());
        Self { name, node, well, summary, advice, chain: chain.links }
    }
}

impl Explanation {
    fn of(kind: &str, part: Part, parts: Vec<Part>) -> Self {
        let Part { name, well, summary, advice, chain, .. } = part;
        let more = u32::try_from(parts.len().saturating_sub(MAX_PARTS)).unwrap_or(u32::MAX);
        let parts = parts.into_iter().take(MAX_PARTS).collect();
        Self { name, kind: kind.to_owned(), well, summary, advice, chain, parts, more }
    }

    /// An instance alone.
    #[must_use]
    pub fn of_instance(part: Part) -> Self {
        Self::of("instance", part, Vec::new())
    }
}
