//! Calling: what callers ask of the loop, and the tasks that answer them.

use std::time::Duration;

use bytes::Bytes;
use limpet_protocol::call::{CallIn, CallOut, Lacking};
use limpet_protocol::codec;
use limpet_protocol::id::SessionId;
use limpet_protocol::spec::ImageSource;

use super::checks::own_network;
use super::{ControlLoop, Images, Job};
use crate::calls::exec::ExecTask;
use crate::calls::{Answer, Heard};
use crate::load::{node, usage};
use crate::report::bounded;
use crate::runtime::{ContainerId, ExecId, Runtime};
use crate::signal::SIGHUP;

/// How long a command may take to end once its caller has hung up.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    pub(super) fn call(&mut self, session: &SessionId, payload: &Bytes) {
        let message = match codec::decode::<CallIn>(payload) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!("a call cannot be read: {error}");
                let version = env!("CARGO_PKG_VERSION");
                let reason = format!(
                    "the agent of this node (version {version}) does not know that kind of call; \
                     update the agent"
                );
                let message = CallOut::end(Some(reason));
                return self.answer(Answer { session: session.clone(), message });
            }
        };
        let observed = &self.observed;
        let heard = self.calls.hear(session, message, |instance| observed.newest(instance));
        let (paths, answers) = (self.paths.clone(), self.answers.0.clone());
        let ended = Job::CallEnded(session.clone());
        match heard {
            Heard::Done => {}
            Heard::Answer(message) => self.answer(Answer { session: session.clone(), message }),
            Heard::Logs(call) => {
                self.jobs.spawn(async move {
                    call.run(paths, answers).await;
                    ended
                });
            }
            Heard::Copy(call) => {
                self.jobs.spawn(async move {
                    call.run(paths, answers).await;
                    ended
                });
            }
            Heard::Exec(task) => self.begin_exec(*task),
            Heard::Signal(exec, number) => self.kill_exec(exec, number),
            Heard::Missing(images) => self.count_missing(session.clone(), images),
            Heard::Scales => {
                let scales = self.scaling.scales.reports();
                for message in [CallOut::Scales(scales), CallOut::end(None)] {
                    self.answer(Answer { session: session.clone(), message });
                }
            }
            Heard::Node => {
                let load = Box::new(node::now(&self.paths));
                for message in [CallOut::Node(load), CallOut::end(None)] {
                    self.answer(Answer { session: session.clone(), message });
                }
            }
            Heard::Load => {
                let own = |id: &ContainerId| own_network(self.observed.container(id)?);
                let loads = usage::of_instances(&self.paths, own, self.clock.now_ms());
                for message in [CallOut::Load(loads), CallOut::end(None)] {
                    self.answer(Answer { session: session.clone(), message });
                }
            }
        }
        self.end_abandoned();
    }

    /// Tells a caller what would be fetched for images, one after the other.
    fn count_missing(&mut self, session: SessionId, images: Vec<ImageSource>) {
        let counts: Vec<_> = images.into_iter().map(|image| self.images.missing(image)).collect();
        let answers = self.answers.0.clone();
        self.jobs.spawn(async move {
            let mut told = Vec::with_capacity(counts.len());
            for count in counts {
                told.push(match count.await {
                    Ok(bytes) => Lacking { bytes: Some(bytes), error: None },
                    Err(error) => Lacking { bytes: None, error: Some(bounded(error)) },
                });
            }
            for message in [CallOut::Missing(told), CallOut::end(None)] {
                let answer = Answer { session: session.clone(), message };
                if answers.send(answer).await.is_err() {
                    tracing::debug!("the loop ended before a call");
                }
            }
            Job::Counted
        });
    }

    fn begin_exec(&mut self, mut task: ExecTask) {
        let session = task.session().clone();
        let Some(request) = task.take_request() else { return };
        match self.runtime.exec(request) {
            Ok(exec) => {
                self.calls.exec_began(&session, exec);
                let answers = self.answers.0.clone();
                self.jobs.spawn(async move {
                    task.run(answers).await;
                    Job::CallEnded(session)
                });
            }
            Err(error) => {
                self.calls.ended(&session);
                let message = CallOut::end(Some(error.to_string()));
                self.answer(Answer { session, message });
            }
        }
    }

    pub(super) fn kill_exec(&mut self, exec: ExecId, signal: i32) {
        if let Err(error) = self.runtime.kill_exec(exec, signal) {
            tracing::debug!("{error}");
        }
    }

    /// Ends what callers ran who are gone: it may end by itself at first.
    pub(super) fn end_abandoned(&mut self) {
        for exec in self.calls.take_abandoned() {
            self.kill_exec(exec, SIGHUP);
            self.jobs.spawn(async move {
                tokio::time::sleep(HANG_UP_GRACE).await;
                Job::HungUp(exec)
            });
        }
    }
}
