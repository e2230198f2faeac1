//! What nodes would fetch for a plan: those that can be reached are asked.
//!
//! A node answers for all of its images at once; it knows what it has, and asks a registry for
//! documents only.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use limpet_protocol::call::{CallIn, CallOut, Lacking};
use limpet_protocol::id::NodeId;
use limpet_protocol::limits::MAX_IMAGES_ASKED;
use limpet_protocol::spec::ImageSource;

use super::Api;
use super::call::Call;
use crate::preview::{ImagePull, NodePull, Pulls};

/// Nodes that one plan asks.
const MAX_NODES_ASKED: usize = 64;
/// How many of them at a time.
const NODES_AT_ONCE: usize = 16;
/// How long a node may take: a registry may be slow, or not there at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What each node would fetch, in the order of their names.
pub(super) async fn pulls(api: &Api, wanted: Pulls) -> Vec<NodePull> {
    let asked = wanted.into_iter().enumerate().map(|(index, (node, images))| async move {
        let answer = if index < MAX_NODES_ASKED {
            let answer = tokio::time::timeout(ANSWER_LIMIT, ask(api, &node, &images)).await;
            answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
        } else {
            Err(format!("not asked: one plan asks {MAX_NODES_ASKED} nodes"))
        };
        told(&node, &images, answer)
    });
    let mut pulls: Vec<NodePull> =
        stream::iter(asked).buffer_unordered(NODES_AT_ONCE).collect().await;
    pulls.sort_by(|a, b| a.node.cmp(&b.node));
    pulls
}

async fn ask(api: &Api, node: &NodeId, images: &[ImageSource]) -> Result<Vec<Lacking>, String> {
    let is_ready = {
        let view = api.control.view.borrow();
        view.nodes.iter().any(|it| it.node == node.as_str() && it.status == "ready")
    };
    if !is_ready {
        return Err("it cannot be reached".to_owned());
    }
    let images = images.iter().take(MAX_IMAGES_ASKED).cloned().collect();
    let call = Call::open(api, node.clone(), CallIn::Missing { images }, false).await;
    let mut call = call.map_err(|error| error.body.message)?;
    loop {
        match call.receive().await? {
            CallOut::Missing(answers) => return Ok(answers),
            CallOut::End { error, .. } => {
                return Err(error.unwrap_or_else(|| "it did not say".to_owned()));
            }
            _ => {}
        }
    }
}

fn told(node: &NodeId, images: &[ImageSource], answer: Result<Vec<Lacking>, String>) -> NodePull {
    let of = |index: usize| match &answer {
        Ok(answers) => match answers.get(index) {
            Some(Lacking { bytes, error }) => (*bytes, error.clone()),
            None => (None, Some("it did not say".to_owned())),
        },
        Err(why) => (None, Some(why.clone())),
    };
    let images: Vec<ImagePull> = images
        .iter()
        .enumerate()
        .map(|(index, image)| {
            let (bytes, unknown) = of(index);
            ImagePull { image: image.reference.clone(), bytes, unknown }
        })
        .collect();
    let bytes = images
        .iter()
        .map(|image| image.bytes)
        .try_fold(0_u64, |sum, bytes| bytes.map(|bytes| sum.saturating_add(bytes)));
    NodePull { node: node.to_string(), bytes, images }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_image_makes_the_sum_unknown() {
        let node: NodeId = "n1".parse().unwrap();
        let images = [ImageSource::new("a"), ImageSource::new("b")];
        let lacking = |bytes| Lacking { bytes, error: None };
        let all = told(&node, &images, Ok(vec![lacking(Some(5)), lacking(Some(7))]));
        assert_eq!(all.bytes, Some(12));
        let short = told(&node, &images, Ok(vec![lacking(Some(5))]));
        assert_eq!((short.bytes, short.images[0].bytes), (None, Some(5)));
        assert_eq!(short.images[1].unknown.as_deref(), Some("it did not say"));
        let away = told(&node, &images, Err("it cannot be reached".into()));
        assert_eq!(away.images[1].unknown.as_deref(), Some("it cannot be reached"));
    }
}
