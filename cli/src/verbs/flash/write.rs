//! `limpet flash write`: an image onto a card, then read back from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use rustix::fs::Advice;

use super::disk::Disk;
use crate::{output, progress, terminal};

/// What a card erases at a time, or a multiple.
const CHUNK: usize = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct WriteArgs {
    /// The image
    image: PathBuf,
    /// The card's device, such as /dev/sdb or /dev/mmcblk0
    device: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(args: &WriteArgs) -> anyhow::Result<()> {
    let disk = Disk::free(&args.device)?;
    let image =
        File::open(&args.image).with_context(|| format!("open {}", args.image.display()))?;
    let length = image.metadata().context("look at the image")?.len();
    ensure!(
        length <= disk.bytes,
        "{} does not fit: the image has {}, the disk {}",
        args.image.display(),
        output::bytes(length),
        output::bytes(disk.bytes)
    );
    if !args.yes {
        confirm(&args.device, &disk)?;
    }
    // Of a disk that is in use after all the kernel gives no exclusive descriptor.
    let exclusive = rustix::fs::OFlags::EXCL.bits().cast_signed();
    let open = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(&args.device);
    let device = open.with_context(|| format!("open {} for writing", args.device.display()))?;
    let bar = progress::over_bytes(format!("write {}", args.device.display()), Some(length));
    copy(&image, &device, &bar).with_context(|| format!("write {}", args.device.display()))?;
    let bar = progress::over_bytes(format!("read {} back", args.device.display()), Some(length));
    verify(&image, &device, &bar)?;
    output::print(&format!(
        "wrote {} to {} and read it back\n",
        output::bytes(length),
        args.device.display()
    ))?;
    Ok(())
}

fn confirm(device: &Path, disk: &Disk) -> anyhow::Result<()> {
    ensure!(terminal::is_there(), "nobody is there to ask: say --yes");
    let size = output::bytes(disk.bytes);
    let mut out = io::stderr();
    write!(
        out,
        "All that is on {} ({}, {size}) will be lost. Write it? [y/N] ",
        device.display(),
        disk.model
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("not written");
    }
    Ok(())
}

fn copy(mut image: &File, device: &File, bar: &ProgressBar) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let count = fill(&mut image, &mut buffer)?;
        if count == 0 {
            break;
        }
        device.write_all_at(&buffer[..count], at)?;
        // Now and then, or the bar would run ahead of a slow card by all of the memory.
        device.sync_data()?;
        at += count as u64;
        bar.set_position(at);
    }
    device.sync_all()?;
    bar.finish_and_clear();
    Ok(())
}

fn verify(image: &File, device: &File, bar: &ProgressBar) -> anyhow::Result<()> {
    // What the kernel still has in memory says nothing about the card.
    rustix::fs::fadvise(device, 0, None, Advice::DontNeed).context("forget what was written")?;
    let (mut wanted, mut found) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    loop {
        let count = image.read_at(&mut wanted, at).context("read the image")?;
        if count == 0 {
            break;
        }
        device.read_exact_at(&mut found[..count], at).context("read the card back")?;
        if wanted[..count] != found[..count] {
            bail!("the card gives other bytes than were written: do not use it");
        }
        at += count as u64;
        bar.set_position(at);
    }
    bar.finish_and_clear();
    Ok(())
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_gets_the_image_and_only_that() {
        let folder = tempfile::tempdir().unwrap();
        let [image, device] = ["image", "card"].map(|name| folder.path().join(name));
        let content: Vec<u8> =
            (0..CHUNK + 1000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        std::fs::write(&image, &content).unwrap();
        std::fs::write(&device, vec![7; content.len() + 10]).unwrap();
        let args = |yes| WriteArgs { image: image.clone(), device: device.clone(), yes };
        run(&args(true)).unwrap();
        let card = std::fs::read(&device).unwrap();
        assert!(card[..content.len()] == content && card[content.len()..] == [7; 10]);

        std::fs::write(&device, b"small").unwrap();
        let error = run(&args(true)).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
    }
}
