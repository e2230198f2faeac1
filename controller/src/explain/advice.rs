//! What to do about it: one sentence for each cause that the controller can tell.

use limpet_protocol::report::Exit;

use crate::plan::filter::Misfit;

/// About a slot without a node, by what keeps most nodes from taking it.
pub(super) fn on_placement(misfits: &[Misfit]) -> &'static str {
    let mut kinds: Vec<(usize, &'static str)> = Vec::new();
    for misfit in misfits {
        let advice = on_misfit(misfit);
        match kinds.iter_mut().find(|(_, known)| *known == advice) {
            Some((count, _)) => *count += 1,
            None => kinds.push((1, advice)),
        }
    }
    let most = kinds.into_iter().max_by_key(|(count, _)| *count);
    most.map_or(
        "join a node: `limpet token create`, then `limpet agent` on the machine",
        |(_, it)| it,
    )
}

fn on_misfit(misfit: &Misfit) -> &'static str {
    match misfit {
        Misfit::Lost => "bring the lost nodes back, or join others",
        Misfit::Paused => "let it take work again: `limpet node uncordon NODE`, or join others",
        Misfit::Drained => "let it have work again: `limpet node uncordon NODE`, or join others",
        Misfit::Device(_) => "plug the device into a node, or join one that has it",
        Misfit::Address => {
            "join more nodes, or give the controller a larger pool: `--network-pool`, `--network-node-prefix`"
        }
        Misfit::Port(..) => "publish another port or a range, or join more nodes",
        Misfit::Constraint(_) => {
            "give a node the label (`limpet node label NODE KEY=VALUE`) or change deploy.placement.constraints"
        }
        Misfit::Platform => "use an image for the platform of the nodes, or leave `platform` out",
        Misfit::Full => "join more nodes",
        Misfit::MaxPerNode => "join more nodes, or raise deploy.placement.max_replicas_per_node",
        Misfit::Memory(_) | Misfit::Cpu(_) => {
            "lower deploy.resources.reservations, remove what else runs there, or join a larger node"
        }
    }
}

/// About an image that cannot be had.
pub(super) const ON_IMAGE: &str = "check the image's name and that the node reaches its registry; \
    an image of the controller's own needs none: `docker save IMAGE | limpet image load -`";

/// About an instance whose node has no part of the pool.
pub(super) const ON_ADDRESSES: &str = "give the controller a larger pool: `--network-pool`, \
    `--network-node-prefix`; or remove nodes that are gone: `limpet node rm`";

/// About a node that does not reach another.
pub(super) fn on_unreachable(node: &str) -> String {
    format!(
        "let UDP through between the two: `limpet node inspect {node}` shows where they listen, and the \
         agent's option mesh-endpoints names an address that others reach"
    )
}

/// About a node that cannot be heard.
pub(super) fn on_contact(node: &str) -> String {
    format!(
        "check power and network of {node}, and `limpet-agent` on it; what it runs goes on meanwhile"
    )
}

/// About a container that ended or could not be made.
pub(super) fn on_end(instance: &str, exit: Option<Exit>) -> String {
    if exit.is_some_and(|exit| exit.out_of_memory) {
        return "raise deploy.resources.limits.memory, or find what the memory goes to".to_owned();
    }
    format!("read its last words: `limpet logs {instance} --tail 50`")
}
