//! Asking the control loop, within a time.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Api;
use super::error::ApiError;
use crate::control_loop::Request;

/// How long the control loop may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Asks the control loop: `request` makes the question around the channel of its answer.
pub(super) async fn ask<T>(
    api: &Api,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, ApiError> {
    let (answer, answered) = oneshot::channel();
    let busy = || ApiError::unavailable("the controller is busy: try again");
    let asked = async {
        api.control.requests.send(request(answer)).await.map_err(|_| busy())?;
        answered.await.map_err(|_| busy())
    };
    tokio::time::timeout(ANSWER_LIMIT, asked).await.map_err(|_| busy())?
}
