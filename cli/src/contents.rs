//! The configs and secrets of a project, on their way to the controller.
//!
//! In: where the project says that they are. Out: an application whose mounts name what the
//! controller has. Contents are read here and sent; they are never printed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use limpet_compose::{ContentFrom, ContentKind, Project};
use limpet_protocol::application::Application;
use limpet_protocol::id::ContentId;
use limpet_protocol::limits::MAX_CONTENT_BYTES;
use limpet_seal::Secret;

use crate::client::Client;

/// Whether the controller keeps what it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For the application that names it next.
    Yes,
    /// It only says which id it would have.
    No,
}

/// A content as it is given to the controller, or the name under which it is there.
enum Given {
    Here(Secret),
    There(String),
}

/// Lets an application name its configs and secrets.
///
/// # Errors
/// If a file cannot be read, a content is too large, or the controller does not have a name.
pub async fn resolve(
    project: &Project,
    application: &mut Application,
    keep: Keep,
    client: &Client,
) -> anyhow::Result<()> {
    for source in project.contents() {
        let (kind, name) = (source.kind, &source.name);
        let id = match read(kind, name, &source.from)? {
            Given::Here(content) => {
                let uploaded = client.upload_content(kind, content.expose().to_vec(), keep);
                uploaded.await.with_context(|| format!("send {kind} {name}"))?.id
            }
            Given::There(known) => client.content(kind, &known).await?.id,
        };
        let id = id.parse().with_context(|| format!("read the id of {kind} {name}"))?;
        fill(application, (kind, name), id);
    }
    Ok(())
}

fn read(kind: ContentKind, name: &str, from: &ContentFrom) -> anyhow::Result<Given> {
    Ok(match from {
        ContentFrom::External(known) => Given::There(known.to_string()),
        ContentFrom::Text(text) => Given::Here(Secret::new(text.expose().as_bytes().to_vec())),
        ContentFrom::File(path) => {
            let content = read_file(path).with_context(|| format!("{kind} {name}"))?;
            Given::Here(content)
        }
    })
}

/// The bytes of a file that is to be a config or secret.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_file(path: &Path) -> anyhow::Result<Secret> {
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    read_all(file, &path.display().to_string())
}

/// All bytes of a source that are to be a config or secret.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_all(source: impl std::io::Read, what: &str) -> anyhow::Result<Secret> {
    let mut bytes = Vec::new();
    let most = MAX_CONTENT_BYTES as u64;
    let read = source.take(most + 1).read_to_end(&mut bytes);
    let content = Secret::new(bytes);
    read.with_context(|| format!("read {what}"))?;
    if content.expose().len() > MAX_CONTENT_BYTES {
        bail!(
            "{what} has more than {most} bytes, which is what one message to a node holds; put it \
             into the image, or into a volume or a folder of the node"
        );
    }
    Ok(content)
}

fn fill(application: &mut Application, (kind, name): (ContentKind, &str), id: ContentId) {
    for service in application.services.values_mut() {
        let mounts = match kind {
            ContentKind::Config => &mut service.spec.configs,
            ContentKind::Secret => &mut service.spec.secrets,
        };
        for mount in mounts.iter_mut().filter(|mount| mount.name == name) {
            mount.content = id;
        }
    }
}
