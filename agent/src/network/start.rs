//! The network of a container that is about to start, and those that an earlier run of the agent made.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use limpet_network::addresses::Wish;
use limpet_network::datapath::Attach;
use limpet_network::picture::Addresses;
use limpet_protocol::id::{InstanceId, ServiceName};
use limpet_protocol::spec::Spec;

use super::On;
use super::draw::{Attached, Traits};
use crate::reconcile::Observed;
use crate::runtime::{ContainerId, ContainerNetwork};
use crate::start::chain;

/// The network of a container that is being made, or why it has none.
pub(super) type Starting = Result<OwnedFd, String>;

impl On {
    /// Makes the network of a container, once. Whether it is there now and was not before.
    pub(super) fn prepare(&mut self, id: &ContainerId, spec: &Spec) -> bool {
        if self.attached.contains_key(id) || self.starting.contains_key(id) {
            return false;
        }
        match self.attach(id, spec) {
            Ok((attached, namespace)) => {
                self.attached.insert(id.clone(), attached);
                self.starting.insert(id.clone(), Ok(namespace));
                true
            }
            Err(reason) => {
                self.starting.insert(id.clone(), Err(reason));
                false
            }
        }
    }

    fn attach(&mut self, id: &ContainerId, spec: &Spec) -> Result<(Attached, OwnedFd), String> {
        let node = self.node.as_mut().ok_or("the node has no addresses for networks any more")?;
        node.stand(&mut self.datapath)?;
        let owner = (id.instance.clone(), id.attempt);
        let addresses = node.book.take(&owner, wish(spec)).map_err(|error| chain(&error))?;
        let gateway = node.gateway;
        let attach = Attach { owner, addresses, gateway, bandwidth: spec.network.bandwidth };
        let prepared = match self.spare.take() {
            Some(spare) => Ok(spare),
            None => self.datapath.prepare(),
        };
        let made = prepared.and_then(|prepared| self.datapath.attach(prepared, &attach));
        match made {
            Ok(made) => {
                let traits = Some(Traits::of(spec));
                let attached = Attached { device: made.device, addresses, traits, ready: false };
                Ok((attached, made.namespace))
            }
            Err(error) => {
                node.give_back(id);
                Err(format!("its network could not be made: {}", chain(&error)))
            }
        }
    }

    pub(super) fn network_of(&mut self, id: &ContainerId) -> Result<ContainerNetwork, String> {
        let namespace = match self.starting.get(id) {
            Some(Ok(namespace)) => namespace.as_raw_fd(),
            Some(Err(_)) => {
                return match self.starting.remove(id) {
                    Some(Err(reason)) => Err(reason),
                    _ => Err("its network is gone".to_owned()),
                };
            }
            None => return Err("its network was not made".to_owned()),
        };
        let addresses = self.attached.get(id).map(|attached| attached.addresses);
        let gateway = self.node.as_ref().map(|node| node.gateway.v4);
        let (Some(addresses), Some(gateway)) = (addresses, gateway) else {
            return Err("its network is gone".to_owned());
        };
        Ok(ContainerNetwork {
            // Of this process: the keeper that joins it is another.
            namespace: PathBuf::from(format!("/proc/{}/fd/{namespace}", std::process::id())),
            addresses: all(&addresses),
            gateway: Some(IpAddr::V4(gateway)),
        })
    }

    /// Makes a namespace ahead, so that the next start need not wait for the kernel.
    pub(super) fn prepare_ahead(&mut self) {
        if self.spare.is_some() || self.problem.is_some() {
            return;
        }
        if self.node.as_ref().is_some_and(super::Node::stands) {
            match self.datapath.prepare() {
                Ok(prepared) => self.spare = Some(prepared),
                Err(error) => tracing::debug!("prepare a network ahead: {}", chain(&error)),
            }
        }
    }

    /// Takes over devices that are there. Those whose container is gone go with the next look.
    pub(super) fn adopt(&mut self) {
        match self.datapath.attached() {
            Ok(found) => {
                self.adopted = true;
                self.dirty = true;
                for device in found {
                    let (instance, attempt) = device.owner;
                    let id = ContainerId { instance, attempt };
                    let attached = Attached {
                        device: device.device,
                        addresses: device.addresses,
                        traits: None,
                        ready: false,
                    };
                    if let Some(node) = &mut self.node {
                        node.hold(&id, attached.addresses);
                    }
                    self.attached.insert(id, attached);
                }
            }
            Err(error) => {
                let why = chain(&error);
                tracing::warn!("look for devices of containers: {why}");
                self.problem = Some(format!("networks of containers stay as they were: {why}"));
            }
        }
    }
}

/// The addresses as a list.
pub(super) fn all(addresses: &Addresses) -> Vec<IpAddr> {
    std::iter::once(IpAddr::V4(addresses.v4)).chain(addresses.v6.map(IpAddr::V6)).collect()
}

/// Which addresses a spec asks for.
fn wish(spec: &Spec) -> Wish {
    let networks = spec.network.networks.values();
    Wish {
        v4: networks.clone().find_map(|it| it.ipv4_address),
        v6: networks.clone().find_map(|it| it.ipv6_address),
        six: networks.clone().any(|it| it.ipv6),
    }
}

/// The container whose network a container of `service`'s joiner shares, and its process.
pub(super) fn joined(
    id: &ContainerId,
    service: &ServiceName,
    observed: &Observed,
) -> Result<(ContainerId, u32), String> {
    let application = id.instance.application.clone();
    let other = InstanceId { application, service: service.clone(), slot: id.instance.slot };
    let newest = observed.newest(&other);
    let running = newest.and_then(|id| Some((id.clone(), observed.container(&id)?.pid?)));
    running.ok_or_else(|| format!("it shares the network of {other}, which does not run"))
}
