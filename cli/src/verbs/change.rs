//! What `scale`, `stop`, `start` and `restart` have in common: words to changes, changes to the
//! controller (one for each application, all or nothing), and the waiting afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use limpet_controller::api::types::{ApplicationPatch, ApplyOutcome, ServicePatch};
use limpet_protocol::id::ApplicationName;

use crate::client::{Client, ClientError};
use crate::targets::Target;
use crate::verbs::wait::{self, Awaited};
use crate::{duration, output};

/// `--wait` of a verb that changes something.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitArg {
    /// Return when it is so, or say why not; at most after DURATION [default: 5m]
    #[arg(
        long, value_name = "DURATION", value_parser = duration::parse,
        num_args = 0..=1, require_equals = true, default_missing_value = wait::DEFAULT_TIMEOUT,
    )]
    pub(crate) wait: Option<Duration>,
}

/// What is waited for after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The services are as wanted.
    Settled,
    /// Nothing of them is left.
    Gone,
}

/// The changes of a command line, by application.
#[derive(Debug, Default)]
pub struct Changes(BTreeMap<ApplicationName, ApplicationPatch>);

impl Changes {
    /// The same change for every word.
    #[must_use]
    pub fn of(targets: &[Target], change: &ServicePatch) -> Self {
        let mut changes = Self::default();
        for target in targets {
            changes.add(target, change.clone());
        }
        changes
    }

    /// One more; of two for the same word the later one counts.
    pub fn add(&mut self, target: &Target, change: ServicePatch) {
        let of_application = self.0.entry(target.application.clone()).or_default();
        match &target.service {
            Some(service) => {
                of_application.services.insert(service.to_string(), change);
            }
            None => of_application.every = Some(change),
        }
    }

    /// Makes the changes and tells of each: `did` says it of services that changed.
    ///
    /// # Errors
    /// If the controller refuses one, or it does not come to be in time.
    pub async fn make(
        self,
        did: &str,
        until: Until,
        wait: &WaitArg,
        client: &Client,
    ) -> anyhow::Result<()> {
        let mut made = Vec::new();
        for (application, change) in &self.0 {
            let outcome = match client.change(application.as_str(), change).await {
                Ok(outcome) => outcome,
                Err(error) => return Err(advised(error, application, change, client).await),
            };
            output::print(&told(did, change, &outcome))?;
            made.push((application, change, outcome));
        }
        let Some(timeout) = wait.wait else { return Ok(()) };
        for (application, change, outcome) in made {
            let revision = Some(outcome.revision);
            for target in targets(application, change) {
                let awaited = Awaited { target: &target, revision };
                match until {
                    Until::Settled => wait::until_settled(awaited, timeout, client).await?,
                    Until::Gone => wait::until_gone(awaited, timeout, client).await?,
                }
            }
        }
        Ok(())
    }
}

/// The words that a change was made of.
fn targets(application: &ApplicationName, change: &ApplicationPatch) -> Vec<Target> {
    if change.every.is_some() {
        return vec![Target::whole(application.clone())];
    }
    let services = change.services.keys().filter_map(|name| name.parse().ok());
    let one = |service| Target { application: application.clone(), service: Some(service) };
    services.map(one).collect()
}

/// A refusal with what the words could have meant instead, if they mean nothing.
async fn advised(
    error: ClientError,
    application: &ApplicationName,
    change: &ApplicationPatch,
    client: &Client,
) -> anyhow::Error {
    let unknown = matches!(&error, ClientError::Answer { status, .. } if status.as_u16() == 404);
    let error = anyhow::Error::from(error);
    if !unknown {
        return error;
    }
    // Without the list there is no advice, and the refusal alone says enough.
    let all = client.instances(None).await.map(|list| list.items).unwrap_or_default();
    let advice = targets(application, change).iter().find_map(|target| target.advice(&all));
    match advice {
        Some(advice) => error.context(advice),
        None => error,
    }
}

fn told(did: &str, change: &ApplicationPatch, outcome: &ApplyOutcome) -> String {
    let ApplyOutcome { application, revision, changed, unchanged, .. } = outcome;
    let meant = |name: &&String| change.every.is_some() || change.services.contains_key(*name);
    let mut text = String::new();
    for name in changed {
        text += &format!("{application}.{name} {did} (revision {revision})\n");
    }
    for name in unchanged.iter().filter(meant) {
        text += &format!("{application}.{name} is so already (revision {revision})\n");
    }
    text
}
