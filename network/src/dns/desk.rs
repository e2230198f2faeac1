//! Where each question comes by: what is known is answered, the rest is forwarded within bounds.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use super::message::{Code, EDNS_UDP_BYTES, MAX_QUERY_BYTES, Query, Unanswerable};
use super::outstanding::{Outstanding, Permit};
use super::upstream::{Servers, Upstreams};
use crate::names::{Answer, Names};

/// What all parts of a server share.
#[derive(Debug)]
pub(super) struct Desk {
    names: watch::Receiver<Arc<Names>>,
    upstreams: Upstreams,
    outstanding: Arc<Outstanding>,
    turn: AtomicU32,
}

/// What is done with a question.
#[derive(Debug)]
pub(super) enum Handled {
    /// Nothing: it is none.
    Ignore,
    /// This is answered.
    Reply(Vec<u8>),
    /// Another server is asked.
    Forward(Forward),
}

/// A question on its way to another server.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) query: Arc<Query>,
    bytes: Vec<u8>,
    servers: Arc<Servers>,
    permit: Permit,
}

impl Desk {
    pub(super) fn new(
        names: watch::Receiver<Arc<Names>>,
        resolv_conf: PathBuf,
        own: Vec<SocketAddr>,
    ) -> Self {
        Self {
            names,
            upstreams: Upstreams::new(resolv_conf, own),
            outstanding: Arc::default(),
            turn: AtomicU32::new(0),
        }
    }

    /// Answers a question or says that it is to be forwarded. `limit` is how long an answer may be; none
    /// is what fits into a packet.
    pub(super) fn handle(&self, from: IpAddr, bytes: &[u8], limit: Option<usize>) -> Handled {
        if bytes.len() > MAX_QUERY_BYTES {
            return Handled::Ignore;
        }
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Unanswerable::Ignore) => return Handled::Ignore,
            Err(Unanswerable::Reply(reply)) => return Handled::Reply(reply),
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let answer = self.names.borrow().answer(from, &query.name, query.kind, turn);
        let limit = || limit.unwrap_or_else(|| query.udp_limit().min(EDNS_UDP_BYTES.into()));
        Handled::Reply(match answer {
            Answer::Addresses(addresses) => query.reply_addresses(&addresses, limit()),
            Answer::Name(name) => query.reply_name(&name),
            Answer::NoSuchName => query.reply(Code::NoSuchName),
            Answer::NoData => query.reply(Code::NoError),
            Answer::Refused => query.reply(Code::Refused),
            Answer::Forward => match self.outstanding.enter(from) {
                Some(permit) => {
                    let servers = match self.names.borrow().name_servers(from) {
                        [] => self.upstreams.servers(),
                        own => Arc::new(Servers::of(own)),
                    };
                    let bytes = bytes.to_vec();
                    let query = Arc::new(query);
                    return Handled::Forward(Forward { query, bytes, servers, permit });
                }
                None => query.reply(Code::ServerFailure),
            },
        })
    }
}

impl Forward {
    /// Asks, and makes an answer of at most `limit` bytes.
    pub(super) async fn ask(self, limit: usize) -> Vec<u8> {
        let answer = self.servers.ask(&self.query, &self.bytes).await;
        drop(self.permit);
        match answer {
            Some(answer) if answer.len() <= limit => answer,
            Some(_) => self.query.reply_cut_off(),
            None => self.query.reply(Code::ServerFailure),
        }
    }
}
