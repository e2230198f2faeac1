//! `limpet cp`: files from and to a container.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use super::exec::choose;
use crate::client::Client;
use crate::exit::Usage;
use crate::tree::{self, Owners};

/// Bytes between the thread that makes or unpacks a tar stream and the connection.
const PIPE_BYTES: usize = 64 * 1024;

/// Arguments of `limpet cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
As `docker cp`: an existing folder takes what is copied, any other path becomes its name; a source folder that ends
in `/.` means what is in it. `-` is a tar stream on standard input or output. Links are copied as links. What is
copied in belongs to root there, what is copied out to you here, with the modes that it has; -a keeps the numbers of
owners. The container needs neither a shell nor tar; it has to run.

Examples:
  limpet cp web:/etc/nginx/nginx.conf .
  limpet cp site/. shop.web.2:/srv/www
  limpet cp db:/var/lib/data - | gzip > data.tar.gz")]
pub struct CpArgs {
    /// Keep the owners of files
    #[arg(short, long)]
    archive: bool,
    /// A path here, SERVICE:PATH or INSTANCE:PATH, or -
    #[arg(value_name = "SOURCE")]
    from: String,
    /// The same; one of the two is in a container
    #[arg(value_name = "DESTINATION")]
    to: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Stream,
    Here(&'a Path),
    Container(&'a str, &'a str),
}

impl<'a> Place<'a> {
    fn of(word: &'a str) -> Self {
        if word == "-" {
            return Self::Stream;
        }
        match word.split_once(':') {
            Some((target, path))
                if !target.is_empty() && !target.contains('/') && !target.starts_with('.') =>
            {
                Self::Container(target, path)
            }
            _ => Self::Here(Path::new(word)),
        }
    }
}

/// Copies.
///
/// # Errors
/// If there is nothing to copy, or it cannot be written.
pub async fn run(args: &CpArgs, client: &Client) -> anyhow::Result<()> {
    let owners = if args.archive { Owners::Kept } else { Owners::New };
    let target = match (Place::of(&args.from), Place::of(&args.to)) {
        (Place::Container(target, path), _) | (_, Place::Container(target, path)) => {
            if !path.starts_with('/') {
                let text = format!("{path:?}: a path in a container begins with /");
                return Err(Usage(text).into());
            }
            target
        }
        _ => return Err(Usage("one of the two is in a container: SERVICE:PATH".into()).into()),
    };
    let all = client.instances(None).await?.items;
    let instance = &choose(target, &all)?.instance;
    match (Place::of(&args.from), Place::of(&args.to)) {
        (Place::Container(_, path), Place::Here(to)) => {
            fetch(client, (instance, path), to.to_owned(), owners).await
        }
        (Place::Container(_, path), Place::Stream) => {
            let mut chunks = client.files(instance, path).await?.boxed();
            let mut stdout = tokio::io::stdout();
            while let Some(chunk) = chunks.next().await {
                stdout.write_all(&chunk?).await?;
            }
            Ok(stdout.flush().await?)
        }
        (Place::Here(from), Place::Container(_, path)) => {
            send(client, from.to_owned(), (instance, path), owners).await
        }
        (Place::Stream, Place::Container(_, path)) => {
            // Only an existing folder takes a stream of whatever is in it.
            let path = format!("{}/", path.trim_end_matches('/'));
            let body = reqwest::Body::wrap_stream(ReaderStream::new(tokio::io::stdin()));
            Ok(client.put_files(instance, &path, false, body).await?)
        }
        _ => Err(Usage("from one container to another: copy by way of here, with -".into()).into()),
    }
}

async fn fetch(
    client: &Client,
    (instance, path): (&str, &str),
    to: PathBuf,
    owners: Owners,
) -> anyhow::Result<()> {
    let chunks = client.files(instance, path).await?;
    let read = StreamReader::new(chunks.map(|chunk| chunk.map_err(std::io::Error::other)).boxed());
    let read = SyncIoBridge::new(read);
    let contents = path.ends_with("/.");
    let shown = format!("{instance}:{path}");
    tokio::task::spawn_blocking(move || tree::unpack(read, &to, contents, owners))
        .await?
        .with_context(|| format!("copy {shown}"))
}

async fn send(
    client: &Client,
    from: PathBuf,
    (instance, path): (&str, &str),
    owners: Owners,
) -> anyhow::Result<()> {
    let contents = from.as_os_str().as_encoded_bytes().ends_with(b"/.");
    // Before anything is sent.
    std::fs::symlink_metadata(&from).with_context(|| format!("read {}", from.display()))?;
    let (write, read) = tokio::io::duplex(PIPE_BYTES);
    let write = SyncIoBridge::new(write);
    let packing = tokio::task::spawn_blocking(move || tree::pack(&from, contents, owners, write));
    let body = reqwest::Body::wrap_stream(ReaderStream::new(read));
    let sent = client.put_files(instance, path, contents, body).await;
    // What the controller says explains why the rest could not be sent; what cannot be read here
    // is the cause of what it says.
    match (packing.await?, sent) {
        (Err(error), Err(_)) if error.downcast_ref::<tree::Unreadable>().is_some() => Err(error),
        (_, Err(error)) => Err(error.into()),
        (packed, Ok(())) => packed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_path_here_or_in_a_container() {
        assert_eq!(Place::of("web:/a:b"), Place::Container("web", "/a:b"));
        assert_eq!(Place::of("shop.web.1:/"), Place::Container("shop.web.1", "/"));
        assert_eq!(Place::of("-"), Place::Stream);
        for word in ["a", "./a:b", "/x:y", "../a:b", "a/b:c", ":x"] {
            assert_eq!(Place::of(word), Place::Here(Path::new(word)), "{word}");
        }
    }
}
