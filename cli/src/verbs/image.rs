//! `limpet image load|ls|rm`: the controller's own images, for nodes without a registry.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use limpet_controller::api::types::ImageView;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::client::Client;
use crate::exit::NotFound;
use crate::layout_folder;
use crate::output::{self, Column, ListArgs, bytes, column};
use crate::progress;

/// How much of the archive is read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Digits of a digest that a table shows: enough to tell images apart.
const DIGEST_DIGITS: usize = 12;

/// Arguments of `limpet image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give the controller an image archive or folder; nodes fetch it from there
    #[command(after_help = "\
An archive is what `docker save`, `podman save`, `skopeo copy … oci-archive:FILE` or `buildah push … oci-archive:FILE`
writes; a folder is in the OCI image layout, as `skopeo copy … oci:FOLDER` writes it. A service finds the image under the name that it has there.

Examples:
  limpet image load shop.tar
  limpet image load layout-folder/
  docker save shop:1 | limpet image load -")]
    Load {
        /// The archive or folder; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the images that the controller has
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Remove an image from the controller; containers that run it stay
    #[command(visible_alias = "remove")]
    Rm {
        /// Digest, its first digits, or name, as `limpet image ls` shows them
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

/// Loads, shows and removes images.
///
/// # Errors
/// If the archive cannot be read or is none, or the controller does not answer.
pub async fn run(args: &ImageArgs, client: &Client) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Load { file, list } => {
            let loaded = if file == Path::new("-") {
                load("standard input", None, tokio::io::stdin(), client).await?
            } else if file.is_dir() {
                load_folder(file, client).await?
            } else {
                let name = file.display().to_string();
                let open = tokio::fs::File::open(file).await;
                let archive = open.with_context(|| format!("open {name}"))?;
                let size = archive.metadata().await.ok().map(|facts| facts.len());
                load(&name, size, archive, client).await?
            };
            output::list(list, &columns(), &loaded)?;
        }
        Verb::Ls { list } => output::list(list, &columns(), &client.images().await?.items)?,
        Verb::Rm { images } => {
            for image in images {
                remove(image, client).await?;
            }
        }
    }
    Ok(())
}

async fn load<R>(
    name: &str,
    size: Option<u64>,
    archive: R,
    client: &Client,
) -> anyhow::Result<Vec<ImageView>>
where
    R: AsyncRead + Send + 'static,
{
    let bar = progress::over_bytes(format!("load {name}"), size);
    let counted = bar.clone();
    let chunks = ReaderStream::with_capacity(archive, READ_BYTES);
    let chunks = futures_util::TryStreamExt::inspect_ok(chunks, move |chunk: &bytes::Bytes| {
        counted.inc(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
    });
    let loaded = client.load_image(reqwest::Body::wrap_stream(chunks)).await;
    bar.finish_and_clear();
    let loaded = loaded.with_context(|| format!("load {name}"))?;
    Ok(loaded.items)
}

async fn load_folder(folder: &Path, client: &Client) -> anyhow::Result<Vec<ImageView>> {
    let (archive, task) = layout_folder::open(folder)?;
    let loaded = load(&folder.display().to_string(), None, archive, client).await;
    match (loaded, task.await?) {
        // A controller that hangs up breaks the pipe; what it says is the reason then.
        (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(cause)) if !is_broken_pipe(&cause) => {
            Err(cause.context(error.to_string()))
        }
        (loaded, _) => loaded,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn remove(image: &str, client: &Client) -> anyhow::Result<()> {
    let all = client.images().await?.items;
    let digest = resolve(image, &all)?;
    client.remove_image(&digest).await?;
    output::print(&format!("removed {digest}\n"))?;
    Ok(())
}

/// The digest that is meant.
fn resolve(image: &str, all: &[ImageView]) -> anyhow::Result<String> {
    let short = |view: &ImageView| {
        view.digest.split_once(':').is_some_and(|(_, digits)| digits.starts_with(image))
    };
    let mut found: Vec<&str> = all
        .iter()
        .filter(|view| view.digest == image || view.reference == image || short(view))
        .map(|view| view.digest.as_str())
        .collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Err(NotFound(format!(
            "the controller has no image {image:?}; `limpet image ls` shows those it has"
        ))
        .into()),
        [digest] => Ok((*digest).to_owned()),
        several => anyhow::bail!("{image} may be any of {}: write more digits", several.join(", ")),
    }
}

fn columns() -> [Column<ImageView>; 4] {
    [
        column("IMAGE", |image, _| image.reference.as_str().into()),
        column("DIGEST", |image, _| short_digest(&image.digest).into()),
        column("PLATFORMS", |image, _| image.platforms.join(",").into()),
        column("SIZE", |image, _| bytes(image.size_bytes).into()),
    ]
}

fn short_digest(digest: &str) -> &str {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.get(..DIGEST_DIGITS).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn image(reference: &str, digest: &str) -> ImageView {
        let reference = reference.into();
        ImageView { reference, digest: digest.into(), platforms: Vec::new(), size_bytes: 1 }
    }

    #[test]
    fn an_image_has_three_names() {
        let all =
            [image("a:1", "sha256:abc1"), image("a:2", "sha256:abc1"), image("b:1", "sha256:abd2")];
        for (name, digest) in
            [("a:1", "sha256:abc1"), ("abc", "sha256:abc1"), ("sha256:abd2", "sha256:abd2")]
        {
            assert_eq!(resolve(name, &all).unwrap(), digest, "{name}");
        }
        assert!(resolve("ab", &all).is_err());
        assert_eq!(Code::of(&resolve("c", &all).unwrap_err()), Code::NotFound);
    }
}
