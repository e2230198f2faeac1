//! The client's questions about rollouts and earlier revisions.

use limpet_controller::api::types::{
    List, RevisionView, RolloutOutcome, RolloutRequest, ServiceRolloutView,
};
use reqwest::Method;

use super::{ANSWER_TIMEOUT, Client, Result};

impl Client {
    /// How far the rollouts of an application are.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn rollouts(&self, name: &str) -> Result<List<ServiceRolloutView>> {
        self.get(&["v1", "applications", name, "rollout"], &[]).await
    }

    /// The revisions of an application that are kept, the newest first.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn rollout_history(&self, name: &str) -> Result<List<RevisionView>> {
        self.get(&["v1", "applications", name, "rollout", "history"], &[]).await
    }

    /// Pauses, resumes or undoes.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is no such application, service or revision,
    /// 409 if there is nothing to pause or resume.
    pub async fn order_rollout(
        &self,
        name: &str,
        order: &RolloutRequest,
    ) -> Result<RolloutOutcome> {
        let path = ["v1", "applications", name, "rollout"];
        let request = self.request(Method::POST, &path, &[]).json(order);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }
}
