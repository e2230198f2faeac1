//! The controller's API as the verbs use it: one method for each question.
//!
//! HTTP only, only to the configured server, and never through a proxy of the environment: the
//! usual server is this machine. Errors say where the command looked and what to do.

mod contents;
mod inside;
mod rollouts;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use limpet_controller::api::inspect::InspectView;
use limpet_controller::api::types::{
    ApplicationPatch, ApplicationView, ApplyOutcome, ErrorBody, EventView, ImageView, InstanceView,
    List, NodeOutcome, NodePatch, NodeView, TokenRequest, TokenView, VersionView,
};
use limpet_controller::explain::Explanation;
use limpet_controller::preview::PlanView;
use limpet_protocol::application::Application;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::connection::{Connection, Source};
use crate::exit::Code;

pub use inside::LogsPart;

/// How long a connection may take to be made: the controller is near, or it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a plain question may take. Streams and uploads have no such limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest line of a stream: a log line is cut by the controller far below this.
const MAX_STREAM_LINE_BYTES: usize = 1024 * 1024;

/// What went wrong between here and the controller.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("the controller's address {server:?} (from {found}) is not usable: {why}")]
    BadAddress {
        /// As written.
        server: String,
        /// Who said so.
        found: Source,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answers there.
    #[error(
        "cannot reach the controller at {server} (from {found})\n  \
         start one here with `sudo limpet up`, or say where it is: --server URL or LIMPET_SERVER"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// Who said so.
        found: Source,
        /// What the network said.
        #[source]
        cause: reqwest::Error,
    },
    /// The token is not good, or there is none.
    #[error("the controller at {server} refused the token: {}", token_advice(.token, .looked_in))]
    Refused {
        /// Where.
        server: String,
        /// Who gave the token; none if there was none to give.
        token: Option<Source>,
        /// Files that could have given one.
        looked_in: Vec<PathBuf>,
    },
    /// The controller says no.
    #[error("{}", .body.message)]
    Answer {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        body: ErrorBody,
    },
    /// The answer is not what a controller says.
    #[error("what answers at {server} does not speak as a controller of Limpet does ({what})")]
    NotAController {
        /// Where.
        server: String,
        /// What it answered.
        what: String,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to the controller at {server} broke")]
    Broken {
        /// Where.
        server: String,
        /// What the network said.
        #[source]
        cause: reqwest::Error,
    },
}

impl ClientError {
    /// The exit code that says it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::BadAddress { .. } => Code::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } => Code::Unreachable,
            Self::Refused { .. } => Code::Refused,
            Self::NotAController { .. } => Code::Failed,
            Self::Answer { status, .. } => match status.as_u16() {
                401 | 403 => Code::Refused,
                404 => Code::NotFound,
                409 | 412 => Code::Conflict,
                _ => Code::Failed,
            },
        }
    }
}

fn token_advice(token: &Option<Source>, looked_in: &[PathBuf]) -> String {
    let files: Vec<String> = looked_in.iter().map(|path| path.display().to_string()).collect();
    match token {
        Some(source) => format!(
            "the one from {source} is not valid there\n  \
             make a new one where the controller runs: sudo limpet token create --admin"
        ),
        None => format!(
            "there is none in --token, LIMPET_TOKEN, {}\n  \
             use `sudo` on the controller's machine, or make one there: sudo limpet token create --admin",
            files.join(", ")
        ),
    }
}

type Result<T> = std::result::Result<T, ClientError>;

/// A controller, as seen from here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    connection: Connection,
}

impl Client {
    /// A client for this connection; nothing is sent yet.
    ///
    /// # Errors
    /// If the address is not an `http://` URL.
    pub fn new(connection: Connection) -> Result<Self> {
        let bad = |why: String| ClientError::BadAddress {
            server: connection.server.clone(),
            found: connection.server_source.clone(),
            why,
        };
        let base = Url::parse(&connection.server).map_err(|error| bad(error.to_string()))?;
        if base.scheme() != "http" {
            return Err(bad("it must begin with http:// (HTTPS is not built in yet)".into()));
        }
        // The HTTP library wants one even though nothing here is encrypted; a second call changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self { http, base, connection })
    }

    /// Where it is.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.connection.server
    }

    /// Which programs these are.
    ///
    /// # Errors
    /// As for every question: see [`ClientError`].
    pub async fn version(&self) -> Result<VersionView> {
        self.get(&["v1", "version"], &[]).await
    }

    /// Applies an application, if the controller's revision of it is the given one.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 409 if it is not.
    pub async fn apply(
        &self,
        application: &Application,
        if_revision: Option<u64>,
    ) -> Result<ApplyOutcome> {
        let query = if_revision.map(|revision| ("if_revision", revision.to_string()));
        let path = ["v1", "applications", application.name.as_str()];
        let request = self.request(Method::PUT, &path, query.as_slice()).json(application);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// What an apply would do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn plan(&self, application: &Application) -> Result<PlanView> {
        let request = self.request(Method::POST, &["v1", "plan"], &[]).json(application);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// Changes single services of an application.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is no such application or service.
    pub async fn change(&self, name: &str, change: &ApplicationPatch) -> Result<ApplyOutcome> {
        let request = self.request(Method::PATCH, &["v1", "applications", name], &[]).json(change);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// All applications.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn applications(&self) -> Result<List<ApplicationView>> {
        self.get(&["v1", "applications"], &[]).await
    }

    /// One application.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn application(&self, name: &str) -> Result<ApplicationView> {
        self.get(&["v1", "applications", name], &[]).await
    }

    /// Removes an application.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn remove(&self, name: &str) -> Result<ApplyOutcome> {
        let request = self.request(Method::DELETE, &["v1", "applications", name], &[]);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// Instances, those of one application if one is named.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn instances(&self, application: Option<&str>) -> Result<List<InstanceView>> {
        let query = application.map(|name| ("application", name.to_owned()));
        self.get(&["v1", "instances"], query.as_slice()).await
    }

    /// Why something is as it is.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is nothing of that name.
    pub async fn explain(&self, name: &str, kind: Option<&str>) -> Result<Explanation> {
        let query = kind.map(|kind| ("kind", kind.to_owned()));
        self.get(&["v1", "explain", name], query.as_slice()).await
    }

    /// Everything that is known of one thing.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is nothing of that name.
    pub async fn inspect(&self, name: &str, kind: Option<&str>) -> Result<InspectView> {
        let query = kind.map(|kind| ("kind", kind.to_owned()));
        self.get(&["v1", "inspect", name], query.as_slice()).await
    }

    /// Nodes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn nodes(&self) -> Result<List<NodeView>> {
        self.get(&["v1", "nodes"], &[]).await
    }

    /// One node.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name.
    pub async fn node(&self, name: &str) -> Result<NodeView> {
        self.get(&["v1", "nodes", name], &[]).await
    }

    /// Changes a node's labels, or whether it takes work.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that name, 400 if a label is none.
    pub async fn change_node(&self, name: &str, patch: &NodePatch) -> Result<NodeOutcome> {
        let request = self.request(Method::PATCH, &["v1", "nodes", name], &[]).json(patch);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 409 if it is ready and that is not forced.
    pub async fn remove_node(&self, name: &str, force: bool) -> Result<NodeOutcome> {
        let query = [("force", force.to_string())];
        let request = self.request(Method::DELETE, &["v1", "nodes", name], &query);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// Events after the one with the given id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, since: u64) -> Result<List<EventView>> {
        self.get(&["v1", "events"], &[("since", since.to_string())]).await
    }

    /// Events after the one with the given id, and then those that happen, without end.
    ///
    /// # Errors
    /// See [`ClientError`]; also as an item, when the connection breaks.
    pub async fn follow_events(
        &self,
        since: u64,
    ) -> Result<impl Stream<Item = Result<EventView>> + use<>> {
        let request = self
            .request(Method::GET, &["v1", "events"], &[("since", since.to_string())])
            .header(reqwest::header::ACCEPT, "text/event-stream");
        let lines = self.lines(self.send(request).await?);
        let server = self.connection.server.clone();
        Ok(lines.filter_map(move |line| {
            let event = match line {
                Ok(line) => line
                    .strip_prefix("data:")
                    .map(|data| read_json(data.trim_start().as_bytes(), &server)),
                Err(error) => Some(Err(error)),
            };
            std::future::ready(event)
        }))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_token(&self, token: &TokenRequest) -> Result<TokenView> {
        let request = self.request(Method::POST, &["v1", "tokens"], &[]).json(token);
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// All tokens, without the tokens themselves.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tokens(&self) -> Result<List<TokenView>> {
        self.get(&["v1", "tokens"], &[]).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if there is none of that id.
    pub async fn remove_token(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["v1", "tokens", id], &[]);
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Gives the controller an image archive.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 400 if it is none, 413 if it is too large.
    pub async fn load_image(&self, archive: reqwest::Body) -> Result<List<ImageView>> {
        let request = self
            .request(Method::POST, &["v1", "images"], &[])
            .header(reqwest::header::CONTENT_TYPE, "application/x-tar")
            .body(archive);
        self.answer(request).await
    }

    /// The images that the controller has.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn images(&self) -> Result<List<ImageView>> {
        self.get(&["v1", "images"], &[]).await
    }

    /// Removes an image from the controller.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 404 if it has none of that digest.
    pub async fn remove_image(&self, digest: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["v1", "images", digest], &[]);
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        self.answer(self.request(Method::GET, path, query).timeout(ANSWER_TIMEOUT)).await
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Fails only for URLs that cannot have a path; one that begins with http:// can.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.connection.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let body = self.send(request).await?.bytes().await;
        let server = &self.connection.server;
        let broken = |cause| ClientError::Broken { server: server.clone(), cause };
        read_json(&body.map_err(broken)?, server)
    }

    /// Sends, and turns every answer that is not a success into its error.
    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let server = || self.connection.server.clone();
        let response = request.send().await.map_err(|cause| ClientError::Unreachable {
            server: server(),
            found: self.connection.server_source.clone(),
            cause,
        })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            let token = self.connection.token.as_ref();
            return Err(ClientError::Refused {
                server: server(),
                token: token.map(|_| self.connection.token_source.clone()),
                looked_in: self.connection.looked_in.clone(),
            });
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(ClientError::Answer { status, body }),
            Err(_) => {
                Err(ClientError::NotAController { server: server(), what: status.to_string() })
            }
        }
    }

    /// The lines of an answer that has no end of its own.
    fn lines(&self, response: Response) -> impl Stream<Item = Result<String>> + use<> {
        let server = self.connection.server.clone();
        let chunks = response.bytes_stream().map(std::io::Result::Ok);
        let read = chunks.map(move |chunk| {
            chunk.and_then(|chunk: reqwest::Result<bytes::Bytes>| {
                chunk.map_err(std::io::Error::other)
            })
        });
        let lines = tokio_util::codec::FramedRead::new(
            tokio_util::io::StreamReader::new(read),
            tokio_util::codec::LinesCodec::new_with_max_length(MAX_STREAM_LINE_BYTES),
        );
        lines.map(move |line| line.map_err(|error| broken_line(error, &server)))
    }
}

fn broken_line(error: tokio_util::codec::LinesCodecError, server: &str) -> ClientError {
    let server = server.to_owned();
    let tokio_util::codec::LinesCodecError::Io(error) = error else {
        return ClientError::NotAController { server, what: "a line without end".into() };
    };
    let cause = error.into_inner().and_then(|cause| cause.downcast::<reqwest::Error>().ok());
    match cause {
        Some(cause) => ClientError::Broken { server, cause: *cause },
        None => ClientError::NotAController { server, what: "bytes that are not text".into() },
    }
}

fn read_json<T: DeserializeOwned>(bytes: &[u8], server: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::NotAController {
        server: server.to_owned(),
        what: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
