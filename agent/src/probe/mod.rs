//! Probe: does one check of one container.
//!
//! In: what is to be done, whose network it is done in, how long it may take. Out: an [`Outcome`],
//! always, and never later than the time-out. [`crate::health`] says when and what follows.
//!
//! A connection is made from within the container's network namespace, to its loopback device: a
//! short-lived thread of its own moves there, makes the socket and ends; the socket stays there and
//! is used like any other. So a probe needs no route to the container and no other can meet it.
//! A command is run in the container by the runtime; [`command`] makes sense of it.

mod body;
pub mod command;
mod http;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::health::Outcome;

pub use socket::Network;

/// A check over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A connection can be made.
    Tcp,
    /// `GET` is answered with a status of 200 to 399.
    Http {
        /// Path and query.
        path: String,
        /// Further headers.
        headers: BTreeMap<String, String>,
    },
}

/// Asks a port of a container.
pub async fn ask(network: Network, port: u16, question: Question, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, ask_for_ever(network, port, &question)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failed(format!("port {port} did not answer within {timeout:?}")),
    }
}

/// What a port of a container answers to a `GET` of a path, with a status of 200; otherwise a sentence.
///
/// # Errors
/// It did not answer in time, or otherwise.
pub async fn fetch(
    network: Network,
    port: u16,
    path: &str,
    timeout: Duration,
) -> Result<String, String> {
    let fetch = async {
        let stream = match socket::connect(network, port).await {
            Ok(stream) => stream,
            Err(socket::ConnectError::Namespace(error)) => {
                return Err(format!("enter the network of the container: {error}"));
            }
            Err(socket::ConnectError::Connect(error)) => {
                return Err(format!("connect to port {port}: {}", plain(&error)));
            }
        };
        let body = body::get(stream, port, path).await;
        body.map_err(|error| format!("GET {path} on port {port}: {}", plain(&error)))
    };
    let late = |_| Err(format!("port {port} did not answer within {timeout:?}"));
    tokio::time::timeout(timeout, fetch).await.unwrap_or_else(late)
}

async fn ask_for_ever(network: Network, port: u16, question: &Question) -> Outcome {
    let stream = match socket::connect(network, port).await {
        Ok(stream) => stream,
        Err(socket::ConnectError::Namespace(error)) => {
            return Outcome::NotMade(format!("enter the network of the container: {error}"));
        }
        Err(socket::ConnectError::Connect(error)) => {
            return Outcome::Failed(format!("connect to port {port}: {}", plain(&error)));
        }
    };
    let Question::Http { path, headers } = question else { return Outcome::Passed };
    match http::get(stream, port, path, headers).await {
        Ok(status) if (200..400).contains(&status.code) => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("GET {path} on port {port}: {}", status.line)),
        Err(error) => Outcome::Failed(format!("GET {path} on port {port}: {}", plain(&error))),
    }
}

/// An error without the number that the operating system has for it.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed without an answer".to_owned(),
        _ => error.to_string(),
    }
}
