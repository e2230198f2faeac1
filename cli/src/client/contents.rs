//! The client's questions about configs and secrets.

use limpet_compose::ContentKind;
use limpet_controller::api::types::{ContentNameView, ContentView, List};
use reqwest::Method;

use super::{ANSWER_TIMEOUT, Client, Result};
use crate::contents::Keep;

impl Client {
    /// Shows the controller the content of a config or secret; gives its id.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 413 if it is too large.
    pub async fn upload_content(
        &self,
        kind: ContentKind,
        content: Vec<u8>,
        keep: Keep,
    ) -> Result<ContentView> {
        let query = [("keep", (keep == Keep::Yes).to_string())];
        let request = self.request(Method::POST, &["v1", kind.section()], &query);
        self.answer(request.body(content).timeout(ANSWER_TIMEOUT)).await
    }

    /// Gives the controller a config or secret under a name.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 409 if the name is taken and not to be replaced.
    pub async fn name_content(
        &self,
        kind: ContentKind,
        name: &str,
        content: Vec<u8>,
        replace: bool,
    ) -> Result<ContentView> {
        let query = [("replace", replace.to_string())];
        let request = self.request(Method::PUT, &["v1", kind.section(), name], &query);
        self.answer(request.body(content).timeout(ANSWER_TIMEOUT)).await
    }

    /// The configs or secrets that have names.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn contents(&self, kind: ContentKind) -> Result<List<ContentNameView>> {
        self.get(&["v1", kind.section()], &[]).await
    }

    /// A config or secret by its name; not what is in it.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn content(&self, kind: ContentKind, name: &str) -> Result<ContentNameView> {
        self.get(&["v1", kind.section(), name], &[]).await
    }

    /// Takes the name of a config or secret away.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn forget_content(&self, kind: ContentKind, name: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["v1", kind.section(), name], &[]);
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }
}
