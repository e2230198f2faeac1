//! Looking into instances: output, commands, files, what they use.

use futures_util::{Stream, StreamExt as _};
use limpet_controller::api::frames;
use limpet_controller::api::types::{ExecRequest, LoadList, LogLine};
use reqwest::{Method, StatusCode};

use super::{Client, ClientError, Result, read_json};

/// Which part of an instance's output.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogsPart {
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// What follows too.
    pub follow: bool,
    /// Only what was written from then on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// With the time of each line.
    pub timestamps: bool,
}

impl Client {
    /// The output of one instance, and what follows if asked.
    ///
    /// # Errors
    /// See [`ClientError`]; also as an item, when the connection breaks.
    pub async fn logs(
        &self,
        instance: &str,
        part: &LogsPart,
    ) -> Result<impl Stream<Item = Result<LogLine>> + use<>> {
        let mut query = vec![("follow", part.follow.to_string())];
        query.push(("timestamps", part.timestamps.to_string()));
        query.extend(part.tail.map(|lines| ("tail", lines.to_string())));
        query.extend(part.since_ms.map(|ms| ("since_ms", ms.to_string())));
        let request = self.request(Method::GET, &["v1", "instances", instance, "logs"], &query);
        let lines = self.lines(self.send(request).await?);
        let server = self.connection.server.clone();
        Ok(lines
            .filter(|line| std::future::ready(!matches!(line, Ok(line) if line.is_empty())))
            .map(move |line| line.and_then(|line| read_json(line.as_bytes(), &server))))
    }

    /// Runs a command in an instance; the connection carries frames from then on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exec(&self, instance: &str, command: &ExecRequest) -> Result<reqwest::Upgraded> {
        use reqwest::header::{CONNECTION, UPGRADE};
        let request = self
            .request(Method::POST, &["v1", "instances", instance, "exec"], &[])
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, frames::UPGRADE)
            .json(command);
        let response = self.send(request).await?;
        let server = || self.connection.server.clone();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let what = response.status().to_string();
            return Err(ClientError::NotAController { server: server(), what });
        }
        let broken = |cause| ClientError::Broken { server: server(), cause };
        response.upgrade().await.map_err(broken)
    }

    /// A file or folder of an instance as a tar stream.
    ///
    /// # Errors
    /// See [`ClientError`]; also as an item, when the copy breaks off.
    pub async fn files(
        &self,
        instance: &str,
        path: &str,
    ) -> Result<impl Stream<Item = Result<bytes::Bytes>> + use<>> {
        let query = [("path", path.to_owned())];
        let request = self.request(Method::GET, &["v1", "instances", instance, "files"], &query);
        let chunks = self.send(request).await?.bytes_stream();
        let server = self.connection.server.clone();
        let broken = move |cause| ClientError::Broken { server: server.clone(), cause };
        Ok(chunks.map(move |chunk| chunk.map_err(&broken)))
    }

    /// Writes a tar stream into an instance.
    ///
    /// # Errors
    /// [`ClientError::Answer`] with status 400 if it cannot be written there.
    pub async fn put_files(
        &self,
        instance: &str,
        path: &str,
        contents: bool,
        tar: reqwest::Body,
    ) -> Result<()> {
        let query = [("path", path.to_owned()), ("contents", contents.to_string())];
        let request = self
            .request(Method::PUT, &["v1", "instances", instance, "files"], &query)
            .header(reqwest::header::CONTENT_TYPE, "application/x-tar")
            .body(tar);
        self.send(request).await.map(drop)
    }

    /// What the instances on these nodes use now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn load(&self, nodes: &[&str]) -> Result<LoadList> {
        self.get(&["v1", "load"], &[("nodes", nodes.join(","))]).await
    }
}
